"""Sampling: its settings, its determinism, and its distribution against numpy."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.decoding.sampling import Sampling, nucleus, row_keys, top_k


def distribution(seed: int, size: int, *, ties: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    logits = rng.integers(0, 5, size).astype(np.float32) if ties else rng.normal(size=size).astype(np.float32) * 2
    p = np.exp(logits - logits.max())
    return p / p.sum()


@given(seed=st.integers(0, 999), size=st.integers(2, 40), ties=st.booleans(), data=st.data())
def test_top_k_keeps_the_kth_and_its_ties(seed: Any, size: Any, ties: Any, data: Any) -> None:
    k = data.draw(st.integers(1, size - 1))
    p = distribution(seed, size, ties=ties)
    kept = np.asarray(top_k(mx.array(p), k))
    want = np.where(p >= np.sort(p)[-k], p, 0)
    assert (kept > 0).sum() >= k
    np.testing.assert_allclose(kept, want / want.sum(), rtol=1e-5)


@given(seed=st.integers(0, 999), size=st.integers(2, 40), p_max=st.floats(0.05, 0.999))
def test_nucleus_is_the_smallest_set_with_the_mass(seed: Any, size: Any, p_max: Any) -> None:
    p = distribution(seed, size).astype(np.float64)
    order, kept = (np.asarray(a) for a in nucleus(mx.array(p.astype(np.float32)), p_max))
    falling = p[order]
    assert (np.diff(falling) <= 1e-7).all()
    n = int((kept > 0).sum())
    assert n >= 1
    assert (kept[n:] == 0).all()
    mass = np.cumsum(falling)
    assert mass[n - 1] >= p_max - 1e-5  # enough
    assert n == 1 or mass[n - 2] <= p_max + 1e-5  # and no more than needed
    np.testing.assert_allclose(kept[:n], falling[:n] / falling[:n].sum(), rtol=1e-4)


@pytest.mark.parametrize(
    "sampling", [Sampling(), Sampling(top_k=5), Sampling(top_p=0.6), Sampling(temperature=0.7, top_k=0)]
)
def test_frequencies_follow_the_distribution(sampling: Any) -> None:
    size, draws = 12, 20_000
    logits = mx.log(mx.array(distribution(3, size), dtype=mx.float32))
    tokens = np.asarray(sampling(mx.broadcast_to(logits, (draws, size)), mx.random.key(5)))
    p = np.asarray(mx.softmax(logits / sampling.temperature)).astype(np.float64)
    if sampling.top_p > 0:
        order = np.argsort(-p)
        before = np.cumsum(p[order]) - p[order]
        p[order[before > sampling.top_p]] = 0
    elif sampling.top_k:
        p[p < np.sort(p)[-min(sampling.top_k, size)]] = 0
    p /= p.sum()
    counts = np.bincount(tokens, minlength=size)
    assert counts[p == 0].sum() == 0
    # Six standard deviations of a binomial count: the seed is fixed, so this holds once and for all.
    assert (np.abs(counts - draws * p) <= 6 * np.sqrt(draws * p * (1 - p)) + 1e-6).all()


def test_same_key_same_tokens_and_another_key_other_tokens() -> None:
    logits = mx.random.normal((2, 4, 50), key=mx.random.key(0))
    draw = [Sampling()(logits, mx.random.key(k)) for k in (1, 1, 2)]
    assert mx.array_equal(draw[0], draw[1])
    assert not mx.array_equal(draw[0], draw[2])


@pytest.mark.parametrize("sampling", [Sampling(greedy=True), Sampling(temperature=0), Sampling(top_k=1)])
def test_greedy(sampling: Any) -> None:
    logits = mx.random.normal((2, 4, 50), key=mx.random.key(0))
    assert mx.array_equal(sampling(logits, mx.random.key(1)), mx.argmax(logits, axis=-1))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"temperature": -0.1}, "temperature=-0.1"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"top_k": -1}, "top_k=-1"),
        ({"top_p": 1.5}, r"top_p=1\.5"),
    ],
)
def test_bad_settings(setting: Any, message: Any) -> None:
    with pytest.raises(ValueError, match=message):
        Sampling(**setting)


@pytest.mark.parametrize("temperature", [1e-3, 1e-20, 1e-38, 1e-300])
@pytest.mark.parametrize("kind", [{"top_k": 0}, {"top_k": 5}, {"top_p": 0.9}])
def test_small_temperatures_approach_greedy(temperature: Any, kind: Any) -> None:
    """Scores divided by them would be infinite, and every token as good as NaN."""
    logits = mx.array(np.random.default_rng(0).permutation(200).reshape(4, 50).astype(np.float32))
    got = Sampling(temperature=temperature, **kind)(logits, mx.random.key(0))
    assert mx.array_equal(got, Sampling(greedy=True)(logits, mx.random.key(0)))


def test_a_key_follows_from_seed_window_and_position_alone() -> None:
    """Not from how many rows, positions or windows there are; and no two are alike."""
    seeds = [0, 1, 5, 2**32, 2**64 - 1]
    keys = np.stack([np.asarray(row_keys(seeds, window, 7)) for window in range(3)])
    assert keys.shape == (3, 7, len(seeds), 2)
    assert len(np.unique(keys.reshape(-1, 2), axis=0)) == keys[..., 0].size
    for row, seed in enumerate(seeds):
        np.testing.assert_array_equal(np.asarray(row_keys([seed], 2, 3))[:, 0], keys[2, :3, row])


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(top_k=5), Sampling(top_p=0.6), Sampling(greedy=True)])
def test_rows_with_keys_of_their_own_are_drawn_alone(sampling: Any) -> None:
    logits, keys = mx.random.normal((5, 4, 50), key=mx.random.key(0)), row_keys([3, 4, 3, 5, 6], 0, 1)[0]
    together = sampling(logits, keys)
    for row in range(5):
        assert mx.array_equal(sampling(logits[row : row + 1], keys[row : row + 1]), together[row : row + 1])
    same = sampling(mx.broadcast_to(logits[:1], (2, 4, 50)), mx.stack([keys[0], keys[2]]))
    assert mx.array_equal(same[0], same[1])
