"""A step is enqueued in halves, and none of its caches before the cache's last reader has been waited for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import kernels
from model import InstructMusicGen
from model.bundle.bundle import demo_path, open_bundle
from model.decoding.decode import Decoder, DecoderState
from model.decoding.sampling import Sampling
from model.decoding.step_queue import StepQueue
from model.network.state import KVCache, LayerState
from model.network.transformer import Layer

from ... import backends

FRAMES = 12


BACKENDS = [b for b in backends.names() if b != "interpreter"]  # which runs a kernel when it is called


@pytest.fixture(scope="module", params=BACKENDS)
def model(request: pytest.FixtureRequest) -> InstructMusicGen:
    return InstructMusicGen(open_bundle(demo_path()), kernels.load(request.param))


def steps(model: InstructMusicGen) -> tuple[DecoderState, Iterator[mx.array]]:
    """The state of a window, and its steps."""
    text = model.lm.text_kv(model.condition(["Add Piano."]))
    made: list[DecoderState] = []

    class Kept(Decoder):
        def start(self, clip_codes: mx.array, frames: int) -> DecoderState:
            made.append(super().start(clip_codes, frames))
            return made[-1]

    codes = mx.zeros((1, model.lm.config.codebooks, FRAMES + 1), dtype=mx.int32)
    run = Kept(model.lm, model.adapter, text, 3.0, Sampling(greedy=True)).tokens(codes, codes[:, :, :0], FRAMES, [0])
    next(run)
    return made[0], run


class Spy:
    """Follows `mx.eval` and `mx.async_eval`, and which layers' caches each array enqueued depends on.

    `late`: the layers whose cache was enqueued while a reader of it was enqueued and not yet waited for.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, layers: int) -> None:
        self.calls: list[tuple[str, int]] = []
        self.late: list[int] = []
        self._touched: list[int] = []  # since the last array was enqueued
        self._running: dict[int, set[int]] = {}  # id of an enqueued array: layers that it reads
        self._kept: list[mx.array] = []
        stock_eval, stock_async, attend = mx.eval, mx.async_eval, Layer.self_attention
        order = iter(range(1_000_000))

        def attended(layer: Layer, x: mx.array, state: LayerState) -> mx.array:
            self._touched.append(next(order) % layers)
            return attend(layer, x, state)

        def waited(*arrays: Any) -> None:
            for array in arrays:
                if isinstance(array, mx.array) and id(array) in self._running:
                    self.calls.append(("wait", id(array)))
                    del self._running[id(array)]
            stock_eval(*arrays)

        def enqueued(*arrays: mx.array) -> None:
            # A step is built whole and enqueued in parts: the first of its layers belong to what is enqueued first.
            count = layers // 2 if len(arrays) == 1 else len(self._touched)
            own, self._touched = set(self._touched[:count]), self._touched[count:]
            self.late += [layer for layer in own if any(layer in read for read in self._running.values())]
            self._running[id(arrays[0])] = own
            self._kept += arrays
            self.calls.append(("enqueue", id(arrays[0])))
            stock_async(*arrays)

        monkeypatch.setattr(Layer, "self_attention", attended)
        monkeypatch.setattr(mx, "eval", waited)
        monkeypatch.setattr(mx, "async_eval", enqueued)


def test_no_cache_is_enqueued_before_its_last_reader_has_been_waited_for(
    model: InstructMusicGen, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, run = steps(model)
    spy = Spy(monkeypatch, len(model.lm.layers))
    done = sum(1 for _ in run)
    assert spy.late == []
    # After the first step: wait for a half, enqueue it anew, while the other half runs.
    assert [what for what, _ in spy.calls] == ["enqueue"] * 2 + ["wait", "enqueue"] * 2 * (done - 1)
    enqueued = [which for what, which in spy.calls if what == "enqueue"]
    waited = [which for what, which in spy.calls if what == "wait"]
    assert waited == enqueued[: len(waited)], "halves are waited for in the order in which they were enqueued"


@pytest.mark.slow
@pytest.mark.parametrize("missing", ("_half", "_end"))
def test_the_spy_notices_a_wait_that_is_missing(
    model: InstructMusicGen, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    without(missing, monkeypatch)
    _, run = steps(model)
    spy = Spy(monkeypatch, len(model.lm.layers))
    for _ in run:
        pass
    assert spy.late


def addresses(caches: Sequence[KVCache]) -> list[int]:
    """Where the caches lie; waits until they are evaluated."""
    mx.eval([cache.kv for cache in caches])
    return [np.asarray(cache.kv).__array_interface__["data"][0] for cache in caches]


def without(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take one of the waits out."""
    wait = StepQueue._wait

    def some(queue: StepQueue, arrays: tuple[mx.array, ...]) -> None:
        if arrays is not getattr(queue, missing):
            wait(queue, arrays)

    monkeypatch.setattr(StepQueue, "_wait", some)


LONG = 1_000_000
"""Numbers whose sorting takes a CPU many times as long as Python takes to build a step of two caches."""


def elsewhere(name: str, blocked: int) -> int:
    """Run steps over two caches, one in each half; block the stream where a step writes cache number `blocked`.

    The next step is built and handed to MLX meanwhile. Returns how many caches were copied: lie elsewhere then. Few
    operations, as MLX holds back what is enqueued beyond a hundred or so, and would wait for the stream by itself.
    """
    ops, caches = kernels.load(name), [KVCache(1, 2, 8, 16, mx.float32) for _ in range(2)]
    numbers, other = mx.random.uniform(shape=(LONG,)), mx.new_stream(mx.cpu)
    x = mx.ones((1, 1, 3 * 2 * 16))
    mx.eval(numbers, x, [cache.kv for cache in caches])
    before, queue = addresses(caches), StepQueue()
    for step in range(2):
        passed = []
        for number, cache in enumerate(caches):
            if step == 0 and number == blocked:
                x = x + 0 * mx.sort(numbers, stream=other)[0]  # which the caches' stream has to wait for
            out, cache.kv = ops.self_attention(x, cache.kv, step, scale=1.0)
            x = x + out.sum()
            passed.append(x)
        queue(*passed)
    return sum(a != b for a, b in zip(before, addresses(caches)))


on_cpu = pytest.mark.skipif(mx.metal.is_available(), reason="a GPU's stream is not held up by the CPU's")


@on_cpu
@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("blocked", (0, 1))
def test_a_blocked_stream_keeps_its_caches_where_they_are(name: str, blocked: int) -> None:
    assert elsewhere(name, blocked) == 0


@on_cpu
@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize(("missing", "blocked"), [("_half", 0), ("_end", 1)])
def test_without_a_wait_a_blocked_stream_has_its_caches_copied(
    monkeypatch: pytest.MonkeyPatch, name: str, missing: str, blocked: int
) -> None:
    """On a busy machine Python may be late, and the stream goes on before the next step is there: once is enough."""
    without(missing, monkeypatch)
    assert any(elsewhere(name, blocked) for _ in range(8))


@on_cpu
def test_caches_of_a_model_stay_where_they_are(model: InstructMusicGen) -> None:
    state, run = steps(model)
    caches = [layer.cache for layer in state.layers]
    next(run)
    before = addresses(caches)
    for n, _ in enumerate(run):
        if n % 3 == 0:
            assert addresses(caches) == before
