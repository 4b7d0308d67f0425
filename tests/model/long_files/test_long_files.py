"""Long files give the bytes of short ones: read, edited, written and resumed in parts, whatever the parts are."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import soundfile

from model import InstructMusicGen, audio, whole_file
from model.audio_files import spool
from model.decoding.sampling import Sampling
from model.errors import UsageError, UserError
from model.long_files import clip as clips
from model.long_files import unfinished
from model.long_files.edit import EditOptions, edit
from tests import backends

TEXT = "Music piece. Instruct: Only Drums."
BACKEND = "native" if "native" in backends.names() else "reference"


@pytest.fixture(scope="module")
def m(golden_bundles: Callable[[int], Path]) -> InstructMusicGen:
    return InstructMusicGen.from_pretrained(golden_bundles(4), backend=BACKEND)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INSTRUCT_MUSICGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "unfinished"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, (70_001, 2)), 44_100)
    return path


@pytest.mark.parametrize("in_memory", [1 << 26, 1000])
@pytest.mark.parametrize(("rate", "channels"), [(32_000, 1), (44_100, 2), (8_000, 1), (96_000, 1)])
def test_a_long_clip_has_the_samples_that_load_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: int, rate: int, channels: int
) -> None:
    monkeypatch.setattr(spool, "IN_MEMORY", in_memory)
    path = tmp_path / "clip.wav"
    soundfile.write(path, np.random.default_rng(rate).normal(0, 0.1, (300_007, channels)), rate, subtype="FLOAT")
    long, short = clips.load(path), audio.load(path)
    np.testing.assert_array_equal(np.concatenate(list(long.blocks())), short.samples)
    assert (long.frames, long.source_frames, long.peak) == (len(short.samples), short.source_frames, short.peak)


@pytest.mark.slow
@pytest.mark.parametrize("keep_rate", [False, True])
@pytest.mark.parametrize(("suffix", "normalize"), [("wav", False), ("wav", True), ("flac", False), ("ogg", False)])
def test_a_file_holds_what_generate_returns_and_save_writes(
    m: InstructMusicGen, tmp_path: Path, source: Path, suffix: str, normalize: bool, keep_rate: bool
) -> None:
    order = EditOptions(TEXT, 3, normalize=normalize, keep_rate=keep_rate)
    tags = {"title": TEXT, "comment": "odd"}
    done = edit(m, clips.load(source), order, tmp_path / f"out.{suffix}", tags=lambda _: tags)
    clip = audio.load(source)
    want = np.array(m.generate(TEXT, clip.samples, seed=3))
    if keep_rate:
        want = audio.resample(want, 32_000, 44_100, clip.source_frames)
    saved = audio.save(tmp_path / f"want.{suffix}", want, 44_100 if keep_rate else 32_000, normalize=normalize,
                       tags=tags)  # fmt: skip
    assert done.saved == saved
    got = (tmp_path / f"out.{suffix}").read_bytes()
    if suffix != "ogg":  # its pages have a serial number that libsndfile draws
        assert got == (tmp_path / f"want.{suffix}").read_bytes()
    assert soundfile.info(io.BytesIO(got)).frames == len(want)


@pytest.mark.slow
def test_a_pipe_gets_the_files_bytes_or_the_bare_samples(m: InstructMusicGen, tmp_path: Path, source: Path) -> None:
    edit(m, clips.load(source), EditOptions(TEXT, 3), tmp_path / "out.wav")
    pipe, bare = io.BytesIO(), io.BytesIO()
    edit(m, clips.load(source), EditOptions(TEXT, 3), pipe)
    edit(m, clips.load(source), EditOptions(TEXT, 3), bare, kind="f32")
    assert pipe.getvalue() == (tmp_path / "out.wav").read_bytes()
    assert pipe.getvalue().endswith(bare.getvalue())
    samples = soundfile.read(tmp_path / "out.wav", dtype="float32")[0]
    np.testing.assert_array_equal(np.frombuffer(bare.getvalue(), "<f4"), samples)


def test_a_pipe_gets_each_second_when_it_is_final(m: InstructMusicGen, source: Path) -> None:
    seen: list[tuple[int, int]] = []
    pipe = io.BytesIO()
    edit(
        m,
        clips.load(source),
        EditOptions(TEXT),
        pipe,
        progress=lambda done, _: seen.append((done, len(pipe.getvalue()))),
    )
    sizes = dict(seen)
    assert sizes[1] < 200  # the header
    # 50 frames, and the delay's 3 steps in each of the three windows that they lie in
    assert sizes[62] > 4 * (50 * 640 - 2402)


class Stop(Exception):
    pass


def interrupted(at: int, error: type[BaseException] = KeyboardInterrupt) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if done == at:
            raise error

    return progress


@pytest.mark.slow
@pytest.mark.parametrize("at", [1, 43, 60, 70, 88])
@pytest.mark.parametrize("error", [KeyboardInterrupt, Stop])
def test_a_resumed_edit_has_the_bytes_of_an_uninterrupted_one(
    m: InstructMusicGen, tmp_path: Path, source: Path, cache: Path, at: int, error: type[BaseException]
) -> None:
    """Stop stands for a crash: nothing handles it."""
    order = EditOptions(TEXT, 5, resume=True)
    edit(m, clips.load(source), EditOptions(TEXT, 5), tmp_path / "want.wav")
    with pytest.raises(error) as raised:
        edit(m, clips.load(source), order, tmp_path / "out.wav", progress=interrupted(at, error))
    first_windows = at >= 60  # 50 frames are complete, and the first window has 40
    if error is KeyboardInterrupt:
        assert ("windows are kept: the same command with --resume" in str(raised.value)) == first_windows
    assert not (tmp_path / "out.wav").exists() and len(list(cache.iterdir())) == 1
    seen: list[int] = []
    edit(m, clips.load(source), order, tmp_path / "out.wav", progress=lambda done, _: seen.append(done))
    assert (tmp_path / "out.wav").read_bytes() == (tmp_path / "want.wav").read_bytes()
    assert (seen[0] > 40) == first_windows and list(cache.iterdir()) == []


@pytest.mark.slow
def test_a_write_that_a_crash_cut_off_costs_its_window_only(
    m: InstructMusicGen, tmp_path: Path, source: Path, cache: Path
) -> None:
    edit(m, clips.load(source), EditOptions(TEXT, 5), tmp_path / "want.wav")
    with pytest.raises(Stop):
        edit(m, clips.load(source), EditOptions(TEXT, 5), tmp_path / "out.wav", progress=interrupted(80, Stop))
    (file,) = cache.iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    edit(m, clips.load(source), EditOptions(TEXT, 5, resume=True), tmp_path / "out.wav")
    assert (tmp_path / "out.wav").read_bytes() == (tmp_path / "want.wav").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("change", "message"), [
    ({"seed": 6}, "seed 5, not 6"), ({"text": "Only Bass."}, "not 'Only Bass.'"),
    ({"sampling": Sampling(top_k=9)}, "top-k 250, not 9"), ({"guidance": 2.0}, "guidance 3.0, not 2.0"),
    ({"window_frames": 30}, "window frames 40, not 30"), ({"max_steps": 70}, "frames 80, not 70"),
])  # fmt: skip
def test_another_edit_does_not_go_on_with_it(
    m: InstructMusicGen, tmp_path: Path, source: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(Stop):
        edit(m, clips.load(source), EditOptions(TEXT, 5), tmp_path / "out.wav", progress=interrupted(80, Stop))
    order = EditOptions(**{"text": TEXT, "seed": 5, "resume": True} | change)
    with pytest.raises(UsageError, match=message):
        edit(m, clips.load(source), order, tmp_path / "out.wav")
    assert unfinished.seed_of(tmp_path / "out.wav") == 5


def test_another_clip_does_not_go_on_with_it(m: InstructMusicGen, tmp_path: Path, source: Path) -> None:
    with pytest.raises(Stop):
        edit(m, clips.load(source), EditOptions(TEXT, 5), tmp_path / "out.wav", progress=interrupted(80, Stop))
    samples, rate = soundfile.read(source)
    soundfile.write(source, samples[::-1], rate)
    with pytest.raises(UsageError, match="clip"):
        edit(m, clips.load(source), EditOptions(TEXT, 5, resume=True), tmp_path / "out.wav")


@pytest.mark.parametrize("damage", [b"", b"{}\n", b"[1]\n123", b"\xff\xfe\n", b'{"format": 1, "settings": 3}\n'])
def test_what_cannot_be_read_is_named_and_nothing_is_lost(
    m: InstructMusicGen, tmp_path: Path, source: Path, cache: Path, damage: bytes
) -> None:
    with pytest.raises(Stop):
        edit(m, clips.load(source), EditOptions(TEXT, 5), tmp_path / "out.wav", progress=interrupted(80, Stop))
    (file,) = cache.iterdir()
    file.write_bytes(damage)
    with pytest.raises(UserError, match="begin without --resume"):
        edit(m, clips.load(source), EditOptions(TEXT, 5, resume=True), tmp_path / "out.wav")
    assert file.read_bytes() == damage


@pytest.mark.slow
def test_a_full_disk_at_the_end_keeps_what_is_edited(
    m: InstructMusicGen, tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *_: object, **__: object) -> None:
        raise UserError(f"{path}: no space left on device")

    edit(m, clips.load(source), EditOptions(TEXT, 5), tmp_path / "want.wav")
    with monkeypatch.context() as patch:
        patch.setattr(whole_file, "write_with", full)
        with pytest.raises(UserError, match=r"no space left.*--resume goes on"):
            edit(m, clips.load(source), EditOptions(TEXT, 5), tmp_path / "out.wav")
    seen: list[int] = []
    edit(
        m,
        clips.load(source),
        EditOptions(TEXT, 5, resume=True),
        tmp_path / "out.wav",
        progress=lambda *s: seen.append(1),
    )
    assert seen == [] and (tmp_path / "out.wav").read_bytes() == (tmp_path / "want.wav").read_bytes()


def test_a_cache_that_cannot_be_written_is_told_and_the_edit_goes_on(
    m: InstructMusicGen, tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("INSTRUCT_MUSICGEN_CACHE", str(tmp_path / "file"))
    notes: list[str] = []
    edit(m, clips.load(source), EditOptions(TEXT, 5), tmp_path / "out.wav", tell=notes.append)
    assert (tmp_path / "out.wav").exists() and "--resume will not be possible" in notes[0]


def test_blocks_of_any_size_are_resampled_as_the_whole_is() -> None:
    samples = np.random.default_rng(1).normal(size=50_000).astype(np.float32)

    def blocks(size: int) -> Iterator[np.ndarray]:
        return (samples[at : at + size] for at in range(0, len(samples), size))

    for rate, target in ((44_100, 32_000), (32_000, 48_000), (32_000, 32_000)):
        frames = round(len(samples) * target / rate)
        want = audio.resample(samples, rate, target, frames)
        for size in (777, 16_000, 50_000):
            got = np.concatenate(list(clips.resampled(blocks(size), rate, target, frames)))
            np.testing.assert_array_equal(got, want)


def test_a_spool_that_the_disk_does_not_hold_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    own = spool.Spool()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(own._file, "write", full)
    with pytest.raises(UserError, match=r"No space left on device.*TMPDIR"):
        own.append(np.zeros(10, np.float32))


def test_the_unfinished_of_long_ago_is_forgotten(
    m: InstructMusicGen, tmp_path: Path, source: Path, cache: Path
) -> None:
    cache.mkdir(parents=True)
    for name, age in (("old.codes", unfinished.DAYS + 1), ("new.codes", unfinished.DAYS - 1)):
        (cache / name).touch()
        then = (cache / name).stat().st_mtime - age * 86400
        os.utime(cache / name, (then, then))
    edit(m, clips.load(source), EditOptions(TEXT, 5), tmp_path / "out.wav")
    assert [path.name for path in cache.iterdir()] == ["new.codes"]


def test_the_samples_of_generate_do_not_depend_on_how_the_clip_was_read(m: InstructMusicGen, source: Path) -> None:
    clip = audio.load(source)
    whole = m.encode(clip.samples)
    parts = [mx.array(block)[None] for block in clips.load(source).blocks()]
    assert mx.array_equal(mx.concatenate(list(m.codec.encoded(parts)), axis=2), whole)
