"""Measure how far variants of a model are from the first one: predictions, drift, layers, and what costs most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np

from ...pipeline import InstructMusicGen
from ...quantize.in_memory import Quantized
from ..measures.distribution import kl, negative_log_likelihood, top1_agreement, topk_agreement
from ..variant import Variant
from . import ablation, layers
from . import matrices as weights
from . import teacher_forcing as forcing
from .inputs import Material
from .teacher_forcing import Float32


@dataclass(frozen=True)
class FidelitySettings:
    """guidance as in generation; `agreement` the k of top-k agreement; `probes` materials for layers and costs."""

    seed: int = 0
    guidance: float = 3.0
    agreement: int = 10
    probes: int = 1
    by: tuple[str, ...] = ("kind", "layer")


@dataclass
class Fidelity:
    """One variant against the reference. Arrays by step are means over codebooks and materials."""

    label: str
    backend: str
    megabytes: float
    kl: float
    kl_p95: float
    top1: float
    topk: float
    perplexity: float
    kl_by_step: list[float]
    equal_by_frame: list[float]
    layers: list[layers.LayerError] = field(default_factory=list)
    ends: dict[str, float] = field(default_factory=dict)
    stands_out: int | None = None
    matrices: list[weights.MatrixError] = field(default_factory=list)
    costs: dict[str, list[ablation.Cost]] = field(default_factory=dict)

    def scaled(self) -> list[weights.MatrixError]:
        """Return the matrices whose size is off: rounding does not do that."""
        return [m for m in self.matrices if m.scaled]


@dataclass
class _Forced:
    """The reference over one material: what it predicted, what was forced, and what it generates by itself."""

    material: Material
    target: mx.array
    own: mx.array
    tokens: np.ndarray
    inside: np.ndarray
    logits: Float32


def measure(variants: Sequence[Variant], materials: Sequence[Material], settings: FidelitySettings) -> list[Fidelity]:
    """Return the reference (first variant) against itself and against each other variant, in their order."""
    reference = variants[0].load()
    forced = [_reference(reference, each, settings, variants[0].label) for each in materials]
    out = [_compare(variants[0], reference, forced, [f.logits for f in forced], [f.own for f in forced], settings)]
    special, guided = reference.lm.config.special, settings.guidance != 1
    probes = [(f.material.text, forcing.teacher_window(f.material, f.target, special, guided)) for f in forced][
        : settings.probes
    ]
    for variant in variants[1:]:
        other = variant.load()
        logits, own = [], []
        for each in forced:
            work = forcing.decoder(other, other.condition([each.material.text]), settings.guidance)
            logits.append(forcing.forced(work, each.material, each.target, variant.label))
            own.append(forcing.generated(work, each.material, settings.seed, variant.label))
        found = _compare(variant, other, forced, logits, own, settings)
        mean = layers.mean([layers.compare(reference, other, text, part) for text, part in probes])
        worst = mean.stands_out()
        found.layers, found.ends, found.stands_out = mean.layers, mean.ends, worst.layer if worst else None
        if not _same_weights(variants[0], variant):
            modules = ablation.swappable(reference)
            found.matrices = weights.compare(reference.bundle, other.bundle, modules)
            for by in settings.by:
                which = ablation.parts(list(modules), by, reference.adapter.config.start_layer)
                found.costs[by] = ablation.costs(reference, other, probes, which, settings.guidance)
        out.append(found)
        del other
        mx.clear_cache()
    return out


def _reference(model: InstructMusicGen, material: Material, settings: FidelitySettings, label: str) -> _Forced:
    work = forcing.decoder(model, model.condition([material.text]), settings.guidance)
    own = forcing.generated(work, material, settings.seed, label)
    target = own if material.target is None else material.target
    tokens, inside = forcing.expected(target, model.lm.config.special)
    return _Forced(material, target, own, tokens, inside, forcing.forced(work, material, target, label))


def _compare(
    variant: Variant, model: InstructMusicGen, forced: Sequence[_Forced], logits: Sequence[Float32],
    own: Sequence[mx.array], settings: FidelitySettings,
) -> Fidelity:  # fmt: skip
    k = min(settings.agreement, model.lm.config.card)
    divergence = [np.where(f.inside, kl(f.logits, x), np.nan) for f, x in zip(forced, logits)]
    all_kl = np.concatenate([d[f.inside] for f, d in zip(forced, divergence)])
    inside = [(f.logits[f.inside], x[f.inside], f.tokens[f.inside]) for f, x in zip(forced, logits)]
    return Fidelity(
        label=variant.label,
        backend=_backend(model),
        megabytes=variant.megabytes,
        kl=float(all_kl.mean()),
        kl_p95=float(np.percentile(all_kl, 95)),
        top1=float(np.concatenate([top1_agreement(a, b) for a, b, _ in inside]).mean()),
        topk=float(np.concatenate([topk_agreement(a, b, k) for a, b, _ in inside]).mean()),
        perplexity=float(np.exp(np.concatenate([negative_log_likelihood(b, t) for _, b, t in inside]).mean())),
        kl_by_step=_by_step([np.nanmean(d, axis=1) for d in divergence]),
        equal_by_frame=_by_step([np.array(f.own == o)[0].mean(axis=0) for f, o in zip(forced, own)]),
    )


def _backend(model: InstructMusicGen) -> str:
    """Return the name of the backend, and the precision of its activations if that is not float32."""
    if model.backend != "native":
        return model.backend
    from kernels import native

    activations = native.info()["activations"]
    return "native" if activations == "float32" else f"native ({activations} activations)"


def _by_step(rows: Sequence[np.ndarray]) -> list[float]:
    """Average materials at each step; shorter ones end earlier."""
    longest = max(len(row) for row in rows)
    padded = [np.pad(row.astype(np.float64), (0, longest - len(row)), constant_values=np.nan) for row in rows]
    return [float(x) for x in np.nanmean(padded, axis=0)]


def _same_weights(a: Variant, b: Variant) -> bool:
    """Tell whether both read the same file the same way, so that no part can cost anything."""
    plain = not isinstance(a.bundle, Quantized) and not isinstance(b.bundle, Quantized)
    return plain and a.bundle.path.resolve() == b.bundle.path.resolve()
