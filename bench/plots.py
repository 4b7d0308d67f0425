"""The pictures of `bench report`, by matplotlib, from saved results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.errors import UserError

from . import chips, stats, summary, tables
from .partial import spread
from .session import STAGES

Result = dict[str, Any]
COLOURS = ("#1f6f8b", "#c8553d", "#8f9779", "#6d597a")


def pyplot() -> Any:
    """matplotlib, drawing to files; UserError where it is not installed."""
    try:
        import matplotlib
    except ImportError as e:
        raise UserError("the plots need matplotlib; pip install 'instruct-musicgen-mlx[bench]'") from e
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    return plt


def stages(result: Result, path: Path) -> Path:
    """RTF of each stage, a bar for each column, on a logarithmic axis."""
    plt = pyplot()
    columns, audio = result["columns"], summary.audio_seconds(result)
    figure, axes = plt.subplots(figsize=(8, 4))
    height = 0.8 / len(columns)
    names = [*STAGES, summary.WHOLE]
    for n, column in enumerate(columns):
        values = [np.median(summary.samples(column, stage)) / audio for stage in names]
        axes.barh(np.arange(len(names)) + n * height, values, height, label=_label(column), color=COLOURS[n])
    axes.set_yticks(np.arange(len(names)) + 0.4 - height / 2, names)
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="seconds for a second of audio (RTF); shorter is faster")
    axes.set_title(summary.title(result), fontsize=10)
    return _save(plt, figure, path, legend=axes)


def step_time(result: Result, path: Path) -> Path:
    """Milliseconds of each decode step over the cache's length, with the bound of streaming bandwidth."""
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(8, 4))
    for n, column in enumerate(result["columns"]):
        times = np.median([r["step_seconds"] for r in column["rounds"]], axis=0) * 1e3
        done, whole = summary.part(column, "steps")
        positions = range(whole) if done == whole else spread(0, whole, done)
        style = "-" if done == whole else "o"
        axes.plot([p + 1 for p in positions], times, style, label=_label(column), color=COLOURS[n], markersize=4)
    best = sum(result["columns"][0]["step_bytes"].values()) / summary.streaming(result) * 1e3
    axes.axhline(best, color="black", linestyle=":", label=f"bytes at streaming bandwidth: {best:.3g} ms")
    axes.set(yscale="log", xlabel="positions in the cache", ylabel="ms a step")
    axes.set_title(summary.title(result), fontsize=10)
    return _save(plt, figure, path, legend=axes)


def roofline(results: Sequence[Result], path: Path) -> Path:
    """ms/step that bandwidth allows, Apple's chips on the line, and measured runs above it."""
    plt = pyplot()
    columns = [(r, c) for r in results for c in r["columns"]]
    figure, axes = plt.subplots(figsize=(9, 5.5))
    first = columns[0][1]
    size = sum(first["step_bytes"].values())
    lowest = min(5.0, *(summary.streaming(r) / 2e9 for r in results))
    rates = np.geomspace(lowest, 1500, 50)
    axes.plot(rates, size / rates / 1e6, color="black", label=f"least for {tables.size(size)} a step")
    for rate, names in chip_groups():
        least = size / rate / 1e6
        axes.plot(rate, least, "|", color="black", markersize=10)
        axes.annotate(names, (rate, least), (2, 6), textcoords="offset points", fontsize=7, rotation=60)
    for n, (r, c) in enumerate(columns):
        step = np.median(summary.step_samples(c)) * 1e3
        name = f"{r['settings']['name']}, {_label(c)}"
        axes.plot(summary.streaming(r) / 1e9, step, "os^Dv"[n % 5], label=name, color=COLOURS[n % 4])
    axes.set(xscale="log", yscale="log", xlabel="memory bandwidth, GB/s", ylabel="ms a step")
    axes.set_title("a decode step: least time by bandwidth (Apple's chips: published peaks), and measured", fontsize=10)
    axes.legend(fontsize=8, loc="lower left")
    return _save(plt, figure, path)


def chip_groups(nearer: float = 1.06) -> list[tuple[float, str]]:
    """Bandwidth and names of the chips of the table, those too near each other for two labels together."""
    groups: list[list[chips.Chip]] = []
    for chip in sorted(chips.CHIPS, key=lambda c: c.bandwidth):
        if groups and chip.bandwidth < nearer * groups[-1][0].bandwidth:
            groups[-1].append(chip)
        else:
            groups.append([chip])
    short = [(g[0].bandwidth, list(dict.fromkeys(c.name.partition(" (")[0] for c in g))) for g in groups]
    return [(rate, ", ".join(names)) for rate, names in short]


def traffic(result: Result, path: Path) -> Path:
    """Bytes that each kernel must read, and that its Metal source asked for where the interpreter counted them."""
    plt = pyplot()
    from .kernels import STOCK

    cases = result["cases"]
    figure, axes = plt.subplots(figsize=(10, 0.4 * len(cases) + 1.8))
    rows = np.arange(len(cases))
    ours = [next((c for label, c in case["columns"].items() if label != STOCK), case["columns"].get(STOCK))
            for case in cases]
    needed = [c["reads"] / 1e6 for c in ours]
    if any("traffic" in c for c in cases):
        needed = [c["traffic"]["needed"] / 1e6 if "traffic" in c else n for c, n in zip(cases, needed)]
        loaded = [c.get("traffic", {}).get("loaded", np.nan) / 1e6 for c in cases]
        axes.barh(rows + 0.2, loaded, 0.4, label="loaded by the Metal source (interpreter, before any cache)",
                  color=COLOURS[1])
    axes.barh(rows - 0.2, needed, 0.4, label="must be read", color=COLOURS[0])
    axes.set_yticks(rows, [c["case"] for c in cases], fontsize=7)
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="MB a call", title="traffic of each kernel")
    return _save(plt, figure, path, legend=axes)


def kernels(result: Result, path: Path) -> Path:
    """How many times faster than stock MLX each kernel is."""
    plt = pyplot()
    from .kernels import STOCK

    cases = [c for c in result["cases"] if STOCK in c["columns"] and len(c["columns"]) > 1]
    labels = list(dict.fromkeys(label for c in cases for label in c["columns"] if label != STOCK))
    figure, axes = plt.subplots(figsize=(10, 0.4 * len(cases) + 1.8))
    height = 0.8 / max(len(labels), 1)
    for n, label in enumerate(labels):
        there = [(row, c["columns"]) for row, c in enumerate(cases) if label in c["columns"]]
        faster = [stats.paired_ratio(c[STOCK]["seconds"], c[label]["seconds"]).estimate for _, c in there]
        places = [row + (n - (len(labels) - 1) / 2) * height for row, _ in there]
        axes.barh(places, faster, height, label=label, color=COLOURS[n % 4])
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(range(len(cases)), [c["case"] for c in cases], fontsize=7)
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="times as fast as stock MLX (line: as fast)",
             title=f"kernels at the shapes of {result['settings']['name']}")
    return _save(plt, figure, path, legend=axes)


def _label(column: dict[str, Any]) -> str:
    return summary.name(column) + (" (projected)" if summary.projected(column, summary.WHOLE) else "")


def _save(plt: Any, figure: Any, path: Path, *, legend: Any = None) -> Path:
    """Write the figure; `legend`: axes whose legend goes below them, where no bar can be."""
    if legend is not None:
        figure.legend(*legend.get_legend_handles_labels(), loc="lower center", ncols=3, fontsize=8)
    figure.tight_layout(rect=(0, 0.4 / figure.get_figheight(), 1, 1) if legend is not None else None)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path
