"""What libsndfile does not decode: AAC and ALAC in MP4, AAC alone, through PyAV or ffmpeg; and how to get one."""

from __future__ import annotations

import io
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from model import audio
from model.audio_files import decoders
from model.errors import UserError

TONE = (0.4 * np.sin(2 * np.pi * 440 * np.arange(88_200) / 44_100)).astype(np.float32)


def mp4(codec: str, container: str = "mp4", channels: int = 2, **options: str) -> bytes:
    av = pytest.importorskip("av", reason="PyAV (the extra m4a) makes the files of these tests")
    out = tempfile.NamedTemporaryFile()  # noqa: SIM115 - ffmpeg opens it by name, too
    with av.open(out.name, "w", format=container, options=options) as file:
        stream = file.add_stream(codec, rate=44_100, layout={1: "mono", 2: "stereo"}[channels])
        planar = np.stack([TONE] * channels)
        form = "s16p" if codec == "alac" else "fltp"
        planar = np.round(planar * 32767).astype(np.int16) if codec == "alac" else planar
        for start in range(0, len(TONE), 1024):
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(planar[:, start : start + 1024]), format=form, layout=stream.layout.name
            )
            frame.rate, frame.pts = 44_100, start
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return out.read()


@pytest.mark.parametrize(("codec", "container", "exact"), [
    ("alac", "mp4", 2**-14), ("aac", "mp4", 0.05), ("aac", "ipod", 0.05), ("alac", "mov", 2**-14),
    ("aac", "adts", None), ("flac", "matroska", 2**-14),
])  # fmt: skip
def test_other_containers_are_read(tmp_path: Path, codec: str, container: str, exact: float | None) -> None:
    (tmp_path / "a.m4a").write_bytes(mp4(codec, container))
    clip = audio.load(tmp_path / "a.m4a", sample_rate=44_100)
    assert (clip.source_rate, clip.channels) == (44_100, 2)
    assert 0 <= clip.source_frames - len(TONE) < 3 * 1024
    if exact is not None:
        inner = slice(4000, -4000)
        assert np.abs(clip.samples[: len(TONE)][inner] - TONE[inner]).max() <= exact


@pytest.mark.parametrize("options", [{}, {"movflags": "faststart"}])
def test_an_mp4_that_is_cut_is_refused(tmp_path: Path, options: dict[str, str]) -> None:
    data = mp4("alac", **options)
    (tmp_path / "a.m4a").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"a.m4a: truncated \(\d+ of \d+ bytes are there\)"):
        audio.load(tmp_path / "a.m4a")


def test_without_a_decoder_one_line_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.m4a").write_bytes(mp4("aac"))
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"a.m4a: .*pip install 'instruct-musicgen-mlx\[m4a\]', or install ffmpeg"):
        audio.load(tmp_path / "a.m4a")


def test_ffmpeg_is_used_where_pyav_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of that name, which writes what ffmpeg writes to a pipe: a WAV that does not know its length."""
    (tmp_path / "a.m4a").write_bytes(mp4("aac"))
    wav = io.BytesIO()
    soundfile.write(wav, TONE, 44_100, format="WAV", subtype="FLOAT")
    data = bytearray(wav.getvalue())
    at = data.index(b"data") + 4
    data[4:8] = data[at : at + 4] = b"\xff" * 4
    (tmp_path / "streamed.wav").write_bytes(data)
    script = tmp_path / "ffmpeg"
    script.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\nexec /bin/cat {tmp_path}/streamed.wav\n')
    script.chmod(0o755)
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    clip = audio.load(tmp_path / "a.m4a", sample_rate=44_100)
    assert np.array_equal(clip.samples, TONE)
    asked = (tmp_path / "asked").read_text()
    assert "-f mov -i file:" in asked and "-protocol_whitelist file,pipe" in asked
    script.write_text("#!/bin/sh\necho 'Invalid data found' >&2\nexit 1\n")
    with pytest.raises(UserError, match=r"a.m4a: not audio that can be read \(Invalid data found\)"):
        audio.load(tmp_path / "a.m4a")


def test_a_playlist_is_not_followed(tmp_path: Path) -> None:
    """ffmpeg would open what a playlist names; the container is fixed by what the file begins with."""
    (tmp_path / "secret.wav").write_bytes(b"RIFF")
    (tmp_path / "a.m4a").write_text(f"#EXTM3U\n#EXTINF:10,\nfile://{tmp_path}/secret.wav\n")
    with pytest.raises(UserError, match="not audio that can be read"):
        audio.load(tmp_path / "a.m4a")
    assert decoders.demuxer((tmp_path / "a.m4a").read_bytes()) == ""


def test_a_video_without_sound_is_refused(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV makes the file of this test")
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as file:
        stream = file.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for _ in range(5):
            file.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        file.mux(stream.encode(None))
    (tmp_path / "a.mp4").write_bytes(out.getvalue())
    with pytest.raises(UserError, match="no sound"):
        audio.load(tmp_path / "a.mp4")


def test_nearly_cancelling_channels_are_warned_of(tmp_path: Path) -> None:
    left = TONE[:32_000]
    for gain, quieter in ((-1.003, 56), (-0.9, 26), (-1.15, 23)):
        soundfile.write(tmp_path / "a.wav", np.stack([left, gain * left], 1), 32_000, subtype="FLOAT")
        with pytest.warns(UserWarning, match=rf"a.wav: its 2 channels nearly cancel: .* {quieter} dB quieter"):
            audio.load(tmp_path / "a.wav")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("other", ["same", "silent", "noise", "half inverted"])
def test_other_stereo_is_not(tmp_path: Path, other: str) -> None:
    left = TONE[:32_000]
    noise = np.random.default_rng(0).normal(0, 0.3, len(left)).astype(np.float32)
    right = {"same": left, "silent": 0 * left, "noise": noise, "half inverted": -0.5 * left}[other]
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], 1), 32_000, subtype="FLOAT")
    assert audio.load(tmp_path / "a.wav").channels == 2


def test_standard_input_is_read_as_a_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", TONE, 44_100)
    want = audio.load(tmp_path / "a.flac")
    ours, theirs = os.pipe()
    with open(ours, "rb") as file:
        if os.fork() == 0:
            with open(theirs, "wb") as sink:
                sink.write((tmp_path / "a.flac").read_bytes())
            os._exit(0)
        os.close(theirs)
        assert np.array_equal(audio.load(file).samples, want.samples)
    with pytest.raises(UserError, match="standard input: empty file"):
        audio.load(io.BytesIO())


def test_a_folder_gives_every_format_and_no_hidden_file(tmp_path: Path) -> None:
    suffixes = (".wav", ".OPUS", ".oga", ".w64", ".caf", ".au", ".m4a", ".mp3")
    wanted = [f"{n}{suffix}" for n, suffix in enumerate(suffixes)]
    for name in (*wanted, "._0.wav", ".hidden.flac", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.wav").mkdir()
    assert [p.name for p in audio.clip_files([tmp_path])] == wanted
    assert audio.clip_files([tmp_path / ".hidden.flac"]) == [tmp_path / ".hidden.flac"]
