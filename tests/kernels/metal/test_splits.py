"""Keys of a decode step split among threadgroups: when, into how many parts, and that nothing else changes."""

from __future__ import annotations

import dataclasses
import functools
import subprocess
import sys
from typing import Any

import mlx.core as mx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import interpreter, metal
from kernels.metal import cores, knobs
from kernels.metal.choices import default
from kernels.metal.splits import splits

from ...strategies import PrefixAttention, seeds
from ..operations.test_prefix_attention import check, tallest_anywhere

CASE = PrefixAttention(
    seed=4, shared=1, pairs=2, heads=3, steps=1, slots=40, length=37, frames=41, dim=16, gate=0.7, dtype=mx.float32,
    layout="contiguous",
)  # fmt: skip


@functools.cache
def ops(parts: int) -> metal.MetalOps:
    choices = metal.Choices(attention_splits=parts)
    return metal.MetalOps("interpreter", metal.Engine(interpreter.metal_kernel, {"check": True}, choices=choices))


@pytest.mark.backend("interpreter")
@given(
    seed=seeds, parts=st.sampled_from((2, 5)), shared=st.integers(1, 3), heads=st.integers(1, 3),
    length=st.integers(1, 60), spare=st.integers(0, 3), frames=st.integers(1, 60),
    gate=st.sampled_from((0.0, 0.7, -1.3)),
)  # fmt: skip
def test_parts_of_any_lengths_give_the_whole(
    seed: int, parts: int, shared: int, heads: int, length: int, spare: int, frames: int, gate: float
) -> None:
    """Also with fewer keys than parts, some of which are empty, and with a prefix for each of several songs."""
    check(
        ops(parts),
        dataclasses.replace(
            CASE, seed=seed, shared=shared, heads=heads, slots=length + spare, length=length, frames=frames, gate=gate
        ),
    )


@pytest.mark.backend("interpreter")
def test_the_largest_score_may_stand_in_any_part() -> None:
    tallest_anywhere(ops(5), 1)


