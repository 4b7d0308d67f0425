"""Match stored tensors to canonical ones: by the roles that names tell, cut where one tensor holds several."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..source import Source
from . import layers as layer_modules
from .roles import LAYERED, Claim, claim, foreign
from .words import UNKNOWN, concepts, spell, split

CANONICAL = {
    "emb": "emb.{}.weight", "linears": "linears.{}.weight", "merge": "cp_transformer.merge_linear.{}.weight",
    "position": "cp_transformer.pos_emb.{}.weight", "gate": "cp_transformer.gates.{}",
}  # fmt: skip
"""Names of the tensors that there are several of; see `model.bundle.tensors` for the rest."""


@dataclass(frozen=True)
class Hints:
    """Dimensions that config.json states, as far as it does."""

    dim: int | None = None
    layers: int | None = None
    codebooks: int | None = None
    adapter_layers: int | None = None


@dataclass
class Match:
    """How stored tensors map to canonical names, and which ones do not."""

    sources: dict[str, Source] = field(default_factory=dict)
    """What each canonical tensor is made of, by name."""
    aside: dict[str, str] = field(default_factory=dict)
    """Stored tensors that are not needed, and why."""
    left: list[Source] = field(default_factory=list)
    """Stored tensors without a role."""
    rivals: dict[str, list[Source]] = field(default_factory=dict)
    """Canonical names that several stored tensors claim."""
    guessed: set[str] = field(default_factory=set)
    """Canonical names that only a shape told."""

    def add(self, name: str, source: Source) -> None:
        """Give a source its name; two sources of one name are rivals."""
        if name in self.rivals:
            self.rivals[name].append(source)
        elif name in self.sources:
            self.rivals[name] = [self.sources.pop(name), source]
        else:
            self.sources[name] = source


def match(stored: Sequence[Source], named: Mapping[str, str | None], hints: Hints) -> Match:
    """Match stored tensors to canonical names by their own names.

    `named` says what a stored tensor is called instead, for those that are to be read under another name or not at all
    (see `model.bundle.names.keys`).
    """
    found = Match(aside={source.name: "--keys says so" for source in stored if named.get(source.name, "") is None})
    stored = [source for source in stored if source.name not in found.aside]
    called = {source.name: named.get(source.name) or source.name for source in stored}
    shared = _shared_words(called.values())
    claims: dict[str, Claim] = {}
    sources: dict[str, Source] = {}
    for source in stored:
        spelling = spell(called[source.name], shared)
        sources[source.name] = source
        if whose := foreign(spelling):
            found.aside[source.name] = whose
        elif each := claim(spelling):
            claims[source.name] = _normalized(each, source)
        else:
            found.left.append(source)
    dim = hints.dim or _usual_width(stored)
    _layers(found, {n: c for n, c in claims.items() if c.role in LAYERED}, sources, dim, hints)
    _adapter_and_ends(found, {n: c for n, c in claims.items() if c.role not in LAYERED}, sources, dim, hints)
    return found


def _normalized(each: Claim, source: Source) -> Claim:
    """Call a bare array a weight, and a norm's `scale` in Flax too: scales of packed matrices have two axes."""
    if each.part == "scales" and len(source.shape) == 1:
        return replace(each, part="weight")
    return each if each.part or each.role == "gate" else replace(each, part="weight")


def _shared_words(names: Iterable[str]) -> frozenset[str]:
    """Return the unknown words that at least a third of the names have: a writer's own prefix."""
    names = list(names)
    counts = Counter(word for name in names for word in set(split(name)) if not word.isdigit())
    return frozenset(w for w, n in counts.items() if n * 3 >= len(names) and UNKNOWN in concepts(w))


def _usual_width(stored: Iterable[Source]) -> int | None:
    """Return the features of the model: the length that most vectors have, which are the norms'."""
    lengths = Counter(source.shape[0] for source in stored if len(source.shape) == 1 and source.shape[0] > 1)
    return lengths.most_common(1)[0][0] if lengths else None


# Layers


