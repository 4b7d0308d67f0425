"""`bench report`: Markdown tables and pictures from saved results; the README's come from here."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from model.errors import UserError

from . import environment, kernels, results, roofline, summary
from .results import Result
from .tables import Table


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """The options of `bench report`."""
    p = subparsers.add_parser("report", help="Markdown tables and PNG plots from saved results")
    p.add_argument("files", nargs="*", metavar="FILE", help="saved results (default: all in bench/results)")
    p.add_argument("-o", "--out", type=Path, metavar="FOLDER", help="for report.md and plots (default bench/results)")
    p.add_argument("--no-plots", action="store_true", help="tables only, to standard output; needs no matplotlib")


def run(args: argparse.Namespace) -> int:
    """Write report.md and its pictures, and print their names; or print the tables."""
    files = [Path(f) for f in args.files] or sorted(results.folder().glob("*.json"))
    found = {f: results.load(f) for f in files}
    kept = {f: r for f, r in found.items() if r.get("kind") in ("edit", "kernels", "peers")}
    if not kept:
        raise UserError(f"there are no results in {results.folder()}; run `bench --save` or name a file")
    if args.no_plots:
        print("\n".join(section(r) for r in kept.values()))
        return 0
    from . import plots

    out = args.out or results.folder()
    out.mkdir(parents=True, exist_ok=True)
    parts = ["# Measured\n", stale(list(kept.values()))]
    written = []
    for file, result in kept.items():
        drawn = []
        if result["kind"] == "edit":
            drawn = [plots.stages(result, out / f"{file.stem}-rtf.png"),
                     plots.step_time(result, out / f"{file.stem}-steps.png")]
        elif result["kind"] == "kernels":
            drawn = [plots.kernels(result, out / f"{file.stem}-times.png"),
                     plots.traffic(result, out / f"{file.stem}-traffic.png")]
        parts += [section(result), *[f"![{p.stem}]({p.name})\n" for p in drawn]]
        written += drawn
    edits = [r for r in kept.values() if r["kind"] == "edit"]
    if edits:
        largest = max(sum(r["columns"][0]["step_bytes"].values()) for r in edits)
        same = [r for r in edits if sum(r["columns"][0]["step_bytes"].values()) > largest / 2]
        written.append(plots.roofline(same, out / "roofline.png"))
        parts += [roofline.measured_table(edits).markdown(), "![roofline](roofline.png)\n"]
    page = out / "report.md"
    page.write_text("\n".join(parts))
    for path in (page, *written):
        print(path)
    return 0


def stale(kept: list[Result]) -> str:
    """Says of which commit the results are, if not of this one."""
    now = environment.commit()
    others = sorted({r["environment"]["commit"] for r in kept} - {now})
    return f"Commits measured: {', '.join(others)}; the checkout is at {now}.\n" if others else f"Commit {now}.\n"


def section(result: Result) -> str:
    """A result's tables in Markdown."""
    return "\n".join(table.markdown() for table in tables(result))


def tables(result: Result) -> list[Table]:
    """A result's tables."""
    if result["kind"] == "edit":
        return [summary.table(result), summary.memory_table(result)]
    if result["kind"] == "peers":
        from .peers import table

        return [table(result)]
    return kernels.tables_of(result)
