"""Scores against an oracle and their laws; what is ranked, and how much memory allows."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model import InstructMusicGen, memory
from model.candidates.make import candidates, ranked
from model.candidates.scores import WHAT, fit, scores
from model.config import AdapterConfig, Config, LMConfig
from model.decoding.decode import Decoder
from model.decoding.delay_pattern import apply_delay, with_special
from model.decoding.likelihood import Likelihood, LogProbabilities
from model.decoding.sampling import Sampling
from model.decoding.steps import edited as edited_codes
from model.errors import UserError
from model.network.text import text_kv
from model.results.edit_record import EditRecord
from model.results.edited import Edited

TEXT = "Music piece. Instruct: Only Drums."


@pytest.fixture(scope="module")
def model(golden_bundle: Path) -> InstructMusicGen:
    return InstructMusicGen.from_pretrained(golden_bundle, backend="reference")


@pytest.fixture
def clip() -> np.ndarray:
    return np.random.default_rng(3).normal(0, 0.1, 640 * 9 + 100).astype(np.float32)


def test_log_probabilities_are_those_of_the_tokens_that_came_out(model: InstructMusicGen, clip: np.ndarray) -> None:
    """Every position again, token by token, its log-softmax in float64 numpy; given tokens do not count."""
    codes, likelihood = model.encode(clip), Likelihood()
    plan = model.plan(codes.shape[2])
    run = model.edit_steps(codes, [TEXT], plan, Sampling(), 3.0, 5, likelihood=likelihood)
    edited = edited_codes(run)
    special, frames = model.lm.config.special, codes.shape[2]
    assert len(plan) == 1
    text = text_kv(model.lm, {TEXT: model.condition([TEXT])}, [TEXT])
    decoder = Decoder(model.lm, model.adapter, text, 3.0, Sampling())
    state = decoder.start(with_special(codes, special), frames)
    sequence, _ = apply_delay(edited, frames, special)
    sums, counts = np.zeros((3, 4)), np.zeros(4)
    for j in range(sequence.shape[2] - 1):
        raw = decoder.raw(state, sequence[:, :, j : j + 1])
        both = [*np.array(raw, np.float64), np.array(decoder.guide(raw), np.float64)[0]]
        for k in range(4):
            if 0 <= j - k < frames:  # position j + 1 of codebook k is frame j - k
                token = int(sequence[0, k, j + 1].item())
                for kind, logits in enumerate(both):
                    row = logits[k] - logits[k].max()
                    sums[kind, k] += row[token] - np.log(np.exp(row).sum())
                counts[k] += 1
    assert (counts == frames).all()
    found = likelihood[0]
    for got, want in zip((found.conditional, found.unconditional, found.guided), sums / counts):
        assert np.allclose(got, want, atol=1e-4)
    assert np.allclose(found.gap, (sums[0] - sums[1]) / counts, atol=2e-4)


def test_without_guidance_there_is_no_gap(model: InstructMusicGen, clip: np.ndarray) -> None:
    found = candidates(model, clip, TEXT, 2, guidance=1.0, rank_by="gap")
    assert found.ranked_by is None
    assert all("gap" not in each.scores and "probability" in each.scores for each in found.edits)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["reference", "native"])
def test_each_candidate_is_what_its_seed_gives_alone(golden_bundle: Path, clip: np.ndarray, backend: str) -> None:
    """Ten of them: more than run together."""
    m = InstructMusicGen.from_pretrained(golden_bundle, backend=backend)
    found = candidates(m, clip, TEXT, 10, seed=7)
    assert sorted(each.made.seed for each in found.edits) == list(range(7, 17))
    for each in found.edits:
        alone = m.generate(TEXT, clip, seed=each.made.seed)
        assert np.array_equal(each.samples, np.array(alone)), each.made.seed
    fits = [each.scores["fit"] for each in found.edits]
    assert found.ranked_by == "fit" and fits == sorted(fits, reverse=True) and len(set(fits)) > 1


def test_seeds_go_round_at_the_largest_one(model: InstructMusicGen, clip: np.ndarray) -> None:
    found = candidates(model, clip[:1280], TEXT, 2, seed=2**64 - 1)
    assert {each.made.seed for each in found.edits} == {2**64 - 1, 0}


def test_equal_clips_are_encoded_by_the_adapter_once(model: InstructMusicGen, clip: np.ndarray) -> None:
    codes = with_special(mx.concatenate([model.encode(clip), model.encode(clip[::-1].copy())]), model.lm.config.special)
    rows = [0, 1, 0, 0, 1]
    many, each = model.adapter(mx.stack([codes[row] for row in rows])), model.adapter(codes)
    for together, apart in zip(many, each):
        for name in ("q", "k", "v"):
            assert np.array_equal(np.array(getattr(together, name)), np.array(getattr(apart, name))[rows])


def test_unusable_counts_and_scores_are_refused(model: InstructMusicGen, clip: np.ndarray) -> None:
    with pytest.raises(ValueError, match="count=0"):
        candidates(model, clip, TEXT, 0)
    with pytest.raises(ValueError, match="rank_by='beauty'"):
        candidates(model, clip, TEXT, 2, rank_by="beauty")
    with pytest.raises(ValueError, match="one clip"):
        candidates(model, np.stack([clip, clip]), TEXT, 2)
    with pytest.raises(ValueError, match="3 seeds for 2"):
        candidates(model, clip, TEXT, 2, seed=[1, 2, 3])


def edited(**told: float) -> Edited:
    return Edited(np.zeros(1, np.float32), 32_000, EditRecord(TEXT, 0, "m", "w", "b", "l"), None, told)


def test_ranks_put_the_highest_first_and_keep_ties_in_order() -> None:
    edits = [edited(gap=1.0), edited(gap=3.0), edited(gap=1.0, fit=2.0)]
    found = ranked(edits, "gap")
    assert found.edits == (edits[1], edits[0], edits[2]) and found.ranked_by == "gap"
    assert ranked(edits, "fit").ranked_by is None and ranked(edits, "fit").edits == tuple(edits)
    assert ranked(edits, None).edits == tuple(edits)


def test_fit_counts_what_an_edit_has_too_much_or_too_little() -> None:
    rng = np.random.default_rng(0)
    clip, other = (rng.normal(0, 0.1, 32_000).astype(np.float32) for _ in range(2))
    for verb in ("Only", "No", "Add"):
        assert fit(clip, clip, verb) == 0
    assert fit(clip * 0.5, clip, "Only") == 0 and fit(clip * 2, clip, "Only") == pytest.approx(-6.02, abs=0.05)
    assert fit(clip * 2, clip, "Add") == 0 and fit(clip * 0.5, clip, "Add") == pytest.approx(-6.02, abs=0.05)
    assert fit(other, clip, "No") < -0.5
    with pytest.raises(ValueError, match="equally long"):
        fit(clip[:-1], clip, "Only")


def test_scores_that_cannot_be_told_are_left_out() -> None:
    nothing = np.full(4, np.nan)
    found = scores(LogProbabilities(np.zeros(4), nothing, np.zeros(4)), np.zeros(100), np.zeros(100), "Only")
    assert set(found) == {"probability", "guided"} and set(found) < set(WHAT)


SMALL = Config(LMConfig(64, 4, 128, 3, 100), AdapterConfig(2, 500))


@given(
    frames=st.integers(1, 100_000), window=st.integers(1, 500), guided=st.booleans(), together=st.integers(1, 16),
    count=st.integers(1, 300), free=st.integers(0, 10**11),
)  # fmt: skip
def test_the_count_that_fits_is_the_largest(
    frames: int, window: int, guided: bool, together: int, count: int, free: int
) -> None:  # fmt: skip
    need = memory.Need(SMALL, frames, window, guided, together, 2)
    most = need.most(count, free)
    assert 0 <= most <= count and (most == 0 or need.of(most) <= free * memory.MARGIN)
    assert most == count or need.of(most + 1) > free * memory.MARGIN
    if most == count:
        memory.check(need, count, free)
    else:
        with pytest.raises(UserError, match=f"{most} fit" if most else "not even one fits"):
            memory.check(need, count, free)


def test_memory_of_a_row_holds_its_caches_and_prefix(model: InstructMusicGen, clip: np.ndarray) -> None:
    """The estimate against the arrays that a decoder really allocates."""
    codes = with_special(mx.repeat(model.encode(clip), 3, axis=0), model.lm.config.special)
    text = text_kv(model.lm, {TEXT: model.condition([TEXT])}, [TEXT] * 3)
    state = Decoder(model.lm, model.adapter, text, 3.0, Sampling()).start(codes, 10)
    arrays = [layer.cache.kv for layer in state.layers]
    arrays += [part for p in state.prefix if p is not None for part in (p.q, p.k, p.v)]
    taken = sum(array.nbytes for array in arrays)
    lm, size = model.lm.config, model.lm.dtype.size
    row = memory.Need(model.bundle.config, 10, 10, True, 8, size).a_row()
    one_more_slot = 2 * lm.layers * lm.dim * 2 * size
    assert taken / 3 == row - 2 * lm.layers * lm.dim * memory.TEXT_TOKENS * size - one_more_slot
