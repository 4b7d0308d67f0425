"""Decode steps of random weights of a model's geometry, under one set of knobs after the other.

As many layers as make the weights several times as large as the caches: every layer's are cold when their turn comes,
as in the whole model. Runs in a process of its own (see `processes.worker`).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import mlx.core as mx

import kernels
from kernels import native
from model.bundle.tensors import stored_tensors
from model.config import AdapterConfig, Config, Quantization
from model.decoding.decode import DecoderState
from model.decoding.guidance import guide
from model.decoding.sampling import Sampling
from model.network.projection import Weights
from model.network.state import LayerPrefix
from model.network.transformer import LanguageModel
from model.synthetic import PRESETS
from model.system.machine import cache_bytes
from reference.contract import Ops

WEIGHTS_OVER_CACHE = 4
"""The weights' size, at least, in sizes of the last cache."""
MAX_LAYERS = 48
FRAMES, TEXT, POSITION = 250, 12, 125
"""Prefix frames, text tokens and position of a clip of 5 s in the middle of its edit."""
Knobs = Mapping[str, Any]


def geometry(size: str, bits: int) -> Config:
    """Return a published size's configuration, with as many layers as make its weights exceed the caches."""
    preset = PRESETS[size]
    lm = preset.lm
    a_layer = (8 * lm.dim**2 + 2 * lm.dim * lm.ffn) * bits / 8
    layers = min(lm.layers, MAX_LAYERS, max(2, -(-WEIGHTS_OVER_CACHE * cache_bytes() // int(a_layer))))
    lm = dataclasses.replace(lm, layers=int(layers))
    return Config(lm, AdapterConfig(lm.layers, 500), mx.float16, Quantization(bits, preset.group_size))


class Workload:
    """Steps of a guidance pair; `round()` runs one step under each of `candidates`, in turn."""

    def __init__(self, config: Config, ops: Ops, candidates: Sequence[Knobs]) -> None:
        self.config, self.ops, self.candidates = config, ops, candidates
        self._models: dict[str, tuple[LanguageModel, DecoderState]] = {}
        self._turn = 0
        for knobs in candidates:  # so that every kernel is compiled and every matrix laid out
            self.step(knobs)

    def round(self) -> list[float]:
        """Return the seconds of a step under each of the candidates; each round begins with another one."""
        seconds, order = [0.0] * len(self.candidates), range(len(self.candidates))
        self._turn += 1
        for n in [*order][self._turn % len(order) :] + [*order][: self._turn % len(order)]:
            self.step(self.candidates[n])  # threads start, plans are made
            seconds[n] = min(self.step(self.candidates[n]) for _ in range(2))
        return seconds

    def step(self, knobs: Knobs) -> float:
        """Run one step under some knobs and return its seconds."""
        self.set(knobs)
        lm, state = self._model(str(knobs.get("layout", "")))
        state.position = POSITION
        tokens = mx.zeros((2, lm.config.codebooks, 1), dtype=mx.int32)
        start = time.perf_counter()
        logits = guide(lm.logits(state(tokens))[:, :, 0], 3.0)
        mx.eval(Sampling(greedy=True)(logits, mx.random.key(0)[None]))
        return time.perf_counter() - start

    def set(self, knobs: Knobs) -> None:
        """Set knobs of the backend; all others get their defaults."""
        if self.ops.name == "native":
            native.use({name: values[0] for name, values in native.knobs().items()} | dict(knobs))
        else:
            from kernels.metal import MetalOps, chosen

            assert isinstance(self.ops, MetalOps)
            self.ops.engine.choose(chosen().changed({k: v for k, v in knobs.items() if k != "environment"}))

    def _model(self, layout: str) -> tuple[LanguageModel, DecoderState]:
        if layout not in self._models:
            self._models[layout] = _model(self.config, self.ops)
        return self._models[layout]


def _model(config: Config, ops: Ops) -> tuple[LanguageModel, DecoderState]:
    tensors = {
        name: _random(name, dtype, shape)
        for name, (dtype, shape) in stored_tensors(config).items()
        if not name.startswith(("cp_transformer", "text_conditioner"))
    }
    lm = LanguageModel(Weights(tensors, config, ops))
    c = lm.config
    q, kv = (mx.random.normal((1, c.heads, n, c.head_dim)).astype(lm.dtype) for n in (FRAMES, FRAMES + 1))
    gate, text = mx.array([0.5]), lm.text_kv(mx.random.normal((1, TEXT, c.dim)))
    state = DecoderState(
        lm, text, [LayerPrefix(q, kv, kv, gate)] * c.layers, start_layer=0, rows=2, slots=FRAMES + c.codebooks,
        query_rows=FRAMES,
    )  # fmt: skip
    mx.eval(q, kv, gate, [layer.cache.kv for layer in state.layers])
    return lm, state


def _random(name: str, dtype: mx.Dtype, shape: Sequence[int]) -> mx.array:
    if dtype == mx.uint32:
        return mx.random.randint(0, 2**31 - 1, shape).astype(mx.uint32)
    scale = 0.01 if name.endswith((".scales", ".biases", "norm.weight")) else 0.02
    return (mx.random.normal(tuple(shape)) * scale).astype(dtype)


def column(backend: str, size: str, bits: int, candidates: Sequence[Knobs]) -> tuple[Workload, dict[str, Any]]:
    """Make the steps in a process of its own; return them and a description of the model."""
    config = geometry(size, bits)
    work = Workload(config, kernels.load(backend), candidates)
    return work, {"size": size, "bits": bits, "layers": config.lm.layers}
