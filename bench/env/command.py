"""`bench env`: machine, versions and settings, for a bug report."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

import kernels
from kernels import tuning

from ..machine import environment


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the options of `bench env`."""
    parser = subparsers.add_parser("env", help="machine, versions, commit and backends, for a bug report")
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the environment."""
    record = asdict(environment.collect()) | {
        "backends": kernels.available(),
        "tuning": {backend: tuning.status(backend) for backend in tuning.TUNED},
        "executable": sys.executable,
    }
    if args.json:
        print(json.dumps(record, indent=2, default=str))
        return 0
    for name, value in record.items():
        if isinstance(value, dict):
            print(f"{name}:")
            for key, item in value.items():
                print(f"  {key}: {'available' if item is None and name == 'backends' else item}")
        else:
            print(f"{name}: {value}")
    return 0