def _layers(found: Match, claims: Mapping[str, Claim], sources: Mapping[str, Source], dim: int | None,
            hints: Hints) -> None:  # fmt: skip
    """Match the layers' tensors, those of the adapter's copies set aside."""
    own = {name: each for name, each in claims.items() if not each.adapter}
    if own:
        for name in claims.keys() - own.keys():
            found.aside[name] = "the adapter's copy of the language model's layers"
    else:  # `adapter.` stands before everything
        own = dict(claims)
    numbers = {each.index for each in own.values()}
    first = _first({n for n in numbers if n is not None}, hints.layers)
    for number in sorted(numbers, key=lambda n: -1 if n is None else n):
        layer = {name: each for name, each in own.items() if each.index == number}
        grids = {name: sources[name].grid for name in layer if len(sources[name].shape) >= 2}
        if number is None:
            grids = {name: (rows // (hints.layers or 1), columns) for name, (rows, columns) in grids.items()}
        told = layer_modules.modules(layer, grids, dim)
        _drop_dead(found, layer, told)
        for name, each in layer.items():
            if name not in told:
                if name not in found.aside:
                    found.left.append(sources[name])
            elif number is None:
                _all_layers(found, sources[name], told[name], each.part, hints.layers)
            else:
                _split(found, sources[name], [f"layers.{number - first}.{m}.{each.part}" for m in told[name]])


def _drop_dead(found: Match, layer: Mapping[str, Claim], told: dict[str, list[str]]) -> None:
    """Drop the tensors of upstream's checkpoints that nothing reads.

    In the self-attention, q, k and v are dead beside audiocraft's `in_proj_weight`; in the cross-attention,
    `in_proj_weight` itself is dead once q, k and v are there.
    """
    for side, keep_joint in (("self_attn", True), ("cross_attn", False)):
        joint = [n for n, ms in told.items() if len(ms) == 3 and ms[0].startswith(side) and "in" in layer[n].local]
        apart = [n for n, ms in told.items() if len(ms) == 1 and ms[0] in {f"{side}.{p}_proj" for p in "qkv"}]
        letters = {m for n in apart for m in told[n]}
        if joint and len(letters) == 3:
            for name in apart if keep_joint else joint:
                found.aside[name] = "upstream has it and never uses it"
                del told[name]


def _all_layers(found: Match, source: Source, modules: list[str], part: str, layers: int | None) -> None:
    """Match a tensor that holds all layers: its first axis counts them."""
    layers = layers or (source.shape[0] if source.shape else 0)
    if len(source.shape) < 2 or source.shape[0] != layers:
        found.left.append(source)
        return
    inner = source.shape[1:]
    per_layer = source.grid[0] // layers
    for i in range(layers):
        names = [f"layers.{i}.{module}.{part}" for module in modules]
        if per_layer % len(names):
            found.left.append(source)
            return
        rows = per_layer // len(names)
        for j, name in enumerate(names):
            start = i * per_layer + j * rows
            shape = inner if len(names) == 1 else (rows, source.grid[1])
            found.add(name, source.cut(start, start + rows, shape))


def _split(found: Match, source: Source, names: list[str]) -> None:
    """Match a tensor of one layer: as it is, or as many equal runs of rows as it has names."""
    matrix = len(source.shape) > 1
    if len(names) == 1:
        found.add(names[0], _squeezed(source, 1 if ".norm" in names[0] else 2))
        return
    rows, rest = divmod(source.grid[0] if matrix else source.shape[0] if source.shape else 0, len(names))
    if not matrix or rest or not rows:
        found.left.append(source)
        return
    for i, name in enumerate(names):
        found.add(name, source.cut(i * rows, (i + 1) * rows))


def _squeezed(source: Source, axes: int) -> Source:
    """Drop axes of one, if the tensor has more axes than its role needs."""
    if len(source.shape) <= axes:
        return source
    kept = tuple(n for n in source.shape if n != 1)
    return source.shaped((*[1] * (axes - len(kept)), *kept)) if len(kept) <= axes else source


def _first(numbers: set[int], count: int | None) -> int:
    """Return 1 where numbers begin at 1, else 0."""
    return int(bool(numbers) and 0 not in numbers and max(numbers) == (count or len(numbers)))


# Embeddings, heads, the adapter, and what there is one of


def _adapter_and_ends(found: Match, claims: Mapping[str, Claim], sources: Mapping[str, Source], dim: int | None,
                      hints: Hints) -> None:  # fmt: skip
    for name, each in claims.items():
        if each.role == "out_norm":
            found.add(f"out_norm.{each.part}", _squeezed(sources[name], 1))
        elif each.role == "text":
            axes = 1 if each.part == "bias" else 2
            found.add(f"text_conditioner.output_proj.{each.part}", _squeezed(sources[name], axes))
    several = {role: {n: c for n, c in claims.items() if c.role == role} for role in CANONICAL}
    counts = {role: len({c.index for c in of.values()} - {None}) for role, of in several.items()}
    codebooks = hints.codebooks or max(counts["emb"], counts["linears"]) or None
    adapted = hints.adapter_layers or max(counts["merge"], counts["gate"]) or hints.layers
    adapted = adapted or len({n.split(".")[1] for n in found.sources if n.startswith("layers.")}) or None
    start = (hints.layers or 0) - (adapted or 0)
    for role, of in several.items():
        expected = codebooks if role in ("emb", "linears") else adapted
        if role == "position":
            _positions(found, of, sources, dim, adapted, start)
            continue
        numbers = {c.index for c in of.values() if c.index is not None}
        first = start if start > 0 and numbers and min(numbers) >= start and role in ("merge", "gate") else None
        first = _first(numbers, expected) if first is None else first
        for name, each in of.items():
            _one_or_all(found, sources[name], each, first, expected)


def _one_or_all(found: Match, source: Source, each: Claim, first: int, count: int | None) -> None:
    """Match one of several under its number, or cut a tensor that holds all of them into its parts."""
    canonical = CANONICAL[each.role]
    if each.role == "gate":
        if each.part not in ("", "weight"):
            found.left.append(source)
        elif each.index is None:
            found.add("cp_transformer.gates", source)
        else:
            found.add(canonical.format(each.index - first), source)
        return
    named = canonical.removesuffix(".weight") + f".{each.part}"
    if each.index is not None:
        found.add(named.format(each.index - first), _squeezed(source, 2))
        return
    rows, columns = source.grid
    if not count or len(source.shape) < 2 or rows % count:
        found.left.append(source)
        return
    for i in range(count):
        start = i * (rows // count)
        found.add(named.format(i), source.cut(start, start + rows // count, (rows // count, columns)))


def _positions(found: Match, of: Mapping[str, Claim], sources: Mapping[str, Source], dim: int | None,
               layers: int | None, start: int) -> None:  # fmt: skip
    """Match the adapter's position tables: one array, or a table for the input and one a layer."""
    apart = {name for name, each in of.items() if each.index is not None}
    single = [name for name in of if name not in apart]
    for name in single:
        # Hugging Face keeps the language model's sinusoids: one table, which belongs to no adapter.
        tables = len({of[other].index for other in apart})
        adapters = any(of[other].adapter for other in single if other != name)
        if not of[name].adapter and len(sources[name].shape) == 2 and (adapters or tables > (layers or tables)):
            found.aside[name] = "the language model's sinusoids, which are computed"
    single = [name for name in single if name not in found.aside]
    numbers = {of[name].index for name in apart}
    known = {number for number in numbers if number is not None}
    offset = 0
    if known:  # an array beside them is the input's, which has no number: the first layer's is the second table
        offset = start if start > 0 and min(known) >= start else _first(known, len(known))
        offset -= bool(single)
    for name in single:
        if known:
            found.add(f"cp_transformer.pos_emb.0.{of[name].part}", _squeezed(sources[name], 2))
        elif of[name].part == "weight":
            found.add("cp_transformer.pos_emb", _as_tables(sources[name], dim, layers))
        else:
            found.left.append(sources[name])
    for name in apart:
        number = of[name].index
        assert number is not None
        found.add(f"cp_transformer.pos_emb.{number - offset}.{of[name].part}", _squeezed(sources[name], 2))


def _as_tables(source: Source, dim: int | None, layers: int | None) -> Source:
    """Return position tables with three axes [layers + 1, rows, dim], also where several are stored as one."""
    shape = tuple(n for n in source.shape if n != 1) if len(source.shape) > 3 else source.shape
    if len(shape) == 2 and dim and layers and math.prod(shape) % ((layers + 1) * dim) == 0:
        shape = (layers + 1, math.prod(shape) // ((layers + 1) * dim), dim)
    return source.shaped(shape) if len(shape) == 3 else source
