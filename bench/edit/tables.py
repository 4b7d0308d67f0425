"""The tables of `bench edit`: stages, memory, and the notes that say where the numbers come from."""

from __future__ import annotations

from model.config import FRAME_RATE
from model.stages import STAGES

from .. import stats, summary
from ..machine import hardware
from ..output import tables
from ..output.tables import Table
from ..results import EditColumn, EditResult


def table(result: EditResult) -> Table:
    """Return the main table: stages, whole edit, RTF, steps, bandwidth and memory.

    Each column has one, and the first is compared with the others.
    """
    columns = result.columns
    first, others = columns[0], columns[1:]
    headers = ["stage", *[summary.name(c) for c in columns], *[f"{c.label} / {first.label}" for c in others]]
    rows = []
    for stage in (*STAGES, summary.WHOLE):
        row = [stage]
        row += [
            tables.measured(stats.summarize(summary.samples(c, stage)), projected=summary.projected(c, stage))
            for c in columns
        ]
        for c in others:
            mark = summary.projected(c, stage) or summary.projected(first, stage)
            row.append(tables.ratio(summary.speedup(c, first, stage), len(c.rounds), projected=mark))
        rows.append(row)
    for label, cells in {
        "RTF": [
            ("~" if summary.projected(c, summary.WHOLE) else "") + f"{summary.rtf(result, c).median:.3g}"
            for c in columns
        ],
        "per step": [tables.measured(stats.summarize(summary.step_samples(c))) for c in columns],
        "of it, building its graph": [
            tables.measured(stats.summarize(built)) if (built := summary.build_samples(c)) else "-" for c in columns
        ],
        "nodes of its graph": [str(sum(c.step_primitives.values()) or "-") for c in columns],
        "bytes a step must read": [tables.size(summary.step_read(c)) for c in columns],
        "read at": [f"{summary.step_rate(c) / 1e9:.3g} GB/s" for c in columns],
        "of streaming bandwidth": [f"{100 * summary.step_rate(c) / summary.streaming(result):.0f} %" for c in columns],
        "adapter at": [f"{summary.adapter_rate(c) / 1e9:.3g} GFLOP/s" for c in columns],
        "load": [tables.seconds(c.load_seconds) for c in columns],
        "CPU time of the kernel in it": [
            "-" if c.load_kernel_seconds is None else tables.seconds(c.load_kernel_seconds) for c in columns
        ],
        "to the first sound": ["-" if c.first_sound is None else tables.seconds(c.first_sound) for c in columns],
        "load to first step": [tables.seconds(summary.start(c)) for c in columns],
        "peak RSS": [tables.size(summary.peak_rss(c)) for c in columns],
        "peak MLX memory": [tables.size(summary.mlx_peak(c)) for c in columns],
    }.items():
        if set(cells) != {"-"}:  # results that were saved before it was measured have none
            rows.append([label, *cells, *[""] * len(others)])
    return Table(title(result), headers, rows, notes(result))


def title(result: EditResult) -> str:
    """Return the title: which model edited how much audio."""
    g = result.columns[0].geometry
    batch = f" x {g.batch}" if g.batch > 1 else ""
    return (
        f"{result.settings.name}, {g.bits} bits: {g.layers} layers of {g.dim}; "
        f"{g.frames / FRAME_RATE:g} s of audio{batch}, {g.steps} steps"
    )


def memory_table(result: EditResult) -> Table:
    """Return the peak RSS by stage."""
    rows = [
        [stage, *[tables.size(max(r.peak_rss[stage] for r in c.rounds)) for c in result.columns]] for stage in STAGES
    ]
    return Table("peak RSS by stage", ["stage", *[summary.name(c) for c in result.columns]], rows)


def proof(column: EditColumn) -> str:
    """Say in one line what a step's graph holds, and which calls the reference computed."""
    graph, fallen = column.step_primitives, column.reference_calls
    stock = summary.stock_primitives(graph)
    if column.backend == "reference":
        return f"{summary.name(column)}: plain MLX; a step's graph has {_counts(stock)}"
    info = column.info or {}
    isa = info.get("isa") or info.get("level")  # as results saved by version 0.1 call it
    caches = ", float16 caches" if info and info.get("caches") == "float16" else ""
    how = f" ({isa}, {info['threads']} threads, {info['activations']} activations{caches})" if info else ""
    ours = _counts(summary.fused_primitives(graph))
    if column.backend == "interpreter":
        ours = "none of our kernels, which run as they are called,"
    return (
        f"{summary.name(column)}{how}: a step's graph has {ours} and {_counts(stock) if stock else 'none'} of stock "
        f"MLX's products; calls into the reference in a first small edit: {_counts(fallen) if fallen else 'none'}"
    )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {primitive}" for primitive, n in sorted(counts.items())) or "nothing"


def notes(result: EditResult) -> list[str]:
    """Say where the numbers come from and how to read them."""
    columns = result.columns
    rounds = len(columns[0].rounds)
    out = [f"{result.environment.describe()}; {result.created[:10]}"]
    spread = ", ± half the quartile distance" * (rounds > 1)
    intervals = " with 95 % bootstrap intervals" * (rounds >= stats.MIN_ROUNDS)
    out.append(
        f"Medians of {rounds} interleaved round{'s' * (rounds > 1)} after a warm-up{spread}; each column in a process "
        f"of its own; ratios are medians of pairs{intervals}."
    )
    out.append(
        "Load to first step: opening the model, then the first edit in its process, of "
        f"{columns[0].warmup['first'].measured['codec encode'][0]} frames and one adapter layer, up to the end "
        "of its first step; once, without imports; not part of the edit."
    )
    if any(c.load_kernel_seconds is not None for c in columns):
        out.append(
            "CPU time of the kernel while loading: reading files, and giving out memory, which is zeroed first; a "
            "virtual machine that has given freed memory back gets it from its host again."
        )
    if any(c.first_sound is not None for c in columns):
        out.append("To the first sound: until a stream's first chunk, of the first second, is there; once.")
    method = result.bandwidth.method
    if any(summary.build_samples(c) for c in columns):
        out.append("Building a step's graph: by the host, timed apart from running it; on a GPU it is mostly hidden.")
    out.append(f"Streaming bandwidth of this machine, in this run: {summary.streaming_range(result)}; {method}.")
    for c in columns:
        cut = [f"{stage} from {a} of {b}" for stage in STAGES for a, b in [summary.part(c, stage)] if a < b]
        if cut:
            out.append(f"~ projected, {c.label}: {', '.join(cut)} (frames, layers or steps).")
    out += [f"Left out: the {label} column: {reason}." for label, reason in result.left_out.items()]
    out += [proof(c) for c in columns]
    if columns[0].backend == "reference":
        why = columns[0].fallback
        out.append(f"No fused backend ran{f': {why}' if why else ''}; {columns[0].label} is the reference too.")
    busy = max(hardware.others(r.busy for r in c.rounds) or 0.0 for c in columns)
    if busy > hardware.MIN_BUSY_CORES:
        out.append(f"Other programs used {busy:.1f} of {result.environment.cores} cores meanwhile.")
    return out
