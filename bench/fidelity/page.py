"""The page of `bench fidelity`: what each table shows, how to read it, and what was not measured."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from itertools import pairwise

from ..html_page import Page, Section, Table, number, percent
from ..machine import hardware as machine
from ..variants import Variant
from .ablation import Cost, kind
from .inputs import Material
from .matrices import MatrixError
from .measure import Fidelity, Settings
from .plot import picture

SHOWN = 12
"""Rows of a table of layers or parts; the JSON file has all."""
BINS = 5
FULL_SIZE = (48, 2048)
"""Layers and dimension of MusicGen-large, which the published weights have."""


def page(
    variants: Sequence[Variant],
    found: Sequence[Fidelity],
    materials: Sequence[Material],
    settings: Settings,
    source: str,
    notes: Sequence[str],
) -> Page:
    """Everything in the order a reader needs it."""
    others = found[1:]
    out = Page("fidelity", f"Fidelity: how far each variant is from {found[0].label}")
    out.sections.append(Section("What was compared", _intro(variants, found, materials, settings, source, notes)))
    out.sections.append(Section("Predictions", _predictions_text(found, settings), _predictions(found, settings)))
    out.sections.append(
        Section(
            "Drift",
            "Mean KL by step, with the right tokens forced: does the error grow as the cache fills? Then the share of "
            "tokens "
            "that are still the reference's when each variant generates freely with the same seed: after the first "
            "other "
            "token the two are different recordings, not worse ones.",
            _drift(found),
        )
    )
    for each in others:
        out.sections += [_layers(each), *_weights(each), *(_costs(each, by, costs) for by, costs in each.costs.items())]
    if (image := picture(found)) is not None:
        text = "The same numbers as pictures."
        out.sections.append(
            Section(
                "Plots",
                text,
                picture=("fidelity.png", image, "KL and equal tokens by step, error by layer, cost by kind"),
            )
        )
    else:
        out.sections.append(
            Section("Plots", "None: matplotlib is not installed; pip install 'instruct-musicgen-mlx[bench]'.")
        )
    out.sections.append(Section("Not measured", _limits(variants[0], found)))
    return out


def _intro(
    variants: Sequence[Variant],
    found: Sequence[Fidelity],
    materials: Sequence[Material],
    settings: Settings,
    source: str,
    notes: Sequence[str],
) -> str:
    lines = [
        f"Reference: {found[0].label}. Every other variant is made to say the same tokens as the reference "
        f"({source}; {len({m.text for m in materials})} instruction(s); {materials[0].frames} steps; guidance "
        f"{settings.guidance:g}; seed {settings.seed}), one step at a time as in generation. Compared are the logits "
        f"after "
        "guidance, that is, what is sampled from.",
        *notes,
        f"Machine: {machine.processor()}, {machine.cores()} cores; MLX {version('mlx')}. Backends: "
        + ", ".join(f"{f.label} on {f.backend}" for f in found)
        + ".",
        "Weights: " + "; ".join(sorted({str(v.bundle.path) for v in variants})) + ".",
    ]
    return "\n\n".join(lines)


def _predictions_text(found: Sequence[Fidelity], settings: Settings) -> str:
    order = sorted(found[1:], key=lambda f: f.kl)
    ranking = "Closest first, by KL: " + ", ".join(f.label for f in order) + "."
    return (
        "KL: how much likelier the reference finds its own predictions than the variant's (nats a token; 0 is equal). "
        "95 % of tokens have a KL below the second figure. Top 1: the most probable token is the same. "
        f"Top {settings.agreement}: share of the reference's {settings.agreement} most probable tokens that are the "
        "variant's too. Perplexity: of the tokens said, lower is surer. Size: the LM's and adapter's tensors.\n\n"
        + ranking
    )


def _predictions(found: Sequence[Fidelity], settings: Settings) -> Table:
    base = found[0]
    columns = ["variant", "size MB", "KL", "KL 95 %", "top 1", f"top {settings.agreement}", "perplexity", "change"]
    rows = [
        [
            f.label,
            number(f.megabytes, 2),
            number(f.kl, 4),
            number(f.kl_p95, 4),
            percent(f.top1, 2),
            percent(f.topk, 2),
            number(f.perplexity, 2),
            "reference" if f is base else percent(f.perplexity / base.perplexity - 1, 2, signed=True),
        ]
        for f in found
    ]
    return Table(columns, rows)


def _drift(found: Sequence[Fidelity]) -> Table:
    others, steps = found[1:], len(found[0].kl_by_step)
    edges = [round(i * steps / BINS) for i in range(BINS + 1)]
    columns = ["steps", *(f"KL: {f.label}" for f in others), *(f"equal tokens: {f.label}" for f in others)]
    rows = []
    for low, high in pairwise(edges):
        if high > low:
            kls = [number(_mean(f.kl_by_step[low:high]), 4) for f in others]
            equal = [percent(_mean(f.equal_by_frame[low:high])) for f in others]
            rows.append([f"{low} to {high - 1}", *kls, *equal])
    return Table(columns, rows)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _layers(f: Fidelity) -> Section:
    rows = [
        [
            f"layer {e.layer}" + (" (stands out)" if e.layer == f.stands_out else ""),
            percent(e.lm, 2),
            percent(e.adapter, 2),
            percent(e.attention, 2),
            percent(e.share, 2),
            percent(e.stream, 2),
        ]
        for e in sorted(sorted(f.layers, key=lambda e: -e.own)[:SHOWN], key=lambda e: e.layer)
    ]
    rows += [[end, percent(value, 2), "-", "-", "-", "-"] for end, value in f.ends.items()]
    verdict = (
        f"Layer {f.stands_out} stands out: its own error is more than 1.5 times the median of the other layers'."
        if f.stands_out is not None
        else "No layer stands out (none has 1.5 times the median error of the others)."
    )
    some = f" Of {len(f.layers)} layers, the {SHOWN} with the largest own error." if len(f.layers) > SHOWN else ""
    text = (
        "Relative errors (2-norm). Own: of what a layer adds, when it is given the reference's input, in the LM and in "
        "the "
        "adapter: the layer's doing alone. Prefix attention: of its output before the projection, and of its gated "
        "part. "
        f"Stream: after the layer in the model's own run, with all errors before it.{some}\n\n{verdict}"
    )
    columns = ["part", "own, LM", "own, adapter", "prefix attention", "gated part", "stream"]
    return Section(f"Layer by layer: {f.label}", text, Table(columns, rows))


def _weights(f: Fidelity) -> list[Section]:
    """By kind of matrix: the weights' own error, and the matrix whose size is most off."""
    if not f.matrices:
        return []
    kinds: dict[str, list[MatrixError]] = {}
    for each in f.matrices:
        kinds.setdefault(kind(each.module), []).append(each)
    rows = []
    for name, found in kinds.items():
        mean = sum(m.error for m in found) / len(found)
        worst, far = max(found, key=lambda m: m.error), max(found, key=lambda m: abs(m.gain - 1))
        row = max(found, key=lambda m: abs(m.row_gain - 1))
        cells = [f"{percent(worst.error, 2)} ({worst.module})", f"{far.gain:.4f} ({far.module})"]
        rows.append([name, percent(mean, 2), *cells, f"{row.row_gain:.3f} ({row.module}, row {row.row})"])
    scaled = f.scaled()
    verdict = "No matrix is scaled: every gain is within 5 % of 1."
    if scaled:
        layers = sorted({m.module.split(".")[1] if m.module.startswith("layers.") else m.module for m in scaled})
        verdict = (
            f"{len(scaled)} of {len(f.matrices)} matrices are scaled by more than rounding can (gains "
            f"{min(m.gain for m in scaled):.3f} "
            f"to {max(m.gain for m in scaled):.3f}), in layer(s) {', '.join(layers)}: damage, not quantization."
        )
    if rows_scaled := [m for m in f.matrices if m.row_scaled]:
        worst = max(rows_scaled, key=lambda m: abs(m.row_gain - 1))
        verdict += (
            f" {len(rows_scaled)} more with a single row scaled, most of all row {worst.row} of {worst.module} (gain "
            f"{worst.row_gain:.3f}): damage too."
        )
    text = (
        "How far the weights themselves are from the reference's, before anything runs: relative error (2-norm) and "
        "gain, the "
        f"factor by which a matrix is the reference's; rounding leaves it near 1.\n\n{verdict}"
    )
    columns = ["kind", "mean error", "largest error", "gain furthest from 1", "of a row"]
    return [
        Section(
            f"Weights: {f.label}", text, Table(columns, rows)
        )
    ]


