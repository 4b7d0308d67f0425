"""A stream is `generate`, given while it is made: the same bits, whatever the chunks, the windows and the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model import Chunk, InstructMusicGen
from model.config import HOP, SAMPLE_RATE
from model.errors import UserError
from tests import backends

from .golden import TEXTS, assert_equal

BACKENDS = [name for name in ("reference", "native") if name in backends.names()]
HELD_BACK = 2402
"""Samples behind the last frame that the codec can still change: of its kernels 7, 16, 10, 8, 8, 3, 7."""


@pytest.fixture(scope="module", params=BACKENDS)
def m(request: pytest.FixtureRequest, golden_bundles: Callable[[int], Path]) -> InstructMusicGen:
    return InstructMusicGen.from_pretrained(golden_bundles(4), backend=request.param)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, shape).astype(np.float32)


def joined(chunks: Iterator[Chunk] | list[Chunk]) -> mx.array:
    return mx.concatenate([chunk.samples for chunk in chunks], axis=-1)


LAYOUTS: list[dict[str, int]] = [
    {}, {"window_frames": 20}, {"window_frames": 9, "stride_frames": 4}, {"window_frames": 40, "look_ahead_frames": 7},
    {"window_frames": 12, "stride_frames": 3, "look_ahead_frames": 5}, {"window_frames": 30, "stride_frames": 30},
]  # fmt: skip


@pytest.mark.slow
@given(
    samples=st.integers(HOP, 70 * HOP),
    rows=st.sampled_from([0, 1, 2, 3]),
    chunk=st.sampled_from([0.02, 0.3, 0.5, 0.51, 1.0, 50.0]),
    layout=st.sampled_from(LAYOUTS),
    options=st.sampled_from([{}, {"greedy": True}, {"top_p": 0.9, "temperature": 0.8}, {"guidance": 1.0}]),
    texts=st.sampled_from([TEXTS, TEXTS[:1], [TEXTS[0], "", TEXTS[1]]]),
    seed=st.integers(0, 2**40),
)
def test_a_stream_joined_is_what_generate_returns(
    m: InstructMusicGen, samples: int, rows: int, chunk: float, layout: dict[str, int], options: dict[str, Any],
    texts: list[str], seed: int,
) -> None:  # fmt: skip
    audio = noise(*([rows] if rows else []), samples, seed=seed % 1000)
    text: str | list[str] = [texts[row % len(texts)] for row in range(rows)] if rows else texts[-1]
    seeds: int | list[int] = [seed + row for row in range(rows)] if rows else seed
    whole = m.generate(text, audio, seed=seeds, **options, **layout)
    chunks = list(m.stream(text, audio, seed=seeds, chunk_seconds=chunk, **options, **layout))
    assert_equal(joined(chunks), whole)
    assert [c.last for c in chunks] == [False] * (len(chunks) - 1) + [True]
    at = 0
    for c in chunks:
        assert c.samples.dtype == mx.float32 and c.samples.shape[:-1] == audio.shape[:-1] and c.samples.shape[-1] > 0
        assert c.start == at / SAMPLE_RATE and c.total == chunks[0].total
        at += c.samples.shape[-1]
    done = [c.done for c in chunks]
    assert done == sorted(done) and done[-1] == chunks[-1].total


@pytest.mark.slow
def test_chunks_have_the_length_that_was_asked_for(m: InstructMusicGen) -> None:
    """But the first, which lacks what is not final, and the last, which has it more."""
    audio = noise(3 * SAMPLE_RATE + 100)
    for seconds in (0.5, 1.0, 1.5):
        sizes = [c.samples.shape[0] for c in m.stream("a", audio, greedy=True, chunk_seconds=seconds)]
        assert sizes[0] == seconds * SAMPLE_RATE - HELD_BACK
        assert all(size == seconds * SAMPLE_RATE for size in sizes[1:-1]) and len(sizes) > 1


def test_the_first_chunk_needs_the_steps_of_its_own_frames_and_the_delay(m: InstructMusicGen) -> None:
    """50 frames: their 50 positions, and the 3 by which the last codebook runs late."""
    for seconds, frames in ((0.5, 25), (1.0, 50)):
        first = next(m.stream("a", noise(3 * SAMPLE_RATE), chunk_seconds=seconds, window_frames=40, stride_frames=40))
        over = frames > 40  # the second window begins with its own four positions
        assert first.done == frames + 3 + 3 * over and first.total == 150 + 3 * 4


def test_the_clip_is_encoded_as_far_as_it_is_needed(m: InstructMusicGen, monkeypatch: pytest.MonkeyPatch) -> None:
    from model.network import encodec

    monkeypatch.setattr(encodec, "CHUNK_FRAMES", 50)
    seen: list[int] = []
    quantize = m.codec.quantize
    monkeypatch.setattr(m.codec, "quantize", lambda x: seen.append(x.shape[1]) or quantize(x))
    stream = m.stream("a", noise(10 * SAMPLE_RATE), greedy=True, window_frames=20, chunk_seconds=0.5)
    next(stream)
    assert sum(seen) <= 100
    stream.close()  # type: ignore[attr-defined]
    assert sum(seen) <= 100


def test_what_is_final_does_not_depend_on_what_follows(m: InstructMusicGen) -> None:
    """And one sample more would: the codec holds back what it must, and nothing else."""
    decoding = [m.decoding() for _ in range(2)]
    codes = mx.array(np.random.default_rng(1).integers(0, 50, (2, 4, 50)), dtype=mx.int32)
    other = mx.concatenate([codes[:, :, :25], (codes[:, :, 25:] + 1) % 50], axis=2)
    first, same = (d(c[:, :, :25], False) for d, c in zip(decoding, (codes, other)))
    assert_equal(first, same)
    assert first.shape == (2, 25 * HOP - HELD_BACK)
    rest = [d(c[:, :, 25:], True) for d, c in zip(decoding, (codes, other))]
    assert rest[0].shape == (2, 25 * HOP + HELD_BACK)
    assert (np.array(rest[0])[:, :8] != np.array(rest[1])[:, :8]).any()
    assert_equal(mx.concatenate([first, rest[0]], axis=1), m.decode(codes))


@pytest.mark.slow
def test_progress_is_told_of_every_step(m: InstructMusicGen) -> None:
    seen: list[tuple[int, int]] = []
    chunks = list(m.stream(TEXTS, noise(2, SAMPLE_RATE), window_frames=20, progress=lambda *s: seen.append(s)))
    assert [done for done, _ in seen] == list(range(1, chunks[-1].total + 1))
    assert {total for _, total in seen} == {chunks[-1].total}


@pytest.mark.parametrize(("change", "message"), [
    ({"chunk_seconds": 0}, "chunk_seconds=0"), ({"chunk_seconds": float("nan")}, "chunk_seconds=nan"),
    ({"audio": np.zeros(639)}, "639 samples"), ({"text": ["a", "b"]}, "2 texts for 1"), ({"seed": -1}, "seed=-1"),
    ({"guidance": float("inf")}, "guidance=inf"), ({"window_frames": 41}, "window_frames=41"),
    ({"look_ahead_frames": 40}, "look_ahead_frames=40"), ({"look_ahead_frames": -1}, "look_ahead_frames=-1"),
    ({"window_frames": 20, "look_ahead_frames": 5, "stride_frames": 16}, "stride_frames=16"),
    ({"max_steps": 0}, "max_steps=0"),
])  # fmt: skip
def test_unusable_input_is_refused_at_the_call(m: InstructMusicGen, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        m.stream(**{"text": "a", "audio": noise(SAMPLE_RATE)} | change)


def test_samples_that_are_no_numbers_end_the_stream(m: InstructMusicGen, monkeypatch: pytest.MonkeyPatch) -> None:
    last = m.codec.decoder[-1]
    monkeypatch.setattr(m.codec, "decoder", [*m.codec.decoder[:-1], type(last)(
        last.ops, last.weight, last.bias * float("nan"), last.stride, last.elu, last.pad_mode  # type: ignore[attr-defined]
    )])  # fmt: skip
    with pytest.raises(UserError, match="NaN or infinite"):
        next(m.stream("a", noise(SAMPLE_RATE)))


@pytest.mark.slow
def test_codes_that_are_known_are_not_generated_again(m: InstructMusicGen) -> None:
    """Edited codes up to a window's end go in, and the rest comes out as if nothing had happened."""
    from model.decoding.request import layout
    from model.decoding.sampling import Sampling

    codes = mx.array(np.random.default_rng(2).integers(0, 50, (3, 4, 70)), dtype=mx.int32)
    plan = layout(m.adapter.config, 70, 20, None, 5)
    job = ([TEXTS[0], TEXTS[1], TEXTS[0]], plan, Sampling(), 3.0, [1, 2, 3])
    whole = m.edit_codes(codes, job[0], plan=plan, seed=job[4], pad_texts=False)
    for window in plan:
        run = m.edit_steps(codes, *job, pad_texts=False, edited=whole[:, :, : window.stop])
        into: list[mx.array] = []
        steps = list(returned(run, into))
        assert_equal(into[0], whole)
        left = sum(w.steps for w in plan if w.stop > window.stop)
        assert len(steps) == 2 * left and (not steps or steps[-1].done == steps[-1].total)
    with pytest.raises(ValueError, match="7 frames are already edited"):
        next(m.edit_steps(codes, *job, pad_texts=False, edited=whole[:, :, :7]))


def returned(run: Any, into: list[mx.array]) -> Iterator[Any]:
    into.append((yield from run))
