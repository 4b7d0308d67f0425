"""`bench roofline`: the least time a decode step can take, by what it must read and how fast memory can give it."""

from __future__ import annotations

import argparse
import json
from typing import Any

import mlx.core as mx

from model.errors import UsageError, UserError

from . import chips, console, geometry, results, sizes, summary
from .environment import describe
from .geometry import Load
from .tables import Table, size

FRAMES = 50
GOOD = 0.8
"""What good MLX decoding reaches of the published bandwidth."""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """The options of `bench roofline`."""
    p = subparsers.add_parser("roofline", help="bounds on ms/step and RTF, here and on Apple chips")
    p.add_argument("--size", choices=geometry.SIZES, default="large", help="MusicGen's size (default large)")
    p.add_argument("--bits", type=int, choices=sizes.BITS, default=4, help="of the projections (default 4)")
    p.add_argument("--seconds", type=float, default=5.0, help="length of the clip, up to 10 (default 5)")
    p.add_argument("--batch", type=int, default=1, help="clips edited together (default 1)")
    p.add_argument("--text", type=int, default=12, metavar="TOKENS", help="of the instruction (default 12)")
    p.add_argument("--result", action="append", default=[], metavar="FILE",
                   help="a saved `bench edit` to place under its machine's roof (default: those in bench/results)")
    p.add_argument("--no-measure", action="store_true", help="leave this machine's bandwidth out")
    p.add_argument("--json", action="store_true", help="print numbers as JSON")


def run(args: argparse.Namespace) -> int:
    """Compute and print."""
    if not 0.02 <= args.seconds <= 10:
        raise UsageError(f"--seconds {args.seconds:g} must lie between 0.02 and 10 (one window)")
    if args.batch < 1 or args.text < 0:
        raise UsageError(f"--batch {args.batch} must be at least 1 and --text {args.text} at least 0")
    here = None
    if not args.no_measure:
        from .bandwidth import Stream

        with console.status("measuring this machine's streaming bandwidth"):
            record = Stream(metal=mx.metal.is_available()).measure()
        here = float(record["bytes"] / sorted(record["seconds"])[len(record["seconds"]) // 2])
    files = args.result or sorted(str(p) for p in results.folder().glob("*-edit-*.json"))
    points = [r for r in map(results.load, files) if r.get("kind") == "edit"]
    if args.result and len(points) < len(files):
        raise UserError("--result takes files that `bench edit --save` wrote; one of these is another kind of result")
    bound = compute(args.size, args.bits, args.seconds, args.batch, args.text)
    if args.json:
        print(json.dumps({"parts": bound, "this_machine": here, "chips": [
            c._asdict() | {"ms_step": 1e3 * sum(bound.values()) / c.bandwidth / 1e9} for c in chips.CHIPS
        ]}))
        return 0
    out = console.output()
    with results.intact(*files):
        shown = tables(args, bound, here, points)
    for each in shown:
        each.show(out)
    return 0


def compute(name: str, bits: int, seconds: float, batch: int, text: int) -> dict[str, float]:
    """Bytes of a step by part, at the mean cache length of a clip, everything unquantized and all caches in float16."""
    frames = max(1, round(seconds * FRAMES))
    config = geometry.published(name, bits)
    steps = frames + config.lm.codebooks - 1
    load = Load(batch=batch, length=(steps + 1) / 2, prefix=frames + 1, text=text)
    return geometry.step_bytes(config, load, activations=mx.float16, weights=mx.float16)


def tables(
    args: argparse.Namespace, bound: dict[str, float], here: float | None, points: list[results.Result]
) -> list[Table]:
    """Bytes by part; bounds by chip; how close measured runs come to theirs."""
    total = sum(bound.values())
    rows = f" x {args.batch}" if args.batch > 1 else ""
    what = f"MusicGen-{args.size}, {args.bits} bits, {args.seconds:g} s{rows}"
    parts = [[name, size(value), f"{100 * value / total:.1f} %"] for name, value in bound.items()]
    parts.append(["a step", size(total), "100 %"])
    steps_per_second = (args.seconds * FRAMES + 3) / args.seconds / args.batch
    chip_rows = []
    for chip in chips.CHIPS:
        ms = total / chip.bandwidth / 1e6
        rtf = ms * steps_per_second / 1e3
        bounds = [f"{ms:.2f}", f"{rtf:.2f}", f"{rtf / GOOD:.2f}"]
        chip_rows.append([chip.name, f"{chip.bandwidth:g}", *bounds, chip.source, chip.checked])
    if here:
        ms, rtf = total / here * 1e3, total / here * steps_per_second
        numbers = [f"{here / 1e9:.3g}", f"{ms:.2f}", f"{rtf:.2f}", f"{rtf / GOOD:.2f}"]
        chip_rows.insert(0, ["this machine", *numbers, "streamed by `bench` just now", "measured"])
    headers = ["chip", "GB/s", "ms/step, least", "RTF, least", f"RTF at {100 * GOOD:.0f} %", "source of GB/s", "read"]
    notes = ["Decode steps alone: text, codec and adapter come on top. Arithmetic: no Apple chip was measured."]
    out = [
        Table(f"what a decode step must read: {what}", ["part", "bytes", "share"], parts),
        Table(f"roofline: {what}", headers, chip_rows, notes),
    ]
    if points:
        out.append(measured_table(points))
    return out


def measured_table(points: list[results.Result]) -> Table:
    """Each saved run under the bandwidth measured in it."""
    rows = []
    for r in points:
        for c in r["columns"]:
            step = sum(c["step_bytes"].values()) / summary.step_rate(c)
            least = sum(c["step_bytes"].values()) / summary.streaming(r)
            rows.append([
                f"{r['settings']['name']} {c['geometry']['bits']} bits, {summary.name(c)}", f"{1e3 * step:.3g}",
                f"{1e3 * least:.3g}", f"{step / least:.2f}x", describe(r["environment"]),
            ])
    return Table("measured, against the bound", ["run", "ms/step", "least", "apart", "where"], rows)
