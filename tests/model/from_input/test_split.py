"""Both parts add up to the input; a mask lets through what it says; nothing depends on how the work is cut."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from model.errors import UsageError, UserError
from model.from_input import mask as masks
from model.from_input import original as originals
from model.from_input import split as splits
from model.from_input.guides import of_powers, opposites
from model.from_input.mask import BANDS, HOP, Mask, mask, powers
from model.from_input.original import Original
from model.instructions import UPSTREAM

RATES = st.sampled_from([8_000, 22_050, 32_000, 44_100, 48_000, 96_000])


def random_mask(rng: np.random.Generator, samples: int, rate: int) -> Mask:
    frames = samples * 32_000 // rate // HOP + 1
    return Mask(rng.random((BANDS + 1, frames)).astype(np.float32) ** 3)


def all_pass(samples: int, rate: int) -> Mask:
    return Mask(np.ones((BANDS + 1, samples * 32_000 // rate // HOP + 1), np.float32))


def passed(samples: np.ndarray, rate: int, by: Mask) -> np.ndarray:
    return np.concatenate([piece for _, piece in splits.masked(samples, rate, by)])


@given(st.integers(0, 2**32), st.integers(1, 9000), st.integers(1, 3), RATES, st.sampled_from([16, 24, 32]))
def test_in_pcm_both_parts_add_up_to_the_input_exactly(seed: int, n: int, channels: int, rate: int, bits: int) -> None:
    """Noise at full scale, where sums and differences are at the ends of what the bits hold."""
    rng = np.random.default_rng(seed)
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    kind = np.int64 if bits == 32 else np.int32
    samples = rng.choice([low, high, 0, 1, -1, *rng.integers(low, high, 9)], size=(n, channels)).astype(kind)
    found = splits.split(Original(samples, rate, bits), random_mask(rng, n, rate))
    for part in (found.output, found.rest):
        assert part.samples.shape == samples.shape and (part.rate, part.bits) == (rate, bits)
        assert part.samples.min() >= low and part.samples.max() <= high
    assert np.array_equal(found.output.samples.astype(np.int64) + found.rest.samples, samples)


@given(st.integers(0, 2**32), st.integers(1, 9000), RATES)
def test_in_float_both_parts_add_up_to_one_rounding(seed: int, n: int, rate: int) -> None:
    rng = np.random.default_rng(seed)
    samples = rng.normal(0, 1, (n, 2)).astype(np.float32)
    found = splits.split(Original(samples, rate, None), random_mask(rng, n, rate))
    output, rest = found.output.samples, found.rest.samples
    assert output.dtype == rest.dtype == np.float32
    rounding = np.spacing(np.maximum(np.abs(output), np.abs(rest)).astype(np.float32))
    assert (np.abs(output.astype(np.float64) + rest - samples) <= rounding).all()


@given(st.integers(0, 2**32), st.integers(1, 20_000), RATES)
def test_a_mask_that_passes_all_changes_nothing(seed: int, n: int, rate: int) -> None:
    samples = np.random.default_rng(seed).normal(0, 0.2, (n, 2))
    assert np.abs(passed(samples, rate, all_pass(n, rate)) - samples).max() < 1e-12
    whole = np.rint(samples * 1000).astype(np.int32)
    found = splits.split(Original(whole, rate, 16), all_pass(n, rate))
    assert np.array_equal(found.output.samples, whole) and not found.rest.samples.any()


@pytest.mark.slow
@pytest.mark.parametrize("rate", [8_000, 192_000, 768_000])
def test_memory_grows_neither_with_the_rate_nor_with_the_clip(rate: int) -> None:
    samples = np.zeros((1 << 22, 1), np.int16)
    by = all_pass(len(samples), rate)
    peaks = []
    for n in (len(samples) // 2, len(samples)):
        tracemalloc.start()
        for _ in splits.masked(samples[:n], rate, by):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert max(peaks) < 200 << 20 and peaks[1] < 1.1 * peaks[0]


def test_what_is_kept_of_rates_does_not_grow_with_their_number() -> None:
    by = all_pass(1000, 32_000)
    for rate in range(8_000, 8_960, 64):
        passed(np.zeros((10, 1)), rate, by)
    assert masks._spread.cache_info().currsize <= 4


@given(st.integers(0, 2**32), st.integers(1, 30_000), st.integers(1, 40))
def test_the_blocks_of_work_leave_no_seam(seed: int, n: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    samples, by = rng.normal(0, 0.2, (n, 1)), random_mask(rng, n, 44_100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splits, "BLOCK", block * 4 * 706)  # of 4 hops of 16 ms
        cut = passed(samples, 44_100, by)
    assert np.abs(cut - passed(samples, 44_100, by)).max() < 1e-12


@pytest.mark.parametrize("rate", [32_000, 44_100])
def test_the_mask_is_applied_as_scipy_would(rate: int) -> None:
    """scipy.signal's stft and istft with the same windows, gains at the same times and frequencies."""
    import scipy.signal

    rng = np.random.default_rng(1)
    samples, by = rng.normal(0, 0.2, 30_000), random_mask(rng, 30_000, rate)
    hop = round(rate * 0.016)
    window = np.hanning(4 * hop + 1)[:-1]
    frequencies, times, spectrum = scipy.signal.stft(
        samples, rate, window, 4 * hop, 3 * hop, boundary="zeros", padded=True
    )
    gains = by.at(times, frequencies).T
    _, want = scipy.signal.istft(spectrum * gains, rate, window, 4 * hop, 3 * hop, boundary=True)
    inside = slice(4 * hop, 30_000 - 4 * hop)  # scipy has no spectra beyond the ends
    assert np.abs(passed(samples[:, None], rate, by)[inside, 0] - want[:30_000][inside]).max() < 1e-6


