"""Each measure against a value that comes from elsewhere: constructed signals, scipy, plain sums."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax as scipy_log_softmax
from scipy.special import rel_entr, softmax

from model.evaluation.measures.distribution import (
    kl,
    log_softmax,
    negative_log_likelihood,
    relative_error,
    top1_agreement,
    topk_agreement,
)
from model.evaluation.measures.log_mel import log_mel_distance, mel_power
from model.evaluation.measures.si_sdr import si_sdr

RATE = 32_000
seeds = st.integers(0, 2**32 - 1)


def orthogonal_pair(seed: int, n: int = 4096) -> tuple[np.ndarray, np.ndarray]:
    """Two signals of zero mean, unit norm and zero inner product."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(np.stack([np.ones(n), rng.standard_normal(n), rng.standard_normal(n)], axis=1))
    return basis[:, 1], basis[:, 2]


@given(seeds, st.floats(-40, 60), st.floats(0.01, 100), st.floats(-3, 3))
def test_si_sdr_is_the_ratio_it_was_built_with_at_any_volume_and_offset(
    seed: int, decibels: float, volume: float, offset: float
) -> None:
    truth, noise = orthogonal_pair(seed)
    estimate = volume * (truth + 10 ** (-decibels / 20) * noise) + offset
    # The noise stands at 10^(-dB/20) of the signal, rounding at 2^-52 of the largest term.
    assert si_sdr(estimate, truth) == pytest.approx(decibels, abs=1e-6)


def test_si_sdr_at_its_ends() -> None:
    truth, noise = orthogonal_pair(1)
    grid = np.array([1.0, -1.0, 2.0, -2.0])
    assert si_sdr(4 * grid, grid) == math.inf
    assert si_sdr(noise, truth) < -250
    assert math.isnan(si_sdr(noise, np.zeros_like(noise)))
    assert math.isnan(si_sdr(np.zeros_like(noise), noise))
    with pytest.raises(ValueError, match="equally long"):
        si_sdr(np.ones(3), np.ones(4))


@pytest.mark.slow
@given(seeds, st.floats(-20, 20))
def test_log_mel_distance_of_a_volume_change_is_its_decibels(seed: int, decibels: float) -> None:
    noise = np.random.default_rng(seed).standard_normal(8000)
    assert log_mel_distance(noise * 10 ** (decibels / 20), noise, RATE) == pytest.approx(abs(decibels), abs=1e-6)


def test_log_mel_distance_of_equal_signals_is_exactly_zero_and_grows_with_noise() -> None:
    rng = np.random.default_rng(0)
    tone = np.sin(np.arange(RATE) * 2 * np.pi * 440 / RATE)
    noise = rng.standard_normal(RATE)
    assert log_mel_distance(tone, tone, RATE) == 0
    distances = [log_mel_distance(tone + level * noise, tone, RATE) for level in (1e-4, 1e-3, 1e-2, 1e-1)]
    assert distances == sorted(distances) and distances[0] > 0
    assert math.isnan(log_mel_distance(tone, np.zeros(RATE), RATE))


def test_mel_power_against_a_transform_written_out() -> None:
    """One frame in the middle: window, discrete Fourier sum and Slaney's triangles from their formulas."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal(6400)
    start = 5 * 640 - 1024
    frame = x[start : start + 2048] * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2048) / 2048))
    k = np.arange(1025)
    power = np.abs(np.exp(-2j * np.pi * np.outer(k, np.arange(2048)) / 2048) @ frame) ** 2

    def mel(hz: float) -> float:
        return hz / (200 / 3) if hz < 1000 else 15 + math.log(hz / 1000) / (math.log(6.4) / 27)

    def hertz(m: float) -> float:
        return m * 200 / 3 if m < 15 else 1000 * math.exp((m - 15) * math.log(6.4) / 27)

    edges = [hertz(m) for m in np.linspace(mel(0), mel(16000), 82)]
    expected = []
    for low, middle, high in zip(edges, edges[1:], edges[2:]):
        hz = k * RATE / 2048
        triangle = np.maximum(0, np.minimum((hz - low) / (middle - low), (high - hz) / (high - middle)))
        expected.append((triangle * 2 / (high - low)) @ power)
    np.testing.assert_allclose(mel_power(x, RATE)[:, 5], expected, rtol=1e-5)


logits_pairs = st.tuples(seeds, st.integers(2, 300), st.floats(0.01, 30), st.floats(0, 5))


def drawn(pair: tuple[int, int, float, float]) -> tuple[np.ndarray, np.ndarray]:
    seed, tokens, spread, change = pair
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((3, 4, tokens)).astype(np.float32) * spread
    return a, (a + change * rng.standard_normal(a.shape)).astype(np.float32)


@given(logits_pairs)
def test_kl_and_likelihood_against_scipy(pair: tuple[int, int, float, float]) -> None:
    a, b = drawn(pair)
    p, q = softmax(a.astype(np.float64), axis=-1), softmax(b.astype(np.float64), axis=-1)
    np.testing.assert_allclose(kl(a, b), rel_entr(p, q).sum(axis=-1), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(log_softmax(a), scipy_log_softmax(a.astype(np.float64), axis=-1), atol=1e-12)
    tokens = a.argmin(axis=-1)
    expected = -np.log(np.take_along_axis(q, tokens[..., None], axis=-1)[..., 0])
    np.testing.assert_allclose(negative_log_likelihood(b, tokens), expected, rtol=1e-9, atol=1e-12)


@given(logits_pairs)
def test_nothing_differs_from_itself(pair: tuple[int, int, float, float]) -> None:
    a, _ = drawn(pair)
    assert not kl(a, a.copy()).any()
    assert top1_agreement(a, a.copy()).all() and (topk_agreement(a, a.copy(), 2) == 1).all()
    assert relative_error(a, a.copy()) == 0


@given(logits_pairs, st.integers(1, 300))
def test_agreement_against_sets(pair: tuple[int, int, float, float], k: int) -> None:
    a, b = drawn(pair)
    k = min(k, a.shape[-1])
    found = topk_agreement(a, b, k)
    for index in np.ndindex(a.shape[:-1]):
        best = [set(np.argsort(-x[index], kind="stable")[:k].tolist()) for x in (a, b)]
        assert found[index] == len(best[0] & best[1]) / k
        assert top1_agreement(a, b)[index] == float(int(a[index].argmax()) == int(b[index].argmax()))


def test_agreement_refuses_more_tokens_than_there_are() -> None:
    with pytest.raises(ValueError, match="k=5"):
        topk_agreement(np.zeros((2, 4)), np.zeros((2, 4)), 5)


def test_relative_error_of_a_known_change() -> None:
    assert relative_error(np.array([3.0, 4.0]), np.array([3.0, 4.5])) == pytest.approx(0.1)
    assert relative_error(np.zeros(2), np.zeros(2)) == 0
    assert relative_error(np.zeros(2), np.ones(2)) == math.inf
