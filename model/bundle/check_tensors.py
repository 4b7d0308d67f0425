"""Whether a bundle's tensors are what its config.json demands: everything that doesn't fit in one error."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import mlx.core as mx

from ..config import GROUP_SIZES, PACKED_BITS, AdapterConfig, Config, LMConfig, Quantization
from ..errors import UserError
from ..formats.safetensors_file import FLOATS, Shape, Shapes
from . import tensors as layout
from .config_keys import StatedConfig
from .names.elimination import PART
from .names.match import Match
from .names.words import parts
from .source import Source

MAX_LISTED = 20
"""Names that an error lists, of each kind."""


def check_tensors(config: Config, match: Match, stated: StatedConfig, path: Path) -> Config:
    """Return the config with each module's quantization.

    Raises UserError, which lists all that doesn't fit, if the tensors are not what config.json demands.
    """
    problems = _Problems()
    found: dict[str, Quantization] = {}
    used: set[str] = set()
    sources = match.sources
    for name, shape in _demanded(config.lm, config.adapter, sources).items():
        module = name.removesuffix(".weight")
        if name in match.rivals:
            continue
        if name == "cp_transformer.gates":
            used |= _check_gates(sources, config.adapter.layers, problems)
        elif name.endswith(".weight") and len(shape) == 2 and f"{module}.scales" in sources:
            used |= {name, f"{module}.scales", f"{module}.biases"}
            if quantization := _check_packed(module, shape, sources, problems):
                found[module] = quantization
        elif name not in sources:
            problems.missing.append(name)
        else:
            used.add(name)
            problems.check(name, sources[name], shape)
    problems.unexpected = [f"{source} {list(source.shape)}" for n, source in sources.items() if n not in used]
    problems.unexpected += [f"{source} {list(source.shape)}" for source in match.left]
    problems.ambiguous = [
        f"{name} may be {' or '.join(str(source) for source in rivals)}" for name, rivals in match.rivals.items()
    ]
    if message := problems.message():
        raise UserError(f"{path}: the weights do not fit config.json: {message}")
    return _quantized(config, found, match, stated, path)


def _demanded(lm: LMConfig, adapter: AdapterConfig, sources: Mapping[str, Source]) -> Shapes:
    """Return the tensors that must be there; positions as one array or a table each, as they are stored."""
    demanded = layout.lm_shapes(lm, adapter)
    if any(name.startswith("cp_transformer.pos_emb.") for name in sources):
        tables, *table = demanded.pop("cp_transformer.pos_emb")
        demanded |= {f"cp_transformer.pos_emb.{i}.weight": tuple(table) for i in range(tables)}
    return demanded


class _Problems:
    def __init__(self) -> None:
        self.missing: list[str] = []
        self.unexpected: list[str] = []
        self.wrong: list[str] = []
        self.ambiguous: list[str] = []

    def check(self, name: str, source: Source, shape: Shape) -> None:
        if source.dtype not in FLOATS:
            self.wrong.append(f"{_called(name, source)} is {_dtype_name(source.dtype)}, needs a float dtype")
        elif source.shape != shape:
            self.wrong.append(f"{_called(name, source)} {list(source.shape)}, needs {list(shape)}")

    def message(self) -> str:
        kinds = {
            "missing": self.missing, "unexpected": self.unexpected, "mis-shaped": self.wrong,
            "ambiguous": self.ambiguous,
        }  # fmt: skip
        listed = "; ".join(f"{kind}: {_listed(names)}" for kind, names in kinds.items() if names)
        if any("lora" in name.lower() for name in self.unexpected):
            return f"{listed}; LoRA must be merged first, which instruct-musicgen convert does"
        if self.ambiguous or (self.missing and self.unexpected):
            return f"{listed}; tell with --keys MAP.json which is which"
        return listed


def _called(name: str, source: Source) -> str:
    """Return a tensor's canonical name, and the stored one where it is another."""
    return name if str(source) == name else f"{name} ({source})"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more


def _dtype_name(dtype: mx.Dtype) -> str:
    return str(dtype).rpartition(".")[2]


def _check_gates(sources: Mapping[str, Source], layers: int, problems: _Problems) -> set[str]:
    """Return the gates as one tensor, or one scalar each."""
    whole = sources.get("cp_transformer.gates")
    if whole is not None:
        same = math.prod(whole.shape) == layers
        problems.check("cp_transformer.gates", whole, whole.shape if same else (layers,))
        return {"cp_transformer.gates"}
    names = [f"cp_transformer.gates.{i}" for i in range(layers)]
    missing = [n for n in names if n not in sources]
    problems.missing += ["cp_transformer.gates"] if len(missing) == layers else missing
    for name in set(names) - set(missing):
        same = math.prod(sources[name].shape) == 1
        problems.check(name, sources[name], sources[name].shape if same else ())
    return set(names)


