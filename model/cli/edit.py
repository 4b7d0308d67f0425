"""`instruct-musicgen edit`: a clip and an instruction in, the edited file out."""

from __future__ import annotations

import argparse

from .editing.clips import check_names


def run(arguments: argparse.Namespace) -> None:
    """Edit one file or many, in the way that is asked for."""
    from ..system.installation import check_kernels
    from .editing import several

    several.check(arguments)
    check_kernels()  # before anything imports them
    if several.asked(arguments):
        several.run(arguments)
        return
    arguments.input = arguments.inputs[0]
    check_names(arguments.input, arguments.output)
    if arguments.from_input:
        from .editing import from_input

        from_input.run(arguments)
    elif arguments.candidates:
        from .editing import candidates

        candidates.run(arguments)
    else:
        from .editing import one

        one.run(arguments)
