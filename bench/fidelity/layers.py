"""Where two models part: each layer alone, given the reference's inputs, and the error that builds up over all."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import mlx.core as mx
import numpy as np

from bench.console import track
from model.pipeline import InstructMusicGen
from model.walk import Walk
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
        """Return the layer with the largest error of its own, if that is `factor` times the median of the others'."""
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


def _through(walk: Walk, index: int) -> _Result:
    """Return a walk through a layer of its own model, and what the layer's prefix attention gave."""
    dtype = walk.lm.dtype
    x, a, content, text = (each.astype(dtype) for each in (walk.x, walk.a, walk.content, walk.text))
    layer = copy.copy(walk.lm.layers[index])
    recorder = Recorder(layer.ops)
    layer.ops = cast(Ops, recorder)
    after = replace(walk, x=x, a=a, content=content, text=text).through(index, layer)
    made = after.a if walk.adapted(index) else None
    mx.eval([each for each in (after.x, made, recorder.out, recorder.share) if each is not None])
    return _Result(after.x, made, recorder.out, recorder.share)


@dataclass(frozen=True)
class _Result:
    x: mx.array
    a: mx.array | None
    attention: mx.array | None
    share: mx.array | None


def compare(reference: InstructMusicGen, other: InstructMusicGen, text: str, part: Chunk) -> Comparison:
    """Both models over the same chunk, layer by layer; nothing of a layer is kept once it is compared."""
    texts = [model.condition([text]) for model in (reference, other)]
    right, own = (Walk.start(m.lm, m.adapter, part.tokens, part.clip, t) for m, t in zip((reference, other), texts))
    ends = {"text condition": error(*texts), "embedded tokens": error(right.x, own.x)}
    ends["embedded clip"] = error(right.content, own.content)
    out = []
    for index in track(range(reference.lm.config.layers), "layer by layer"):
        x, a = right.x, right.a
        wanted, ours = _through(right, index), _through(own, index)
        alone = _through(replace(own, x=x, a=a, content=right.content, text=right.text), index)
        right, own = replace(right, x=wanted.x), replace(own, x=ours.x)
        adapter = attention = share = float("nan")
        if wanted.a is not None and alone.a is not None and ours.a is not None:
            adapter = error(_added(wanted.a, a), _added(alone.a, a))
            right, own = replace(right, a=wanted.a), replace(own, a=ours.a)
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
