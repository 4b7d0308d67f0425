"""Where two models part: each layer alone, given the reference's inputs, and the error that builds up over all."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from functools import partial
from typing import Any, cast

import mlx.core as mx
import numpy as np

from reference import forms
from reference.contract import Ops
from reference.self_attention import composed

from ...network.walk import Walk
from ...pipeline import InstructMusicGen
from ...progress import track
from ..measures.distribution import relative_error
from .teacher_forcing import TeacherWindow


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
    """The errors of each layer, and of the text condition, embeddings and output heads (`ends`).

    All but `stream` are of parts that were given the reference's input.
    """

    layers: list[LayerError]
    ends: dict[str, float]

    def stands_out(self, factor: float = 1.5) -> LayerError | None:
        """Return the layer with the largest error of its own, if that is `factor` times the median of the others'."""
        worst = max(self.layers, key=lambda each: each.own)
        others = [each.own for each in self.layers if each is not worst]
        return worst if worst.own > factor * (float(np.median(others)) if others else 0.0) else None


def mean(every: Sequence[Comparison]) -> Comparison:
    """Average several comparisons of the same two models, layer by layer."""
    out = []
    for same in zip(*(each.layers for each in every)):
        _, *means = np.mean([astuple(each) for each in same], axis=0).tolist()
        out.append(LayerError(same[0].layer, *means))
    return Comparison(out, {end: float(np.mean([each.ends[end] for each in every])) for end in every[0].ends})


class Recorder:
    """A backend's operations that keep what the last prefix attention gave."""

    def __init__(self, ops: Ops) -> None:
        self._ops: Any = ops
        self.self_attention = forms.self_attention(partial(composed, cast(Ops, self)))  # in its parts
        self.out: mx.array | None = None
        self.share: mx.array | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ops, name)

    def prefix_attention(self, *arrays: mx.array, **options: Any) -> mx.array:
        """Run the backend's, and once more with a gate of 0 (the last of the arrays) to know the gated part."""
        out: mx.array = self._ops.prefix_attention(*arrays, **options)
        shut = self._ops.prefix_attention(*arrays[:-1], 0.0, **options)
        self.out, self.share = out, out.astype(mx.float32) - shut.astype(mx.float32)
        return out


def _through(walk: Walk, index: int) -> tuple[Walk, dict[str, mx.array]]:
    """Return a walk after a layer of its own model, and what `LayerError` compares by name, as float32."""
    dtype = walk.lm.dtype
    x, a, content, text = (each.astype(dtype) for each in (walk.x, walk.a, walk.content, walk.text))
    layer = copy.copy(walk.lm.layers[index])
    recorder = Recorder(layer.ops)
    layer.ops = cast(Ops, recorder)
    after = replace(walk, x=x, a=a, content=content, text=text).through(index, layer)
    made = {"lm": after.x.astype(mx.float32) - walk.x.astype(mx.float32)}
    if walk.adapted(index):
        made["adapter"] = after.a.astype(mx.float32) - walk.a.astype(mx.float32)
    made |= {name: each for name, each in (("attention", recorder.out), ("share", recorder.share)) if each is not None}
    mx.eval(after.x, after.a, list(made.values()))
    return after, made


def compare(reference: InstructMusicGen, other: InstructMusicGen, text: str, part: TeacherWindow) -> Comparison:
    """Compare both models over the same window, layer by layer; each layer is dropped once it is compared."""
    texts = [model.condition([text]) for model in (reference, other)]
    right, own = (Walk.start(m.lm, m.adapter, part.tokens, part.clip, t) for m, t in zip((reference, other), texts))
    ends = {"text condition": error(*texts), "embedded tokens": error(right.x, own.x)}
    ends["embedded clip"] = error(right.content, own.content)
    out = []
    for index in track(range(reference.lm.config.layers), "layer by layer"):
        given = replace(own, x=right.x, a=right.a, content=right.content, text=right.text)
        (right, wanted), (own, _), (_, alone) = (_through(walk, index) for walk in (right, own, given))
        errors = dict.fromkeys(("adapter", "attention", "share"), float("nan"))
        errors |= {name: error(each, alone[name]) for name, each in wanted.items()}
        out.append(LayerError(layer=index, stream=error(right.x, own.x), **errors))
    ends["output heads"] = error(reference.lm.logits(right.x), other.lm.logits(right.x.astype(other.lm.dtype)))
    return Comparison(out, ends)


def error(reference: mx.array, other: mx.array) -> float:
    """Return the `relative_error` of MLX arrays of any float dtype."""
    return relative_error(np.array(reference.astype(mx.float32)), np.array(other.astype(mx.float32)))
