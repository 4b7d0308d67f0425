"""The command line's grammar. Nothing heavy is imported here, so that --help and usage errors are immediate."""

from __future__ import annotations

import argparse
import importlib
import math
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn

from .. import instructions, instruments
from ..errors import UsageError

DEFAULT_REPO = "aufklarer/Instruct-MusicGen-MLX-4bit"
BACKENDS = ("auto", "metal", "native", "reference", "interpreter")

KEYS_HELP = (
    "MAP.json is for a bundle whose tensors' names tell too little: an object of stored names to names that the model "
    "knows, or to null for tensors that it doesn't need; * stands for a number. A bundle's own keys.json is read "
    "without it"
)


NEGATIVE = re.compile(r"-(?:(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?|inf|infinity|nan)\Z", re.IGNORECASE)


class Parser(argparse.ArgumentParser):
    """Raises UsageError instead of printing the usage and exiting; takes -1e3 for a number, as Python 3.14 does."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._negative_number_matcher = NEGATIVE

    def error(self, message: str) -> NoReturn:
        """One line, with where to read more."""
        raise UsageError(f"{message} (see '{self.prog} --help')")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments, checked as far as they can be by themselves; `.run` is the command's function."""
    return _parser().parse_args(argv)


def _parser() -> Parser:
    parser = Parser(prog="instruct-musicgen", description="Edit music with a sentence: Instruct-MusicGen in MLX.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    _edit(commands.add_parser("edit", help="edit a clip as an instruction says"))
    _convert(commands.add_parser("convert", help="make a bundle from upstream's files"))
    _info(commands.add_parser("info", help="what a bundle holds"))
    _download(commands.add_parser("download", help="fetch a bundle, to work offline"))
    _doctor(commands.add_parser("doctor", help="check every operation and a short edit on this machine"))
    return parser


def _edit(parser: argparse.ArgumentParser) -> None:
    parser.description = "Edit a clip as an instruction says. The result is as long as the clip."
    parser.set_defaults(run=_command("edit"))
    add = parser.add_argument
    add(
        "input",
        metavar="IN",
        type=path,
        help="an audio file: WAV, FLAC, OGG, MP3, AIFF, CAF, ..., M4A with PyAV or ffmpeg; - for standard input",
    )
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument(
        "-i",
        "--instruction",
        type=instruction,
        metavar="TEXT",
        help='what to do, as "remove the drums" or "just the bass": the model is given the sentence it was trained on, '
        'which is printed; a text that begins with "Music piece." goes in as it is',
    )
    for verb, does in (("only", "leaves"), ("no", "removes"), ("add", "adds")):
        asked.add_argument(f"--{verb}", type=_instrument, metavar="X", help=f"{does} an instrument: --{verb} drums")
    add(
        "-o",
        "--output",
        required=True,
        type=path,
        metavar="OUT",
        help=".wav (32-bit float), .flac (24 bits) or .ogg; 32 kHz mono unless --keep-rate; - for WAV on standard "
        "output",
    )
    add(
        "--model",
        metavar="PATH_OR_REPO",
        help=f"a bundle's folder or Hugging Face repo; default: {DEFAULT_REPO} if it is in the cache, else the "
        "embedded demo bundle, whose output is a smoke test, not music",
    )
    add("--revision", help="branch, tag or commit of the repo")
    add("--keys", type=path, metavar="MAP.json", help=KEYS_HELP)
    add(
        "--seed",
        type=_seed,
        default=0,
        metavar="N|random",
        help="same seed, same build, same backend: same result (default 0); random: draw one, and say which",
    )
    add(
        "--top-k",
        type=_integer(0),
        default=250,
        metavar="N",
        help="sample from the N most probable tokens; 0: from all (default 250)",
    )
    add(
        "--top-p",
        type=_number(0, 1),
        default=0.0,
        metavar="P",
        help="sample from the most probable tokens that make up P, instead of top-k; 0: off (default)",
    )
    add("--temperature", type=_number(0), default=1.0, metavar="T", help="0: the most probable token (default 1.0)")
    add(
        "--guidance",
        type=_number(-1e5, 1e5),
        default=3.0,
        metavar="G",
        help="how strongly to follow the instruction; 1: no guidance, half the work (default 3.0)",
    )
    add("--greedy", action="store_true", help="always the most probable token")
    add("--max-steps", type=_integer(1), metavar="N", help="edit only the first N frames (50 a second)")
    add(
        "--window",
        type=_number(0.02),
        metavar="SECONDS",
        help="edit this much at a time, each window continuing the one before (default: what the model was trained on, "
        "5 s where the bundle doesn't say)",
    )
    add(
        "--backend",
        choices=BACKENDS,
        default="auto",
        help="auto: metal where there is a GPU, else native, else the slow reference (default)",
    )
    add(
        "--activations",
        choices=("default", "int8"),
        default="default",
        help="int8: faster and less exact layer projections on the native backend (what it costs, measured: "
        "kernels/native/README.md)",
    )
    add("--keep-rate", action="store_true", help="write at the input's sample rate and exact length")
    add("--normalize", action="store_true", help="scale the result to a peak of -1 dBFS")
    add("--quiet", action="store_true", help="print nothing but errors, warnings, and that the demo bundle was taken")


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
        metavar="plain|mse|mixed|fine|calibrated|calibrated-mixed",
        help="which modules get more or fewer bits, and how scales are chosen (default plain, the published layout)",
    )
    add(
        "--instruments",
        type=_instruments,
        metavar="X,Y,...",
        help="what the adapter was trained on, spelled as in its sentences (default Drums,Bass,Piano,Guitar)",
    )
    add("--everyday", action="store_true", help="it was trained on everyday sentences too, without a preamble")
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
        type=_integer(1),
        metavar="N",
        help="frames (50 a second) of the clips the adapter was trained on; default: told by a step in the variance of "
        "its position table, if there is one",
    )


