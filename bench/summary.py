"""The numbers of a saved result, most of them of an edit, each computed from its samples and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from model.config import FRAME_RATE
from model.stages import STAGES

from . import stats
from .results import FUSED, OPERATIONS, EditColumn, EditResult, KernelsResult
from .stats import Interval, Summary

WHOLE = "whole edit"
STOCK_PRIMITIVES = ("QuantizedMatmul", "Matmul", "AddMM", "ScaledDotProductAttention", "Convolution")
"""MLX's own primitives that do the arithmetic of `OPERATIONS`: a fused step must have none of them."""

OUR_PRIMITIVES = (*OPERATIONS, "CustomKernel")
"""Kernels of ours, as a graph names them: the native extension's by their operation, Metal source by MLX's name."""


def part(column: EditColumn, stage: str) -> tuple[int, int]:
    """Return how much of a stage was run, and how much the whole is; the two are equal when nothing is projected."""
    return column.rounds[0].measured.get(stage, (1, 1))


def projected(column: EditColumn, stage: str) -> bool:
    """Tell whether a stage's time (any stage's, for the whole edit) is projected from a part."""
    names = STAGES if stage == WHOLE else (stage,)
    return any(done < whole for done, whole in (part(column, name) for name in names))


def samples(column: EditColumn, stage: str) -> list[float]:
    """Return the seconds of a stage, or of the whole edit, in each round; projected ones scaled up to the whole."""
    if stage == WHOLE:
        return [sum(parts) for parts in zip(*(samples(column, name) for name in STAGES))]
    done, whole = part(column, stage)
    return [r.seconds[stage] * whole / done for r in column.rounds]


def step_samples(column: EditColumn) -> list[float]:
    """Return the mean seconds of a decode step in each round."""
    done, _ = part(column, "steps")
    return [r.seconds["steps"] / done for r in column.rounds]


def build_samples(column: EditColumn) -> list[float]:
    """Return the median seconds in which each round built the graph of a step; empty where none is built apart."""
    return [stats.summarize(r.build_seconds).median for r in column.rounds if r.build_seconds]


def audio_seconds(result: EditResult) -> float:
    """Return the seconds of audio that an edit makes, all rows of the batch together."""
    geometry = result.columns[0].geometry
    return geometry.frames / FRAME_RATE * geometry.batch


def rtf(result: EditResult, column: EditColumn) -> Summary:
    """Return the real-time factor: seconds of work per second of audio made; below 1 is faster than the music plays."""
    return stats.summarize([s / audio_seconds(result) for s in samples(column, WHOLE)])


def passes(result: EditResult | KernelsResult) -> list[float]:
    """Return the seconds of every streaming pass. They are spread over the run: a machine's memory has slow minutes."""
    cases = result.cases if isinstance(result, KernelsResult) else []
    every = (result.bandwidth.seconds, *result.bandwidth.rounds, *(case.stream for case in cases))
    return [seconds for some in every for seconds in some]


def streaming(result: EditResult | KernelsResult) -> float:
    """Return the bytes a second that this machine streams, by the run's median pass."""
    return result.bandwidth.bytes / stats.summarize(passes(result)).median


def streaming_range(result: EditResult | KernelsResult) -> str:
    """Say how many bytes a second the run's passes read: the median, and the 10 % quantiles around it.

    The memory of a virtual machine was seen to stream at 33 and at 62 GB/s within a minute, old buffers and fresh ones
    alike: a figure means little without the state that the run was in.
    """
    rates = sorted(result.bandwidth.bytes / seconds / 1e9 for seconds in passes(result))
    low, high = (rates[round(share * (len(rates) - 1))] for share in (0.1, 0.9))
    return f"{streaming(result) / 1e9:.3g} GB/s (8 of 10 passes: {low:.3g} to {high:.3g})"


def step_read(column: EditColumn) -> float:
    """Return the bytes that a step must read."""
    return sum(column.step_bytes.values())


def step_rate(column: EditColumn) -> float:
    """Return the bytes a second that a step reads: what it must read over the median step."""
    return step_read(column) / stats.summarize(step_samples(column)).median


def adapter_rate(column: EditColumn) -> float:
    """Return the floating-point operations a second of the median run of the adapter."""
    return column.adapter_flops / stats.summarize(samples(column, "adapter")).median


def start(column: EditColumn) -> float:
    """Return the seconds from opening the model to the end of its first step: loading, then the first small round."""
    first = column.warmup["first"]
    return column.load_seconds + sum(first.seconds[s] for s in STAGES[: STAGES.index("steps")]) + first.first_step


def peak_rss(column: EditColumn) -> int:
    """Return the process's largest resident set in bytes, loading included."""
    return max(column.load_rss, *(max(r.peak_rss.values()) for r in (*column.rounds, *column.warmup.values())))


def mlx_peak(column: EditColumn) -> int:
    """Return the largest `mx.get_peak_memory` of the rounds in bytes."""
    return max(max(r.mlx_peak.values()) for r in column.rounds)


def speedup(slow: EditColumn, fast: EditColumn, stage: str) -> Interval:
    """Return how many times faster `fast` is than the other column, by ratios of the same rounds."""
    return stats.paired_ratio(samples(slow, stage), samples(fast, stage))


def name(column: EditColumn) -> str:
    """Return the column's header: its label and the backend that really ran."""
    return column.label if column.label == column.backend else f"{column.label} ({column.backend})"


def spread(first: int, total: int, count: int) -> list[int]:
    """Return `count` positions in [first, total): the middles of as many equal parts."""
    width = (total - first) / count
    return [first + int((i + 0.5) * width) for i in range(count)]


def stock_primitives(counts: Mapping[str, int]) -> dict[str, int]:
    """Return those of `counts` that are stock MLX's arithmetic."""
    return {name: n for name, n in counts.items() if name in STOCK_PRIMITIVES}


def fused_primitives(counts: Mapping[str, int]) -> dict[str, int]:
    """Return those of `counts` that are kernels of ours."""
    return {name: n for name, n in counts.items() if name in OUR_PRIMITIVES}


def unfused(column: EditColumn) -> dict[str, int]:
    """Count what a fused column computed without its own kernels, which should be nothing; empty for the reference."""
    if column.backend == "reference":
        return {}
    native = column.backend == "native"  # has kernels for everything; the Metal ones leave the rest to stock MLX
    own, stock = (OPERATIONS, STOCK_PRIMITIVES) if native else (FUSED, ("QuantizedMatmul",))
    calls = {name: n for name, n in column.reference_calls.items() if name in own}
    return calls | {name: n for name, n in column.step_primitives.items() if name in stock}
