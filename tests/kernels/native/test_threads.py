"""The pool of threads: any number of them, many callers, forks, and the end of the process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType

import mlx.core as mx
import numpy as np
import pytest

from . import pool_hooks
from .conftest import Packed
from .pool_hooks import Pool

pytestmark = [pytest.mark.backend("native"), pytest.mark.slow]

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """The pool's own sources with hooks around them, compiled for these tests."""
    if why := pool_hooks.missing():
        pytest.skip(why)  # tests/conftest.py says so at the end of the run
    return Pool(pool_hooks.build(tmp_path_factory.mktemp("pool")))


def run(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], env=os.environ | environment, capture_output=True, text=True,
        cwd=ROOT, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_every_chunk_runs_once(native: ModuleType, pool: Pool, threads: int) -> None:
    native.set_threads(threads)
    assert native.info()["threads"] == threads
    pool.set_threads(threads)
    for count in (0, 1, 2, threads, 1000, 3_000_000):  # the last needs more than one round of chunk numbers
        assert pool.sum(count) == count * (count - 1) // 2


@pytest.mark.parametrize("threads", [1, 2, 3, 7, 300])
def test_every_piece_of_the_shares_runs_once(pool: Pool, threads: int) -> None:
    """Whoever runs it: pieces fewer than threads, as many, and more, of which some threads help with others'."""
    pool.set_threads(threads)
    for count in (0, 1, 2, threads, 1000):
        for _ in range(20):
            assert pool.shares_wrong(count) == 0


def test_the_variable_sets_the_threads_and_all_cores_are_the_default() -> None:
    script = "import kernels.native as n; print(n.info()['threads'])"
    assert run(script, INSTRUCT_MUSICGEN_THREADS="3").stdout.strip() == "3"
    assert run(script, INSTRUCT_MUSICGEN_THREADS="").stdout.strip() == str(len(os.sched_getaffinity(0)))


@pytest.mark.parametrize("count", [0, -1, 5000])
def test_a_senseless_number_of_threads_is_refused(native: ModuleType, count: int) -> None:
    with pytest.raises(ValueError, match=f"threads={count} is out of range"):
        native.set_threads(count)


def test_results_do_not_depend_on_the_threads(native: ModuleType, rng: np.random.Generator) -> None:
    """Bit by bit: BLAS and the kernels must be given the same pieces whoever computes them."""

    def draw(*shape: int) -> mx.array:
        return mx.array(rng.normal(size=shape).astype(np.float32))

    packed, long = Packed(rng, 301, 256), Packed(rng, 130, 1088)
    x, few, tall = draw(2, 256), draw(2, 1088), draw(700, 1088)
    dense, half = draw(301, 256), draw(130, 1088).astype(mx.float16)
    q, k = draw(2, 3, 70, 64), draw(2, 3, 90, 64)
    signal, narrow = draw(1, 3000, 48), draw(1, 4000, 1)
    qkv, cache = draw(2, 30, 3 * 3 * 64), draw(2, 2, 3, 50, 64)

    def everything() -> list[mx.array]:
        return [
            native.int4_matmul(x, *packed.args, activation="gelu"),
            native.int4_matmul(few, *long.args),
            native.int4_matmul(tall, *long.args, activation="gelu"),
            native.int4_matmul(tall.astype(mx.bfloat16), *long.args),
            native.linear(x, dense),
            native.linear(tall, half),
            native.prefix_attention(q, k, k, q[:1], k[:1], k[:1], 0.5, scale=0.1, length=80),
            native.attention(q[:, :, :3], k, k, scale=0.1),
            native.conv1d(signal, draw_w, draw_b, stride=2, elu=True),
            native.conv1d(narrow, thin_w, draw_b[:32]),
            native.conv1d(signal[:, :200], wide_w, wide_b),
            native.conv_transpose1d(signal, draw_w, draw_b, stride=4, elu=True),
            *native.lstm(signal[:, :50], *cell),
            native.conv_transpose1d(
                signal[:, :30], native.lay_out(draw_w, "conv_transpose1d", stride=4), draw_b, stride=4
            ),
            *native.lstm(signal[:, :50], *(native.lay_out(each, "lstm") for each in cell[:2]), cell[2]),
            *native.self_attention(qkv[:, :1], cache, 40, (q[:1], k[:1], k[:1], 0.5), scale=0.1, query_row=3),
            *native.self_attention(qkv, cache, 5, scale=0.1),
        ]

    draw_w, draw_b, thin_w = draw(40, 8, 48), draw(40), draw(32, 7, 1)
    wide_w, wide_b, cell = draw(512, 3, 48), draw(512), [draw(192, 48), draw(192, 48), draw(192)]
    results = []
    for threads in (1, 2, 7):
        native.set_threads(threads)
        results.append([np.array(a.astype(mx.float32)) for a in everything()])
    for other in results[1:]:
        for i, (a, b) in enumerate(zip(results[0], other)):
            assert (a == b).all(), f"operation {i}"


def test_no_memory_in_a_chunk_is_the_callers_error(pool: Pool) -> None:
    """Whichever thread it meets: the loop ends, the first error is raised, and the pool goes on."""
    for threads in (1, 3):
        pool.set_threads(threads)
        for _ in range(20):
            assert pool.fails_for_lack_of_memory(50)
            assert pool.sum(1000) == 499500


