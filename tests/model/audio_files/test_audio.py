"""Audio in and out: formats, rates, channels, levels, lengths, and every bad file."""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from model import audio
from model.config import HOP
from model.errors import UsageError, UserError

DEMO_CLIP = Path(audio.__file__).parent / "demo" / "clip.flac"


def tone(frames: int, rate: int, hertz: float = 440.0, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(frames) / rate)).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int = 32_000, subtype: str = "FLOAT") -> Path:
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


def test_mono_at_32_khz_passes_through_bit_for_bit(tmp_path: Path) -> None:
    samples = tone(5000, 32_000)
    clip = audio.load(write(tmp_path / "a.wav", samples))
    assert clip.samples.dtype == np.float32 and np.array_equal(clip.samples, samples)
    assert (clip.rate, clip.source_rate, clip.source_frames, clip.channels) == (32_000, 32_000, 5000, 1)
    assert clip.peak == np.abs(samples).max()


@pytest.mark.parametrize(("suffix", "subtype", "exact"), [
    (".wav", "PCM_16", 2**-15), (".wav", "PCM_24", 2**-22), (".wav", "DOUBLE", 2**-23), (".flac", "PCM_24", 2**-22),
    (".aiff", "PCM_16", 2**-15), (".ogg", "VORBIS", 0.05), (".mp3", "MPEG_LAYER_III", 0.05),
])  # fmt: skip
def test_formats(tmp_path: Path, suffix: str, subtype: str, exact: float) -> None:
    samples = tone(32_000, 32_000)
    clip = audio.load(write(tmp_path / f"a{suffix}", samples, subtype=subtype))
    n = min(len(samples), len(clip.samples))
    assert n >= 32_000 - 2 * 1152  # MP3 comes in whole frames
    assert np.abs(clip.samples[4000 : n - 4000] - samples[4000 : n - 4000]).max() <= exact


