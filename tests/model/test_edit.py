"""The Python API: laws of editing, batches, seeds, and what it refuses."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from model import InstructMusicGen

from .golden import CONFIG, TEXTS, assert_equal, tensors


@pytest.fixture(scope="module")
def m(golden_bundle: Any) -> InstructMusicGen:
    return InstructMusicGen.from_pretrained(golden_bundle, backend="reference")


@pytest.fixture(scope="module")
def codes() -> mx.array:
    return tensors("greedy")["short_condition_codes"][:, :, :-1]


def test_same_seed_same_codes_and_another_seed_others(m: InstructMusicGen, codes: mx.array) -> None:
    runs = [m.edit_codes(codes, TEXTS, seed=s) for s in (7, 7, 8)]
    assert_equal(runs[0], runs[1])
    assert not mx.array_equal(runs[0], runs[2])
    assert int(runs[0].max()) < CONFIG["card"]
    assert runs[0].shape == codes.shape
    assert runs[0].dtype == mx.int32


def test_temperature_zero_is_greedy(m: InstructMusicGen, codes: mx.array) -> None:
    assert_equal(m.edit_codes(codes, TEXTS, temperature=0), m.edit_codes(codes, TEXTS, greedy=True))


def test_rows_of_a_batch_do_not_see_each_other(m: InstructMusicGen, codes: mx.array) -> None:
    """With texts of equal length a row's result does not depend on the others (unequal ones share their padding)."""
    both = m.edit_codes(codes, TEXTS[1], greedy=True)
    for i in range(codes.shape[0]):
        assert_equal(m.edit_codes(codes[i : i + 1], TEXTS[1], greedy=True), both[i : i + 1])


def test_guidance_one_is_the_conditional_model(m: InstructMusicGen, codes: mx.array) -> None:
    """Without unconditional rows; a guidance next to 1 runs them, and must choose alike."""
    alone = m.edit_codes(codes, TEXTS, greedy=True, guidance=1.0)
    assert_equal(alone, m.edit_codes(codes, TEXTS, greedy=True, guidance=1.0 + 1e-7))
    assert not mx.array_equal(alone, m.edit_codes(codes, TEXTS, greedy=True, guidance=3.0))


def test_text_clip_and_seed_all_matter(m: InstructMusicGen, codes: mx.array) -> None:
    base = m.edit_codes(codes[:1], TEXTS[0], greedy=True)
    assert not mx.array_equal(base, m.edit_codes(codes[:1], TEXTS[1], greedy=True))
    assert not mx.array_equal(base, m.edit_codes(codes[1:], TEXTS[0], greedy=True))


def test_progress_counts_every_position(m: InstructMusicGen, codes: mx.array) -> None:
    seen: list[tuple[int, int]] = []
    m.edit_codes(codes, TEXTS, window_frames=12, stride_frames=5, progress=lambda *step: seen.append(step))
    total = seen[0][1]
    assert [done for done, _ in seen] == list(range(1, total + 1))
    assert {t for _, t in seen} == {total}


def test_closing_the_generator_cancels(m: InstructMusicGen, codes: mx.array) -> None:
    from model.decoding.sampling import Sampling
    from model.decoding.windows import Window

    run = m.edit_steps(codes, TEXTS, [Window(0, codes.shape[2], 0)], Sampling(greedy=True), 3.0, 0)
    first = next(run)
    assert (first.done, first.tokens.shape) == (1, (codes.shape[0], 4, 1))
    run.close()
    with pytest.raises(StopIteration):
        next(run)


def test_generate_keeps_the_shape(m: InstructMusicGen) -> None:
    audio = tensors("chain")["short.audio"][0, 0]
    one = m.generate(TEXTS[0], audio, seed=3)
    assert one.shape == audio.shape
    assert one.dtype == mx.float32
    batch = m.generate(TEXTS[0], mx.stack([audio, audio[::-1]]), seed=3)
    assert batch.shape == (2, *audio.shape)
    short = m.generate(TEXTS[0], audio, 3, greedy=True)
    assert short.shape == (3 * 640,)
    assert_equal(short, m.generate(TEXTS[0], audio[: 3 * 640], greedy=True))


def test_more_steps_than_the_clip_has_are_the_clip(m: InstructMusicGen) -> None:
    audio = tensors("chain")["short.audio"][0, 0]
    whole = m.generate(TEXTS[0], audio, greedy=True)
    for steps in (10**4, 2**31, 10**30):
        assert_equal(m.generate(TEXTS[0], audio, steps, greedy=True), whole)


def test_the_arguments_may_be_given_by_place(golden_bundle: Any) -> None:
    """text, audio, max_steps, seed, temperature, top_k, top_p, guidance, greedy; path, backend."""
    audio, m = tensors("chain")["short.audio"][0, 0], InstructMusicGen.from_pretrained(golden_bundle, "reference")
    placed = m.generate(TEXTS[0], audio, 5, 3, 0.9, 20, 0.0, 2.0, False)
    assert_equal(placed, m.generate(TEXTS[0], audio, 5, seed=3, temperature=0.9, top_k=20, top_p=0.0, guidance=2.0))


def test_numpy_scalars_and_integer_codes_are_fine(m: InstructMusicGen, codes: mx.array) -> None:
    as_int64 = mx.array(np.asarray(codes).astype(np.int64))
    assert_equal(m.edit_codes(as_int64, TEXTS, greedy=True), m.edit_codes(codes, TEXTS, greedy=True))


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (mx.zeros((0,)), "less than one frame"),
        (mx.zeros((639,)), "639 samples"),
        (mx.zeros((1, 1, 1000)), "shape"),
        (mx.full((1000,), float("nan")), "NaN"),
        (mx.full((1000,), float("inf")), "infinite"),
    ],
)
def test_bad_audio(m: InstructMusicGen, audio: Any, message: Any) -> None:
    with pytest.raises(ValueError, match=message):
        m.generate("a", audio)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codes": mx.zeros((1, 3, 5), dtype=mx.int32)}, "shape"),
        ({"codes": mx.zeros((1, 4, 0), dtype=mx.int32)}, "shape"),
        ({"codes": mx.zeros((1, 4, 5))}, "integers"),
        ({"codes": mx.full((1, 4, 5), CONFIG["card"], dtype=mx.int32)}, f"between 0 and {CONFIG['card'] - 1}"),
        ({"codes": mx.full((1, 4, 5), -1, dtype=mx.int32)}, "between -1"),
        ({"text": ["a", "b"]}, "2 texts for 1"),
        ({"guidance": float("nan")}, "guidance=nan"),
        ({"window_frames": CONFIG["max_n_frames"] + 1}, "window_frames="),
        ({"window_frames": 8, "stride_frames": 9}, "stride_frames=9"),
        ({"top_p": 2.0}, "top_p"),
    ],
)
def test_bad_arguments(m: InstructMusicGen, change: Any, message: Any) -> None:
    call = {"codes": mx.zeros((1, 4, 5), dtype=mx.int32), "text": "a"} | change
    with pytest.raises(ValueError, match=message):
        m.edit_codes(**call)


def test_bad_max_steps(m: InstructMusicGen) -> None:
    with pytest.raises(ValueError, match="max_steps=0"):
        m.generate("a", mx.zeros((1000,)), 0)


def test_unknown_backend_is_named(golden_bundle: Any) -> None:
    with pytest.raises(ValueError, match="'cuda'"):
        InstructMusicGen.from_pretrained(golden_bundle, backend="cuda")
