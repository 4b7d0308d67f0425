"""`bench sizes`: list or remove the synthetic bundles in the cache."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from typing import Any

from model.errors import UsageError
from model.system.cache import cache

from .bundles import stored


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the options of `bench sizes`."""
    parser = subparsers.add_parser("sizes", help="list or remove the synthetic bundles that --size has made")
    parser.add_argument("--remove", metavar="NAME", help="remove a bundle of the list, or `all`")
    parser.add_argument("--json", action="store_true", help="print the list as JSON: bytes by name")


def run(args: argparse.Namespace) -> int:
    """List the synthetic bundles that `--size` has made, or remove one or all."""
    found = stored()
    if args.remove is not None:
        if args.remove != "all" and args.remove not in found:
            have = ", ".join(found) or "none"
            raise UsageError(f"--remove {args.remove}: not in {cache() / 'sizes'}; there are {have}")
        for name in list(found) if args.remove == "all" else [args.remove]:
            shutil.rmtree(cache() / "sizes" / name)
            print(f"removed {name} ({found.pop(name) / 1e6:.0f} MB)", file=sys.stderr if args.json else sys.stdout)
        if not args.json:
            return 0
    if args.json:
        print(json.dumps(found))
        return 0
    for name, size in found.items():
        print(f"{name:16} {size / 1e6:8.0f} MB")
    print(f"{len(found)} bundles in {cache() / 'sizes'}")
    return 0
