"""The last resort: tensors that no word tells, by their shapes, where only one role is left for them.

Names that differ in their first number alone are one kind; a kind gets a role if nothing plays any of the role yet, if
it has as many tensors as the role, all of the role's shape, and if neither fits anything else that is left. One odd
name among others of a known kind is no dialect but a mistake; and a lone tensor must have some word that is known.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping

import mlx.core as mx

from ...config import GROUP_SIZES, PACKED_BITS, Quantization
from ...formats.safetensors_file import Shape, Shapes
from ..source import Source
from .match import Match
from .words import UNKNOWN, spell

NUMBER = re.compile(r"\d+")
PART = re.compile(r"[._](weight|scales|biases)$")
PACKINGS = [Quantization(bits, size) for bits in PACKED_BITS for size in GROUP_SIZES]


def eliminate(match: Match, wanted: Shapes, named: Container[str]) -> None:
    """Give roles of `wanted` that nothing plays yet to the tensors that are left, where shapes leave no choice.

    `named`: stored tensors that the user has named; nothing is guessed about these.
    """
    taken = match.sources.keys() | match.rivals.keys()
    missing = {
        role: names
        for role, names in _grouped(wanted).items()
        if not any(name in taken or _in_parts(name, match.sources) for name in names)
    }
    modules: dict[str, dict[str, Source]] = {}
    for source in match.left:
        if source.name in named:
            continue
        stem = PART.sub("", source.name)
        part = source.name[len(stem) + 1 :] or "weight"
        modules.setdefault(stem, {})[part] = source
    kinds = _grouped(modules)
    fits = {
        kind: [role for role, names in missing.items() if _plays(stems, [modules[s] for s in stems], names, wanted)]
        for kind, stems in kinds.items()
    }
    for kind, roles in fits.items():
        if len(roles) == 1 and sum(roles[0] in others for others in fits.values()) == 1:
            for stem, name in zip(kinds[kind], missing[roles[0]]):
                for part, source in modules[stem].items():
                    target = name if part == "weight" else f"{name.removesuffix('.weight')}.{part}"
                    match.add(target, source)
                    match.guessed.add(target)
                    match.left.remove(source)


def _in_parts(name: str, sources: Mapping[str, Source]) -> bool:
    """Tell whether some of a tensor that may be stored in parts (gates, positions) is there."""
    return any(each.startswith(f"{name}.") for each in sources)


def _grouped(names: Iterable[str]) -> dict[str, list[str]]:
    """Group names that differ in their first number alone, in its order."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(NUMBER.sub("#", name, count=1), []).append(name)
    return {kind: sorted(of, key=lambda n: [int(i) for i in NUMBER.findall(n)]) for kind, of in groups.items()}


def _plays(stems: list[str], modules: list[dict[str, Source]], names: list[str], wanted: Shapes) -> bool:
    if stems[0].endswith("bias") != names[0].endswith(".bias"):
        return False
    if len(stems) == 1 and spell(stems[0]).words <= {UNKNOWN, "bias"}:
        return False
    return len(modules) == len(names) and all(_fits(m, wanted[n]) for m, n in zip(modules, names))


def _fits(module: Mapping[str, Source], shape: Shape) -> bool:
    """Tell whether a module has a tensor's shape, dense or packed."""
    weight, scales = module.get("weight"), module.get("scales")
    if weight is None:
        return False
    if scales is None:
        return len(module) == 1 and weight.shape == shape and weight.dtype != mx.uint32
    if len(shape) != 2 or set(module) != {"weight", "scales", "biases"} or weight.dtype != mx.uint32:
        return False
    rows, columns = shape
    forms = [((rows, columns * q.bits // 32), (rows, columns // q.group_size)) for q in PACKINGS]
    return (weight.shape, scales.shape) in forms and module["biases"].shape == scales.shape
