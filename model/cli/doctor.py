"""`instruct-musicgen doctor`: does this machine compute what it should?"""

from __future__ import annotations

import argparse
import faulthandler
import json
import sys

from ..errors import UserError


def run(arguments: argparse.Namespace) -> None:
    """Check, print the report, and fail if something differs."""
    from ..system.installation import check_kernels

    check_kernels()
    import kernels

    from ..doctor import report
    from ..doctor.examine import examine

    faulthandler.enable()
    found = examine(arguments.backends or kernels.BACKENDS, _tell)
    if arguments.json:
        print(json.dumps(found.json(), indent=2, default=str))
    else:
        print(report.text(found))
    if problems := found.problems:
        first = problems[0]
        others = "".join(f"; {p.backend}: {p.operation}" for p in problems[1:])
        raise UserError(
            f"backend {first.backend}: {first.operation} is wrong on this machine ({first.case}: {first.problem})"
            f"{others}. Paste the report above into an issue; a backend without a line here can be used with --backend"
        )
    if arguments.backends:
        for backend in found.backends:
            if backend.reason:
                raise UserError(f"--backend {backend.name}: {backend.reason}")


def _tell(line: str) -> None:
    print(f"checking {line}", file=sys.stderr, flush=True)
