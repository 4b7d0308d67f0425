"""What is compared: a bundle on a backend, or a 16/32-bit bundle quantized in memory by a recipe."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import mlx.core as mx

import kernels
from model.bundle import tensors as layout
from model.bundle.bundle import Bundle, open_bundle, stays_packed
from model.config import Quantization
from model.errors import UsageError, UserError
from model.pipeline import InstructMusicGen
from model.quantize.recipes import Recipe, named


@dataclass(frozen=True)
class Variant:
    """One column of a comparison."""

    label: str
    bundle: Bundle
    backend: str

    def load(self) -> InstructMusicGen:
        """The pipeline, its weights read anew. UserError: the backend cannot run here."""
        try:
            # A fresh Bundle, so that the weights it read go with the pipeline.
            return InstructMusicGen(replace(self.bundle), kernels.load(self.backend))
        except kernels.BackendUnavailable as e:
            raise UserError(str(e)) from e

    @property
    def megabytes(self) -> float:
        """Of the LM's and adapter's tensors, as a file would hold them."""
        return sum(stored_bytes(self.bundle).values()) / 1e6


@dataclass(frozen=True)
class Quantized(Bundle):
    """A dense bundle quantized as it is read, to the bit as `convert` would with this recipe."""

    recipe: Recipe
    default: Quantization

    def _load(self, wanted: Iterable[str]) -> dict[str, mx.array]:
        tensors = super()._load(wanted)
        for name in list(tensors):
            module = name.removesuffix(".weight")
            quantization = self.recipe.quantization(module, self.default) if name != module else None
            if quantization is None:
                tensors[name] = tensors[name].astype(self.config.dtype)
                continue
            w, scales, biases = self.recipe.pack(tensors[name], quantization, self.config.dtype)
            if stays_packed(module):
                tensors |= {name: w, f"{module}.scales": scales, f"{module}.biases": biases}
            else:  # as Bundle reads them
                bits, size = quantization.bits, quantization.group_size
                tensors[name] = mx.dequantize(w, scales, biases, group_size=size, bits=bits)
        return tensors


def quantized(bundle: Bundle, recipe: Recipe, default: Quantization) -> Quantized:
    """A dense bundle as `recipe` quantizes it. UsageError: it is already quantized, or a group size doesn't divide."""
    if bundle.config.quantization is not None:
        bits = bundle.config.quantization.bits
        raise UsageError(
            f"{bundle.path} already has {bits} bits; --bits and --recipes need a 16 or 32 bit bundle first"
        )
    lm, adapter = bundle.config.lm, bundle.config.adapter
    other = recipe.overrides(lm, adapter, default)
    for module, shape in layout.projections(lm).items():
        size = other.get(module, default).group_size
        if shape[1] % size:
            raise UsageError(f"groups of {size} do not divide {module} {list(shape)}; use --group-size 32")
    dtype = mx.float16 if bundle.config.dtype == mx.float32 else bundle.config.dtype
    config = replace(bundle.config, dtype=dtype, quantization=default, recipe=other)
    return Quantized(bundle.path, config, bundle.sources, bundle.raw_config, recipe, default)


def stored_bytes(bundle: Bundle) -> dict[str, int]:
    """Bytes of each module (or lone tensor) of the LM and adapter in a file."""
    sizes: dict[str, int] = {}
    for name, source in bundle.sources.items():
        module = name.rpartition(".")[0] if name.endswith((".weight", ".scales", ".biases")) else name
        size = math.prod(source.shape)
        if not isinstance(bundle, Quantized):
            size *= source.dtype.size
        elif name.endswith(".weight") and (q := bundle.recipe.quantization(module, bundle.default)):
            size = size * q.bits // 8 + 2 * size // q.group_size * bundle.config.dtype.size
        else:
            size *= bundle.config.dtype.size
        sizes[module] = sizes.get(module, 0) + size
    return sizes


def parse(
    model: str,
    against: Sequence[str] = (),
    *,
    bits: Sequence[int] = (),
    recipes: Sequence[str] = (),
    backends: Sequence[str] = (),
    backend: str = "auto",
    group_size: int | None = None,
) -> list[Variant]:
    """The variants that a command line names, the reference first; all must have the same architecture.

    `model` and `against`: folder or repo, with `@backend` after it or on `backend`. `bits` and `recipes`: the first
    model quantized in memory; `backends`: the first model on these.
    """
    variants = [_spec(model, backend)]
    first = variants[0]
    if group_size is None:
        lm = first.bundle.config.lm
        group_size = 64 if lm.dim % 64 == 0 and lm.ffn % 64 == 0 else 32
    variants += [_spec(each, backend) for each in against]
    for name in backends:
        if name == "auto":
            name = kernels.load("auto").name  # as `Variant.load` asks, so that one warning is given, not two
        variants.append(Variant(f"{first.label.partition('@')[0]}@{name}", first.bundle, name))
    for count in bits:
        if count not in (4, 8):
            raise UsageError(f"--bits {count}: choose 4 or 8")
        bundle = quantized(first.bundle, named("plain"), Quantization(count, group_size))
        variants.append(Variant(f"{count} bits", bundle, first.backend))
    for name in recipes:
        if named(name).calibrated:
            raise UsageError(f"--recipes {name} needs clips: make it with convert --recipe {name} and give --against")
        bundle = quantized(first.bundle, named(name), Quantization(4, group_size))
        variants.append(Variant(f"4 bits, {name}", bundle, first.backend))
    for each in variants[1:]:
        if (each.bundle.config.lm, each.bundle.config.adapter) != (first.bundle.config.lm, first.bundle.config.adapter):
            raise UserError(f"{each.label} and {first.label} have different dimensions; compare variants of one model")
    return _distinct(variants)


def _spec(text: str, backend: str) -> Variant:
    path, at, name = text.rpartition("@")
    if not at or name not in (*kernels.BACKENDS, "auto"):
        path, name = text, backend
    bundle = open_bundle(path)
    label = bundle.path.resolve().name if "/" not in path or bundle.path.exists() else path
    return Variant(f"{label}@{name}" if path != text else label, bundle, name)


def _distinct(variants: Sequence[Variant]) -> list[Variant]:
    """Labels made different: the second of a name becomes "name (2)"."""
    seen: dict[str, int] = {}
    out = []
    for each in variants:
        seen[each.label] = count = seen.get(each.label, 0) + 1
        out.append(each if count == 1 else replace(each, label=f"{each.label} ({count})"))
    return out