def _info(parser: argparse.ArgumentParser) -> None:
    parser.description = "Sizes, quantization, parameter counts and license of a bundle."
    parser.set_defaults(run=_command("info"))
    parser.add_argument("bundle", metavar="BUNDLE", help="a bundle's folder or Hugging Face repo")
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
    """`run` of model.cli.<name>, imported when called."""

    def run(arguments: argparse.Namespace) -> None:
        importlib.import_module(f"{__package__}.{name}").run(arguments)

    return run


def _version() -> str:
    try:
        return version("instruct-musicgen-mlx")
    except PackageNotFoundError:
        return "(not installed)"


def path(text: str) -> Path:
    """For argparse: a path; "~" at its beginning stands for the home folder, also where no shell has seen it."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # no such user
        return Path(text)


def _seed(text: str) -> int | None:
    return None if text == "random" else _integer(0, 2**64 - 1)(text)


def instruction(text: str) -> str:
    """For argparse: a sentence as it is; it must not be blank."""
    with suppress(UnicodeError):  # UTF-8, in a locale that is not (LC_ALL=C)
        text = os.fsencode(text).decode("utf-8")
    if not text.strip():
        raise argparse.ArgumentTypeError('is empty; say what to do, for example "only the drums"')
    if not text.isprintable() and any(0xD800 <= ord(c) < 0xE000 for c in text):
        raise argparse.ArgumentTypeError("is not valid text in UTF-8; set LC_ALL=C.UTF-8, and the terminal to UTF-8")
    return text


def _instrument(text: str) -> str:
    try:
        return instruments.checked(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from e


def _instruments(text: str) -> tuple[str, ...]:
    try:
        return instructions.Vocabulary(tuple(name.strip() for name in text.split(","))).instruments
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from e


def _integer(low: int, high: float = math.inf) -> Callable[[str], int]:
    def integer(text: str) -> int:
        value = _parsed(int, text, "a whole number")
        _check_range(text, value, low, high)
        return int(value)

    return integer


def _number(low: float, high: float = math.inf) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = _parsed(float, text, "a number")
        if not math.isfinite(value):
            raise argparse.ArgumentTypeError(f"{text} is not finite")
        _check_range(text, value, low, high)
        return float(value)

    return number


def _parsed(kind: Callable[[str], Any], text: str, what: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}") from None


def _check_range(text: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        limit = f"at least {low}" if high == math.inf else f"between {low} and {high}"
        raise argparse.ArgumentTypeError(f"{text} must be {limit}")