def tone(hertz: float, rate: int = 32_000, seconds: float = 1.0) -> np.ndarray:
    return 0.2 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


def decibels(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.square(samples).mean() + 1e-20))


@pytest.mark.parametrize("rate", [32_000, 44_100, 48_000])
def test_what_belongs_stays_and_the_rest_goes_at_any_rate(rate: int) -> None:
    by = mask(powers(tone(440).astype(np.float32)), powers(tone(3000).astype(np.float32)))
    stays, goes = tone(440, rate)[:, None], tone(3000, rate)[:, None]
    assert decibels(passed(stays, rate, by)) > decibels(stays) - 0.5
    assert decibels(passed(goes, rate, by)) < decibels(goes) - 30


def test_treble_above_the_model_follows_the_highest_bands() -> None:
    import scipy.signal

    rng = np.random.default_rng(0)
    bright = scipy.signal.lfilter([1, -0.95], [1], rng.normal(0, 0.1, 32_000)).astype(np.float32)
    dull = tone(200).astype(np.float32)
    high = tone(19_000, 48_000)[:, None]
    assert decibels(passed(high, 48_000, mask(powers(bright), powers(dull)))) > decibels(high) - 1
    assert decibels(passed(high, 48_000, mask(powers(dull), powers(bright)))) < decibels(high) - 30


def test_channels_keep_their_own_sound_and_phase() -> None:
    left, right = tone(440, 44_100), -0.3 * tone(442, 44_100)
    by = mask(powers(tone(440).astype(np.float32)), powers(tone(5000).astype(np.float32)))
    out = passed(np.stack([left, right], axis=1), 44_100, by)
    assert np.abs(out[4000:-4000, 0] - left[4000:-4000]).max() < 0.02
    assert np.abs(out[4000:-4000, 1] - right[4000:-4000]).max() < 0.02


def test_silence_on_both_sides_passes_half() -> None:
    silent = powers(np.zeros(32_000, np.float32))
    assert np.allclose(mask(silent, silent).gains, 0.5)


def test_more_excess_takes_more_and_swapping_sides_gives_the_rest() -> None:
    rng = np.random.default_rng(0)
    a, b = (powers(rng.normal(0, level, 32_000).astype(np.float32)) for level in (0.1, 0.07))
    plain = mask(a, b).gains
    assert np.allclose(plain + mask(b, a).gains, 1, atol=1e-6)
    assert (mask(a, b, excess=2).gains < plain).all()
    sharp = mask(a, b, sharpness=4).gains
    assert ((sharp > plain) == (plain > 0.5)).all()


def test_opposites_are_the_instrument_its_absence_and_each_other_one() -> None:
    verb, texts = opposites("no bass", UPSTREAM)
    names = [text.partition("Instruct: ")[2] for text in texts]
    assert verb == "No" and names == ["Only Bass.", "No Bass.", "Only Drums.", "Only Piano.", "Only Guitar."]
    assert opposites("Music piece. Instruct: Only Violin.", UPSTREAM)[1] == [
        "Music piece. Instruct: Only Violin.", "Music piece. Instruct: No Violin."
    ]  # fmt: skip
    for text in ("Add Drums.", "make it brighter"):
        with pytest.raises(UserError, match="omit --from-input"):
            opposites(text, UPSTREAM)


