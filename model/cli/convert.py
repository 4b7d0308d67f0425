"""`instruct-musicgen convert`: upstream's files in, a bundle out."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path


def run(arguments: argparse.Namespace) -> None:
    """Convert and say where the bundle is."""
    from ..bundle.bundle import open_bundle
    from ..convert.convert import convert
    from ..instructions import UPSTREAM, Vocabulary

    told = arguments.instruments or arguments.everyday
    instructions = Vocabulary(arguments.instruments or UPSTREAM.instruments, arguments.everyday) if told else None
    path = convert(
        adapter=arguments.adapter, base=arguments.base, t5=arguments.t5, out=arguments.out, bits=arguments.bits,
        group_size=arguments.group_size, recipe=arguments.recipe, clips=arguments.clips,
        trained_frames=arguments.trained_frames,
        instructions=instructions, license=arguments.license, native=arguments.layout == "native",
    )  # fmt: skip
    adapter = open_bundle(path).config.adapter
    if adapter.trained_frames is None:
        print(
            "windows: the variance of the position table's rows shows no step, so how much of it was trained is not "
            f"known; the default window is {adapter.window_frames} frames, and --trained-frames N sets it"
        )
    else:
        print(f"windows: {adapter.trained_frames} of {adapter.max_n_frames} frames were trained")
    print(f"{path}: written; describe it with: instruct-musicgen info {pasted(path)}")


def pasted(path: Path) -> str:
    """Return a path as it must be typed into a shell."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith(("-", "~")) else text)
