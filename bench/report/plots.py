"""The pictures of `bench report`, as PNG bytes, by matplotlib, from saved results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from model.stages import STAGES

from .. import stats, summary
from ..edit.tables import title
from ..output import figures, tables
from ..results import STOCK, EditColumn, EditResult, KernelCase, KernelsResult
from ..roofline import apple_chips as chips

COLORS = ("#1f6f8b", "#c8553d", "#8f9779", "#6d597a")
MARKERS = "os^D"
"""The columns' markers: points may lie on each other, so all but the first are open."""


def _axes(width: float, height: float) -> Any:
    """Return the axes of a new figure, whose bars and lines have our colors."""
    from cycler import cycler

    axes = figures.figure(width, height).subplots()
    axes.set_prop_cycle(cycler(color=COLORS))
    return axes


def stages(result: EditResult) -> bytes:
    """Draw the RTF of each stage, a bar for each column, on a logarithmic axis."""
    columns, audio = result.columns, summary.audio_seconds(result)
    axes = _axes(8, 4)
    names = [*STAGES, summary.WHOLE]
    bars = {_label(c): [np.median(summary.samples(c, stage)) / audio for stage in names] for c in columns}
    figures.bars(axes, bars)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("seconds for a second of audio (RTF); shorter is faster")
    axes.set_title(title(result), fontsize=10)
    _logarithmic(axes.xaxis)
    return _png(axes)


def step_time(result: EditResult) -> bytes:
    """Draw milliseconds of each decode step over the cache's length, with the bound of streaming bandwidth."""
    axes = _axes(8, 4)
    for n, column in enumerate(result.columns):
        times = np.median([r.step_seconds for r in column.rounds], axis=0) * 1e3
        done, whole = summary.part(column, "steps")
        # In clips of several windows the length of the cache starts at 0 again in each.
        lengths = np.array(column.step_positions or summary.spread(0, whole, done)) + 1
        order = np.argsort(lengths, kind="stable")
        few = done < whole or np.any(np.diff(lengths) < 1)
        style = {"marker": MARKERS[n], "linestyle": "", "fillstyle": "none" if n else "full"} if few else {}
        axes.plot(lengths[order], times[order], label=_stepping(column), color=COLORS[n], markersize=5, **style)
    best = summary.step_read(result.columns[0]) / summary.streaming(result) * 1e3
    axes.axhline(best, color="black", linestyle=":", label=f"bytes at streaming bandwidth: {best:.3g} ms")
    axes.set(xlabel="positions in the cache", ylabel="ms a step")
    axes.set_title(title(result), fontsize=10)
    _logarithmic(axes.yaxis)
    return _png(axes)


def roofline(results: Sequence[EditResult]) -> bytes:
    """Draw the milliseconds of a step that bandwidth allows, a line for each size that a step must read.

    Apple's chips lie on the line of the largest size; measured runs lie above theirs, at the bandwidth measured in
    them.
    """
    axes = _axes(9, 6.5)
    sizes = [summary.step_read(r.columns[0]) for r in results]
    lines = dict(zip(map(tables.size, sizes), sizes))  # results of one model share theirs
    colors = dict(zip(lines, ("black", *COLORS) * len(lines)))
    rates = np.geomspace(min(5.0, *(summary.streaming(r) / 2e9 for r in results)), 1500, 2)
    for label, size in lines.items():
        axes.plot(rates, size / rates / 1e6, color=colors[label], linewidth=1, label=f"least for {label} a step")
    for rate, names in chip_groups():
        least = max(sizes) / rate / 1e6
        axes.plot(rate, least, "|", color=colors[tables.size(max(sizes))], markersize=10)
        axes.annotate(names, (rate, least), (2, 6), textcoords="offset points", fontsize=7, rotation=60)
    for r, size in zip(results, sizes):
        for n, column in enumerate(r.columns):
            step = np.median(summary.step_samples(column)) * 1e3
            name = f"{r.settings.name}, {column.geometry.bits} bits, {_stepping(column)}"
            style = {"color": colors[tables.size(size)], "fillstyle": "none" if n else "full"}
            axes.plot(summary.streaming(r) / 1e9, step, MARKERS[n], label=name, **style)
    axes.set(xlabel="memory bandwidth, GB/s", ylabel="ms a step")
    axes.set_title("a decode step: least time by bandwidth (Apple's chips: published peaks), and measured", fontsize=10)
    _logarithmic(axes.xaxis)
    _logarithmic(axes.yaxis)
    return _png(axes)