@settings(max_examples=25)
@given(
    rate=st.sampled_from([8_000, 11_025, 16_000, 22_050, 31_999, 44_100, 48_000, 96_000, 192_000]),
    seconds=st.floats(0.1, 0.6),
    channels=st.integers(1, 6),
    data=st.data(),
)
def test_any_rate_and_channels(
    tmp_path_factory: pytest.TempPathFactory, rate: int, seconds: float, channels: int, data: st.DataObject
) -> None:
    """A tone in channels of different gain comes out as that tone, at the mean gain, in place and in tune."""
    frames = round(rate * seconds)
    gains = np.array([data.draw(st.floats(0.1, 0.9)) for _ in range(channels)])
    source = tone(frames, rate, 500.0, 1.0)[:, None] * gains
    clip = audio.load(write(tmp_path_factory.mktemp("a") / "a.wav", source, rate))
    assert len(clip.samples) == math.floor(frames * 32_000 / rate + 0.5)
    assert (clip.source_frames, clip.source_rate, clip.channels) == (frames, rate, channels)
    assert clip.peak == pytest.approx(np.abs(source).max(), rel=1e-6)
    inner = slice(len(clip.samples) // 4, -len(clip.samples) // 4)  # away from the edges' ringing
    want = tone(len(clip.samples), 32_000, 500.0, gains.mean())
    assert np.abs(clip.samples[inner] - want[inner]).max() < 1e-4


def test_frequencies_above_the_new_band_do_not_alias(tmp_path: Path) -> None:
    clip = audio.load(write(tmp_path / "a.wav", tone(48_000, 48_000, 440) + tone(48_000, 48_000, 20_000), 48_000))
    inner = slice(8000, -8000)
    assert np.abs(clip.samples[inner] - tone(32_000, 32_000)[inner]).max() < 1e-4


def test_level_is_never_changed_on_load(tmp_path: Path) -> None:
    clip = audio.load(write(tmp_path / "a.wav", tone(4000, 32_000, level=3.0)))
    assert clip.peak == pytest.approx(3.0, rel=1e-3) and np.abs(clip.samples).max() == np.float32(clip.peak)


def test_longer_than_one_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stereo = np.stack([tone(5000, 32_000), tone(5000, 32_000, 700)], axis=1)
    whole = audio.load(write(tmp_path / "a.wav", stereo))
    monkeypatch.setattr(audio, "_BLOCK", 999)
    assert np.array_equal(audio.load(tmp_path / "a.wav").samples, whole.samples)


def test_keep_rate_gives_the_exact_frame_count(tmp_path: Path) -> None:
    for rate, frames in ((44_100, 44_099), (48_000, 12_345), (22_050, 7_001), (32_000, 3_333)):
        clip = audio.load(write(tmp_path / "a.wav", tone(frames, rate), rate))
        back = audio.resample(clip.samples, clip.rate, clip.source_rate, clip.source_frames)
        assert len(back) == frames and back.dtype == np.float32
        inner = slice(frames // 4, -frames // 4)
        assert np.abs(back[inner] - tone(frames, rate)[inner]).max() < 1e-3


def _not_audio(path: Path) -> None:
    path.write_text("this is not audio" * 100)


def _truncated_flac(path: Path) -> None:
    whole = DEMO_CLIP.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def _long_header(path: Path) -> None:
    """The clip with a FLAC header that promises 2^34 frames: 4 days, 64 GB in memory."""
    data = bytearray(DEMO_CLIP.read_bytes())
    (packed,) = struct.unpack_from(">Q", data, 18)
    struct.pack_into(">Q", data, 18, packed >> 36 << 36 | 1 << 34)
    path.write_bytes(data)


def _samples(samples: np.ndarray, rate: int = 32_000) -> Any:
    return lambda path: write(path, samples, rate)


def _with(value: float) -> np.ndarray:
    samples = tone(4000, 32_000)
    samples[3210] = value
    return samples


BAD = {
    "missing": (lambda p: None, "a.wav", "no such file or directory"),
    "directory": (lambda p: p.mkdir(), "a.wav", "is a directory|a directory"),
    "zero bytes": (lambda p: p.touch(), "a.wav", "empty file"),
    "not audio": (_not_audio, "a.wav", "not audio that can be read"),
    "headerless": (_not_audio, "a.raw", "not audio that can be read"),
    "fifo": (lambda p: os.mkfifo(p), "a.wav", "not a regular file"),
    "truncated flac": (_truncated_flac, "a.flac", "truncated|not audio that can be read"),
    "zero length": (_samples(np.zeros(0, np.float32)), "a.wav", "zero length"),
    "nan": (_samples(_with(np.nan)), "a.wav", r"NaN or infinite samples \(the first at 0.100 s\)"),
    "inf": (_samples(_with(-np.inf)), "a.wav", "NaN or infinite"),
    "1e38": (
        _samples(_with(1e38)),
        "a.wav",
        r"samples of up to 1e\+38, where full scale is 1 \(the first at 0.100 s\)",
    ),
    "integers as floats": (_samples(_with(-32768.0)), "a.wav", "divide them by their full scale"),
    "silent": (_samples(np.zeros(4000, np.float32)), "a.wav", "silent .peak -inf dBFS."),
    "almost silent": (_samples(np.full(4000, 3e-5, np.float32)), "a.wav", "silent"),
    "cancelling": (_samples(np.stack([tone(4000, 9), -tone(4000, 9)], 1)), "a.wav", "2 channels cancel out"),
    "too short": (_samples(tone(HOP - 1, 32_000)), "a.wav", "shorter than one codec frame"),
    "too short at 48 kHz": (_samples(tone(958, 48_000), 48_000), "a.wav", "958 samples at 48000 Hz are shorter"),
    "long by its header": (_long_header, "a.flac", "its header names 17179869184 frames at 44100 Hz"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(tmp_path: Path, case: str) -> None:
    make, name, message = BAD[case]
    make(tmp_path / name)
    with pytest.raises(UserError, match=message) as raised:
        audio.load(tmp_path / name)
    assert name in str(raised.value) and "\n" not in str(raised.value)
    assert not isinstance(raised.value, UsageError)


def test_one_frame_is_enough(tmp_path: Path) -> None:
    assert len(audio.load(write(tmp_path / "a.wav", tone(HOP, 32_000))).samples) == HOP


def test_length_is_limited_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.wav", tone(32_000, 32_000))
    monkeypatch.setattr(audio, "MAX_FRAMES", 31_999)
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *a, **k: pytest.fail("read before the check"))
    with pytest.raises(UserError, match="header names 32000 frames at 32000 Hz; at most 3600 s and 31999 frames"):
        audio.load(path)


def test_demo_clip_is_music_to_the_eye_of_a_meter() -> None:
    """One window in stereo at 44.1 kHz, unclipped, with energy in bass, middle and cymbals, and a steady pulse."""
    clip = audio.load(DEMO_CLIP)
    assert (clip.source_rate, clip.channels) == (44_100, 2) and clip.seconds == 5 and 0.3 < clip.peak < 0.99
    power = np.abs(np.fft.rfft(clip.samples)) ** 2
    hertz = np.fft.rfftfreq(len(clip.samples), 1 / clip.rate)
    for low, high in ((40, 200), (200, 1000), (1000, 4000), (4000, 15_000)):
        assert power[(hertz >= low) & (hertz < high)].sum() > 0.01 * power.sum()
    # Loudness repeats from bar to bar (4 beats at 96 a minute) more than at other lags of similar length.
    hop = 320
    loudness = np.sqrt((clip.samples[: len(clip.samples) // hop * hop].reshape(-1, hop) ** 2).mean(axis=1))
    onsets = np.maximum(np.diff(loudness), 0)
    onsets -= onsets.mean()
    beat = 60 / 96 * clip.rate / hop

    def likeness(lag: float) -> float:
        return max(float((onsets[n:] * onsets[:-n]).mean()) for n in range(round(lag) - 1, round(lag) + 2))

    assert likeness(4 * beat) > 2 * abs(likeness(4.2 * beat)) and likeness(2 * beat) > 0
