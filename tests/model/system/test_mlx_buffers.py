"""Memory stays flat over many windows, and its limits are knobs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlx.core as mx
import pytest

import kernels
from model import InstructMusicGen
from model.bundle.bundle import demo_path, open_bundle
from model.decoding.windows import Window
from model.errors import UserError
from model.system import mlx_buffers

from ... import backends

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.parametrize("backend", [b for b in backends.names() if b != "interpreter"])
def test_memory_is_flat_over_many_windows(backend: str) -> None:
    """What is held when a window's steps begin does not grow from window to window, but by the codes that it made."""
    held: list[int] = []

    @contextmanager
    def listen(stage: str) -> Iterator[None]:
        if stage == "steps":
            held.append(mx.get_active_memory() + mx.get_cache_memory())
        yield

    model = InstructMusicGen(open_bundle(demo_path()), kernels.load(backend), listen)
    plan = [Window(0, 12, 0), *(Window(6 * n, 12, 6) for n in range(1, 9))]
    model.edit_codes(mx.zeros((1, 4, 60), dtype=mx.int32), "Add Piano.", greedy=True, plan=plan)
    assert len(held) == len(plan)
    codes = 9 * 60 * 4 * 4
    assert max(held[1:]) - min(held[1:]) <= 8 * codes, held


def test_a_prefill_s_buffers_are_given_back_before_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    @contextmanager
    def listen(stage: str) -> Iterator[None]:
        told.append(stage)
        yield

    monkeypatch.setattr(mx, "clear_cache", lambda: told.append("released"))
    model = InstructMusicGen(open_bundle(demo_path()), kernels.load("reference"), listen)
    model.edit_codes(mx.zeros((1, 4, 4), dtype=mx.int32), "Add Piano.", greedy=True)
    assert told[-3:] == ["adapter", "released", "steps"]


def test_limits_are_set_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    said: dict[str, int] = {}
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    monkeypatch.setattr(mx, "device_info", lambda: {"max_recommended_working_set_size": 6 << 30})
    monkeypatch.setattr(mx, "set_cache_limit", lambda n: said.__setitem__("cache", n))
    monkeypatch.setattr(mx, "set_wired_limit", lambda n: said.__setitem__("wired", n))
    mlx_buffers.limit()
    assert said == {"cache": 512 << 20, "wired": 6 << 30}
    monkeypatch.setenv(mlx_buffers.CACHE, "100")
    monkeypatch.setenv(mlx_buffers.WIRED, "99999")
    mlx_buffers.limit()
    assert said == {"cache": 100 << 20, "wired": 6 << 30}, "no more than Metal recommends, which MLX would refuse"
    monkeypatch.setenv(mlx_buffers.WIRED, "0")
    mlx_buffers.limit()
    assert said["wired"] == 0


@pytest.mark.parametrize("value", ("-1", "1.5", "many", "1" * 12))
def test_a_limit_that_is_no_number_is_refused_on_every_machine(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(mlx_buffers.CACHE, value)
    with pytest.raises(UserError, match="whole number"):
        mlx_buffers.limit()


FREED = """
import resource, sys
import mlx.core as mx
from model.system import mlx_buffers
mlx_buffers.limit()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    mx.eval(mx.ones(10_000_000))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
def resident():
    return int(open("/proc/self/statm").read().split()[1])
for _ in range(4):
    faults()
again, kept = sum(faults() for _ in range(4)), resident()
mlx_buffers.release()
print(again, kept - resident())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is Linux's")
@pytest.mark.parametrize("chosen", [{}, {"MALLOC_MMAP_THRESHOLD_": "1000000"}], ids=["ours", "the user's"])
def test_freed_memory_is_used_again_and_given_back_between_stages(chosen: dict[str, str]) -> None:
    """40 MB, some 9800 pages: none is new after a few times; unless the user has chosen otherwise.

    The first times may be: the heap can hold a second place of that size before one that was freed fits again.
    """
    done = subprocess.run(
        [sys.executable, "-c", FREED], cwd=ROOT, env=os.environ | chosen, capture_output=True, text=True, check=True
    )
    again, given_back = map(int, done.stdout.split())
    if chosen:
        assert again > 5000
    else:
        assert again < 100 and given_back > 9000
