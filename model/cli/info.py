"""`instruct-musicgen info`: what a bundle holds."""

from __future__ import annotations

import argparse
import json


def run(arguments: argparse.Namespace) -> None:
    """Describe the bundle, for people or as JSON; with --keys show which stored tensor is taken for which."""
    from ..bundle import info
    from ..bundle.bundle import open_bundle

    keys = arguments.keys or None
    if arguments.keys is not None and not (keys and arguments.json):
        _show_keys(arguments.bundle, keys, arguments.json)
    bundle = open_bundle(arguments.bundle, keys=keys)  # the error, if what was just shown does not fit
    if arguments.keys == "":
        return
    description = info.describe(bundle)
    if arguments.json:
        print(json.dumps(description, indent=2))
    else:
        info.show(description)


def _show_keys(bundle: str, keys: str | None, as_json: bool) -> None:
    """Print the mapping, also of a bundle that can't be opened: a MAP.json has to settle what is left over."""
    from ..bundle.bundle import folder, matched
    from ..bundle.names import keys as key_map

    found, *_ = matched(folder(bundle), keys)
    if as_json:
        print(json.dumps(key_map.as_map(found), indent=2))
        return
    for line in key_map.lines(found):
        print("".join(c if c.isprintable() else "?" for c in line))
