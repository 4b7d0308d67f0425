"""Threads and processes: results any thread can use, one model for several threads, copies and forks refused."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from model import InstructMusicGen, audio
from model.bundle.bundle import demo_path
from tests import backends

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
BACKENDS = [name for name in backends.names() if name != "interpreter"]
NOISE = np.random.default_rng(0).normal(0, 0.1, (6, 6400)).astype(np.float32)


@pytest.fixture(scope="module", params=BACKENDS)
def model(request: pytest.FixtureRequest) -> InstructMusicGen:
    return InstructMusicGen.from_pretrained(demo_path(), backend=request.param)


JOBS: dict[str, Callable[[InstructMusicGen], mx.array]] = {
    "generate": lambda m: m.generate("Only Drums.", NOISE[0]),
    "generate a batch": lambda m: m.generate(["Only Drums.", "Remove the bass, please."], NOISE[:2]),
    "encode": lambda m: m.encode(NOISE[0]),
    "decode": lambda m: m.decode(np.zeros((1, 4, 10), np.int32)),
    "edit_codes": lambda m: m.edit_codes(np.ones((1, 4, 10), np.int32), "Only Drums."),
}


@pytest.mark.parametrize("job", JOBS)
def test_what_a_thread_computes_another_can_use(model: InstructMusicGen, job: str, tmp_path: Path) -> None:
    want = np.array(JOBS[job](model))
    with ThreadPoolExecutor(1) as pool:
        got = pool.submit(JOBS[job], model).result()
    assert np.array_equal(np.array(got), want) and np.array_equal(np.array(got + 0), want)
    looped = asyncio.run(asyncio.to_thread(JOBS[job], model))
    assert np.array_equal(np.array(looped), want)
    if job == "generate":
        audio.save(tmp_path / "a.wav", got, 32_000)


def test_a_model_made_in_a_thread_works_in_others(model: InstructMusicGen) -> None:
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(InstructMusicGen.from_pretrained, demo_path(), backend=model.backend).result()
    assert np.array_equal(np.array(JOBS["generate"](made)), np.array(JOBS["generate"](model)))


def test_threads_that_share_a_model_get_their_own_results(model: InstructMusicGen) -> None:
    def job(n: int) -> np.ndarray:
        return np.array(model.generate(f"Only Drums {n}.", NOISE[n], seed=n))

    want = [job(n) for n in range(len(NOISE))]
    with ThreadPoolExecutor(len(NOISE)) as pool:
        got = list(pool.map(job, [*range(len(NOISE))] * 2))
    assert all(np.array_equal(a, b) for a, b in zip(got, want * 2))
    assert not np.array_equal(want[0], want[1])


def test_the_codec_is_loaded_once_by_threads_that_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    from model import pipeline

    loaded: list[int] = []
    load = pipeline.load_codec  # type: ignore[attr-defined]
    monkeypatch.setattr(pipeline, "load_codec", lambda path: (loaded.append(1), load(path))[1])
    model = InstructMusicGen.from_pretrained(demo_path(), backend="reference")
    meet = threading.Barrier(4)

    def job(_: int) -> int:
        meet.wait()
        return id(model.codec)

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(job, range(4)))) == 1
    assert len(loaded) == 1


def test_steps_can_be_read_in_another_thread(model: InstructMusicGen) -> None:
    from model.decoding import windows
    from model.decoding.sampling import Sampling

    codes = mx.array(np.ones((1, 4, 10), np.int32))
    run = model.edit_steps(codes, ["Only Drums."], [windows.Window(0, 10, 0)], Sampling(greedy=True), 3.0, 0)
    with ThreadPoolExecutor(1) as pool:
        seen = [pool.submit(lambda step=step: np.array(step.tokens)).result() for step in run]
    assert len(seen) == 13 and all(tokens.shape == (1, 4, 1) for tokens in seen)


@pytest.mark.parametrize("what", [copy.copy, copy.deepcopy, pickle.dumps])
def test_copying_says_what_to_do_instead(model: InstructMusicGen, what: Callable[[object], object]) -> None:
    with pytest.raises(TypeError, match=r"threads can share one .*from_pretrained\(.*demo"):
        what(model)


FORK = """
import os, sys
import mlx.core as mx, numpy as np
{before}
from model import InstructMusicGen
from model.bundle.bundle import demo_path
{prepare}
pid = os.fork()
if pid == 0:
    try:
        m = InstructMusicGen.from_pretrained(demo_path(), backend="reference") if {load} else model
        print(m.generate("Only Drums.", np.full(6400, 0.1, np.float32), 2).shape, flush=True)
        os._exit(0)
    except RuntimeError as e:
        print(e, flush=True)
        os._exit(3)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
MADE = 'model = InstructMusicGen.from_pretrained(demo_path(), backend="reference")'


@pytest.mark.parametrize(("before", "prepare", "load", "code"), [
    ("", MADE, False, 3), ("", MADE, True, 3), ("mx.eval(mx.ones(3) + 1)", "InstructMusicGen", True, 3),
    ("", "InstructMusicGen", True, 0),
])  # fmt: skip
def test_a_forked_child_refuses_instead_of_hanging(before: str, prepare: str, load: bool, code: int) -> None:
    """Where MLX had been used before; a child of a process that only imported it works."""
    script = FORK.format(before=before, prepare=prepare, load=load)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    *said, status = done.stdout.splitlines()
    assert int(status) == code, done
    assert said == ["(1280,)"] if code == 0 else "get_context('spawn')" in said[0]


def test_this_process_is_no_forked_child() -> None:
    from model.system import threads

    assert os.getpid() == threads.LOADED_IN
    threads.check(os.getpid())
