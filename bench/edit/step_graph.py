"""The host's work for a decode step before anything runs: building its graph, timed apart from running it."""

from __future__ import annotations

import time

import mlx.core as mx

from model.decoding.decode import Decoder, DecoderState
from model.decoding.sampling import Sampling
from model.network.state import LayerPrefix, TextKV
from model.pipeline import InstructMusicGen

BUILDS = 5
"""Graphs that a round builds."""
FRAMES, TEXT = 8, 4
"""Frames and text tokens of the state. What they hold and how many they are does not change how a graph is built."""


class StepGraph:
    """A builder of one step's graph, sampling included, which is dropped without being evaluated."""

    def __init__(self, model: InstructMusicGen, clips: int, guidance: float) -> None:
        """Take a model and how many clips are edited together; a guidance other than 1 makes pairs of rows."""
        lm, adapter = model.lm, model.adapter.config
        c, rows = lm.config, clips * (2 if guidance != 1 else 1)
        q, k, text = (mx.zeros((clips, c.heads, n, c.head_dim), dtype=lm.dtype) for n in (FRAMES, FRAMES + 1, TEXT))
        prefix = LayerPrefix(q, k, k, mx.array([0.5], dtype=lm.dtype))
        self._state = DecoderState(
            lm, [TextKV(text, text)] * c.layers, [prefix] * adapter.layers, start_layer=adapter.start_layer, rows=rows,
            slots=FRAMES + c.codebooks, query_rows=FRAMES,
        )  # fmt: skip
        self._decoder = Decoder(lm, model.adapter, [TextKV(text, text)] * c.layers, guidance, Sampling())
        self._tokens = mx.zeros((clips, c.codebooks, 1), dtype=mx.int32)
        self._key = mx.random.split(mx.random.key(0), clips)
        self._caches = [layer.cache.kv for layer in self._state.layers]
        mx.eval(self._caches, self._state.positions, q, k, text, prefix.gate, self._tokens, self._key)
        self.build()  # plans are made

    def build(self) -> mx.array:
        """Return a step's tokens, not evaluated."""
        for layer, kv in zip(self._state.layers, self._caches):
            layer.cache.kv = mx.array(kv)  # the same memory: an assignment to a part would change `kv` itself
        self._state.position = FRAMES // 2
        return self._decoder.sampling(self._decoder.predict(self._state, self._tokens), self._key)

    def seconds(self) -> list[float]:
        """Return the seconds that each of BUILDS graphs took to build."""
        out = []
        for _ in range(BUILDS):
            start = time.perf_counter()
            self.build()
            out.append(time.perf_counter() - start)
        return out