def test_many_python_threads_at_once(native: ModuleType, rng: np.random.Generator) -> None:
    """One of them has the pool, the others do their own work; each on a stream of its own."""
    packed = Packed(rng, 192, 128)
    inputs = [mx.array(rng.normal(size=(2, 128)).astype(np.float32)) for _ in range(4)]

    def compute(x: mx.array) -> mx.array:
        qkv = native.int4_matmul(x, *packed.args)[:, None]
        return native.self_attention(qkv, mx.zeros((2, 2, 4, 9, 16)), 8, scale=0.25)[0]

    expected = [np.array(compute(x)) for x in inputs]
    failures: list[str] = []

    def work(i: int) -> None:
        stream = mx.new_stream(mx.cpu)
        with mx.stream(stream):
            for _ in range(50):
                if not (np.array(compute(inputs[i])) == expected[i]).all():
                    failures.append(f"thread {i}")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


def test_busy_neighbors_change_no_result(native: ModuleType, rng: np.random.Generator) -> None:
    """Chunks of threads that lose their core are waited for, or done by others; more threads than cores, too."""

    def draw(*shape: int) -> mx.array:
        return mx.array(rng.normal(size=shape).astype(np.float32))

    qkv, cache, signal = draw(2, 1, 3 * 4 * 32), draw(2, 2, 4, 60, 32), draw(1, 30, 70)
    maps, bias = [native.lay_out(draw(280, 70) * 0.1, "lstm") for _ in range(2)], draw(280)

    def both() -> list[mx.array]:
        return [*native.self_attention(qkv, cache, 40, scale=0.2), *native.lstm(signal, *maps, bias)]

    expected = [np.array(each) for each in both()]
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 2
    native.set_threads(cores + 1)
    neighbors = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores)]
    try:
        for _ in range(40):
            for got, want in zip(both(), expected):
                np.testing.assert_array_equal(np.array(got), want)
    finally:
        for neighbor in neighbors:
            neighbor.kill()
            neighbor.wait()


FORK = """
import os, sys, warnings
warnings.simplefilter("ignore")
import mlx.core as mx
import kernels.native as n
from tests.kernels.native.pool_hooks import Pool
pool = Pool(sys.argv[1])
n.set_threads(3)
pool.set_threads(3)
assert pool.sum(1000) == 499500
x = mx.ones((40, 64)); w = mx.ones((96, 64)); qkv = mx.ones((2, 20, 96)); cache = mx.zeros((2, 2, 2, 30, 16))
mx.eval(x, w, qkv, cache)
before = n.linear(x, w); mx.eval(before)   # OpenBLAS too has run
child = os.fork()
if child == 0:
    ok = pool.sum(1000) == 499500 and pool.threads() == 3 and n.info()["threads"] == 3
    with mx.stream(mx.new_stream(mx.cpu)):  # MLX's own stream thread did not survive the fork
        ok = ok and bool((n.linear(x, w) == 64).all())
        ok = ok and bool(mx.allclose(n.self_attention(qkv, cache, 0, scale=0.1)[0], mx.array(1.0)))
    os._exit(0 if ok else 1)
_, status = os.waitpid(child, 0)
assert pool.sum(1000) == 499500
print("child", os.waitstatus_to_exitcode(status))
"""


def test_a_fork_gets_a_pool_of_its_own(pool: Pool) -> None:
    done = run(FORK, pool.library)
    assert done.returncode == 0 and done.stdout.strip() == "child 0", done.stderr


@pytest.mark.parametrize(
    "ending", ["", "import sys; sys.exit(3)", "mx.async_eval(n.linear(x, w))", "n._ext().stop_threads()"]
)
def test_the_process_ends_cleanly(ending: str) -> None:
    script = (
        "import mlx.core as mx, kernels.native as n\nn.set_threads(4)\n"
        f"x = mx.ones((300, 512)); w = mx.ones((512, 512))\nmx.eval(n.linear(x, w))\n{ending}"
    )
    done = run(script)
    assert done.returncode == (3 if "exit" in ending else 0) and not done.stderr, done.stderr


def test_a_stopped_pool_starts_again(native: ModuleType, pool: Pool, rng: np.random.Generator) -> None:
    pool.stop()
    assert pool.sum(100) == 4950
    packed, x = Packed(rng, 200, 128), mx.array(rng.normal(size=(2, 128)).astype(np.float32))
    before = np.array(native.int4_matmul(x, *packed.args))
    native._ext().stop_threads()
    assert (np.array(native.int4_matmul(x, *packed.args)) == before).all()


CORES = """
import os, sys, time
from tests.kernels.native.pool_hooks import Pool
pool = Pool(sys.argv[1])
pool.set_threads(3)

def after_naps():
    for _ in range(10):
        pool.sum(1000)
        time.sleep(0.003)  # the workers spin for 0.1 ms, then sleep
    return [os.sched_getaffinity(int(task)) for task in os.listdir("/proc/self/task")]

mine = os.sched_getaffinity(0)
assert all(cores == mine for cores in after_naps()), (mine, after_naps())
one = {min(mine)}
for task in os.listdir("/proc/self/task"):
    os.sched_setaffinity(int(task), one)
assert all(cores == one for cores in after_naps()), after_naps()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux says where threads may run")
def test_workers_keep_the_cores_they_were_given(pool: Pool) -> None:
    """A waking worker is kept off the caller's core, and only then; `taskset` on a running process is obeyed."""
    done = run(CORES, pool.library)
    assert done.returncode == 0, done.stderr
