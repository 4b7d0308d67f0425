"""`bench peers`: a decode step of the same geometry and rows, and a product, in other projects' code, in the same run.

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
from functools import partial
from typing import Any, NamedTuple

from rich.progress import Progress, TaskID

from model.cli.shared_options import BACKENDS
from model.errors import UserError
from model.system import machine

from .. import options, result_files
from ..output import console, tables
from ..processes.child import WORKER, Child
from ..processes.turns import Turns
from ..results import OURS, PeerColumn, PeerRound, PeerSettings, PeersResult
from ..sizes import bundles as sizes
from .products import check_rows, measured
from .table import tables_of

PLAIN_MLX, TORCH = "bench.peers.plain_mlx:make", "bench.peers.transformers_torch:make"
PREFIX, TEXT = 251, 12
"""Frames of a 5 s clip's prefix, the special one included, and tokens of a short instruction."""
MEMORY_MARGIN = 1.25
"""A column's memory over the bytes of its weights: caches, buffers and Python come on top."""


class Peer(NamedTuple):
    """A column to run: its name, its Python (None: this one), its function and settings, and its weights' bytes."""

    label: str
    python: str | None
    settings: dict[str, Any]
    memory: int


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the options of `bench peers`."""
    p = subparsers.add_parser(
        "peers", help="a decode step and a product in others' code: torch, plain MLX, onnxruntime, ggml"
    )
    add = p.add_argument
    add("--size", choices=options.SIZES, default="small", help="geometry (default small)")
    add("--bits", type=int, choices=sizes.BITS, default=4, help="bits of the MLX columns (default 4)")
    add("--backend", choices=BACKENDS, default="auto", help="backend of our columns (default auto)")
    start = "cache length at the first step (default 125)"
    add("--start", type=int, default=125, metavar="POSITION", help=start)
    add("--steps", type=int, default=5, help="steps a round (default 5)")
    add("--batch", type=int, default=1, help="clips; each has two rows (default 1)")
    add("--repeat", type=int, default=3, help="rounds (default 3)")
    add("--rows", default="1,2,4,8,16", metavar="LIST", help="rows to multiply a matrix by (default 1,2,4,8,16)")
    add("--torch-python", metavar="PATH", help="a Python with torch and transformers (default: this one)")
    options.add(p, "peers-<size>")


def run(args: argparse.Namespace) -> int:
    """Measure, print and save."""
    for option in ("start", "steps", "batch", "repeat"):
        options.positive(f"--{option}", getattr(args, option))
    check_rows(args.rows)
    options.check(args)
    result = measure(args)
    options.finish(args, result, tables_of(result))
    return 0


def torch_python(asked: str | None) -> tuple[str | None, str]:
    """Return a Python that has torch, or None and the reason why there is none."""
    if asked is None:
        if importlib.util.find_spec("torch") is None:
            return None, "torch is not here; pip install 'instruct-musicgen-mlx[peers]', or --torch-python PATH"
        return sys.executable, ""
    if os.sep in asked:  # the column runs in another folder; a virtual environment's link must not be followed
        asked = os.path.abspath(os.path.expanduser(asked))
    try:
        done = subprocess.run([asked, "-c", "import torch, transformers"], capture_output=True, text=True)
    except OSError as e:
        raise UserError(f"--torch-python {asked}: {e.strerror or e}; name a Python that has torch") from e
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it failed"])[-1]
        raise UserError(f"--torch-python {asked} cannot import torch and transformers ({reason}); install them there")
    return asked, ""


def measure(args: argparse.Namespace) -> PeersResult:
    """Run every column in a process of its own, rounds in turn; as many at a time as memory holds, each beside ours."""
    from model.synthetic import PRESETS

    from ..step_bytes import decoder_parameters

    lm = PRESETS[args.size].lm
    dims = dataclasses.asdict(lm)
    common = {"rows": 2 * args.batch, "start": args.start, "steps": args.steps, "text": TEXT}
    bundle = sizes.bundle(args.size, args.bits)
    ours = {"kind": "ours", "bundle": str(bundle), "backend": args.backend} | common
    packed = sum(f.stat().st_size for f in bundle.rglob("*") if f.is_file())
    first = Peer(OURS, None, ours | {"prefix": 0}, packed)
    others = [
        Peer(f"ours, prefix of {PREFIX}", None, ours | {"prefix": PREFIX}, packed),
        Peer(f"plain MLX, {args.bits} bits", None, {"kind": "plain", "lm": dims, "bits": args.bits} | common, packed),
    ]
    origin, left_out = result_files.origin(), {}
    python, missing = torch_python(args.torch_python)
    if python:
        for dtype, bytes_ in (("float32", 4), ("bfloat16", 2)):
            asked = {"dtype": dtype, "dims": dims} | common
            others.append(Peer(f"transformers, torch {dtype}", python, asked, bytes_ * decoder_parameters(lm)))
    else:
        left_out["transformers"] = missing
    available = machine.available()
    groups, too_large = in_groups(first, others, available)
    for peer in too_large:
        left_out[peer.label] = (
            f"with ours it needs about {tables.size(MEMORY_MARGIN * (first.memory + peer.memory))}; "
            f"{tables.size(available)} of memory are free"
        )
    mine = PeerColumn(OURS)
    columns = [mine]
    with console.progress() as bar:
        task = bar.add_task("loading", total=sum(1 + len(group) for group in groups) * (args.repeat + 1))
        for group in groups:
            columns += _in_turn(mine, [first, *group], args.repeat, left_out, bar, task)
    matrix = (lm.ffn, lm.dim)
    found = measured(matrix, check_rows(args.rows), args.backend, args.repeat, left_out)
    settings = PeerSettings(name=f"{args.size}-{args.bits}bit", repeat=args.repeat, product=matrix, **common)
    return PeersResult(**origin, settings=settings, columns=columns, products=found, left_out=left_out)


def in_groups(first: Peer, others: Sequence[Peer], available: int) -> tuple[list[list[Peer]], list[Peer]]:
    """Return groups that fit in memory beside `first`, and the peers that are too large even alone with it."""
    groups: list[list[Peer]] = [[]]
    too_large = []
    for peer in others:
        if MEMORY_MARGIN * (first.memory + peer.memory) > available:
            too_large.append(peer)
        elif MEMORY_MARGIN * (first.memory + sum(p.memory for p in groups[-1]) + peer.memory) <= available:
            groups[-1].append(peer)
        else:
            groups.append([peer])
    return groups, too_large


def _in_turn(
    mine: PeerColumn, peers: Sequence[Peer], repeat: int, left_out: dict[str, str], bar: Progress, task: TaskID
) -> list[PeerColumn]:
    """Run `peers`, the first of which is ours: its rounds go to `mine` and, as `beside`, to each of the others."""
    with Turns(PeerColumn, PeerRound) as turns:
        for peer in peers:
            bar.update(task, description=f"loading {peer.label}")
            child = Child(peer.label, command=[peer.python or sys.executable, *WORKER[1:]])
            turns.start(child, TORCH if peer.python else PLAIN_MLX, peer.settings, left_out)
            bar.advance(task)
        bar.update(task, description="measuring")
        for n in range(repeat):
            turns.round(n, partial(bar.advance, task))
    first, *others = turns.columns
    mine.rounds += first.rounds
    for column in others:
        column.beside = first.rounds
    return others
