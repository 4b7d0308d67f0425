"""Recipes: what they pack, what they cost, that no group gets worse, and that bundles say and keep what was done."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kernels
from model import InstructMusicGen
from model.bundle import tensors as layout
from model.bundle.bundle import demo_path, open_bundle
from model.bundle.info import describe
from model.config import AdapterConfig, Config, LMConfig, Quantization
from model.convert.convert import convert
from model.errors import UsageError
from model.formats.tensor_writer import layout_bytes
from model.quantize.packing import least_squares, minmax
from model.quantize.recipes import RECIPES, named
from reference import oracle, tolerance
from reference.contract import Packed

from ... import backends

GOLDEN = Path(__file__).parents[2] / "golden" / "A"
LARGE = LMConfig(dim=2048, heads=32, ffn=8192, layers=48, card=2048)
ADAPTER = AdapterConfig(layers=48, max_n_frames=500)
FOUR = Quantization(4, 64)


def drawn(seed: int, rows: int, width: int, kind: str) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == "heavy":
        return (0.02 * rng.standard_t(3, (rows, width))).astype(np.float32)
    if kind == "one sided":
        return (0.5 + 0.02 * rng.random((rows, width))).astype(np.float32)
    if kind == "flat":
        return np.full((rows, width), rng.choice([0.0, 0.25, -3.0]), np.float32)
    return (0.02 * rng.standard_normal((rows, width))).astype(np.float32)


def squared_errors(weight: np.ndarray, packed: tuple[mx.array, mx.array, mx.array], q: Quantization) -> np.ndarray:
    """Of each group, by the oracle's unpacking."""
    made = oracle.dequantize(*packed, group_size=q.group_size, bits=q.bits)
    return ((made - weight) ** 2).reshape(len(weight), -1, q.group_size).sum(axis=-1)


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["normal", "heavy", "one sided", "flat"]),
    st.sampled_from([4, 8]),
    st.sampled_from([32, 64, 128]),
    st.sampled_from([mx.float16, mx.float32]),
)
def test_the_search_never_loses_to_mlx(seed: int, kind: str, bits: int, size: int, dtype: mx.Dtype) -> None:
    q, weight = Quantization(bits, size), drawn(seed, 5, 256, kind)
    plain = minmax(mx.array(weight), q, dtype)
    found = least_squares(mx.array(weight), q, dtype)
    assert [(a.dtype, a.shape) for a in found] == [(a.dtype, a.shape) for a in plain]
    ours, theirs = squared_errors(weight, found, q), squared_errors(weight, plain, q)
    # Equal where nothing better was found; sums of squares are compared in float32 there and in float64 here.
    assert (ours <= theirs * (1 + 1e-4) + 1e-12 * (weight**2).max()).all()
    if kind in ("normal", "heavy") and bits == 4:
        assert ours.sum() < 0.93 * theirs.sum()


def test_plain_is_mlx_itself() -> None:
    weight = mx.array(drawn(1, 8, 128, "normal"))
    expected = mx.quantize(weight, group_size=64, bits=4)
    found = named("plain").pack(weight, FOUR, mx.float16)
    assert mx.array_equal(found[0], expected[0])
    assert all(mx.array_equal(a, b.astype(mx.float16)) for a, b in zip(found[1:], expected[1:]))


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = mx.array(drawn(2, 10, 128, "normal"))
    whole = named("mse").pack(weight, FOUR, mx.float16)
    monkeypatch.setattr("model.quantize.packing.BLOCK", 3 * 128)
    assert all(mx.array_equal(a, b) for a, b in zip(named("mse").pack(weight, FOUR, mx.float16), whole))


def stored(name: str, default: Quantization = FOUR) -> dict[str, tuple[mx.Dtype, tuple[int, ...]]]:
    other = named(name).overrides(LARGE, ADAPTER, default)
    return layout.stored_tensors(Config(LARGE, ADAPTER, mx.float16, default, other))


@pytest.mark.parametrize("name", RECIPES)
def test_size_of_musicgen_large_within_three_percent(name: str) -> None:
    plain, ours = layout_bytes(stored("plain")), layout_bytes(stored(name))
    assert abs(ours / plain - 1) < 0.03
    assert plain == layout_bytes(layout.stored_tensors(Config(LARGE, ADAPTER, mx.float16, FOUR)))


