"""`instruct-musicgen convert`: upstream's files in, a bundle out."""

from __future__ import annotations

import argparse


def run(arguments: argparse.Namespace) -> None:
    """Convert and say where the bundle is."""
    from ..convert.convert import convert

    path = convert(
        adapter=arguments.adapter, base=arguments.base, t5=arguments.t5, out=arguments.out, bits=arguments.bits,
        group_size=arguments.group_size, recipe=arguments.recipe, clips=arguments.clips,
    )  # fmt: skip
    print(f"{path}: written; describe it with: instruct-musicgen info {path}")
