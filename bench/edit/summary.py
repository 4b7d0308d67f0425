"""The numbers of an end-to-end result, each computed from its saved samples and nothing else."""

from __future__ import annotations

from typing import Any

from .. import stats, tables
from ..machine import hardware as machine
from ..machine.environment import describe
from ..stats import Interval, Summary
from ..tables import Table
from .evidence import FUSED, OPERATIONS, STOCK, fused_primitives, stock_primitives
from .session import STAGES

Column = dict[str, Any]
Result = dict[str, Any]
WHOLE = "whole edit"


def part(column: Column, stage: str) -> tuple[int, int]:
    """How much of a stage was run, of how much; equal when nothing is projected."""
    done, whole = column["rounds"][0]["measured"].get(stage, (1, 1))
    return int(done), int(whole)


def projected(column: Column, stage: str) -> bool:
    """Whether a stage's time (any stage's, for the whole edit) is projected from a part."""
    names = STAGES if stage == WHOLE else (stage,)
    return any(done < whole for done, whole in (part(column, name) for name in names))


def samples(column: Column, stage: str) -> list[float]:
    """Seconds of a stage, or of the whole edit, in each round; projected ones scaled up to the whole."""
    if stage == WHOLE:
        return [sum(parts) for parts in zip(*(samples(column, name) for name in STAGES))]
    done, whole = part(column, stage)
    return [r["seconds"][stage] * whole / done for r in column["rounds"]]


def step_samples(column: Column) -> list[float]:
    """Mean seconds of a decode step in each round."""
    done, _ = part(column, "steps")
    return [r["seconds"]["steps"] / done for r in column["rounds"]]


def audio_seconds(result: Result) -> float:
    """Seconds of audio that an edit makes, all rows of the batch together."""
    geometry = result["columns"][0]["geometry"]
    return float(geometry["frames"] / 50 * geometry["batch"])


def rtf(result: Result, column: Column) -> Summary:
    """Real-time factor: wall time of the whole edit over the seconds of audio it made; below 1 is faster than real."""
    return stats.summarize([s / audio_seconds(result) for s in samples(column, WHOLE)])


def passes(result: Result) -> list[float]:
    """Seconds of every streaming pass, spread over the run: a machine's memory has slow minutes."""
    record = result["bandwidth"]
    later = [*record.get("rounds", []), *(case["stream"] for case in result.get("cases", []))]
    return [float(s) for some in (record["seconds"], *later) for s in some]


def streaming(result: Result) -> float:
    """Bytes a second that this machine streams: the median pass of the run."""
    return float(result["bandwidth"]["bytes"]) / stats.summarize(passes(result)).median


def step_rate(column: Column) -> float:
    """Bytes a second: what a step must read over the median step."""
    return float(sum(column["step_bytes"].values())) / stats.summarize(step_samples(column)).median


def adapter_rate(column: Column) -> float:
    """Floating-point operations a second in the median run of the adapter."""
    return float(column["adapter_flops"]) / stats.summarize(samples(column, "adapter")).median


def start(column: Column) -> float:
    """Seconds from opening the model to the end of its first step: loading, and the first small round up to there."""
    first = column["warmup"]["first"]
    before = STAGES[: STAGES.index("steps")]
    return float(column["load_seconds"] + sum(first["seconds"][stage] for stage in before) + first["first_step"])


def peak_rss(column: Column) -> int:
    """The process's largest resident set, loading included."""
    rounds = [*column["rounds"], *column["warmup"].values()]
    return max(int(column["load_rss"]), *(int(max(r["peak_rss"].values())) for r in rounds))


def mlx_peak(column: Column) -> int:
    """`mx.get_peak_memory` over the rounds."""
    return max(int(max(r["mlx_peak"].values())) for r in column["rounds"])


def speedup(slow: Column, fast: Column, stage: str) -> Interval:
    """How many times faster `fast` is, round by round."""
    return stats.paired_ratio(samples(slow, stage), samples(fast, stage))


def name(column: Column) -> str:
    """The column's header: its label and the backend that really ran."""
    return column["label"] if column["label"] == column["backend"] else f"{column['label']} ({column['backend']})"


def table(result: Result) -> Table:
    """Stages, whole edit, RTF, steps, bandwidth and memory; one column each, and the first against the others."""
    columns: list[Column] = result["columns"]
    first, others = columns[0], columns[1:]
    headers = ["stage", *[name(c) for c in columns], *[f"{c['label']} / {first['label']}" for c in others]]
    rows = []
    for stage in (*STAGES, WHOLE):
        row = [stage]
        row += [tables.measured(stats.summarize(samples(c, stage)), projected=projected(c, stage)) for c in columns]
        for c in others:
            mark = projected(c, stage) or projected(first, stage)
            row.append(tables.ratio(speedup(c, first, stage), len(c["rounds"]), projected=mark))
        rows.append(row)
    blank = [""] * len(others)

    def add(label: str, cells: list[str]) -> None:
        rows.append([label, *cells, *blank])

    add("RTF", [("~" if projected(c, WHOLE) else "") + f"{rtf(result, c).median:.3g}" for c in columns])
    add("per step", [tables.measured(stats.summarize(step_samples(c))) for c in columns])
    add("bytes a step must read", [tables.size(sum(c["step_bytes"].values())) for c in columns])
    add("read at", [f"{step_rate(c) / 1e9:.3g} GB/s" for c in columns])
    add("of streaming bandwidth", [f"{100 * step_rate(c) / streaming(result):.0f} %" for c in columns])
    add("adapter at", [f"{adapter_rate(c) / 1e9:.3g} GFLOP/s" for c in columns])
    add("load", [tables.seconds(c["load_seconds"]) for c in columns])
    add("load to first step", [tables.seconds(start(c)) for c in columns])
    add("peak RSS", [tables.size(peak_rss(c)) for c in columns])
    add("peak MLX memory", [tables.size(mlx_peak(c)) for c in columns])
    return Table(title(result), headers, rows, notes(result))


