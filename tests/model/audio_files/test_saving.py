"""model.audio.save: formats, levels, destinations that cannot be written, and what is left when writing fails."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from model import audio
from model.errors import UsageError, UserError

from .test_audio import _with, tone


@pytest.mark.parametrize("suffix", [".wav", ".WAV", ".flac", ".ogg"])
def test_save_and_load_again(tmp_path: Path, suffix: str) -> None:
    samples = tone(200_001, 32_000)
    path = tmp_path / f"a{suffix}"
    saved = audio.save(path, samples, 32_000)
    assert saved.gain == 1.0 and saved.peak == np.abs(samples).max()
    again, rate = soundfile.read(path, dtype="float32")
    assert rate == 32_000 and len(again) == 200_001
    worst = {"FLOAT": 0.0, "PCM_24": 2.0**-23, "VORBIS": 0.05}[saved.subtype]
    assert np.abs(again - samples).max() <= worst
    assert os.listdir(tmp_path) == [path.name]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_the_same_audio_gives_the_same_bytes_at_another_time(tmp_path: Path) -> None:
    samples = tone(2000, 32_000)
    audio.save(tmp_path / "a.wav", samples, 32_000)
    time.sleep(1 - time.time() % 1)  # the format's time stamp counts seconds
    audio.save(tmp_path / "b.wav", samples, 32_000)
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_above_full_scale_is_kept_by_float_wav_and_scaled_elsewhere(tmp_path: Path) -> None:
    loud = tone(4000, 32_000, level=2.0)
    assert audio.save(tmp_path / "a.wav", loud, 32_000).gain == 1.0
    assert np.array_equal(soundfile.read(tmp_path / "a.wav", dtype="float32")[0], loud)
    saved = audio.save(tmp_path / "a.flac", loud, 32_000)
    assert saved.gain == pytest.approx(1 / np.abs(loud).max())
    read = soundfile.read(tmp_path / "a.flac")[0]
    assert np.abs(read - loud * saved.gain).max() < 2**-22, "scaled, not clipped"


def test_normalize_only_when_asked(tmp_path: Path) -> None:
    for suffix, level in ((".wav", 0.01), (".flac", 4.0)):
        path = tmp_path / f"a{suffix}"
        audio.save(path, tone(4000, 32_000, level=level), 32_000, normalize=True)
        assert np.abs(soundfile.read(path)[0]).max() == pytest.approx(10 ** (-1 / 20), rel=1e-5)


def test_silence_may_be_saved_normalized(tmp_path: Path) -> None:
    assert audio.save(tmp_path / "a.wav", np.zeros(700), 32_000, normalize=True).gain == 1.0


@pytest.mark.parametrize(("name", "kind", "message"), [
    ("a.mp4", UsageError, "cannot write '.mp4' files; use one of .wav, .flac, .ogg"),
    ("noextension", UsageError, "cannot write 'noextension' files"),
    ("absent/a.wav", UserError, "no such file or directory"),
    ("file/a.wav", UserError, "not a directory"),
    ("folder.wav", UserError, "is a directory"),
    ("/proc/a.wav", UserError, "cannot be written"),
    ("x" * 300 + ".wav", UserError, "file name too long"),
])  # fmt: skip
def test_bad_destination(tmp_path: Path, name: str, kind: type[UserError], message: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.wav").mkdir()
    for attempt in (audio.check_destination, lambda p: audio.save(p, tone(700, 32_000), 32_000)):
        with pytest.raises(UserError, match=message) as raised:
            attempt(tmp_path / name)
        assert type(raised.value) is kind
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.wav"]


def test_destination_check_leaves_nothing_and_touches_nothing(tmp_path: Path) -> None:
    audio.check_destination(tmp_path / "new.wav")
    (tmp_path / "old.wav").write_text("old")
    audio.check_destination(tmp_path / "old.wav")
    assert os.listdir(tmp_path) == ["old.wav"] and (tmp_path / "old.wav").read_text() == "old"


def test_rate_a_format_cannot_hold_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"FLAC cannot hold 700000 Hz .*; use .wav"):
        audio.check_destination(tmp_path / "a.flac", 700_000)


def test_nan_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not written: the samples hold NaN or infinity; check the bundle or the array"):
        audio.save(tmp_path / "a.wav", _with(np.nan), 32_000)
    assert os.listdir(tmp_path) == []


def test_disk_full_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    """A process that may write 8 KiB a file stands for a full disk: write(2) fails after that."""
    (tmp_path / "a.wav").write_text("old")
    script = (
        "import sys, numpy as np; from model import audio\nfrom model.errors import UserError\n"
        "try: audio.save(sys.argv[1], np.ones(9999), 32000)\nexcept UserError as e: print(e); sys.exit(7)"
    )

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "a.wav"], capture_output=True, text=True, preexec_fn=limit
    )
    assert done.returncode == 7 and "cannot be written (file too large)" in done.stdout, done.stderr
    assert os.listdir(tmp_path) == ["a.wav"] and (tmp_path / "a.wav").read_text() == "old"


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "real.wav").touch()
    (tmp_path / "link.wav").symlink_to("real.wav")
    audio.save(tmp_path / "link.wav", tone(700, 32_000), 32_000)
    assert (tmp_path / "link.wav").is_symlink() and len(soundfile.read(tmp_path / "real.wav")[0]) == 700
