"""`bench report`: Markdown tables and pictures from saved results; those of docs/benchmarks.md come from here."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from model import whole_file
from model.errors import UsageError, UserError

from .. import result_files
from ..machine import environment
from ..results import EditResult, KernelsResult, PeersResult, Result
from ..roofline.measured import measured, measured_table
from . import blocks


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the options of `bench report`."""
    p = subparsers.add_parser("report", help="Markdown tables and PNG plots from saved results")
    p.add_argument("files", nargs="*", metavar="FILE", help="saved results (default: all in bench/results)")
    out = "write report.md and its pictures there (default: print the tables, and write nothing)"
    p.add_argument("-o", "--out", type=Path, metavar="FOLDER", help=out)
    p.add_argument("--no-plots", action="store_true", help="no pictures beside report.md; needs no matplotlib")
    blocks = """instead, fill in each block of PAGE (docs/benchmarks.md) between <!-- bench:begin FILE.json --> and
        <!-- bench:end --> with that result's table, and draw its picture beside FILE.json"""
    p.add_argument("--update", type=Path, metavar="PAGE", help=blocks)


def run(args: argparse.Namespace) -> int:
    """Print the tables; or write report.md and its pictures and print their names; or update a page."""
    if args.update is not None:
        if args.files or args.out or args.no_plots:
            raise UsageError("--update takes its files from the page itself; omit FILE, --out and --no-plots")
        return _update(args.update)
    files = [Path(f) for f in args.files] or sorted(result_files.folder().glob("*.json"))
    found = {f: result_files.load(f) for f in files}
    kept = {f: r for f, r in found.items() if isinstance(r, (EditResult, KernelsResult, PeersResult))}
    if args.files and len(kept) < len(found):
        other = next(str(f) for f in found if f not in kept)
        raise UserError(f"{other} has no tables; name files that `bench edit`, `kernels` or `peers` saved")
    if not kept:
        raise UserError(f"there are no results in {result_files.folder()}; run `bench --save` or name a file")
    sections = {}
    for file, result in kept.items():
        with result_files.reports_damaged_files(file):
            sections[file] = blocks.section(result)
    if args.out is None:
        print("\n".join(sections.values()))
        return 0
    pictures = {} if args.no_plots else _pictures(kept)
    for path in whole_file.write_whole(_page(kept, sections, pictures, args.out)):
        print(path)
    return 0


def _pictures(kept: Mapping[Path, Result]) -> dict[Path | None, dict[str, bytes]]:
    """Draw each result's PNG pictures, by their names, and that of all edits together (None)."""
    from . import plots

    if doubles := {f.stem for f in kept if [g.stem for g in kept].count(f.stem) > 1}:
        raise UserError(
            f"two results are named {sorted(doubles)[0]}.json; rename one, since their pictures are named after them"
        )
    drawn: dict[Path | None, dict[str, bytes]] = {}
    for file, result in kept.items():
        with result_files.reports_damaged_files(file):
            parts: dict[str, bytes] = {}
            if isinstance(result, EditResult):
                parts = {"rtf": plots.stages(result), "steps": plots.step_time(result)}
            elif isinstance(result, KernelsResult):
                parts = {"times": plots.kernels(result), "traffic": plots.traffic(result)}
        drawn[file] = {f"{file.stem}-{part}": png for part, png in parts.items()}
    if edits := _edits(kept):
        with result_files.reports_damaged_files(*edits):
            drawn[None] = {"roofline": plots.roofline(list(edits.values()))}
    return drawn


def _page(
    kept: Mapping[Path, Result], sections: dict[Path, str], drawn: Mapping[Path | None, dict[str, bytes]], out: Path
) -> dict[Path, str | bytes]:
    """Return report.md and its pictures, by their places in `out`."""

    def shown(file: Path | None) -> list[str]:
        return [f"![{name}]({quote(name)}.png)\n" for name in drawn.get(file, {})]

    parts = ["# Measured\n", stale(kept.values())]
    for file in kept:
        parts += [sections[file], *shown(file)]
    if edits := _edits(kept):
        with result_files.reports_damaged_files(*edits):
            parts += [measured_table([each for r in edits.values() for each in measured(r)]).markdown(), *shown(None)]
    pictures = {out / f"{name}.png": png for pictures in drawn.values() for name, png in pictures.items()}
    return {out / "report.md": "\n".join(parts), **pictures}


def _edits(kept: Mapping[Path, Result]) -> dict[Path, EditResult]:
    return {f: r for f, r in kept.items() if isinstance(r, EditResult)}


def _update(target: Path) -> int:
    """Write the tables into the page and the pictures beside their results, and print the files' names."""
    from . import plots

    text, named = blocks.fill(target)
    fresh: dict[Path, str | bytes] = {target: text}
    for file in named:
        result = result_files.load(file)
        if isinstance(result, EditResult):
            with result_files.reports_damaged_files(file):
                fresh[blocks.picture(file)] = plots.stages(result)
    for path in whole_file.write_whole(fresh):
        print(path)
    return 0


def stale(kept: Iterable[Result]) -> str:
    """Return a line with the results' commits, and this checkout's if it differs."""
    now = environment.commit()
    others = sorted({r.environment.commit for r in kept} - {now})
    return f"Commits measured: {', '.join(others)}; the checkout is at {now}.\n" if others else f"Commit {now}.\n"
