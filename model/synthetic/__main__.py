"""`python -m model.synthetic PRESET OUT`."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import PRESETS, write_preset


def main() -> None:
    """Write a preset's bundle."""
    parser = argparse.ArgumentParser(prog="python -m model.synthetic", description="Write a bundle of random weights.")
    parser.add_argument("preset", choices=PRESETS)
    parser.add_argument("out", type=Path)
    parser.add_argument("--bits", type=int, choices=(4, 8, 16, 32), default=4)
    parser.add_argument("--group-size", type=int, choices=(32, 64, 128))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(write_preset(args.preset, args.out, bits=args.bits, group_size=args.group_size, seed=args.seed))


main()