def test_what_is_packed_how() -> None:
    mixed, fine = (named(n).overrides(LARGE, ADAPTER, FOUR) for n in ("mixed", "fine"))
    assert not named("plain").overrides(LARGE, ADAPTER, FOUR) and not named("mse").overrides(LARGE, ADAPTER, FOUR)
    assert len(mixed) == 48 * 2 + 4 + 48 and set(mixed.values()) == {Quantization(8, 64)}
    assert len(fine) == 48 * 10 + 4 + 48 and fine["layers.47.linear2"] == Quantization(4, 32)
    heads = named("heads").overrides(LARGE, ADAPTER, FOUR)
    assert heads == {f"linears.{k}": Quantization(8, 64) for k in range(4)}
    for each in (mixed, fine, heads):
        assert "emb.0" not in each and "text_conditioner.output_proj" not in each and "layers.0.norm1" not in each
    # With 8 bits everywhere, heads and merge_linear must still be named: plain leaves them as floats.
    eight = Quantization(8, 32)
    assert set(named("mixed").overrides(LARGE, ADAPTER, eight).values()) == {eight}


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_bundles_open_run_and_name_their_recipe(name: str, tmp_path: Path) -> None:
    source = {"adapter": GOLDEN / "upstream.ckpt", "base": GOLDEN / "base", "t5": GOLDEN / "t5"}
    clips = [demo_path().parent / "clip.flac"] if named(name).calibrated else []
    out = convert(**source, out=tmp_path / name, bits=4, recipe=name, clips=clips)
    raw = json.loads((out / "config.json").read_text())
    bundle = open_bundle(out)
    assert raw["quantization"]["recipe"] == describe(bundle)["quantization"]["recipe"] == name
    assert bundle.config.overrides == {
        m: q for m, q in named(name).overrides(bundle.config.lm, bundle.config.adapter, FOUR).items() if q != FOUR
    }
    exact = open_bundle(convert(**source, out=tmp_path / "exact", bits=32))
    for module in ("layers.1.self_attn.k_proj", "layers.0.linear1", "linears.2", "cp_transformer.merge_linear.1"):
        weight = np.array(exact.tensors[f"{module}.weight"])
        q = bundle.config.overrides.get(module, FOUR) if f"{module}.scales" in bundle.sources else None
        if q is None:
            assert name in ("plain", "heads", "mse", "calibrated") and not module.startswith("layers.")
            assert name != "heads" or not module.startswith("linears.")
            continue
        parts: Any = mx.load(str(out / "model.safetensors"))
        made = oracle.dequantize(
            *(parts[f"{module}.{p}"] for p in ("weight", "scales", "biases")), group_size=q.group_size, bits=q.bits
        )
        # Half a step of the widest group, and scales rounded to float16.
        step = np.ptp(weight.reshape(len(weight), -1, q.group_size), axis=-1).max() / (2**q.bits - 1)
        assert math.sqrt(((made - weight) ** 2).mean()) < 0.5 * step
    model = InstructMusicGen.from_pretrained(out, backend="reference")
    codes = mx.zeros((1, 4, 3), dtype=mx.int32)
    assert model.edit_codes(codes, "Music piece. Instruct: Only Drums.", greedy=True).shape == (1, 4, 3)


@pytest.mark.slow
@pytest.mark.parametrize("backend", backends.names())
def test_packed_heads_are_computed_with_as_stored(backend: str, tmp_path: Path) -> None:
    """Unpacked they were 16 bits in memory and at every step; the logits are those of the unpacked matrix."""
    source = {"adapter": GOLDEN / "upstream.ckpt", "base": GOLDEN / "base", "t5": GOLDEN / "t5"}
    bundle = open_bundle(convert(**source, out=tmp_path / "mixed", recipe="mixed"))
    lm = InstructMusicGen(bundle, kernels.load(backend)).lm
    (heads,) = lm.heads.parts
    assert isinstance(heads.weight, Packed) and (heads.weight.bits, heads.weight.group_size) == (8, 64)
    assert heads.weight.plain().w.dtype == mx.uint32
    parts = [bundle.tensors[f"linears.{k}.{p}"] for p in ("weight", "scales", "biases") for k in range(4)]
    w = np.concatenate([oracle.dequantize(*parts[k::4], group_size=64, bits=8) for k in range(4)])
    x = np.random.default_rng(0).standard_normal((1, 2, 64)).astype(np.float32)
    found = np.array(lm.logits(mx.array(x).astype(lm.dtype)))
    norm = (*(np.array(t.astype(mx.float32)) for t in lm.out_norm[:2]), lm.out_norm[2])
    y, error = tolerance.normalized(np.array(mx.array(x).astype(lm.dtype).astype(mx.float32)), norm, lm.dtype)
    expected, bits = y @ w.T, backends.ACTIVATION_BITS.get(backend)
    bound = tolerance.product(y, error, np.abs(w), dtype=lm.dtype, activation_bits=bits)
    off = np.abs(found.transpose(0, 2, 1, 3).reshape(expected.shape) - expected)
    assert (off <= bound + tolerance.rounding(lm.dtype, expected)).all()


def test_recipes_that_cannot_be(tmp_path: Path) -> None:
    source = {"adapter": GOLDEN / "upstream.ckpt", "base": GOLDEN / "base", "t5": GOLDEN / "t5", "out": tmp_path / "x"}
    with pytest.raises(UsageError, match="use one of plain, heads, mse, mixed, fine"):
        convert(**source, recipe="best")
    with pytest.raises(UsageError, match="--bits 16 does not"):
        convert(**source, bits=16, recipe="mse")
    assert not (tmp_path / "x").exists()
