"""`instruct-musicgen info`: what a bundle holds, or how an edited file was made."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

EDITED = (".wav", ".flac", ".ogg")


def run(arguments: argparse.Namespace) -> None:
    """Describe a bundle, for people or as JSON; with --keys show which stored tensor is taken for which.

    Of an edited file say how it was made, and the command that makes it again.
    """
    from ..bundle import info
    from ..bundle.bundle import open_bundle

    if Path(arguments.bundle).suffix.lower() in EDITED and Path(arguments.bundle).is_file():
        _show_made(Path(arguments.bundle), arguments.json)
        return
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


def _show_made(path: Path, as_json: bool) -> None:
    from ..results import edit_record as records

    found = records.read(path)
    if as_json:
        print(json.dumps({**asdict(found), "command": found.command(path.name)}, indent=2))
        return
    for line in records.lines(found, path.name):
        print(line)


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
