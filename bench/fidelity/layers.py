"""Where two models part: each layer alone, given the reference's inputs, and the error that builds up over all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import mlx.core as mx
import numpy as np

from bench.console import track
from model.adapter import LayerPrefix
from model.pipeline import InstructMusicGen
from model.state import KVCache
from model.transformer import Layer, Pair, sinusoid
from reference.contract import Ops

from .distribution import relative_error
from .teacher_forcing import Chunk


@dataclass(frozen=True)
class LayerError:
    """Relative errors of one layer; NaN where a layer has no prefix. All but `stream` are this layer's own doing."""

    layer: int
    lm: float
    """Error of what the layer adds to the stream, given the reference's stream and text."""
    adapter: float
    """Error of what the same layer adds in the adapter, which makes the prefix, given the reference's input."""
    attention: float
    """Error of its prefix attention (both softmaxes), before the output projection."""
    share: float
    """Error of the gated part alone: gate · SDPA(q + prefix_q, prefix_k, prefix_v)."""
    stream: float
    """Error of the stream after it, in the model's own run: its own and that of all layers before."""

    @property
    def own(self) -> float:
        """The larger of the layer's own two errors."""
        return float(np.nanmax([self.lm, self.adapter]))


@dataclass(frozen=True)
class Comparison:
    """`layers`, and the parts outside them, each given the reference's input: embeddings, text condition, heads."""

    layers: list[LayerError]
    ends: dict[str, float]

    def stands_out(self, factor: float = 1.5) -> LayerError | None:
        """The layer with the largest error of its own, if that is `factor` times the median of the others'."""
        worst = max(self.layers, key=lambda each: each.own)
        others = [each.own for each in self.layers if each is not worst]
        return worst if worst.own > factor * (float(np.median(others)) if others else 0.0) else None


def mean(every: Sequence[Comparison]) -> Comparison:
    """Layer by layer over several comparisons of the same two models."""
    names = ("lm", "adapter", "attention", "share", "stream")
    out = []
    for same in zip(*(each.layers for each in every)):
        means = [float(np.mean([getattr(each, name) for each in same])) for name in names]
        out.append(LayerError(same[0].layer, *means))
    return Comparison(out, {end: float(np.mean([each.ends[end] for each in every])) for end in every[0].ends})


class Recorder:
    """A backend's operations that keep what the last prefix attention gave."""

    def __init__(self, ops: Ops) -> None:
        self._ops: Any = ops
        self.out: mx.array | None = None
        self.share: mx.array | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ops, name)

    def prefix_attention(self, *arrays: mx.array, **options: Any) -> mx.array:
        """Run the backend's, and once more with the gate, the last of the arrays, shut to know the gated part."""
        out: mx.array = self._ops.prefix_attention(*arrays, **options)
        shut = self._ops.prefix_attention(*arrays[:-1], 0.0, **options)
        self.out, self.share = out, out.astype(mx.float32) - shut.astype(mx.float32)
        return out


@dataclass
class _Side:
    """One model on its way through the layers: `x` its stream [B,T,dim], `a` the adapter's [1,n,dim]."""

    model: InstructMusicGen
    text: mx.array
    content: mx.array
    positions: mx.array
    x: mx.array
    a: mx.array

    @classmethod
    def of(cls, model: InstructMusicGen, part: Chunk, text: mx.array) -> _Side:
        lm, n = model.lm, part.clip.shape[2]
        content = lm.embed(part.clip)
        positions = model.bundle.reload(["cp_transformer.pos_emb"])["cp_transformer.pos_emb"][:, :n].astype(
            content.dtype
        )
        x = lm.embed(part.tokens) + sinusoid(part.tokens.shape[2], lm.config.dim).astype(lm.dtype)
        side = cls(model, text, content, positions, x, mx.broadcast_to(positions[0], content.shape))
        mx.eval(side.content, side.positions, side.x, side.a)
        return side

    def layer(self, index: int, x: mx.array, a: mx.array, content: mx.array, text: mx.array) -> _Result:
        """Layer `index` of this model on any inputs."""
        lm, adapter = self.model.lm, self.model.adapter
        layer: Layer = lm.layers[index]
        x, a, content, text = (each.astype(lm.dtype) for each in (x, a, content, text))
        made, prefix = None, None
        turn = index - adapter.config.start_layer
        if 0 <= turn < adapter.config.layers:
            made, prefix = adapter.layer(turn, a, content, self.positions[turn + 1])
        recorder = Recorder(lm.ops)
        cache = KVCache(x.shape[0], lm.config.heads, x.shape[1], lm.config.head_dim, lm.dtype)
        pair: Pair = layer.text_kv(lm.ops, text)
        out = _run(layer, cast(Ops, recorder), x, cache, pair, prefix)
        result = _Result(out, made, recorder.out, recorder.share)
        mx.eval([each for each in (out, made, recorder.out, recorder.share) if each is not None])
        return result


@dataclass(frozen=True)
class _Result:
    x: mx.array
    a: mx.array | None
    attention: mx.array | None
    share: mx.array | None


def _run(layer: Layer, ops: Ops, x: mx.array, cache: KVCache, text: Pair, prefix: LayerPrefix | None) -> mx.array:
    return layer(ops, x, cache, 0, text, prefix, 0)


def compare(reference: InstructMusicGen, other: InstructMusicGen, text: str, part: Chunk) -> Comparison:
    """Both models over the same chunk, layer by layer; nothing of a layer is kept once it is compared."""
    texts = [model.condition([text]) for model in (reference, other)]
    right, own = (_Side.of(m, part, t) for m, t in zip((reference, other), texts))
    ends = {"text condition": error(*texts), "embedded tokens": error(right.x, own.x)}
    ends["embedded clip"] = error(right.content, own.content)
    out = []
    for index in track(range(reference.lm.config.layers), "layer by layer"):
        x, a = right.x, right.a
        wanted = right.layer(index, x, a, right.content, right.text)
        alone = own.layer(index, x, a, right.content, right.text)
        ours = own.layer(index, own.x, own.a, own.content, own.text)
        right.x, own.x = wanted.x, ours.x
        adapter = attention = share = float("nan")
        if wanted.a is not None and alone.a is not None and ours.a is not None:
            adapter, right.a, own.a = error(_added(wanted.a, a), _added(alone.a, a)), wanted.a, ours.a
        if wanted.attention is not None and alone.attention is not None:
            attention = error(wanted.attention, alone.attention)
        if wanted.share is not None and alone.share is not None:
            share = error(wanted.share, alone.share)
        lm = error(_added(wanted.x, x), _added(alone.x, x))
        out.append(LayerError(index, lm, adapter, attention, share, error(wanted.x, ours.x)))
    x = right.x
    ends["output heads"] = error(reference.lm.logits(x), other.lm.logits(x.astype(other.lm.dtype)))
    return Comparison(out, ends)


def _added(after: mx.array, before: mx.array) -> mx.array:
    return after.astype(mx.float32) - before.astype(mx.float32)


def error(reference: mx.array, other: mx.array) -> float:
    """`relative_error` of MLX arrays of any float dtype."""
    return relative_error(np.array(reference.astype(mx.float32)), np.array(other.astype(mx.float32)))
