"""The command line's grammar. Nothing heavy is imported here, so that --help and usage errors are immediate."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from ..errors import UsageError
from ..parse_values import instrument_names, integer, path
from ..system.installation import program_version
from .editing.arguments import add_edit
from .shared_options import BACKENDS, DEFAULT_REPO, KEYS_HELP

NEGATIVE = re.compile(r"-(?:(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?|inf|infinity|nan)\Z", re.IGNORECASE)


class Parser(argparse.ArgumentParser):
    """A parser that raises UsageError instead of exiting, and takes -1e3 for a number, as Python 3.14 does."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._negative_number_matcher = NEGATIVE

    def error(self, message: str) -> NoReturn:
        """Raise UsageError with one line, and where to read more."""
        raise UsageError(f"{message} (see '{self.prog} --help')")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments, checked as far as they can be by themselves; `.run` is the command's function."""
    return _parser().parse_args(argv)


def _parser() -> Parser:
    parser = Parser(prog="instruct-musicgen", description="Edit music with a sentence: Instruct-MusicGen in MLX.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {program_version() or '(not installed)'}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    add_edit(commands.add_parser("edit", help="edit a clip as an instruction says"))
    commands.choices["edit"].set_defaults(run=_command("edit"))
    _convert(commands.add_parser("convert", help="make a bundle from upstream's files"))
    _info(commands.add_parser("info", help="what a bundle holds, or how a file was made"))
    _download(commands.add_parser("download", help="fetch a bundle, to work offline"))
    _studio(commands.add_parser("studio", help="a page to edit and listen, and an HTTP API"))
    _doctor(commands.add_parser("doctor", help="check every operation and a short edit on this machine"))
    return parser


def _convert(parser: argparse.ArgumentParser) -> None:
    parser.description = "Make a bundle from upstream's files, without torch and without running any code in them."
    parser.set_defaults(run=_command("convert"))
    add = parser.add_argument
    add("--adapter", required=True, metavar="CKPT", help="Instruct-MusicGen's checkpoint (finetuned.ckpt)")
    add(
        "--base",
        required=True,
        metavar="DIR_OR_REPO",
        help="MusicGen's state_dict.bin and compression_state_dict.bin (facebook/musicgen-large)",
    )
    add("--t5", required=True, metavar="DIR_OR_REPO", help="T5's weights and tokenizer (google-t5/t5-base)")
    add("--out", required=True, type=path, metavar="DIR", help="the bundle's folder")
    add("--bits", type=int, default=4, metavar="4|8|16|32", help="of the layers' projections (default 4)")
    add(
        "--group-size",
        type=int,
        metavar="32|64|128",
        help="weights that share a scale (default 64, or 32 where 64 does not fit the model)",
    )
    add(
        "--recipe",
        default="plain",
        metavar="plain|heads|mse|mixed|fine|calibrated|calibrated-mixed",
        help="which modules get more or fewer bits, and how scales are chosen (default plain, the published layout)",
    )
    add(
        "--instruments",
        type=instrument_names,
        metavar="X,Y,...",
        help="what the adapter was trained on, spelled as in its sentences (default Drums,Bass,Piano,Guitar)",
    )
    add("--everyday", action="store_true", help="it was trained on everyday sentences too, without a preamble")
    add(
        "--layout",
        choices=("plain", "native"),
        default="plain",
        help="order of packed matrices in the file: as mx.quantize makes it, or as CPUs read them, which saves the "
        "native backend a pass over them at each start; every backend reads both, to the same bits",
    )
    add(
        "--license",
        metavar="NAME",
        help="of weights that you trained from nothing; default: CC-BY-NC-4.0, the published weights'",
    )
    add(
        "--clips",
        nargs="+",
        type=path,
        default=[],
        metavar="CLIP",
        help="audio files or folders that the calibrated recipes run the model over; the more like yours the better",
    )
    add(
        "--trained-frames",
        type=integer(1),
        metavar="N",
        help="frames (50 a second) of the clips the adapter was trained on; default: told by a step in the variance of "
        "its position table, if there is one",
    )


def _info(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Sizes, quantization, parameter counts and license of a bundle; or how a file was made that `edit` wrote, and "
        "the command that makes it again."
    )
    parser.set_defaults(run=_command("info"))
    parser.add_argument("bundle", metavar="BUNDLE", help="a bundle's folder, Hugging Face repo, or an edited file")
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument(
        "--keys",
        nargs="?",
        const="",
        metavar="MAP.json",
        help="print which stored tensor is taken for which (with --json in the form of MAP.json); with MAP.json apply "
        "it and describe the bundle. " + KEYS_HELP,
    )


def _download(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Fetch a bundle and its T5 text encoder from the Hugging Face Hub into its cache: says the size, the license "
        "and the free disk first, goes on where an interrupted fetch stopped, and checks what arrived."
    )
    parser.set_defaults(run=_command("download"))
    parser.add_argument("repo", nargs="?", metavar="REPO", help=f"owner/name (default {DEFAULT_REPO})")
    parser.add_argument("--revision", help="branch, tag or commit of the repo (default main)")


def _studio(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Serve a page on which clips are edited, compared and kept, and an HTTP API (docs/studio.md). Needs "
        "pip install 'instruct-musicgen-mlx[studio]'."
    )
    parser.set_defaults(run=_command("studio"))
    add = parser.add_argument
    add(
        "--model",
        nargs="+",
        action="extend",
        metavar="PATH_OR_REPO",
        help=f"bundles to choose from, the first by default (default: {DEFAULT_REPO} if it is in the cache, and demo)",
    )
    add("--backend", choices=BACKENDS, default="auto", help="as of edit")
    add(
        "--host",
        default="127.0.0.1",
        help="where to listen (default 127.0.0.1: this machine alone); elsewhere a token is needed, which is printed",
    )
    add("--port", type=integer(0, 65535), default=7860, help="0: any that is free (default 7860)")
    add("--data", type=path, metavar="DIR", help="where edits are kept (default: in your home's data folder)")
    add(
        "--token",
        metavar="T",
        help="what requests must know, also INSTRUCT_MUSICGEN_STUDIO_TOKEN (default: none on this machine, else made)",
    )
    add(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="another name under which the studio is reached, as through a proxy; may be given again",
    )
    add("--open", action=argparse.BooleanOptionalAction, default=None, help="open the page in a browser")


def _doctor(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Run every operation and a short edit on every backend of this machine, compare them with what is right, and "
        "print a report to paste into an issue. Exit code 1 if something differs. A minute or two; the interpreter "
        "compiles its kernels on the first run. No network, no bundle needed."
    )
    parser.set_defaults(run=_command("doctor"))
    parser.add_argument(
        "--backend",
        dest="backends",
        action="append",
        choices=BACKENDS[1:],
        help="only this one (may be given again); default: all that run here",
    )
    parser.add_argument("--json", action="store_true", help="for machines")


def _command(name: str) -> Callable[[argparse.Namespace], None]:
    """Return `run` of model.cli.<name>, which is imported when called."""

    def run(arguments: argparse.Namespace) -> None:
        importlib.import_module(f"{__package__}.{name}").run(arguments)

    return run
