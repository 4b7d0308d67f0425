"""The pictures of `bench report`, by matplotlib, from saved results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.errors import UserError

from . import chips, summary
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
    axes.set(xscale="log", xlabel="seconds for a second of audio (RTF)", title=summary.title(result))
    axes.legend()
    return _save(plt, figure, path)


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
    axes.set(yscale="log", xlabel="positions in the cache", ylabel="ms a step", title=summary.title(result))
    axes.legend()
    return _save(plt, figure, path)


def roofline(results: Sequence[Result], path: Path) -> Path:
    """ms/step that bandwidth allows, Apple's chips on the line, and measured runs above it."""
    plt = pyplot()
    columns = [(r, c) for r in results for c in r["columns"]]
    figure, axes = plt.subplots(figsize=(8, 5))
    first = columns[0][1]
    size = sum(first["step_bytes"].values())
    rates = np.geomspace(5, 1000, 50)
    axes.plot(rates, size / rates / 1e6, color="black", label=f"bound for {size / 1e9:.3g} GB a step")
    for chip in {c.bandwidth: c for c in reversed(chips.CHIPS)}.values():
        axes.annotate(chip.name, (chip.bandwidth, size / chip.bandwidth / 1e6), fontsize=7, rotation=30)
        axes.plot(chip.bandwidth, size / chip.bandwidth / 1e6, "|", color="black")
    for n, (r, c) in enumerate(columns):
        step = np.median(summary.step_samples(c)) * 1e3
        name = f"{r['settings']['name']}, {_label(c)}"
        axes.plot(summary.streaming(r) / 1e9, step, "os^Dv"[n % 5], label=name, color=COLOURS[n % 4])
    axes.set(xscale="log", yscale="log", xlabel="memory bandwidth, GB/s", ylabel="ms a step")
    axes.set_title("roofline of a decode step")
    axes.legend(fontsize=8)
    return _save(plt, figure, path)


def traffic(result: Result, path: Path) -> Path:
    """Bytes that each kernel must read, and that its Metal source asked for where the interpreter counted them."""
    plt = pyplot()
    cases = result["cases"]
    figure, axes = plt.subplots(figsize=(9, 0.4 * len(cases) + 1.5))
    rows = np.arange(len(cases))
    needed = [next(iter(c["columns"].values()))["reads"] / 1e6 for c in cases]
    if any("traffic" in c for c in cases):
        needed = [c["traffic"]["needed"] / 1e6 if "traffic" in c else n for c, n in zip(cases, needed)]
        loaded = [c.get("traffic", {}).get("loaded", np.nan) / 1e6 for c in cases]
        axes.barh(rows + 0.4, loaded, 0.4, label="loaded (interpreter, before any cache)", color=COLOURS[1])
    axes.barh(rows, needed, 0.4, label="must be read", color=COLOURS[0])
    axes.set_yticks(rows + 0.2, [c["case"] for c in cases], fontsize=7)
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="MB a call", title="traffic of each kernel")
    axes.legend()
    return _save(plt, figure, path)


def kernels(result: Result, path: Path) -> Path:
    """How many times faster than stock MLX each kernel is."""
    plt = pyplot()
    from .kernels import STOCK

    cases = [c for c in result["cases"] if STOCK in c["columns"] and len(c["columns"]) > 1]
    figure, axes = plt.subplots(figsize=(9, 0.35 * len(cases) + 1.5))
    for row, case in enumerate(cases):
        stock = np.median(case["columns"][STOCK]["seconds"])
        others = [c for label, c in case["columns"].items() if label != STOCK]
        for n, column in enumerate(others):
            axes.barh(row + n * 0.3, stock / np.median(column["seconds"]), 0.3, color=COLOURS[n])
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(range(len(cases)), [c["case"] for c in cases], fontsize=7)
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="times faster than stock MLX", title="kernels")
    return _save(plt, figure, path)


def _label(column: dict[str, Any]) -> str:
    return summary.name(column) + (" (projected)" if summary.projected(column, summary.WHOLE) else "")


def _save(plt: Any, figure: Any, path: Path) -> Path:
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path
