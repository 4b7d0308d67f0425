"""bench.step_bytes: bytes a step must read, against the design's sums, a loaded model's arrays and a bundle file's."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

import reference
from bench.step_bytes import StepShape, matrix_bytes, prefill_flops, published, step_bytes
from model.bundle.bundle import open_bundle
from model.bundle.tensors import lm_shapes
from model.config import Quantization
from model.convert.convert import convert
from model.pipeline import InstructMusicGen
from model.synthetic import write_preset

from .conftest import GOLDEN


def test_large_at_4_bits() -> None:
    """2.82 G packed weights of 4.5 bits, heads, two rows' caches at half of 250 steps, a prefix of 251 frames."""
    shape = StepShape(length=125, prefix=251)
    parts = step_bytes(published("large", 4), shape, activations=mx.float16, weights=mx.float16)
    norms = (3 * 48 + 1) * 2 * 2048 * 2
    assert parts["weights"] - norms == 48 * 14 * 2048**2 * 4.5 / 8
    assert parts["heads"] == 4 * 2048 * 2048 * 2
    assert parts["self cache"] == 2 * 125 * 48 * 2 * 2048 * 2
    assert parts["prefix"] == 251 * 48 * 2 * 2048 * 2
    assert sum(parts.values()) == pytest.approx(1.82e9, rel=0.005)


def test_prefix_counts_once_for_a_guidance_pair() -> None:
    one, two = (
        step_bytes(
            published("small", 4), StepShape(guided=g, length=10, prefix=51), activations=mx.float16, weights=mx.float16
        )
        for g in (False, True)
    )
    assert one["prefix"] == two["prefix"] and 2 * one["self cache"] == two["self cache"]


def test_adapter_flops() -> None:
    """Every weight of the adapter's layers meets every frame; a frame meets those up to itself, on average half.

    But of the last layer's only what makes its prefix: what the layer gives on is not read.
    """
    config, frames, rows = published("small", 4), 100, 3
    used = re.compile(r"(cp_transformer\.merge_linear\.\d+|layers\.\d+\.(self_attn\.\w+|linear[12]))\.weight")
    shapes = lm_shapes(config.lm, config.adapter)
    unread = re.compile(r"layers\.23\.(self_attn\.out_proj|linear[12])\.weight")
    weights = sum(math.prod(shape) for name, shape in shapes.items() if used.fullmatch(name) and not unread.match(name))
    attention = 23 * 2 * frames * frames / 2 * config.lm.dim
    assert prefill_flops(config, rows, frames) == 2 * rows * (frames * weights + attention)


def test_dense_and_packed_matrices() -> None:
    assert matrix_bytes((3, 64), None, 2) == 384
    assert matrix_bytes((3, 64), Quantization(4, 32), 2) == 3 * (32 + 2 * 2 * 2)


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_equals_the_loaded_arrays(tmp_path: Path, bits: Any) -> None:
    model = InstructMusicGen(open_bundle(write_preset("tiny", tmp_path / "b", bits=bits)), reference)
    dtype = model.lm.dtype
    parts = step_bytes(model.bundle.config, StepShape(), activations=dtype, weights=dtype)
    arrays = [*model.lm.out_norm[:2]]
    for layer in model.lm.layers:
        for norm in (layer.norm1, layer.norm_cross, layer.norm2):
            arrays += norm[:2]
        for m in (layer.qkv, layer.self_out, layer.cross_q, layer.cross_out, layer.linear1, layer.linear2):
            arrays += m.arrays()
    assert parts["weights"] == sum(a.nbytes for a in arrays)
    assert parts["heads"] == sum(a.nbytes for a in model.lm.heads.arrays())


READ = re.compile(r"layers\.\d+\.(norm\w+|self_attn\.\w+|cross_attn\.(q|out)_proj|linear[12])\.|out_norm\.|linears\.")
"""What a step reads of a bundle's file, beside a row of each embedding."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "bits, recipe, heads",
    [(4, "plain", 16), (4, "mixed", 8), (8, "plain", 16), (8, "mixed", 8), (16, "plain", 16)],
)
@pytest.mark.parametrize("unpacked", [False, True])
def test_equals_the_arrays_in_the_file(tmp_path: Path, bits: int, recipe: str, heads: int, unpacked: bool) -> None:
    """Heads dense, packed with other bits than the layers, and with the same; and where one projection is dense."""
    path = convert(
        adapter=GOLDEN / "upstream.ckpt", base=GOLDEN / "base", t5=GOLDEN / "t5", out=tmp_path / "b", bits=bits,
        recipe=recipe,
    )  # fmt: skip
    arrays = mx.load(str(path / "model.safetensors"))
    assert isinstance(arrays, dict)
    if unpacked:
        for part in ("scales", "biases"):
            arrays.pop(f"layers.1.linear2.{part}", None)
        arrays["layers.1.linear2.weight"] = mx.zeros((64, 256), dtype=mx.float16)
        mx.save_safetensors(str(path / "model.safetensors"), arrays)
    assert arrays["linears.0.weight"].nbytes == 64 * 64 * heads // 8
    bundle = open_bundle(path)
    parts = step_bytes(bundle.config, StepShape(), activations=mx.float16, weights=mx.float16)
    read = {name: array.nbytes for name, array in arrays.items() if READ.match(name)}
    of_heads = sum(n for name, n in read.items() if name.startswith("linears."))
    assert (parts["heads"], parts["weights"]) == (of_heads, sum(read.values()) - of_heads)
    rows = sum(array[:1].nbytes for name, array in arrays.items() if name.startswith("emb."))
    assert parts["embedding"] == StepShape().rows * rows