def test_only_and_no_are_masked_by_the_same_guides_the_other_way_round() -> None:
    rng = np.random.default_rng(0)
    group = [powers(rng.normal(0, level, 32_000).astype(np.float32)) for level in (0.2, 0.1, 0.05, 0.05, 0.05)]
    only, no = (of_powers(verb, [group], excess=1.0).gains for verb in ("Only", "No"))
    assert np.allclose(only + no, 1, atol=1e-6) and only.mean() > 0.5


@pytest.mark.parametrize(("subtype", "bits"), [("PCM_16", 16), ("PCM_24", 24), ("PCM_32", 32), ("PCM_U8", 16)])
def test_whole_numbers_are_read_to_the_bit(tmp_path: Path, subtype: str, bits: int) -> None:
    rng = np.random.default_rng(0)
    held = 8 if subtype == "PCM_U8" else bits
    whole = rng.integers(-(1 << (held - 1)), 1 << (held - 1), (4000, 2)).astype(np.int64)
    soundfile.write(tmp_path / "x.wav", (whole << (32 - held)).astype(np.int32), 44_100, subtype=subtype)
    clip, found = originals.load(tmp_path / "x.wav")
    assert (found.bits, found.rate, clip.channels) == (bits, 44_100, 2)
    assert np.array_equal(found.samples, whole << (bits - held))


def test_float_and_joined_recordings_are_read_as_they_are(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).normal(0, 0.5, (4000, 2)).astype(np.float32)
    soundfile.write(tmp_path / "x.wav", samples, 48_000, subtype="FLOAT")
    _, found = originals.load(tmp_path / "x.wav")
    assert found.bits is None and np.array_equal(found.samples, samples)
    whole = (tmp_path / "x.wav").read_bytes()
    (tmp_path / "twice.wav").write_bytes(whole + whole)
    _, twice = originals.load(tmp_path / "twice.wav")
    assert np.array_equal(twice.samples, np.concatenate([samples, samples]))
    soundfile.write(tmp_path / "mono.wav", samples[:, 0], 48_000, subtype="FLOAT")
    (tmp_path / "mixed.wav").write_bytes(whole + (tmp_path / "mono.wav").read_bytes())
    with pytest.raises(UserError, match="different rates or channels"):
        originals.load(tmp_path / "mixed.wav")


@given(st.integers(0, 2**32), st.sampled_from([16, 24]))
def test_float_becomes_whole_numbers_within_half_a_step(seed: int, bits: int) -> None:
    samples = np.random.default_rng(seed).uniform(-1, 1, (500, 1)).astype(np.float32)
    samples[:2] = [[1.0], [-1.0]]
    found = Original(samples, 8000, None).as_bits(bits)
    step = 2.0 ** (1 - bits)
    assert np.abs(found.samples * step - samples).max() <= step  # the largest is a step below full scale
    assert np.abs(found.samples[2:] * step - samples[2:]).max() <= step * 0.5000001
    with pytest.raises(UserError, match="above full scale"):
        Original(samples * 1.5, 8000, None).as_bits(bits)


@pytest.mark.parametrize(("bits", "suffix", "held"), [
    (16, ".wav", 16), (24, ".wav", 24), (32, ".wav", 32), (None, ".wav", None),
    (16, ".flac", 16), (24, ".flac", 24), (32, ".flac", 24), (None, ".flac", 24),
])  # fmt: skip
def test_files_hold_the_originals_bits_where_their_format_can(
    tmp_path: Path, bits: int | None, suffix: str, held: int | None
) -> None:
    kind: Any = np.float32 if bits is None else np.int64
    given = Original(np.zeros((100, 2), kind), 44_100, bits)
    path = tmp_path / f"x{suffix}"
    assert splits.suffix_bits(path, given) == held
    path.write_bytes(splits.encoded(path, given.as_bits(held), {}))
    assert soundfile.info(path).subtype == ("FLOAT" if held is None else f"PCM_{held}")
    with pytest.raises(UsageError, match="OGG"):
        splits.suffix_bits(tmp_path / "x.ogg", given)
