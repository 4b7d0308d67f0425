"""`bench report`: Markdown tables and pictures from saved results; the README's come from here."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from model.errors import UsageError, UserError

from . import environment, kernels, page, results, roofline, summary
from .results import Result
from .tables import Table

KINDS = ("edit", "kernels", "peers")


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """The options of `bench report`."""
    p = subparsers.add_parser("report", help="Markdown tables and PNG plots from saved results")
    p.add_argument("files", nargs="*", metavar="FILE", help="saved results (default: all in bench/results)")
    p.add_argument("-o", "--out", type=Path, metavar="FOLDER", help="for report.md and plots (default bench/results)")
    p.add_argument("--no-plots", action="store_true", help="tables only, to standard output; needs no matplotlib")
    p.add_argument("--update", type=Path, metavar="PAGE",
                   help="instead, write the tables and pictures of the results that PAGE names between its "
                   "<!-- bench:begin FILE.json --> and <!-- bench:end --> (README.md)")


def run(args: argparse.Namespace) -> int:
    """Write report.md and its pictures, and print their names; or print the tables; or update a page."""
    if args.update is not None:
        if args.files or args.out or args.no_plots:
            raise UsageError("--update takes its files from the page itself; leave FILE, --out and --no-plots away")
        return _update(args.update)
    files = [Path(f) for f in args.files] or sorted(results.folder().glob("*.json"))
    found = {f: results.load(f) for f in files}
    kept = {f: r for f, r in found.items() if r.get("kind") in KINDS}
    if args.files and len(kept) < len(found):
        other = next(str(f) for f in found if f not in kept)
        raise UserError(f"{other} is no result that has tables; name files that bench {', '.join(KINDS)} --save wrote")
    if not kept:
        raise UserError(f"there are no results in {results.folder()}; run `bench --save` or name a file")
    sections = {}
    for file, result in kept.items():
        with results.intact(file):
            sections[file] = section(result)
    if args.no_plots:
        print("\n".join(sections.values()))
        return 0
    out = args.out or results.folder()
    try:
        for path in _write(kept, sections, out):
            print(path)
    except OSError as e:
        raise UserError(f"cannot write to {out}: {e.strerror or e}") from e
    return 0


def _write(kept: dict[Path, Result], sections: dict[Path, str], out: Path) -> list[Path]:
    """report.md and the pictures, in `out`."""
    from . import plots

    plots.pyplot()  # before a folder is made: matplotlib may be missing
    out.mkdir(parents=True, exist_ok=True)
    parts = ["# Measured\n", stale(list(kept.values()))]
    written = []
    for file, result in kept.items():
        drawn = []
        with results.intact(file):
            if result["kind"] == "edit":
                drawn = [plots.stages(result, out / page.picture(file).name),
                         plots.step_time(result, out / f"{file.stem}-steps.png")]
            elif result["kind"] == "kernels":
                drawn = [plots.kernels(result, out / f"{file.stem}-times.png"),
                         plots.traffic(result, out / f"{file.stem}-traffic.png")]
        parts += [sections[file], *[f"![{p.stem}]({p.name})\n" for p in drawn]]
        written += drawn
    edits = [r for r in kept.values() if r["kind"] == "edit"]
    if edits:
        largest = max(sum(r["columns"][0]["step_bytes"].values()) for r in edits)
        same = [r for r in edits if sum(r["columns"][0]["step_bytes"].values()) > largest / 2]
        written.append(plots.roofline(same, out / "roofline.png"))
        parts += [roofline.measured_table(edits).markdown(), "![roofline](roofline.png)\n"]
    report = out / "report.md"
    report.write_text("\n".join(parts))
    return [report, *written]


def _update(target: Path) -> int:
    """Tables into the page, pictures beside their results."""
    from . import plots

    plots.pyplot()
    for file in page.update(target):
        result = results.load(file)
        if result["kind"] == "edit":
            with results.intact(file):
                print(plots.stages(result, page.picture(file)))
    print(target)
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
