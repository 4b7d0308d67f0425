"""What `edit` takes."""

from __future__ import annotations

import argparse

from ...parse_values import guidance, instruction, instrument, integer, number, path, seed, temperature, top_k
from ..shared_options import BACKENDS, DEFAULT_REPO, KEYS_HELP


def add_edit(parser: argparse.ArgumentParser) -> None:
    """Add what `edit` takes."""
    parser.description = "Edit a clip as an instruction says. The result is as long as the clip."
    add = parser.add_argument
    add(
        "inputs",
        metavar="IN",
        nargs="+",
        type=path,
        help="an audio file: WAV, FLAC, OGG, MP3, AIFF, CAF, ..., M4A with PyAV or ffmpeg; - for standard input; "
        "several of them, a folder, or a manifest (.csv with the columns input, sentence, output, seed): then OUT is a "
        "folder",
    )
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument(
        "-i",
        "--instruction",
        type=instruction,
        metavar="TEXT",
        help='what to do, as "remove the drums" or "just the bass": the model is given the sentence it was trained on, '
        'which is printed; a text that begins with "Music piece." goes in as it is',
    )
    for verb, does in (("only", "keep one instrument alone"), ("no", "remove an instrument"), ("add", "add one")):
        asked.add_argument(f"--{verb}", type=instrument, metavar="X", help=f"{does}, as in --{verb} drums")
    add(
        "-o",
        "--output",
        required=True,
        type=path,
        metavar="OUT",
        help=".wav (32-bit float), .flac (24 bits) or .ogg; 32 kHz mono unless --keep-rate; - for WAV on standard "
        "output, while it is made",
    )
    add(
        "--model",
        metavar="PATH_OR_REPO",
        help=f"a bundle's folder, a Hugging Face repo, or demo; default: {DEFAULT_REPO} if it is in the cache, else "
        "demo, the small bundle that comes with this program and knows a small band's synthetic songs",
    )
    add("--revision", help="branch, tag or commit of the repo")
    add("--keys", type=path, metavar="MAP.json", help=KEYS_HELP)
    add(
        "--seed",
        type=seed,
        default=0,
        metavar="N|random",
        help="same seed, same build, same backend: same result (default 0); random: draw one, and say which",
    )
    add(
        "--top-k",
        type=top_k,
        default=250,
        metavar="N",
        help="sample from the N most probable tokens; 0: from all (default 250)",
    )
    add(
        "--top-p",
        type=number(0, 1),
        default=0.0,
        metavar="P",
        help="sample from the most probable tokens that make up P, instead of top-k; 0: off (default)",
    )
    add("--temperature", type=temperature, default=1.0, metavar="T", help="0: the most probable token (default 1.0)")
    add(
        "--guidance",
        type=guidance,
        default=3.0,
        metavar="G",
        help="how strongly to follow the instruction; 1: no guidance, half the work (default 3.0)",
    )
    add("--greedy", action="store_true", help="always the most probable token")
    add("--max-steps", type=integer(1), metavar="N", help="edit only the first N frames (50 a second)")
    add(
        "--window",
        type=number(0.02),
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
    add(
        "--caches",
        choices=("default", "float16"),
        default="default",
        help="float16: keys and values kept in 16 bits on the native backend; less to read at every step, and now and "
        "then another token where two are as likely",
    )
    add(
        "--format",
        choices=("wav", "f32"),
        help="of -o -: WAV (default), or f32, the bare samples as 32-bit floats, little-endian",
    )
    add(
        "--resume",
        action="store_true",
        help="go on where an interrupted edit of the same OUT stopped, to the bytes of an uninterrupted one",
    )
    add("--keep-rate", action="store_true", help="write at the input's sample rate and exact length")
    add("--normalize", action="store_true", help="scale the result to a peak of -1 dBFS")
    add("--quiet", action="store_true", help="print nothing but errors, warnings, and that the demo was taken")
    _candidates(parser.add_argument_group("several edits of one clip"))
    _from_input(parser.add_argument_group("the input's own sound (only, no)"))
    _files(parser.add_argument_group("many files"))


def _candidates(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--candidates",
        type=integer(1, 1000),
        metavar="N",
        help="make N edits, of the seeds from --seed on, as rows of one batch: song-1.wav is the best of them, and "
        "song.json has seeds and scores",
    )
    add("--keep", choices=("all", "best"), help="best: write song.wav alone, the first (default all)")
    add(
        "--rank-by",
        choices=("gap", "first gap", "probability", "guided", "fit", "clap", "none"),
        help="the score that they are ranked by (default: clap where torch and its checkpoint are there, else fit); "
        "what each is stands in song.json",
    )
    add("--clap", metavar="PATH_OR_REPO", help="the CLAP checkpoint (default laion/clap-htsat-unfused)")


def _from_input(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--from-input",
        action="store_true",
        help="cut the result out of the input's own spectrum, where the edits say what belongs to it: it keeps the "
        "input's sample rate, channels, phase and treble; .wav or .flac",
    )
    add("--residual", type=path, metavar="FILE", help="write what is left too; both files add up to the input")
    add(
        "--guides",
        type=integer(1, 64),
        metavar="N",
        help="guide by the mean of N seeds (default 1); more are steadier and take longer",
    )


def _files(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--to", choices=("wav", "flac", "ogg"), help="the results' format (default wav)")
    add(
        "--shard",
        metavar="I/N",
        help="do the I-th of N parts of the files; default: what mlx.launch, Open MPI or Slurm say, else all",
    )