def title(result: Result) -> str:
    """What was edited with what."""
    g = result["columns"][0]["geometry"]
    batch = f" x {g['batch']}" if g["batch"] > 1 else ""
    return (
        f"{result['settings']['name']}, {g['bits']} bits: {g['layers']} layers of {g['dim']}; "
        f"{g['frames'] / 50:g} s of audio{batch}, {g['steps']} steps"
    )


def memory_table(result: Result) -> Table:
    """Peak RSS by stage."""
    columns: list[Column] = result["columns"]
    rows = [
        [stage, *[tables.size(max(r["peak_rss"][stage] for r in c["rounds"])) for c in columns]] for stage in STAGES
    ]
    return Table("peak RSS by stage", ["stage", *[name(c) for c in columns]], rows)


def proof(column: Column) -> str:
    """One line: what a step's graph holds, and what fell back to the reference."""
    graph, fallen = column["step_primitives"], column["reference_calls"]
    if column["backend"] == "reference":
        return f"{name(column)}: plain MLX; a step's graph has {_counts(stock_primitives(graph))}"
    stock = stock_primitives(graph)
    info = column["info"] or {}
    isa = info.get("isa") or info.get("level")  # as results saved by version 0.1 call it
    how = f" ({isa}, {info['threads']} threads, {info['activations']} activations)" if info else ""
    ours = _counts(fused_primitives(graph))
    if column["backend"] == "interpreter":
        ours = "none of our kernels, which run as they are called,"
    return (
        f"{name(column)}{how}: a step's graph has {ours} and {_counts(stock) if stock else 'none'} of stock MLX's "
        f"products; calls into the reference in a first small edit: {_counts(fallen) if fallen else 'none'}"
    )


def unfused(column: Column) -> dict[str, int]:
    """What a fused column computed without its own kernels; empty as it should be, and for the reference."""
    if column["backend"] == "reference":
        return {}
    native = column["backend"] == "native"  # has kernels for everything; the Metal ones leave the rest to stock MLX
    own, stock = (OPERATIONS, STOCK) if native else (FUSED, ("QuantizedMatmul",))
    calls = {name: n for name, n in column["reference_calls"].items() if name in own}
    return calls | {name: n for name, n in column["step_primitives"].items() if name in stock}


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {primitive}" for primitive, n in sorted(counts.items())) or "nothing"


def notes(result: Result) -> list[str]:
    """Where the numbers come from and how to read them."""
    columns = result["columns"]
    rounds = len(columns[0]["rounds"])
    out = [f"{describe(result['environment'])}; {result['created'][:10]}"]
    spread = ", ± half the quartile distance" * (rounds > 1)
    intervals = " with 95 % bootstrap intervals" * (rounds >= tables.LEAST)
    out.append(
        f"Medians of {rounds} interleaved round{'s' * (rounds > 1)} after a warm-up{spread}; each column in a process "
        f"of its own; ratios are medians of pairs{intervals}."
    )
    out.append(
        "Load to first step: opening the model, then the first edit in its process, of "
        f"{columns[0]['warmup']['first']['measured']['codec encode'][0]} frames and one adapter layer, up to the end "
        "of its first step; once, without imports; not part of the edit."
    )
    method = result["bandwidth"]["method"]
    out.append(f"Streaming bandwidth of this machine, in this run: {streaming(result) / 1e9:.3g} GB/s ({method}).")
    for c in columns:
        cut = [f"{stage} from {a} of {b}" for stage in STAGES for a, b in [part(c, stage)] if a < b]
        if cut:
            out.append(f"~ projected, {c['label']}: {', '.join(cut)} (frames, layers or steps).")
    out += [f"Left out: the {label} column: {reason}." for label, reason in result["left_out"].items()]
    out += [proof(c) for c in columns]
    if columns[0]["backend"] == "reference":
        why = columns[0].get("fallback")
        out.append(f"No fused backend ran{f': {why}' if why else ''}; {columns[0]['label']} is the reference too.")
    busy = max(machine.others(r["busy"] for r in c["rounds"]) or 0.0 for c in columns)
    if busy > 0.25:
        out.append(f"Other programs used {busy:.1f} of {result['environment']['cores']} cores meanwhile.")
    return out
