"""`instruct-musicgen info`: what a bundle holds."""

from __future__ import annotations

import argparse
import json


def run(arguments: argparse.Namespace) -> None:
    """Describe the bundle, for people or as JSON."""
    from ..bundle import info
    from ..bundle.bundle import open_bundle

    description = info.describe(open_bundle(arguments.bundle))
    if arguments.json:
        print(json.dumps(description, indent=2))
    else:
        info.show(description)
