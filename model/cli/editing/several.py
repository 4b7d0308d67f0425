"""`edit` of many files: FILES, folders and manifests in, a folder of results out."""

from __future__ import annotations

import argparse
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import UsageError, UserError
from ...progress import Tell, new_bar
from ..process import say
from .opening import backend_of, opened, recorded, sampling, told

if TYPE_CHECKING:
    from ...folders.file_jobs import FileJob
    from ...folders.run import FolderSettings
    from ...folders.table import Line
    from ...instructions import Vocabulary

ASKING = ("instruction", "only", "no", "add")
EVERY = 2.0
"""Seconds between two writings of the table."""


def asked(arguments: argparse.Namespace) -> bool:
    """Tell whether it is about many files."""
    first: Path = arguments.inputs[0]
    return len(arguments.inputs) > 1 or first.is_dir() or first.suffix.lower() == ".csv"


def check(arguments: argparse.Namespace) -> None:
    """Raise UsageError for options that are missing or do not go together."""
    many = asked(arguments)
    manifests = all(path.suffix.lower() == ".csv" for path in arguments.inputs)
    if not manifests and all(getattr(arguments, verb) is None for verb in ASKING):
        raise UsageError(
            "one of the arguments -i/--instruction --only --no --add is required (see 'instruct-musicgen edit --help')"
        )
    together = (
        ("--residual", arguments.residual, "--from-input", arguments.from_input),
        ("--guides", arguments.guides, "--from-input", arguments.from_input),
        ("--keep", arguments.keep, "--candidates", arguments.candidates),
        ("--rank-by", arguments.rank_by, "--candidates", arguments.candidates),
        ("--clap", arguments.clap, "--candidates", arguments.candidates),
        ("--shard", arguments.shard, "several files or a folder", many),
        ("--to", arguments.to, "several files or a folder", many),
    )
    for option, given, needs, there in together:
        if given is not None and not there:
            raise UsageError(f"{option} needs {needs}; add that or omit {option}")
    if arguments.format is not None and str(arguments.output) != "-":
        raise UsageError("--format needs -o -; add that or omit --format, since a file's name says its format")
    apart = (
        ("--resume", arguments.resume, "-o -", str(arguments.output) == "-",
         "an edit written to a pipe cannot be continued"),
        ("--resume", arguments.resume, "several files", many, "the same command goes on with those that are missing"),
        ("--resume", arguments.resume, "--candidates", arguments.candidates, "omit --resume and run it again"),
        ("--resume", arguments.resume, "--from-input", arguments.from_input, "omit --resume and run it again"),
        ("--format f32", arguments.format == "f32", "--candidates", arguments.candidates,
         "candidates are written as files"),
        ("--format f32", arguments.format == "f32", "--from-input", arguments.from_input, "it writes WAV"),
        ("--from-input", arguments.from_input, "--candidates", arguments.candidates, "--guides N takes several seeds"),
        ("--from-input", arguments.from_input, "--normalize", arguments.normalize, "it keeps the input's level"),
        ("--from-input", arguments.from_input, "--add", arguments.add, "what is added is not in the input"),
        ("--from-input", arguments.from_input and many, "--to ogg", arguments.to == "ogg", "OGG is lossy"),
        ("--candidates", arguments.candidates, "several files", many, "run it once for each"),
        ("--residual", arguments.residual, "several files", many, "run it once for each"),
        ("--seed random", arguments.seed is None, "several files", many, "name a seed: each file's is made of it"),
    )  # fmt: skip
    for one, first, other, second, why in apart:
        if first and second:
            raise UsageError(f"{one} and {other}: only one of them is possible; {why}")