def _check_packed(module: str, shape: Shape, sources: Mapping[str, Source], problems: _Problems) -> Quantization | None:
    """Return the bits and group size that a packed module's shapes fit; None (and a problem) if none do."""
    names = [f"{module}.{part}" for part in ("weight", "scales", "biases")]
    if missing := [n for n in names if n not in sources]:
        problems.missing += missing
        return None
    weight, scales, biases = (sources[n] for n in names)
    rows, k = shape
    if weight.dtype != mx.uint32:
        problems.wrong.append(f"{names[0]} is {_dtype_name(weight.dtype)}, needs uint32 beside its scales")
        return None
    for name, source in zip(names[1:], (scales, biases)):
        if source.dtype not in FLOATS:
            problems.wrong.append(f"{name} is {_dtype_name(source.dtype)}, needs a float dtype")
    fits = len(weight.shape) == len(scales.shape) == 2 and weight.shape[0] == scales.shape[0] == rows
    if fits and scales.shape == biases.shape and weight.shape[1] and scales.shape[1]:
        for bits in PACKED_BITS:
            for group_size in GROUP_SIZES:
                if (weight.shape[1] * 32, scales.shape[1] * group_size) == (k * bits, k):
                    return Quantization(bits, group_size)
    problems.wrong.append(
        f"{module}.weight {list(weight.shape)} with scales {list(scales.shape)} and biases {list(biases.shape)} "
        f"(is no 4 or 8 bit form of {list(shape)} in groups of 32, 64 or 128)"
    )
    return None


def _quantized(
    config: Config, found: Mapping[str, Quantization], match: Match, stated: StatedConfig, path: Path
) -> Config:
    """Check what the shapes tell against config.json's default and its entries for single modules."""
    default, entries = stated.quantization()
    if default is not None and not found:
        raise UserError(
            f"{path / 'config.json'} says {default.bits} bits, but no weight has scales; "
            "remove its quantization, or get the packed weights"
        )
    overrides, ghosts = _overrides(entries, found, match)
    kinds = list(found.values())
    usual = default or (max(set(kinds), key=kinds.count) if kinds else None)
    for module, quantization in found.items():
        expected = overrides.get(module, default)
        if default is not None and quantization != expected:
            assert expected is not None
            raise UserError(
                f"{path}: {module} is packed with {quantization.bits} bits in groups of {quantization.group_size}, and "
                f"config.json says {expected.bits} in groups of {expected.group_size}; correct config.json"
            )
    if ghosts:
        raise UserError(
            f"{path / 'config.json'} quantizes modules that have no scales: {_listed(ghosts)}; remove them from it"
        )
    plain = replace(config, quantization=usual, overrides={})
    demanded = _demanded(config.lm, config.adapter, match.sources)
    modules = [name.removesuffix(".weight") for name in demanded]
    return replace(plain, overrides={m: found.get(m) for m in modules if found.get(m) != plain.packing(m)})


def _overrides(
    entries: Mapping[str, Quantization], found: Mapping[str, Quantization], match: Match
) -> tuple[dict[str, Quantization], list[str]]:
    """Return the entries by canonical module, and those that belong to no packed module."""
    stems: dict[tuple[str, ...], set[str]] = {}
    for name, source in match.sources.items():
        stems.setdefault(parts(PART.sub("", source.name)), set()).add(re.sub(r"\.(weight|scales|biases)$", "", name))
    others = {parts(PART.sub("", name)) for name in match.aside}
    overrides: dict[str, Quantization] = {}
    ghosts = []
    for entry, quantization in entries.items():
        # Writers leave out a prefix of the stored names, or have one more.
        called = parts(entry)
        exact = stems.get(called)
        near = [of for stem, of in stems.items() if _ends(stem, called) or _ends(called, stem)]
        modules = exact or (near[0] if len(near) == 1 else {entry} & found.keys())
        packed = modules & found.keys()
        overrides |= dict.fromkeys(packed, quantization)
        if not packed and not any(_ends(stem, called) for stem in others):
            ghosts.append(entry)
    return overrides, ghosts


def _ends(long: tuple[str, ...], short: tuple[str, ...]) -> bool:
    return len(short) > 1 and long[-len(short) :] == short
