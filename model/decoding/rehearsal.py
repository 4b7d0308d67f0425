"""Compile the kernels of an edit before its first step, on backends whose kernels are compiled on the user's machine.

Compiling takes from tens to hundreds of milliseconds a kernel. In the middle of an edit that would be a pause, and a
kernel that the GPU refuses would be an error there; before it, there are fewer threads or stock MLX to fall back to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx

from reference.contract import Compiling

from ..config import AdapterConfig
from ..network.state import LayerPrefix, TextKV
from ..network.transformer import LanguageModel
from ..stages import COMPILE, Announce
from .decode import DecoderState
from .delay_pattern import positions
from .windows import Window


@dataclass(frozen=True)
class Rehearsal:
    """An edit with zeros of the same shapes, which names the kernels it needs.

    batches: the clips of each batch and their texts' tokens.
    """

    lm: LanguageModel
    adapter: AdapterConfig
    plan: Sequence[Window]
    batches: Sequence[tuple[int, int]]
    guided: bool

    def compile(self, announce: Announce) -> None:
        """Compile the kernels that are missing, as the stage "compile"; nothing is announced if none is."""
        ops = self.lm.ops
        if not isinstance(ops, Compiling):
            return
        if missing := ops.missing(self.run):
            with announce(COMPILE) as progress:
                ops.compile(missing, progress)

    def run(self) -> None:
        """Call every operation that the edit calls, on zeros of the same shapes; nothing is evaluated."""
        for clips, tokens in dict.fromkeys(self.batches):
            text = [self._text(layer, clips, tokens) for layer in range(self.lm.config.layers)]
            for window in {(w.frames, w.prompt, w.ahead): w for w in self.plan}.values():
                self._adapter(window.frames + window.ahead + 1)
                self._decode(text, clips, window)

    def _text(self, layer: int, clips: int, tokens: int) -> TextKV:
        lm = self.lm.config
        self.lm.layers[layer].text_kv(self._zeros(1, tokens, lm.dim))
        k, v = (self._zeros(clips, lm.heads, tokens, lm.head_dim) for _ in range(2))
        return TextKV(k, v)

    def _adapter(self, frames: int) -> None:
        x = self._zeros(1, frames, self.lm.config.dim)
        for layer in self.lm.layers[self.adapter.start_layer :][: self.adapter.layers]:
            layer.qkv(x)
            layer.feed_forward(layer.self_out(x, residual=x))

    def _decode(self, text: Sequence[TextKV], clips: int, window: Window) -> None:
        """Run a prompt's positions, where there is one, and a step."""
        lm, heard = self.lm.config, window.frames + window.ahead
        q = self._zeros(clips, lm.heads, heard + 1, lm.head_dim)
        kv, gate = q.astype(self.lm.cache_dtype), mx.array([0.0], dtype=mx.float32)
        rows = clips * (2 if self.guided else 1)
        for steps in dict.fromkeys((window.prompt + 1, 1)):
            state = DecoderState(
                self.lm, text, [LayerPrefix(q, kv, kv, gate)] * self.adapter.layers,
                start_layer=self.adapter.start_layer, rows=rows,
                slots=positions(window.frames, lm.codebooks) - 1, query_rows=heard,
            )  # fmt: skip
            x = state(mx.zeros((rows, lm.codebooks, steps), dtype=mx.int32))
            self.lm.logits(x[:, -1:])

    def _zeros(self, *shape: int) -> mx.array:
        return mx.zeros(shape, dtype=self.lm.dtype)