def run(arguments: argparse.Namespace) -> None:
    """Find the files, do this shard's, write each as it is done, list them in results.csv."""
    from ...folders import file_jobs, shard, table

    tell, out = told(arguments), arguments.output
    if out.exists() and not out.is_dir():
        raise UsageError(f"-o {out}: is a file; many files need a folder")
    part = shard.parse(arguments.shard) if arguments.shard else shard.of_environment()
    suffix = f".{arguments.to or 'wav'}"
    found = file_jobs.collect(arguments.inputs, out, arguments.seed, suffix)
    mine = [job for job in found if part.holds(job.name)]
    if part.size > 1:
        tell(f"shard {part} ({part.source}): {len(mine)} of {len(found)} files")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"-o {out}: cannot be made ({(e.strerror or str(e)).lower()}); choose another folder") from e
    path = table.path_of(out, part)
    before = table.read(path)
    if not mine:
        tell("nothing to do")
        return
    done = _do(arguments, mine, path, before, tell)
    failed = [name for name, status in done.items() if status == "failed"]
    counts = {status: list(done.values()).count(status) for status in ("done", "skipped", "failed")}
    if not arguments.quiet:
        print(f"{out}: {counts['done']} done, {counts['skipped']} skipped (whole already), {counts['failed']} failed")
    if failed:
        listed = ", ".join(failed[:5]) + (", ..." if len(failed) > 5 else "")
        raise UserError(f"{len(failed)} of {len(mine)} files failed ({listed}); {path} says why")


def _do(
    arguments: argparse.Namespace, mine: list[FileJob], path: Path, before: dict[str, Line], tell: Tell
) -> dict[str, str]:  # fmt: skip
    """Do the jobs; return each output's status. What was done is in the table however it ends."""
    from ...folders import table
    from ...folders.run import edit_files

    model, window, loaded = opened(arguments, tell)
    if not arguments.quiet:
        print(f"backend {backend_of(model)}; model loaded in {loaded:.2f} s")
    settings = settings_of(arguments, window, model.bundle.config.instructions)
    lines, done, written = dict(before), dict[str, str](), time.monotonic()
    bar = new_bar(quiet=arguments.quiet)
    try:
        with bar:
            task = bar.add_task("editing", total=None)
            progress = lambda step, total: bar.update(task, completed=step, total=total)  # noqa: E731
            for each in edit_files(model, mine, settings, progress):
                name = each.job.name
                done[name] = each.status
                if each.status == "skipped" and name in before:
                    lines[name] = {**before[name], "status": "skipped"}
                else:
                    lines[name] = each.line()
                if each.status == "failed":
                    say("error", each.error)
                elif each.status == "done" and not arguments.quiet:
                    bar.console.print(f"{each.job.output}: {each.seconds:.2f} s, seed {each.job.seed}", style=None)
                bar.update(task, description=f"{len(done)} of {len(mine)} files")
                if time.monotonic() - written > EVERY:
                    table.write(path, lines.values())
                    written = time.monotonic()
    except BaseException as e:
        with suppress(UserError):  # a full disk: the files that are whole will be skipped all the same
            table.write(path, lines.values())
        far = f"{len(done)} of {len(mine)} files are done with, the same command goes on with the rest"
        if isinstance(e, KeyboardInterrupt):
            raise KeyboardInterrupt(f"interrupted; {far}") from None
        if isinstance(e, UserError):
            raise UserError(f"{e}; {far}") from e
        raise
    table.write(path, lines.values())
    return done


def settings_of(arguments: argparse.Namespace, window: int | None, vocabulary: Vocabulary) -> FolderSettings:
    """Return how every file is edited."""
    from ...folders.run import FolderSettings
    from ...instructions import VERBS, chosen

    said = arguments.instruction
    for verb in VERBS:
        if (name := getattr(arguments, verb.lower())) is not None:
            said = chosen(verb, name, vocabulary).text
    return FolderSettings(
        said, sampling(arguments), arguments.max_steps, window, arguments.keep_rate, arguments.normalize,
        (arguments.guides or 1) if arguments.from_input else None, recorded(arguments),
    )  # fmt: skip
