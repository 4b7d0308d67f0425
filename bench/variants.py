"""The variants that a command line names: bundles on backends, or quantized in memory by a recipe."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import kernels
from model.bundle.bundle import demo_path, open_bundle
from model.cli.shared_options import BACKENDS, KEYS_HELP
from model.config import GROUP_SIZES, PACKED_BITS, Quantization
from model.errors import UsageError, UserError
from model.evaluation.variant import Variant
from model.quantize.in_memory import quantized
from model.quantize.recipes import named

TEXTS = (
    "Music piece. Instruct: Only Drums.",
    "Music piece. Instruct: No Drums.",
    "Music piece. Instruct: Only Bass.",
    "Music piece. Instruct: Add Piano.",
)
CLIP = Path(demo_path()).parent / "clip.flac"


def add_variant_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that name the variants to compare; `bench fidelity` and `bench quality` share them."""
    add = parser.add_argument
    add("--model", default=str(demo_path()), help="bundle folder or repo, the reference (default: the demo)")
    add("--keys", metavar="MAP.json", help=f"for --model: {KEYS_HELP}")
    add("--against", nargs="+", default=[], metavar="BUNDLE", help="other bundles; BUNDLE@BACKEND picks one")
    add("--bits", nargs="+", type=int, default=[], help="the model quantized in memory to 8 and/or 4 bits")
    add("--recipes", nargs="+", default=[], help="the model quantized in memory by these recipes")
    add("--backends", nargs="+", choices=BACKENDS, default=[], help="the model on these backends as well")
    add("--backend", choices=BACKENDS, default="auto", help="backend of every variant that doesn't name one")
    groups = "group size of --bits and --recipes (default 64, or 32 where 64 does not divide)"
    add("--group-size", type=int, choices=GROUP_SIZES, help=groups)
    add("--guidance", type=float, default=3.0, help="classifier-free guidance (default 3.0)")
    add("--out", type=Path, help="write the page here (Markdown, HTML, JSON, PNG)")
    add("--json", action="store_true", help="print the page's numbers as JSON instead")


def parse(
    model: str, against: Sequence[str] = (), *, bits: Sequence[int] = (), recipes: Sequence[str] = (),
    backends: Sequence[str] = (), backend: str = "auto", group_size: int | None = None, keys: str | None = None,
) -> list[Variant]:  # fmt: skip
    """Open the variants that a command line names, the reference first; all must have the same architecture.

    `model` and `against`: a folder or repo, with `@backend` after it, or else on `backend`. `bits` and `recipes`: the
    first model quantized in memory. `backends`: the first model on these. `keys`: a file that names the first one's
    tensors. Raises UsageError or UserError if one cannot be opened or does not fit.
    """
    variants = [_spec(model, backend, keys)]
    first = variants[0]
    config = first.bundle.config
    if group_size is None:
        group_size = 64 if config.lm.dim % 64 == 0 and config.lm.ffn % 64 == 0 else 32
    variants += [_spec(each, backend) for each in against]
    for name in backends:
        if name == "auto":
            name = kernels.load("auto").name  # as `Variant.load` asks, so that one warning is given, not two
        variants.append(Variant(f"{first.label.partition('@')[0]}@{name}", first.bundle, name))
    for count in bits:
        if count not in PACKED_BITS:
            raise UsageError(f"--bits {count}: choose 4 or 8")
        bundle = quantized(first.bundle, named("plain"), Quantization(count, group_size))
        variants.append(Variant(f"{count} bits", bundle, first.backend))
    for name in recipes:
        if named(name).calibrated:
            raise UsageError(f"--recipes {name} needs clips: make it with convert --recipe {name} and give --against")
        bundle = quantized(first.bundle, named(name), Quantization(4, group_size))
        variants.append(Variant(f"4 bits, {name}", bundle, first.backend))
    for each in variants[1:]:
        if (each.bundle.config.lm, each.bundle.config.adapter) != (config.lm, config.adapter):
            raise UserError(f"{each.label} and {first.label} have different dimensions; compare variants of one model")
    return _distinct(variants)


def _spec(text: str, backend: str, keys: str | None = None) -> Variant:
    path, at, name = text.rpartition("@")
    if not at or name not in (*kernels.BACKENDS, "auto"):
        path, name = text, backend
    bundle = open_bundle(path, keys=keys)
    label = bundle.path.resolve().name if "/" not in path or bundle.path.exists() else path
    return Variant(f"{label}@{name}" if path != text else label, bundle, name)


def _distinct(variants: Sequence[Variant]) -> list[Variant]:
    """Make labels different: the second of a name becomes "name (2)"."""
    seen: dict[str, int] = {}
    out = []
    for each in variants:
        seen[each.label] = count = seen.get(each.label, 0) + 1
        out.append(each if count == 1 else replace(each, label=f"{each.label} ({count})"))
    return out


def chosen(args: argparse.Namespace) -> list[Variant]:
    """Return the variants of the command line.

    If it names one model: its 8 and 4 bit forms, or the reference backend.
    """
    model, bits, backends, backend = args.model, list(args.bits), list(args.backends), args.backend
    if not (args.against or bits or args.recipes or backends):
        (only,) = parse(model, backend=backend, keys=args.keys)
        if only.bundle.config.quantization is None:
            bits = [8, 4]
        else:
            backends, backend = [backend], "reference"
    return parse(
        model, args.against, bits=bits, recipes=args.recipes, backends=backends, backend=backend,
        group_size=args.group_size, keys=args.keys,
    )  # fmt: skip
