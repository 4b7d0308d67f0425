"""`bench peers`: one decode step of the same geometry and rows in other people's code, in the same run.

transformers in torch needs torch, in this Python or in another (`--torch-python`); it is not a dependency. All columns
run two rows a clip (guidance), from the same cache length, with random weights, and sample greedily.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from rich.progress import Progress, TaskID

from model.cli.arguments import BACKENDS
from model.errors import UserError

from .. import console, options, results, stats, tables
from .. import step_bytes as geometry
from ..machine import hardware as machine
from ..machine.environment import describe
from ..processes.child import Child
from ..results import Result
from ..sizes import bundles as sizes

OURS = "ours, no prefix"
MARGIN = 1.25
"""Memory that a column takes, over the bytes of its weights: caches, buffers, the interpreter."""


class Peer(NamedTuple):
    """A column to run: its name, the program (None: ours), what to ask of it, and the bytes of its weights."""

    label: str
    command: list[str] | None
    settings: dict[str, Any]
    memory: int


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """The options of `bench peers`."""
    p = subparsers.add_parser("peers", help="a decode step against transformers (torch) and plain MLX")
    p.add_argument("--size", choices=("demo", "small", "medium", "large"), default="small",
                   help="geometry (default small)")
    p.add_argument("--bits", type=int, choices=sizes.BITS, default=4, help="of the MLX columns (default 4)")
    p.add_argument("--backend", choices=BACKENDS, default="auto", help="of our columns (default auto)")
    p.add_argument("--start", type=int, default=125, metavar="POSITION",
                   help="cache length at the first step (default 125)")
    p.add_argument("--steps", type=int, default=5, help="steps a round (default 5)")
    p.add_argument("--batch", type=int, default=1, help="clips; each has two rows (default 1)")
    p.add_argument("--repeat", type=int, default=3, help="rounds (default 3)")
    p.add_argument("--torch-python", metavar="PATH", help="a Python with torch and transformers (default: this one)")
    options.add(p, "peers-<size>")


def run(args: argparse.Namespace) -> int:
    """Measure, print, save."""
    for option in ("start", "steps", "batch", "repeat"):
        options.positive(f"--{option}", getattr(args, option))
    options.check(args)
    result = measure(args)
    options.finish(args, result, [table(result)])
    return 0


def torch_python(asked: str | None) -> tuple[str | None, str]:
    """A Python with torch, or None and why not."""
    if asked is None:
        if importlib.util.find_spec("torch") is None:
            return None, "torch is not here; pip install 'instruct-musicgen-mlx[peers]', or --torch-python PATH"
        return sys.executable, ""
    if os.sep in asked:  # the column runs in another folder; a virtual environment's link must not be followed
        asked = os.path.abspath(os.path.expanduser(asked))
    try:
        done = subprocess.run([asked, "-c", "import torch, transformers"], capture_output=True, text=True)
    except OSError as e:
        raise UserError(f"--torch-python {asked}: {e.strerror or e}") from e
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it failed"])[-1]
        raise UserError(f"--torch-python {asked} cannot import torch and transformers: {reason}")
    return asked, ""


def measure(args: argparse.Namespace) -> Result:
    """Every column in a process of its own, rounds in turn; as many at a time as memory holds, each beside ours."""
    from model.synthetic import PRESETS

    lm = PRESETS[args.size].lm
    dims = dataclasses.asdict(lm)
    common = {"rows": 2 * args.batch, "start": args.start, "steps": args.steps, "text": 12}
    bundle = sizes.bundle(args.size, args.bits)
    ours = {"kind": "ours", "bundle": str(bundle), "backend": args.backend} | common
    packed = sum(f.stat().st_size for f in bundle.rglob("*") if f.is_file())
    first = Peer(OURS, None, ours | {"prefix": 0}, packed)
    others = [
        Peer("ours, prefix of 251", None, ours | {"prefix": 251}, packed),
        Peer(f"plain MLX, {args.bits} bits", None, {"kind": "plain", "lm": dims, "bits": args.bits} | common, packed),
    ]
    result = results.new("peers", {"name": f"{args.size}-{args.bits}bit", "repeat": args.repeat} | common)
    result["left_out"] = {}
    python, missing = torch_python(args.torch_python)
    if python:
        script = [python, str(Path(__file__).parent / "transformers_torch.py")]
        for dtype, bytes_ in (("float32", 4), ("bfloat16", 2)):
            asked = {"dtype": dtype, "dims": dims} | common
            others.append(Peer(f"transformers, torch {dtype}", script, asked, bytes_ * geometry.decoder_parameters(lm)))
    else:
        result["left_out"]["transformers"] = missing
    available = machine.available()
    groups, too_large = in_groups(first, others, available)
    for peer in too_large:
        result["left_out"][peer.label] = (
            f"with ours it needs about {tables.size(MARGIN * (first.memory + peer.memory))}; "
            f"{tables.size(available)} of memory are free"
        )
    mine: dict[str, Any] = {"label": OURS, "rounds": []}
    result["columns"] = [mine]
    with console.progress() as bar:
        task = bar.add_task("loading", total=sum(1 + len(group) for group in groups) * (args.repeat + 1))
        for group in groups:
            result["columns"] += _in_turn(mine, [first, *group], args.repeat, result["left_out"], bar, task)
    return result


def in_groups(first: Peer, others: Sequence[Peer], available: int) -> tuple[list[list[Peer]], list[Peer]]:
    """What can be in memory together, `first` always among them; and the peers too large even alone with it."""
    groups: list[list[Peer]] = [[]]
    too_large = []
    for peer in others:
        if MARGIN * (first.memory + peer.memory) > available:
            too_large.append(peer)
        elif MARGIN * (first.memory + sum(p.memory for p in groups[-1]) + peer.memory) <= available:
            groups[-1].append(peer)
        else:
            groups.append([peer])
    return groups, too_large


def _in_turn(
    mine: dict[str, Any], peers: Sequence[Peer], repeat: int, left_out: dict[str, str], bar: Progress, task: TaskID
) -> list[dict[str, Any]]:
    """The columns of all `peers` but the first, which is ours: its rounds go to `mine` and, as `beside`, to each."""
    columns: list[dict[str, Any]] = []
    children: list[Child] = []
    with ExitStack() as stack:
        for peer in peers:
            bar.update(task, description=f"loading {peer.label}")
            child = stack.enter_context(Child(peer.label, command=peer.command))
            try:
                record = child.ask("load" if peer.command else "load_peer", settings=peer.settings)
                child.ask("round")  # warm-up
            except UserError as e:
                if peer is peers[0]:
                    raise
                left_out[peer.label] = str(e)
                continue
            finally:
                bar.advance(task)
            columns.append({"label": peer.label, "rounds": [], **record})
            children.append(child)
        bar.update(task, description="measuring")
        for n in range(repeat):
            order = list(zip(children, columns))
            for child, column in order if n % 2 == 0 else order[::-1]:
                column["rounds"].append(child.ask("round"))
                bar.advance(task)
    mine["rounds"] += columns[0]["rounds"]
    for column in columns[1:]:
        column["beside"] = columns[0]["rounds"]
    return columns[1:]


def samples(rounds: Sequence[dict[str, Any]]) -> list[float]:
    """Median seconds of a step, each round."""
    return [stats.summarize(r["step_seconds"]).median for r in rounds]


def table(result: Result) -> tables.Table:
    """A row for each peer."""
    s, rows = result["settings"], []
    first = result["columns"][0]
    for column in result["columns"]:
        times = samples(column["rounds"])
        note = column["rounds"][0].get("backend") or ", ".join(f"{k} {v}" for k, v in column["versions"].items())
        ratio = "" if column is first else tables.ratio(
            stats.paired_ratio(times, samples(column["beside"])), len(times)
        )
        rows.append([column["label"], note, tables.measured(stats.summarize(times)), ratio])
    notes = [
        f"{describe(result['environment'])}; {result['created'][:10]}",
        f"{s['rows']} rows, cache of {s['start']} positions on, {s['text']} text tokens; medians of {s['repeat']} "
        f"rounds of {s['steps']} steps in turn with ours. The peers have no adapter: compare them with the first row, "
        "which leaves it out too. torch computes with unquantized weights.",
    ]
    notes += [f"Left out: {label}: {reason}." for label, reason in result["left_out"].items()]
    headers = ["decode step", "ran on", "time", f"time / {OURS}"]
    return tables.Table(f"peers: MusicGen {s['name']}", headers, rows, notes)
