"""A batch is its rows: each comes out as it would alone, to the bit, whatever stands beside it.

On `native` and `reference`, packed and not, sampled and greedy, in one window and in several, with texts of equal and
of unequal numbers of tokens, and with more rows than run together.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model import InstructMusicGen
from model.config import AdapterConfig, CodecConfig, Config, LMConfig, Quantization
from model.network.rows import row_by_row, together
from model.pipeline import ROWS_TOGETHER
from model.synthetic import write_bundle
from model.synthetic.t5 import T5Dims
from tests import backends

from .golden import CONFIG, TEXTS, assert_equal

pytestmark = pytest.mark.slow

EQUAL = [TEXTS[0], "Music piece. Instruct: Only Basss."]
BACKENDS = [name for name in ("reference", "native") if name in backends.names()]


@pytest.fixture(scope="module")
def models(golden_bundles: Callable[[int], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """(backend, bits) -> golden A, or for bits 0 a model so wide that native takes 16-bit activations."""

    @cache
    def load(backend: str, bits: int) -> InstructMusicGen:
        if bits:
            return InstructMusicGen.from_pretrained(golden_bundles(bits), backend=backend)
        folder = tmp_path_factory.mktemp("wide") / "bundle"
        lm = LMConfig(dim=1024, heads=16, ffn=1024, layers=1, card=64, text_dim=32)
        write_bundle(
            folder, config=Config(lm, AdapterConfig(1, 20), mx.float16, Quantization(4, 64)),
            codec=CodecConfig(dimension=16, n_filters=4, bins=64),
            t5=T5Dims(d_model=32, d_kv=8, heads=4, d_ff=64, layers=1, vocab=512),
        )  # fmt: skip
        return InstructMusicGen.from_pretrained(folder, backend=backend)

    return load


def codes(rows: int, frames: int, seed: int) -> mx.array:
    return mx.array(np.random.default_rng(seed).integers(0, CONFIG["card"], (rows, 4, frames)), dtype=mx.int32)


@pytest.mark.parametrize("backend", BACKENDS)
@given(
    bits=st.sampled_from([4, 8, 16, 32, 0]),
    rows=st.integers(2, 4),
    seed=st.integers(0, 2**40),
    guidance=st.sampled_from([1.0, 3.0]),
    sampling=st.sampled_from([{}, {"top_p": 0.9}, {"top_k": 5, "temperature": 0.7}, {"greedy": True}]),
    windows=st.sampled_from([(None, None), (9, 4), (7, 1), (6, 6)]),
    text=st.sampled_from([TEXTS, EQUAL, EQUAL[:1], [TEXTS[0], "", TEXTS[1]]]),
)
def test_a_row_of_a_batch_is_what_it_is_alone(
    models: Callable[..., Any], backend: str, bits: int, rows: int, seed: int, guidance: float,
    sampling: dict[str, Any], windows: tuple[int | None, int | None], text: list[str],
) -> None:  # fmt: skip
    m, clip = models(backend, bits), codes(rows, 11, seed)
    texts, seeds = [text[i % len(text)] for i in range(rows)], [seed + 3 * i for i in range(rows)]
    options = dict(zip(("window_frames", "stride_frames"), windows)) | sampling | {"guidance": guidance}
    batch = m.edit_codes(clip, texts, seed=seeds, pad_texts=False, **options)
    for i in range(rows):
        alone = m.edit_codes(clip[i : i + 1], texts[i], seed=seeds[i], **options)
        assert_equal(batch[i : i + 1], alone, f"row {i}")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bits", [4, 8, 0])
def test_more_rows_than_run_together(models: Callable[..., Any], backend: Any, bits: Any) -> None:
    """And in another order: a row's place matters as little as its neighbors."""
    rows = ROWS_TOGETHER // 2 + 2
    m, clip, seeds = models(backend, bits), codes(rows, 6, 1), list(range(rows))
    batch = m.edit_codes(clip, TEXTS[0], seed=seeds)
    turned = m.edit_codes(clip[::-1], TEXTS[0], seed=seeds[::-1])
    assert_equal(turned[::-1], batch)
    for i in (0, ROWS_TOGETHER // 2 - 1, ROWS_TOGETHER // 2, rows - 1):
        assert_equal(m.edit_codes(clip[i : i + 1], TEXTS[0], seed=i), batch[i : i + 1], f"row {i}")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bits", [4, 32])
@pytest.mark.parametrize("seconds", [0.3, 0.9])
def test_generate_from_audio_to_audio(models: Callable[..., Any], backend: Any, bits: Any, seconds: Any) -> None:
    """Codec included; texts of unequal numbers of tokens; two windows where the clip is longer than one."""
    m = models(backend, bits)
    audio = mx.array(np.random.default_rng(0).normal(0, 0.1, (3, int(seconds * 32_000))).astype(np.float32))
    texts, seeds = [TEXTS[1], TEXTS[0], TEXTS[1]], [5, 2**63, 5]
    batch = m.generate(texts, audio, seed=seeds)
    for i in range(3):
        assert_equal(batch[i], m.generate(texts[i], audio[i], seed=seeds[i]), f"row {i}")


def test_one_seed_is_every_rows_seed(models: Callable[..., Any]) -> None:
    m, clip = models("reference", 32), codes(2, 8, 0)
    assert_equal(m.edit_codes(clip, EQUAL, seed=7), m.edit_codes(clip, EQUAL, seed=[7, 7]))
    twins = m.edit_codes(mx.concatenate([clip[:1]] * 2), TEXTS[0], seed=7)
    assert_equal(twins[0], twins[1])
    apart = m.edit_codes(mx.concatenate([clip[:1]] * 2), TEXTS[0], seed=[7, 8])
    assert not mx.array_equal(apart[0], apart[1])


def test_every_step_names_its_rows(models: Callable[..., Any]) -> None:
    from model.decoding.sampling import Sampling
    from model.decoding.windows import Window

    m, texts = models("reference", 32), [TEXTS[0], TEXTS[1], TEXTS[0]]
    arguments = codes(3, 5, 0), texts, [Window(0, 5, 0)], Sampling(), 3.0, [1, 2, 3]
    seen = [(step.rows, step.tokens.shape[0]) for step in m.edit_steps(*arguments, pad_texts=False)]
    assert set(seen) == {((0, 2), 2), ((1,), 1)}
    steps = list(m.edit_steps(*arguments, pad_texts=True))
    assert {step.rows for step in steps} == {(0, 1, 2)}
    assert [step.done for step in steps] == list(range(1, steps[0].total + 1))


@pytest.mark.parametrize(
    ("seed", "message"),
    [([1], "1 seeds for 2 clips"), ([1, -2], "seed=-2"), (1.5, r"seed=1\.5"), (2**64, f"seed={2**64}")],
)
def test_bad_seeds(models: Callable[..., Any], seed: Any, message: Any) -> None:
    with pytest.raises(ValueError, match=message):
        models("reference", 32).edit_codes(codes(2, 5, 0), "a", seed=seed)


@given(lengths=st.lists(st.integers(1, 4), min_size=1, max_size=40), most=st.integers(1, 9))
def test_batches_have_each_row_once_and_one_length(lengths: Any, most: Any) -> None:
    parts = together(lengths, most)
    assert sorted(row for part in parts for row in part) == list(range(len(lengths)))
    for part in parts:
        assert 1 <= len(part) <= most
        assert len({lengths[row] for row in part}) == 1
        assert list(part) == sorted(part)


def test_row_by_row_joins_arrays_and_tuples() -> None:
    x, y = mx.arange(6).reshape(3, 2), mx.arange(3)[:, None]
    assert_equal(row_by_row(lambda a, b: a + b, x, y), x + y)
    first, second = row_by_row(lambda a, b: (a - b, a * b), x, y)
    assert_equal(first, x - y)
    assert_equal(second, x * y)