@pytest.mark.backend("interpreter")
@pytest.mark.parametrize("parts", (1, 2, 5))
def test_parts_read_each_key_once_in_threadgroups_of_their_own(parts: int) -> None:
    grids: list[tuple[int, ...]] = []
    built: list[Any] = []

    def build(**options: Any) -> Any:
        kernel = interpreter.metal_kernel(**options)
        built.append(kernel)

        def call(**a: Any) -> list[mx.array]:
            grids.append(tuple(n // t for n, t in zip(a["grid"], a["threadgroup"])))
            return kernel(**a)

        return call

    engine = metal.Engine(build, {"check": True}, choices=metal.Choices(attention_splits=parts))
    check(metal.MetalOps("interpreter", engine), dataclasses.replace(CASE, shared=2))
    assert grids[0] == (3, 2, parts) and len(grids) == (1 if parts == 1 else 2)
    for name in ("k", "v", "prefix_k", "prefix_v"):
        counter = built[0].counters[name]
        keys = 2 * 2 * 37 if name in ("k", "v") else 2 * 41  # of the pairs' rows, of the songs
        assert counter.loaded == counter.unique_loaded == keys * 3 * 16 * 4, name


@pytest.mark.parametrize(
    ("cores", "slots", "rows", "frames", "threadgroups", "parts"),
    [
        (0, 504, 2, 500, 32, 1),  # cores that nobody told
        (10, 504, 2, 500, 32, 1),  # each core has three heads
        (32, 504, 2, 500, 32, 1),
        (40, 504, 2, 500, 32, 2),  # MusicGen-large on an M4 Max, a window of 10 s
        (40, 254, 2, 250, 32, 1),  # and of 5 s, where the join costs what it saves
        (40, 504, 2, 500, 64, 1),  # two songs
        (40, 504, 1, 500, 32, 2),
        (40, 254, 2, 500, 32, 2),  # a long prefix
        (80, 504, 2, 500, 32, 3),  # an Ultra
        (80, 504, 2, 500, 16, 5),  # MusicGen-small
        (80, 2000, 2, 2000, 16, 6),  # more keys want more parts than cores do
        (10, 2000, 2, 2000, 16, 6),
        (80, 2000, 2, 2000, 200, 1),
    ],
)
def test_the_default_follows_keys_and_cores(
    cores: int, slots: int, rows: int, frames: int, threadgroups: int, parts: int
) -> None:
    assert splits(metal.Choices(cores=cores), slots, rows, frames, threadgroups) == parts


def test_a_tuned_number_of_parts_stands() -> None:
    assert splits(metal.Choices(cores=80, attention_splits=1), 504, 2, 500, 32) == 1
    assert splits(metal.Choices(attention_splits=4), 20, 1, 20, 1) == 4


@pytest.mark.backend("interpreter")
def test_a_gpu_of_many_cores_gets_parts() -> None:
    grids = []

    def build(**options: Any) -> Any:
        def call(**a: Any) -> list[mx.array]:
            grids.append((options["name"].split("_T_")[0], *a["grid"]))
            return [mx.zeros(shape, dtype=dtype) for shape, dtype in zip(a["output_shapes"], a["output_dtypes"])]

        return call

    engine = metal.Engine(build, choices=default("applegpu_g16s", (26, 0), "0.32.4", 40))
    metal.MetalOps("metal", engine).prefix_attention(
        **dataclasses.replace(CASE, heads=32, slots=504, length=3, frames=500).arguments()
    )
    assert grids == [("prefix_attention", 32 * 256, 1, 2), ("prefix_attention_join", 16, 32, 2)]


LISTED = b"""+-o AGXAcceleratorG16X  <class AGXAcceleratorG16X, id 0x100000b53, registered, matched, active>
    {
      "gpu-core-count" = 40
      "model" = "Apple M4 Max"
      "AGXParameterBufferMaxSize" = 1207959552
    }
"""


@pytest.mark.parametrize(
    ("listed", "architecture", "expected"),
    [
        (LISTED, "applegpu_g16s", 40),
        (b"\xff no such class", "applegpu_g16s", 24),
        (b"", "applegpu_g13d", 48),
        (b"", "applegpu_g14g", 7),
        (b"", "applegpu_g14p", 0),
        (b"", "something else", 0),
    ],
)
def test_cores_are_what_macos_lists_or_the_fewest_of_the_architecture(
    listed: bytes, architecture: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        assert command[0] == "/usr/sbin/ioreg" and options["timeout"] <= 5
        return subprocess.CompletedProcess(command, 0, listed.decode(errors=options["errors"]), "")

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(subprocess, "run", run)
    assert cores.gpu_cores.__wrapped__(architecture) == expected


@pytest.mark.parametrize("error", (FileNotFoundError("ioreg"), subprocess.TimeoutExpired("ioreg", 5)))
def test_a_tool_that_fails_is_no_error(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(subprocess, "run", run)
    assert cores.gpu_cores.__wrapped__("applegpu_g15s") == 24
    monkeypatch.setattr(sys, "platform", "linux")
    assert cores.gpu_cores.__wrapped__("") == 0


@pytest.mark.parametrize("value", (-1, 17, 2.0, True, "2"))
def test_other_numbers_of_parts_cannot_be_chosen(value: Any) -> None:
    with pytest.raises(ValueError, match=f"attention_splits={value!r} cannot be; use 1 to 16"):
        metal.Choices().changed({"attention_splits": value})
    with pytest.raises(ValueError, match="cores=-1 cannot be"):
        metal.Choices().changed({"cores": -1})


def test_parts_are_a_knob_of_tuning() -> None:
    values = knobs()["attention_splits"]
    assert values[0] == metal.Choices().attention_splits == 0
    assert [metal.Choices().changed({"attention_splits": n}).attention_splits for n in values] == values == [0, 1, 2, 4]
