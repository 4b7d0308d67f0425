"""`bench roofline`: the least time a decode step can take, by what it must read and how fast memory can give it."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

import mlx.core as mx

from model.config import FRAME_RATE
from model.errors import UserError

from .. import options, result_files, stats, step_bytes
from ..machine.bandwidth import Bandwidth, StreamedBuffer
from ..output import console
from ..output.tables import Table, size
from ..results import EditResult
from ..sizes import bundles as sizes
from ..step_bytes import StepShape
from . import apple_chips as chips
from .estimates import estimates, estimates_table
from .measured import Measured, measured, measured_table

SHARE_OF_PEAK = 0.8
"""The share of the published bandwidth that good MLX decoding reaches."""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the options of `bench roofline`."""
    p = subparsers.add_parser("roofline", help="bounds on ms/step and RTF, here and on Apple chips")
    p.add_argument("--size", choices=step_bytes.SIZES, default="large", help="MusicGen's size (default large)")
    p.add_argument("--bits", type=int, choices=sizes.BITS, default=4, help="bits of the projections (default 4)")
    p.add_argument("--seconds", type=float, default=5.0, help="length of the clip, up to 10 (default 5)")
    p.add_argument("--batch", type=int, default=1, help="clips edited together (default 1)")
    p.add_argument("--text", type=int, default=12, metavar="TOKENS", help="tokens of the instruction (default 12)")
    saved = "a saved `bench edit` to compare with its machine's bound (default: those in bench/results)"
    p.add_argument("--result", action="append", default=[], metavar="FILE", help=saved)
    p.add_argument("--no-measure", action="store_true", help="leave this machine's bandwidth out")
    p.add_argument("--json", action="store_true", help="print all numbers as JSON")


def run(args: argparse.Namespace) -> int:
    """Compute and print."""
    options.within("--seconds", args.seconds, 0.02, 10)  # one window
    options.positive("--batch", args.batch)
    options.within("--text", args.text, 0)
    stream = None
    if not args.no_measure:
        with console.status("measuring this machine's streaming bandwidth"):
            stream = StreamedBuffer(metal=mx.metal.is_available()).measure()
    files = args.result or sorted(str(p) for p in result_files.folder().glob("*-edit-*.json"))
    loaded = {file: result_files.load(file) for file in files}
    points = [r for r in loaded.values() if isinstance(r, EditResult)]
    if others := [file for file, r in loaded.items() if args.result and not isinstance(r, EditResult)]:
        raise UserError(f"--result {others[0]} is not an edit; name files that `bench edit --save` wrote")
    parts = compute(args.size, args.bits, args.seconds, args.batch, args.text)
    bounds = [bound(args, parts, chip) for chip in chips.CHIPS]
    with result_files.reports_damaged_files(*files):
        near = [each for r in points for each in measured(r)]
        shown = tables(args, parts, bounds, stream, near)
    record = {"parts": parts, "this_machine": here(args, parts, stream) if stream else None, "chips": bounds}
    layers = step_bytes.published(args.size, args.bits).lm.layers
    record["estimates"] = [each._asdict() for each in estimates(sum(parts.values()), layers)]
    options.show(args, record | {"measured": near}, shown)
    return 0


def bound(args: argparse.Namespace, parts: dict[str, float], chip: chips.Chip) -> dict[str, Any]:
    """Return the least step of a chip that its bandwidth allows."""
    step = sum(parts.values()) / chip.bandwidth / 1e9
    frames, codebooks = _geometry(args.size, args.seconds)
    return chip._asdict() | {
        "ms_step": 1e3 * step,
        "rtf": step * (frames + codebooks - 1) / (frames / FRAME_RATE * args.batch),
    }


def here(args: argparse.Namespace, parts: dict[str, float], stream: Bandwidth) -> dict[str, Any]:
    """Return the same as `bound` for this machine, with the passes that its bandwidth comes from."""
    rate = stream.bytes / stats.summarize(stream.seconds).median
    chip = chips.Chip("this machine", rate / 1e9, stream.method, "measured just now")
    return bound(args, parts, chip) | asdict(stream)


def _geometry(size: str, seconds: float) -> tuple[int, int]:
    """Return a clip's codec frames, and the codebooks of a published size."""
    return max(1, round(seconds * FRAME_RATE)), step_bytes.published(size, 4).lm.codebooks


def compute(name: str, bits: int, seconds: float, batch: int, text: int) -> dict[str, float]:
    """Return the bytes of a step by part, at the mean cache length of a clip.

    Norms, embedding and all caches count in float16; `bits` tells how the matrices are stored.
    """
    config = step_bytes.published(name, bits)
    frames, codebooks = _geometry(name, seconds)
    shape = StepShape(batch=batch, length=(frames + codebooks) / 2, prefix=frames + 1, text=text)
    return step_bytes.step_bytes(config, shape, activations=mx.float16, weights=mx.float16)


def tables(
    args: argparse.Namespace,
    parts: dict[str, float],
    bounds: list[dict[str, Any]],
    stream: Bandwidth | None,
    near: list[Measured],
) -> list[Table]:
    """Return the tables: bytes by part; bounds by chip; how close measured runs come to theirs."""
    total = sum(parts.values())
    rows = f" x {args.batch}" if args.batch > 1 else ""
    what = f"MusicGen-{args.size}, {args.bits} bits, {args.seconds:g} s{rows}"
    shares = [[name, size(value), f"{100 * value / total:.1f} %"] for name, value in parts.items()]
    shares.append(["a step", size(total), "100 %"])
    lines = [
        [
            b["name"],
            f"{b['bandwidth']:.4g}",
            f"{b['ms_step']:.3g}",
            f"{b['rtf']:.3g}",
            f"{b['rtf'] / SHARE_OF_PEAK:.3g}",
        ]
        for b in ([here(args, parts, stream)] if stream else []) + bounds
    ]
    notes = ["Decode steps alone: text, codec and adapter come on top. Arithmetic: no Apple chip was measured."]
    if stream:
        notes.append(f"GB/s of this machine: streamed just now ({stream.method}).")
    notes.append("GB/s of Apple's chips, as apple_chips.csv has them:")
    notes += [f"  {', '.join(names)}: {source} (read: {read})" for (source, read), names in sources().items()]
    headers = ["chip", "GB/s", "ms/step, least", "RTF, least", f"RTF at {100 * SHARE_OF_PEAK:.0f} %"]
    out = [
        Table(f"what a decode step must read: {what}", ["part", "bytes", "share"], shares),
        Table(f"roofline: {what}", headers, lines, notes),
        estimates_table(estimates(total, step_bytes.published(args.size, args.bits).lm.layers), what),
    ]
    if near:
        out.append(measured_table(near))
    return out


def sources() -> dict[tuple[str, str], list[str]]:
    """Name the chips whose figures come from the same place."""
    found: dict[tuple[str, str], list[str]] = {}
    for chip in chips.CHIPS:
        found.setdefault((chip.source, chip.checked), []).append(chip.name)
    return found
