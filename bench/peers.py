"""`bench peers`: one decode step of the same geometry and rows in other people's code, in the same run.

transformers in torch needs torch, in this Python or in another (`--torch-python`); it is not a dependency. All columns
run two rows a clip (guidance), from the same cache length, with random weights, and sample greedily.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from model.errors import UsageError, UserError

from . import console, results, sizes, stats, tables
from .columns import Child
from .environment import describe
from .results import Result

OURS = "ours, no prefix"


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """The options of `bench peers`."""
    p = subparsers.add_parser("peers", help="a decode step against transformers (torch) and plain MLX")
    p.add_argument("--size", choices=("demo", "small", "medium", "large"), default="small",
                   help="geometry (default small)")
    p.add_argument("--bits", type=int, choices=sizes.BITS, default=4, help="of the MLX columns (default 4)")
    p.add_argument("--backend", default="auto", help="of our columns (default auto)")
    p.add_argument("--start", type=int, default=125, metavar="POSITION",
                   help="cache length at the first step (default 125)")
    p.add_argument("--steps", type=int, default=5, help="steps a round (default 5)")
    p.add_argument("--batch", type=int, default=1, help="clips; each has two rows (default 1)")
    p.add_argument("--repeat", type=int, default=3, help="rounds (default 3)")
    p.add_argument("--torch-python", metavar="PATH", help="a Python with torch and transformers (default: this one)")
    p.add_argument("--json", action="store_true", help="print the result with all samples")
    p.add_argument("--save", nargs="?", const="", metavar="FILE", help="keep the result")


def run(args: argparse.Namespace) -> int:
    """Measure, print, save."""
    for option in ("start", "steps", "batch", "repeat"):
        if getattr(args, option) < 1:
            raise UsageError(f"--{option} {getattr(args, option)} must be at least 1")
    result = measure(args)
    if args.save is not None:
        saved = results.save(result, args.save or None)
        console.ERRORS.print(f"saved {saved}", highlight=False, soft_wrap=True)
    if args.json:
        print(json.dumps(result))
    else:
        table(result).show(console.output())
    return 0


def torch_python(asked: str | None) -> tuple[str | None, str]:
    """A Python with torch, or None and why not."""
    if asked is None:
        if importlib.util.find_spec("torch") is None:
            return None, "torch is not here; pip install 'instruct-musicgen-mlx[peers]', or --torch-python PATH"
        return sys.executable, ""
    try:
        done = subprocess.run([asked, "-c", "import torch, transformers"], capture_output=True, text=True)
    except OSError as e:
        raise UserError(f"--torch-python {asked}: {e.strerror or e}") from e
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it failed"])[-1]
        raise UserError(f"--torch-python {asked} cannot import torch and transformers: {reason}")
    return asked, ""


def measure(args: argparse.Namespace) -> Result:
    """Every column in a process of its own, rounds in turn."""
    from model.synthetic import PRESETS

    lm = PRESETS[args.size].lm
    dims = dataclasses.asdict(lm)
    common = {"rows": 2 * args.batch, "start": args.start, "steps": args.steps, "text": 12}
    bundle = str(sizes.bundle(args.size, args.bits))
    ours = {"kind": "ours", "bundle": bundle, "backend": args.backend} | common
    wanted: list[tuple[str, list[str] | None, dict[str, Any]]] = [
        (OURS, None, ours | {"prefix": 0}),
        ("ours, prefix of 251", None, ours | {"prefix": 251}),
        (f"plain MLX, {args.bits} bits", None, {"kind": "plain", "lm": dims, "bits": args.bits} | common),
    ]
    python, missing = torch_python(args.torch_python)
    if python:
        script = [python, str(Path(__file__).parent / "peer_torch.py")]
        for dtype in ("float32", "bfloat16"):
            wanted.append((f"transformers, torch {dtype}", script, {"dtype": dtype, "dims": dims} | common))
    settings = {"name": f"{args.size}-{args.bits}bit", "repeat": args.repeat} | common
    result = results.new("peers", settings)
    result["missing"] = missing
    result["columns"] = []
    with ExitStack() as stack, console.progress() as bar:
        task = bar.add_task("loading", total=len(wanted) * (args.repeat + 2))
        children = []
        for label, command, asked in wanted:
            child = stack.enter_context(Child(label, command=command))
            record = child.ask("load" if command else "load_peer", settings=asked)
            bar.advance(task)
            child.ask("round")  # warm-up
            bar.advance(task)
            result["columns"].append({"label": label, "rounds": [], **record})
            children.append(child)
        bar.update(task, description="measuring")
        for n in range(args.repeat):
            order = list(zip(children, result["columns"]))
            for child, column in order if n % 2 == 0 else order[::-1]:
                column["rounds"].append(child.ask("round"))
                bar.advance(task)
    return result


def samples(column: dict[str, Any]) -> list[float]:
    """Median seconds of a step, each round."""
    return [stats.summarize(r["step_seconds"]).median for r in column["rounds"]]


def table(result: Result) -> tables.Table:
    """A row for each peer."""
    s, rows = result["settings"], []
    first = result["columns"][0]
    for column in result["columns"]:
        mine = samples(column)
        note = column["rounds"][0].get("backend") or ", ".join(f"{k} {v}" for k, v in column["versions"].items())
        faster = "" if column is first else tables.ratio(stats.paired_ratio(mine, samples(first)), len(mine))
        rows.append([column["label"], note, tables.measured(stats.summarize(mine)), faster])
    notes = [
        f"{describe(result['environment'])}; {result['created'][:10]}",
        f"{s['rows']} rows, cache of {s['start']} positions on, {s['text']} text tokens; medians of {s['repeat']} "
        f"rounds of {s['steps']} steps in turn. The peers have no adapter: compare them with the first row, which "
        "leaves it out too. torch computes with unquantized weights.",
    ]
    if result["missing"]:
        notes.append(f"Left out: transformers ({result['missing']}).")
    headers = ["decode step", "ran on", "time", f"time / {OURS}"]
    return tables.Table(f"peers: MusicGen {s['name']}", headers, rows, notes)