def chip_groups(nearer: float = 1.06) -> list[tuple[float, str]]:
    """Return bandwidth and names of the chips of the table, joined where two labels would overlap."""
    groups: list[list[chips.Chip]] = []
    for chip in sorted(chips.CHIPS, key=lambda c: c.bandwidth):
        if groups and chip.bandwidth < nearer * groups[-1][0].bandwidth:
            groups[-1].append(chip)
        else:
            groups.append([chip])
    short = [(g[0].bandwidth, list(dict.fromkeys(c.name.partition(" (")[0] for c in g))) for g in groups]
    return [(rate, ", ".join(names)) for rate, names in short]


def traffic(result: KernelsResult) -> bytes:
    """Draw the bytes that each kernel must read, and those that its Metal source asked for where they were counted."""
    cases = result.cases
    axes = _axes(10, 0.4 * len(cases) + 1.8)
    ours = [next((c for label, c in case.columns.items() if label != STOCK), case.columns.get(STOCK)) for case in cases]
    needed = [c.reads / 1e6 if c else np.nan for c in ours]
    bars = {"must be read": needed}
    if any(case.traffic for case in cases):
        loaded = [case.traffic.loaded / 1e6 if case.traffic else np.nan for case in cases]
        needed = [case.traffic.needed / 1e6 if case.traffic else n for case, n in zip(cases, needed)]
        bars = {"loaded by the Metal source (interpreter, before any cache)": loaded, "must be read": needed}
    figures.bars(axes, bars)
    axes.set(xlabel="MB a call", title="traffic of each kernel")
    _rows(axes, [c.case for c in cases])
    return _png(axes)


def kernels(result: KernelsResult) -> bytes:
    """Draw how many times faster than stock MLX each kernel is."""
    cases = [c for c in result.cases if STOCK in c.columns and len(c.columns) > 1]
    labels = list(dict.fromkeys(label for c in cases for label in c.columns if label != STOCK))
    axes = _axes(10, 0.4 * len(cases) + 1.8)

    def faster(case: KernelCase, label: str) -> float:
        there = case.columns.get(label)
        return stats.paired_ratio(case.columns[STOCK].seconds, there.seconds).estimate - 1 if there else np.nan

    figures.bars(axes, {label: [faster(c, label) for c in cases] for label in labels}, left=1)
    axes.axvline(1, color="black", linewidth=1)
    axes.set(
        xlabel="times as fast as stock MLX (line: as fast)", title=f"kernels at the shapes of {result.settings.name}"
    )
    _rows(axes, [c.case for c in cases])
    return _png(axes)


def _label(column: EditColumn) -> str:
    return summary.name(column) + (" (projected)" if summary.projected(column, summary.WHOLE) else "")


def _stepping(column: EditColumn) -> str:
    done, whole = summary.part(column, "steps")
    return summary.name(column) + (f" ({done} of {whole} steps)" if done < whole else "")


def _rows(axes: Any, names: Sequence[str]) -> None:
    """Write a name beside each group of bars, the first on top."""
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_ylim(len(names) - 0.5, -0.5)
    _logarithmic(axes.xaxis)


def _logarithmic(axis: Any) -> None:
    """Make the axis logarithmic, with plain numbers at 1, 2 and 5; a narrow range has more of them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if abs(np.log10(high / low)) < 4 else (1,), numticks=50))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
    axis.grid(alpha=0.3)
    axis.axes.set_axisbelow(True)


def _png(axes: Any) -> bytes:
    """Return the figure as PNG, its legend below, where it cannot hide anything."""
    figure, entries = axes.figure, axes.get_legend_handles_labels()
    lines = -(-len(entries[1]) // 3)
    figure.legend(*entries, loc="lower center", ncols=3, fontsize=8)
    figure.tight_layout(rect=(0, (0.15 + 0.2 * lines) / figure.get_figheight(), 1, 1))
    return figures.png(figure, 130)
