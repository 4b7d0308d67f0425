"""`python -m model.synthetic PRESET OUT`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..config import GROUP_SIZES
from ..errors import UserError
from ..progress import byte_progress
from . import PRESETS, write_preset


def main() -> int:
    """Write a preset's bundle."""
    parser = argparse.ArgumentParser(prog="python -m model.synthetic", description="Write a bundle of random weights.")
    parser.add_argument("preset", choices=PRESETS)
    parser.add_argument("out", type=Path)
    parser.add_argument("--bits", type=int, choices=(4, 8, 16, 32), default=4)
    parser.add_argument("--group-size", type=int, choices=GROUP_SIZES)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    options = {"bits": args.bits, "group_size": args.group_size, "seed": args.seed}
    try:
        with byte_progress(f"writing {args.preset}") as progress:
            made = write_preset(args.preset, args.out, **options, progress=progress)
    except KeyboardInterrupt:
        print("error: interrupted; nothing was written", file=sys.stderr)
        return 130
    except (UserError, ValueError) as e:  # ValueError: a negative seed
        print(f"error: {e}", file=sys.stderr)
        return 1
    print(made)
    return 0


sys.exit(main())
