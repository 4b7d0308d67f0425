"""Arrays and numbers of other libraries: taken, or named with the fix before any work starts."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from model import InstructMusicGen, audio, checks
from model.bundle.bundle import demo_path
from model.cli import arguments
from model.decoding.request import edit_request
from model.decoding.sampling import Sampling
from model.errors import UsageError

NOISE = np.random.default_rng(1).uniform(-0.5, 0.5, 6400).astype(np.float32)
TEXT = "Only Drums."


@pytest.fixture(scope="module")
def model() -> InstructMusicGen:
    return InstructMusicGen.from_pretrained(demo_path(), backend="reference")


def forms(samples: np.ndarray) -> dict[str, tuple[Any, float]]:
    """The same sound in other forms, and by how much it may differ."""
    return {
        "numpy": (samples, 0), "list": (samples.tolist(), 0), "tuple": (tuple(samples.tolist()), 0),
        "float64": (samples.astype(np.float64), 0), "float16": (samples.astype(np.float16), 2**-11),
        "int16": (np.round(samples * 2**15).astype(np.int16), 2**-15),
        "int32": (np.round(samples.astype(np.float64) * 2**31).astype(np.int32), 2**-23),
        "uint8": (np.round(samples * 2**7 + 128).astype(np.uint8), 2**-7),
        "big endian": (samples.astype(">f4"), 0), "strided": (np.repeat(samples, 2)[::2], 0),
        "backwards": (samples[::-1].copy()[::-1], 0), "read-only": (np.frombuffer(samples.tobytes(), np.float32), 0),
        "mlx": (mx.array(samples), 0), "mlx int16": (mx.array(np.round(samples * 2**15).astype(np.int16)), 2**-15),
    }  # fmt: skip


@pytest.mark.parametrize("form", forms(NOISE))
def test_sound_of_any_library_is_the_same_sound(form: str, tmp_path: Path) -> None:
    value, exact = forms(NOISE)[form]
    assert np.abs(np.array(checks.samples(value)) - NOISE).max() <= exact
    audio.save(tmp_path / "a.wav", value, 32_000)
    assert np.abs(soundfile.read(tmp_path / "a.wav", dtype="float32")[0] - NOISE).max() <= exact
    assert np.abs(audio.resample(value, 32_000, 32_000) - NOISE).max() <= exact


@pytest.mark.slow
def test_generate_takes_what_load_gives_and_lists(model: InstructMusicGen) -> None:
    want = np.array(model.generate(TEXT, mx.array(NOISE), 3))
    for value in (NOISE, NOISE.tolist(), NOISE.astype(np.float64)):
        assert np.array_equal(np.array(model.generate(TEXT, value, np.int64(3), seed=np.uint64(0))), want)
    codes = np.array(model.encode(NOISE))
    for kind in (codes, codes.tolist(), codes.astype(np.int64), codes.astype(np.uint16)):
        assert np.array_equal(np.array(model.decode(kind)), np.array(model.decode(mx.array(codes))))


SHAPES: dict[str, tuple[Any, str]] = {
    "stereo": (np.stack([NOISE, NOISE], 1), r"\(6400, 2\), which looks like \[samples, channels\].*mean\(axis=1\)"),
    "one channel last": (NOISE[:, None], r"\(6400, 1\), which looks like \[samples, channels\]"),
    "three axes": (NOISE[None, None], r"\(1, 1, 6400\); it must be \[samples\] or \[batch, samples\]"),
    "scalar": (0.5, r"shape \(\)"), "short": (NOISE[:639], "639 samples, less than one frame"),
    "empty": ([], "0 samples"), "int64": (np.zeros(6400, np.int64), "int64; give floats"),
    "text": (["a"] * 6400, "give floats"), "none": (None, "give floats"), "complex": (NOISE + 0j, "complex64"),
    "bool": (NOISE > 0, "bool"), "ragged": ([[0.1], [0.2, 0.3]], "cannot be read as an array"),
    "nan": (np.where(np.arange(6400) == 9, np.nan, NOISE), "NaN or infinite"),
    "too large": (np.full(6400, 1e300), "NaN or infinite"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("case", SHAPES)
def test_sound_that_cannot_be_taken_is_named(model: InstructMusicGen, case: str) -> None:
    value, message = SHAPES[case]
    with pytest.raises(ValueError, match=message):
        model.generate(TEXT, value)
    if case == "short":  # a part of a frame is a frame to the codec
        assert model.encode(value).shape == (1, 4, 1)
        return
    with pytest.raises(ValueError, match=message):
        model.encode(value)


def test_save_takes_one_row_and_names_the_rest(tmp_path: Path) -> None:
    audio.save(tmp_path / "a.wav", mx.array(NOISE)[None], 32_000)
    assert np.array_equal(soundfile.read(tmp_path / "a.wav", dtype="float32")[0], NOISE)
    (tmp_path / "a.wav").unlink()
    for value, message in (
        (np.stack([NOISE, NOISE], 1), r"\[samples, channels\]"), (np.stack([NOISE, NOISE]), r"\(2, 6400\).*one clip"),
        (NOISE[:, None], r"\[samples, channels\]"), (["x"], "give floats"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            audio.save(tmp_path / "a.wav", value, 32_000)
    for rate in (0, -1, 1.5, "32000", None, np.nan, 2**40):
        with pytest.raises(ValueError, match="rate="):
            audio.save(tmp_path / "a.wav", NOISE, rate)
    assert list(tmp_path.iterdir()) == []


NUMBERS: dict[str, list[Any]] = {
    "seed": [-1, 1.5, "1", 2**64, True, np.float32(1), b"1", float("nan")],
    "top_k": [5.0, -1, "5", None, float("inf"), True],
    "top_p": [-0.1, 1.5, "0.5", None, float("nan"), [0.5]],
    "temperature": [-1, "1", None, float("inf"), float("nan"), 1j],
    "guidance": ["3", None, float("nan"), float("-inf"), 1e9],
    "max_steps": [0, -1, 2.5, "3", float("nan"), True],
    "window_frames": [0, 1.5, "9", 10**9], "stride_frames": [0, 2.5, "9", 10**9],
}  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_out_of_range_are_named_before_work_starts(
    model: InstructMusicGen, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(InstructMusicGen, "encode", lambda *_: pytest.fail("work has started"))
    for value in NUMBERS[name]:
        with pytest.raises(ValueError, match=rf"^{name}=") as raised:
            model.generate(TEXT, NOISE, **{name: value})
        assert any(word in str(raised.value) for word in ("at least", "between", "from ")), raised.value


def test_numbers_of_numpy_are_numbers(model: InstructMusicGen) -> None:
    want = np.array(model.generate(TEXT, NOISE, 3, 7, 0.5, 9, 0.0, 2.0))
    one = {"seed": np.int32(7), "temperature": np.float32(0.5), "top_k": np.uint8(9), "guidance": np.array(2)}
    assert np.array_equal(np.array(model.generate(TEXT, NOISE, mx.array(3), **one)), want)
    assert Sampling(np.float64(1), np.int16(3), np.float16(0.5)) == Sampling(1.0, 3, 0.5)


@pytest.mark.parametrize("text", [None, 5, b"Only Drums.", [], ["a", "b"], [None], ["a", 3]])
def test_texts_that_are_none_are_named(model: InstructMusicGen, text: Any) -> None:
    with pytest.raises(ValueError, match="text"):
        model.generate(text, NOISE)


def test_no_seed_draws_one_and_tells_it(model: InstructMusicGen, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        drawn = np.array(model.generate(TEXT, NOISE, 5, seed=None))
    (told,) = [record.getMessage() for record in caplog.records if "seed=" in record.getMessage()]
    seed = int(told.partition("seed=")[2].split()[0])
    assert np.array_equal(np.array(model.generate(TEXT, NOISE, 5, seed=seed)), drawn)
    first, second = checks.seeds(None, 2)
    assert first == second
    assert len({checks.seeds(None, 1)[0] for _ in range(3)}) == 3


@given(st.integers(-(2**70), 2**70), st.integers(-9, 9), st.integers(-9, 9))
def test_whole_numbers_are_taken_exactly_within_their_range(value: int, low: int, high: int) -> None:
    if low <= value <= high:
        assert checks.whole("n", value, low, high) == value
    else:
        with pytest.raises(ValueError, match=rf"n={value} must be a whole number, from {low} to {high}"):
            checks.whole("n", value, low, high)


@pytest.mark.parametrize("value", [200_000.0, -1e6, 1e6, 1.000001e6, -2e6])
def test_the_command_line_takes_the_guidance_that_python_takes(
    value: float, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["edit", "a", "-i", "x", "-o", "b", f"--guidance={value!r}"]
    if abs(value) <= 1e6:
        assert arguments.parse(given).guidance == edit_request("x", 1, [], 0, Sampling(), value).guidance == value
        return
    with pytest.raises(ValueError, match="between -1e\\+06 and 1e\\+06"):
        edit_request("x", 1, [], 0, Sampling(), value)
    with pytest.raises(UsageError, match="between -1e\\+06 and 1e\\+06"):
        arguments.parse(given)
