"""A window through the layers one at a time, decoder and adapter side by side, to calibrate or measure each.

The model itself does not walk so: `Adapter` runs all its layers once for a window and reads the next merge matrix
meanwhile, and `DecoderState` runs one position after another over caches that outlive the layer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import mlx.core as mx

from .adapter import Adapter
from .state import KVCache, LayerState
from .transformer import LanguageModel, Layer, sinusoid


@dataclass(frozen=True)
class Walk:
    """A window between two layers.

    text: the condition [1,L,dim]; content: the clip's embedding [1,n,dim]; x: the decoder's stream [B,T,dim]; a: the
    adapter's [1,n,dim].
    """

    lm: LanguageModel
    adapter: Adapter
    text: mx.array
    content: mx.array
    x: mx.array
    a: mx.array

    @classmethod
    def start(cls, lm: LanguageModel, adapter: Adapter, tokens: mx.array, clip: mx.array, text: mx.array) -> Walk:
        """Stand before the first layer with tokens int32 [B,K,T], B 1 or (guided) 2, and the clip int32 [1,K,n]."""
        content, steps = lm.embed(clip), tokens.shape[2]
        x = lm.embed(tokens) + sinusoid(steps, lm.config.dim).astype(lm.dtype)
        walk = cls(lm, adapter, text, content, x, mx.broadcast_to(adapter.positions(clip.shape[2])[0], content.shape))
        mx.eval(walk.text, walk.content, walk.x, walk.a)
        return walk

    def through(self, index: int, layer: Layer | None = None) -> Walk:
        """Go through layer `index` of the LM, or through `layer` in its place; the result is not evaluated."""
        layer = layer or self.lm.layers[index]
        turn, a, prefix = index - self.adapter.config.start_layer, self.a, None
        if self.adapted(index):
            positions = self.adapter.positions(self.content.shape[1])[turn + 1]
            a, prefix = self.adapter.layer(turn, self.a, self.content, positions, layer)
        rows, steps, _ = self.x.shape
        cache = KVCache(rows, self.lm.config.heads, steps, self.lm.config.head_dim, self.lm.cache_dtype)
        state = LayerState(cache, layer.text_kv(self.text.astype(self.lm.dtype)), prefix)
        return replace(self, x=layer(self.x, state), a=a)

    def adapted(self, index: int) -> bool:
        """Tell whether layer `index` has a prefix."""
        return 0 <= index - self.adapter.config.start_layer < self.adapter.config.layers
