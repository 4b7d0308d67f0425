"""How long a file is: what its header names, what is there, and what joined, streamed and unfinished files hold."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from model import audio
from model.errors import UserError

RATE = 32_000
NOISE = np.random.default_rng(7).normal(0, 0.1, 64_000).astype(np.float32)


def encoded(samples: np.ndarray, container: str, subtype: str | None = None, rate: int = RATE, **options: str) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=container, subtype=subtype, **options)
    return out.getvalue()


def vbr(samples: np.ndarray, rate: int = RATE) -> bytes:
    """MP3 of variable rate, with a Xing header."""
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format="MP3", subtype="MPEG_LAYER_III", bitrate_mode="VARIABLE",
                    compression_level=0.3)  # fmt: skip
    return out.getvalue()


def loaded(tmp_path: Path, data: bytes) -> audio.Clip:
    (tmp_path / "clip").write_bytes(data)
    return audio.load(tmp_path / "clip")


PLAIN = {
    "wav": ("WAV", "PCM_16"), "wav float": ("WAV", "FLOAT"), "wav 24": ("WAV", "PCM_24"), "wavex": ("WAVEX", "PCM_16"),
    "wav ulaw": ("WAV", "ULAW"), "rf64": ("RF64", "PCM_16"), "w64": ("W64", "PCM_24"), "aiff": ("AIFF", "PCM_16"),
    "aifc": ("AIFF", "FLOAT"), "au": ("AU", "PCM_16"), "caf": ("CAF", "PCM_16"), "caf float": ("CAF", "FLOAT"),
}  # fmt: skip


@pytest.mark.parametrize("kind", PLAIN)
@settings(max_examples=6)
@given(kept=st.floats(0.2, 0.98), channels=st.integers(1, 3))
def test_a_file_that_is_cut_is_refused_with_what_is_there(
    tmp_path_factory: pytest.TempPathFactory, kind: str, kept: float, channels: int
) -> None:
    samples = np.stack([NOISE] * channels, axis=1)
    data = encoded(samples, *PLAIN[kind])
    cut = data[: int(len(data) * kept)]
    with pytest.raises(UserError, match=r"truncated \((\d+) of 64000 frames") as raised:
        loaded(tmp_path_factory.mktemp("cut"), cut)
    there = int(str(raised.value).partition("(")[2].partition(" ")[0])
    frame = {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4, "ULAW": 1}[PLAIN[kind][1]] * channels
    assert there <= len(cut) // frame and there >= (len(cut) - 5000) // frame


def test_adpcm_that_is_cut_is_refused_too(tmp_path: Path) -> None:
    data = encoded(NOISE, "WAV", "IMA_ADPCM")
    with pytest.raises(UserError, match=r"truncated \(\d+ of \d+ bytes"):
        loaded(tmp_path, data[: len(data) // 2])
    assert loaded(tmp_path, data).source_frames >= 64_000


def _at(data: bytes, marker: bytes, offset: int, form: str, value: int) -> bytes:
    out = bytearray(data)
    struct.pack_into(form, out, data.index(marker) + offset, value)
    return bytes(out)


def _ds64(data: bytes, value: int) -> bytes:
    return _at(data, b"ds64", 16, "<Q", value)


UNKNOWN: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    **{f"wav {value:#x}": ("wav", lambda d, v=value: _at(_at(d, b"RIFF", 4, "<I", v), b"data", 4, "<I", v))
       for value in (0, 0xFFFFFFFF, 0xFFFFFFFF - 36, 0x7FFFFFFF, 0x7FFFF000, 0x80000000)},
    "rf64 0": ("rf64", lambda d: _ds64(d, 0)),
    "rf64 absurd": ("rf64", lambda d: _ds64(d, (1 << 63) - 1)),
    "w64 0": ("w64", lambda d: _at(d, b"data\xf3\xac", 16, "<Q", 24)),
    "w64 absurd": ("w64", lambda d: _at(d, b"data\xf3\xac", 16, "<Q", (1 << 63) - 1)),
    "aiff 0": ("aiff", lambda d: _at(_at(d, b"SSND", 4, ">I", 0), b"COMM", 10, ">I", 0)),
    "aiff -1": ("aiff", lambda d: _at(_at(d, b"SSND", 4, ">I", 0xFFFFFFFF), b"COMM", 10, ">I", 0xFFFFFFFF)),
    "au -1": ("au", lambda d: _at(d, b".snd", 8, ">I", 0xFFFFFFFF)),
    "au 0": ("au", lambda d: _at(d, b".snd", 8, ">I", 0)),
    "caf -1": ("caf", lambda d: _at(d, b"data\0", 4, ">q", -1)),
}  # fmt: skip


@pytest.mark.parametrize("case", UNKNOWN)
def test_a_length_that_is_unknown_is_read_to_the_end(tmp_path: Path, case: str) -> None:
    kind, change = UNKNOWN[case]
    data = encoded(NOISE, *PLAIN[kind])
    want, got = loaded(tmp_path, data), loaded(tmp_path, change(data))
    assert change(data) != data
    assert got.source_frames == 64_000 and np.array_equal(got.samples, want.samples)


@pytest.mark.parametrize("kind", PLAIN)
def test_all_of_joined_files_is_read(tmp_path: Path, kind: str) -> None:
    parts = [encoded(part, *PLAIN[kind]) for part in (NOISE[:10_001], NOISE[10_001:40_000], NOISE[40_000:])]
    clip, want = loaded(tmp_path, b"".join(parts)), loaded(tmp_path, encoded(NOISE, *PLAIN[kind]))
    assert clip.source_frames == 64_000 and np.array_equal(clip.samples, want.samples)
    assert "3 recordings" in " ".join(clip.notes)


@pytest.mark.parametrize("kind", ["wav", "aiff", "au"])
def test_a_cut_file_before_another_is_refused(tmp_path: Path, kind: str) -> None:
    """Joined blindly, the second one's header and samples would be taken for the first one's."""
    one = encoded(NOISE, *PLAIN[kind])
    with pytest.raises(UserError, match=r"recording 1 of 2: truncated \(\d+ of 64000"):
        loaded(tmp_path, one[: len(one) // 2] + one)


def test_streamed_files_that_were_joined_keep_their_headers_out_of_the_sound(tmp_path: Path) -> None:
    streamed = UNKNOWN["wav 0xffffffff"][1](encoded(NOISE, "WAV", "PCM_16"))
    clip = loaded(tmp_path, streamed * 2)
    assert clip.source_frames == 128_000 and np.array_equal(clip.samples[:64_000], clip.samples[64_000:])


def test_an_empty_file_with_more_after_its_samples_is_empty(tmp_path: Path) -> None:
    data = encoded(np.zeros(0, np.float32), "WAV", "PCM_16") + b"LIST" + struct.pack("<I", 4) + b"INFO"
    with pytest.raises(UserError, match="zero length"):
        loaded(tmp_path, data)


def test_tags_after_the_samples_are_no_sound(tmp_path: Path) -> None:
    data = encoded(NOISE, "WAV", "PCM_16") + b"LIST" + struct.pack("<I", 4) + b"INFO"
    assert loaded(tmp_path, data).source_frames == 64_000


def test_a_name_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(encoded(NOISE, "FLAC"))
    (tmp_path / "b.raw").write_bytes(encoded(NOISE, "OGG", "VORBIS"))
    assert audio.load(tmp_path / "a.wav").source_frames == audio.load(tmp_path / "b.raw").source_frames == 64_000


def _unknown_flac(data: bytes, total: int = 0) -> bytes:
    out = bytearray(data)
    out[21] = out[21] & 0xF0 | total >> 32
    out[22:26] = (total & 0xFFFFFFFF).to_bytes(4, "big")
    out[26:42] = bytes(16)
    return bytes(out)


@pytest.mark.parametrize("total", [0, (1 << 36) - 1])
def test_a_flac_of_unknown_or_absurd_length_is_read_to_its_end(tmp_path: Path, total: int) -> None:
    data = encoded(NOISE, "FLAC", "PCM_16")
    clip = loaded(tmp_path, _unknown_flac(data, total))
    assert clip.source_frames == 64_000 and np.array_equal(clip.samples, loaded(tmp_path, data).samples)


def test_a_streamed_flac_that_is_cut_gives_every_frame_that_decodes(tmp_path: Path) -> None:
    data = encoded(NOISE, "FLAC", "PCM_16")
    whole = loaded(tmp_path, data).samples
    clip = loaded(tmp_path, _unknown_flac(data)[: len(data) // 2])
    assert 24_000 < clip.source_frames < 32_000 and np.array_equal(clip.samples, whole[: clip.source_frames])
    assert "cannot be decoded" in " ".join(clip.notes)


def test_a_flac_that_is_cut_is_refused_with_what_is_there(tmp_path: Path) -> None:
    data = encoded(NOISE, "FLAC", "PCM_16")
    with pytest.raises(UserError, match=r"truncated or damaged \(2\d{4} of 64000 frames"):
        loaded(tmp_path, data[: len(data) // 2])


@pytest.mark.parametrize(("container", "subtype"), [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")])
def test_compressed_files_that_were_joined_are_read_whole(tmp_path: Path, container: str, subtype: str) -> None:
    one, two = (encoded(part, container, subtype, 48_000) for part in (NOISE[:30_000], NOISE[30_000:]))
    clip = loaded(tmp_path, one + two)
    assert clip.source_frames == 64_000 and "2 recordings" in " ".join(clip.notes)
    first, second = loaded(tmp_path, one), loaded(tmp_path, two)
    assert np.array_equal(clip.samples[:19_000], first.samples[:19_000])
    assert np.array_equal(clip.samples[-22_000:], second.samples[-22_000:]) or subtype == "OPUS"


def test_parts_of_other_rates_are_brought_to_the_first_ones(tmp_path: Path) -> None:
    tone = 0.4 * np.sin(2 * np.pi * 500 * np.arange(48_000) / 48_000)
    first, second = encoded(tone[:24_000], "OGG", "VORBIS", 48_000), encoded(tone[::2], "OGG", "VORBIS", 24_000)
    clip = loaded(tmp_path, first + second)
    assert clip.source_rate == 48_000 and clip.source_frames == 24_000 + 48_000
    assert "24000 Hz" in " ".join(clip.notes)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_that_is_cut_says_so(tmp_path: Path, subtype: str) -> None:
    """Its headers name no length; a recording of a radio ends like this too."""
    data = encoded(np.tile(NOISE, 4), "OGG", subtype, 48_000)
    clip = loaded(tmp_path, data[: len(data) // 2])
    assert 40_000 < clip.source_frames < 140_000 and "no end of stream" in " ".join(clip.notes)
    assert loaded(tmp_path, data).notes == ()


def test_vbr_mp3_without_its_table_is_read_whole(tmp_path: Path) -> None:
    """A loud beginning, whose bit rate says nothing about the quiet rest."""
    samples = np.concatenate([NOISE[:16_000] * 3, np.tile(NOISE[:1000] * 0.01, 304)])
    data = vbr(samples)
    assert b"Xing" in data
    assert loaded(tmp_path, data).source_frames == len(samples)
    assert len(samples) <= loaded(tmp_path, data.replace(b"Xing", bytes(4))).source_frames < len(samples) + 4 * 1152


def test_joined_mp3_is_read_whole_and_the_decoder_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = vbr(NOISE)
    tag = b"TAG" + bytes(125)
    id3 = b"ID3\x03\0\0" + bytes([0, 0, 2, 0]) + b"\xff\xfb\x90\x64" * 64
    for joined in (data + data, id3 + data + tag + id3 + data + tag):
        clip = loaded(tmp_path, joined)
        assert clip.source_frames == 128_000 and np.array_equal(clip.samples[:64_000], clip.samples[64_000:])
    assert capfd.readouterr() == ("", "")


def test_mp3_that_is_cut_is_refused_where_its_header_tells(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = vbr(NOISE)
    with pytest.raises(UserError, match=r"truncated \(\d+ of \d+ frames"):
        loaded(tmp_path, data[: len(data) // 2])
    bare = data.replace(b"Xing", bytes(4))
    assert 28_000 < loaded(tmp_path, bare[: len(bare) // 2]).source_frames < 36_000
    assert capfd.readouterr().err == ""


def test_more_mp3_than_its_header_names_is_read(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data, bare = vbr(NOISE), vbr(NOISE).replace(b"Xing", bytes(4))
    assert 127_000 < loaded(tmp_path, data + bare).source_frames < 133_000
    assert capfd.readouterr().err == ""


def test_mp3_with_damage_between_its_frames_gives_the_others(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = vbr(NOISE).replace(b"Xing", bytes(4))
    hurt = data[: len(data) // 2] + bytes(range(256)) * 8 + data[len(data) // 2 + 700 :]
    assert 55_000 < loaded(tmp_path, hurt).source_frames < 67_000
    assert capfd.readouterr().err == ""


def test_an_mp3_of_changing_rate_is_read_whole(tmp_path: Path) -> None:
    clip = loaded(tmp_path, vbr(NOISE) + vbr(np.stack([NOISE, NOISE], 1)[:22_050], 22_050))
    assert abs(clip.source_frames - (64_000 + 32_000)) < 50 and clip.channels == 1


def test_random_damage_is_an_error_or_a_clip(tmp_path: Path) -> None:
    """Whatever bytes change: no crash, no hang, no other exception."""
    draw = np.random.default_rng(3)
    for container in ("WAV", "AIFF", "CAF", "W64", "AU", "FLAC", "RF64", "OGG"):
        data = encoded(NOISE[:4000], container, "VORBIS" if container == "OGG" else "PCM_16")
        for _ in range(40):
            hurt = bytearray(data)
            for at in draw.integers(0, min(len(hurt), 200), 3):
                hurt[at] = draw.integers(0, 256)
            try:
                assert len(loaded(tmp_path, bytes(hurt)).samples)
            except UserError as e:
                assert "\n" not in str(e)