def _costs(f: Fidelity, by: str, costs: Sequence[Cost]) -> Section:
    rows = [[c.part.name, number(c.kl, 5), number(c.megaweights, 3), number(c.each, 5)] for c in costs[:SHOWN]]
    some = f" The {SHOWN} dearest of {len(costs)}; the JSON file has all." if len(costs) > SHOWN else ""
    text = (
        f"KL of the reference with only this part taken from {f.label}, dearest first. KL per million weights tells "
        f"where "
        f"more bits would save most for their size.{some}"
    )
    columns = [by, "KL", "million weights", "KL per million"]
    return Section(f"What costs most, by {by}: {f.label}", text, Table(columns, rows))


def _limits(reference: Variant, found: Sequence[Fidelity]) -> str:
    lm = reference.bundle.config.lm
    lines = ["How it sounds: these are predictions, not listening tests; `bench quality` scores the audio."]
    if reference.bundle.random_weights or (lm.layers, lm.dim) != FULL_SIZE:
        kind_of = "random weights, " if reference.bundle.random_weights else ""
        lines.append(
            f"The published weights: this model has {kind_of}{lm.layers} layers of {lm.dim}, MusicGen-large "
            f"{FULL_SIZE[0]} of "
            f"{FULL_SIZE[1]}. The numbers test the measures, and say little about how much trained weights lose."
        )
    if "metal" not in {f.backend for f in found}:
        lines.append("An Apple GPU: no variant ran on it.")
    lines.append("Costs: parts are swapped one at a time, so what several cost together is not their sum.")
    return "\n\n".join(lines)
