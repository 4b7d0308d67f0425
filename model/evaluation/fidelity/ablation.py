"""Which parts cost most: the reference with only one part taken from the other model, one part after another."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...bundle import tensors as layout
from ...network.projection import Weights
from ...network.transformer import Layer
from ...pipeline import InstructMusicGen
from ...progress import track
from ..measures.distribution import kl
from .teacher_forcing import Float32, Networks, TeacherWindow, decoder, window_logits


@dataclass(frozen=True)
class SwappedPart:
    """Modules that are swapped together."""

    name: str
    modules: tuple[str, ...]


@dataclass(frozen=True)
class Cost:
    """The cost of swapping in one part, on average over positions and codebooks."""

    part: SwappedPart
    kl: float
    megaweights: float

    @property
    def each(self) -> float:
        """The cost of a million weights: where more bits would gain most for their size."""
        return self.kl / self.megaweights


def swappable(model: InstructMusicGen) -> dict[str, int]:
    """Return the matrices that a recipe may quantize, by canonical name, with their number of weights."""
    config = model.bundle.config
    found = {}
    for name, shape in layout.lm_shapes(config.lm, config.adapter).items():
        module = name.removesuffix(".weight")
        if re.match(r"layers\.\d+\.(self_attn|cross_attn|linear)|linears\.|cp_transformer\.merge_linear\.", module):
            found[module] = int(np.prod(shape))
    return found


def kind(module: str) -> str:
    """Return what a matrix is called in every layer (or codebook): `layers.3.linear1` is a `linear1`."""
    if module.startswith("linears."):
        return "output heads"
    if module.startswith("cp_transformer."):
        return "adapter.merge_linear"
    return module.split(".", 2)[2]


def parts(modules: Sequence[str], by: str, start_layer: int = 0) -> list[SwappedPart]:
    """Group all modules: each alone (`matrix`), by `kind`, or by `layer` (where heads stay apart).

    The adapter's matrix i goes with the LM's layer `start_layer` + i.
    """
    grouped: dict[str, list[str]] = {}
    for module in modules:
        if by == "matrix":
            name = module
        elif by == "kind" or module.startswith("linears."):
            name = kind(module)
        else:
            merges = module.startswith("cp_transformer.")
            layer = start_layer + int(module.rpartition(".")[2]) if merges else int(module.split(".")[1])
            name = f"layer {layer}"
        grouped.setdefault(name, []).append(module)
    return [SwappedPart(name, tuple(found)) for name, found in grouped.items()]


def swapped(model: InstructMusicGen, donor: InstructMusicGen, modules: Sequence[str]) -> Networks:
    """Return `model`'s networks with these modules from `donor`'s bundle; all other weights are shared."""
    weights, lm, adapter = _mixed(model, donor, modules), copy.copy(model.lm), copy.copy(model.adapter)
    adapter.lm, lm.layers = lm, list(lm.layers)
    for index in {int(m.split(".")[1]) for m in modules if m.startswith("layers.")}:
        lm.layers[index] = Layer(weights, index)
    if any(m.startswith("linears.") for m in modules):
        lm.heads = weights.stacked(*[f"linears.{k}" for k in range(lm.config.codebooks)])
    theirs = {f"{m}.weight" for m in modules if m.startswith("cp_transformer.")}
    adapter.load = lambda names: {
        name: tensor
        for owner in (model, donor)
        for name, tensor in owner.bundle.load(n for n in names if (n in theirs) == (owner is donor)).items()
    }
    return Networks(lm, adapter)


def _mixed(model: InstructMusicGen, donor: InstructMusicGen, modules: Sequence[str]) -> Weights:
    """Return the tensors of the layers (and heads) that `modules` touch, those of `modules` from the donor's file."""
    touched = {m.rpartition(".")[0] if m.startswith("linears.") else ".".join(m.split(".")[:2]) for m in modules}
    prefixes, theirs = tuple(f"{each}." for each in touched), tuple(f"{m}." for m in modules)
    ours = [n for n in model.bundle.tensors if n.startswith(prefixes) and not n.startswith(theirs)]
    tensors = model.bundle.load(ours) | donor.bundle.load(n for n in donor.bundle.tensors if n.startswith(theirs))
    config, donated = model.bundle.config, donor.bundle.config
    overrides = {**config.overrides, **{module: donated.packing(module) for module in modules}}
    return Weights(tensors, replace(config, overrides=overrides), model.ops)


def costs(
    reference: InstructMusicGen, other: InstructMusicGen, windows: Sequence[tuple[str, TeacherWindow]],
    which: Sequence[SwappedPart], guidance: float,
) -> list[Cost]:  # fmt: skip
    """Return the cost of each part, the dearest first: KL(reference || reference with that part from `other`).

    `windows`: pairs of a text and a window, over which the mean is taken.
    """
    conditions = [reference.condition([text]) for text, _ in windows]

    def logits(networks: Networks) -> list[Float32]:
        pairs = zip(windows, conditions)
        return [window_logits(decoder(networks, condition, guidance), part) for (_, part), condition in pairs]

    right = logits(Networks(reference.lm, reference.adapter))
    sizes = swappable(reference)
    out = []
    for part in track(which, "what costs most, part by part"):
        made = logits(swapped(reference, other, part.modules))
        total = float(np.mean([kl(a, b).mean() for a, b in zip(right, made)]))
        out.append(Cost(part, total, sum(sizes[m] for m in part.modules) / 1e6))
    return sorted(out, key=lambda cost: -cost.kl)
