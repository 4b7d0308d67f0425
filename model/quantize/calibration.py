"""What the layers' projections are given when a model runs over clips: the second moments of their inputs.

One layer is in memory at a time, so the 16-bit model need not fit.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import mlx.core as mx

from reference.contract import Norm, Ops

from .. import audio
from ..bundle.bundle import Bundle
from ..config import SAMPLE_RATE, Quantization
from ..decoding.delay_pattern import apply_delay, with_special
from ..errors import UserError
from ..instructions import UPSTREAM
from ..network.projection import Projection, Weights
from ..network.transformer import Layer
from ..network.walk import Walk
from ..pipeline import InstructMusicGen
from .gptq import inverse_cholesky, quantize
from .packing import Parts

TEXTS = UPSTREAM.sentences()
"""What upstream was trained on; the windows take a bundle's trained sentences in turn."""
WINDOWS = 64
"""The most windows; more clips are sampled evenly. Each holds about 20 MB of activations of MusicGen-large."""
MIN_SAMPLES = SAMPLE_RATE // 2
"""Samples below which a clip's last window is left out."""


class _Recorder:
    """A backend's operations that sum x^T x of what each watched matrix is multiplied with."""

    def __init__(self, ops: Ops) -> None:
        self._ops = ops
        self.sums: dict[int, mx.array] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ops, name)

    def watch(self, weights: Sequence[mx.array]) -> None:
        """Forget the matrices watched so far, and watch these."""
        self.sums = {id(w): mx.zeros((w.shape[1], w.shape[1])) for w in weights}

    def linear(self, x: mx.array, w: mx.array, *, norm: Norm | None = None, **fused: Any) -> mx.array:
        """Compute what the backend does, and sum the inputs of a watched matrix."""
        if id(w) in self.sums:
            seen = x.astype(mx.float32)
            if norm is not None:
                seen = mx.fast.layer_norm(seen, norm.weight.astype(mx.float32), norm.bias.astype(mx.float32), norm.eps)
            seen = seen.reshape(-1, seen.shape[-1])
            self.sums[id(w)] = self.sums[id(w)] + seen.T @ seen
            mx.eval(self.sums[id(w)])
        return self._ops.linear(x, w, norm=norm, **fused)


class Calibration:
    """A dense model's inputs over clips, layer by layer; `pack` must be asked for modules in the layers' order."""

    def __init__(self, bundle: Bundle, ops: Ops, files: Sequence[Path]) -> None:
        """Encode the clips. Raises UserError if one can't be read, or all are shorter than half a second."""
        self._bundle = bundle
        self._recorder = _Recorder(ops)
        none = replace(bundle.config, lm=replace(bundle.config.lm, layers=0))
        self._model = InstructMusicGen(replace(bundle, config=none), cast(Ops, self._recorder))
        self._conditions: dict[str, mx.array] = {}
        texts = itertools.cycle(bundle.config.instructions.sentences())
        self._walks = [self._start(codes, text) for codes, text in zip(self._windows(files), texts)]
        self._layers = self._moments()
        self._layer: dict[str, mx.array] = {}
        self._factored: tuple[int, mx.array] | None = None
        self.summary = f"{len(self._walks)} window(s) of {len(files)} clip(s)"

    def pack(self, module: str, weight: mx.array, quantization: Quantization, dtype: mx.Dtype) -> Parts:
        """Return `gptq.quantize` of a projection's weight for the inputs that it was given."""
        while module not in self._layer:
            self._layer = next(self._layers)
        moment = self._layer[module]
        if self._factored is None or self._factored[0] != id(moment):  # q, k and v share theirs
            self._factored = None
            self._factored = id(moment), inverse_cholesky(moment)
        return quantize(weight, moment, self._factored[1], quantization, dtype)

    def _windows(self, files: Sequence[Path]) -> list[mx.array]:
        """Encode all clips: codes int32 [1,K,T], cut to the adapter's window."""
        frames, found = self._bundle.config.adapter.window_frames, []
        for file in files:
            samples = audio.load(file).samples
            if len(samples) < MIN_SAMPLES:
                continue
            codes = self._model.encode(mx.array(samples))
            parts = [codes[:, :, at : at + frames] for at in range(0, codes.shape[2], frames)]
            found += parts if len(parts) == 1 or parts[-1].shape[2] == frames else parts[:-1]
        if not found:
            raise UserError("every clip is shorter than half a second; calibrate on longer ones")
        count = min(len(found), WINDOWS)
        return [found[i * len(found) // count] for i in range(count)]

    def _start(self, codes: mx.array, text: str) -> Walk:
        """Return the clip as condition and, in the delay pattern, as the tokens said so far.

        Both rows of a guidance pair.
        """
        lm, frames = self._model.lm, codes.shape[2]
        tokens = apply_delay(codes, frames, lm.config.special)[0][:, :, :frames]
        if text not in self._conditions:  # T5 is loaded for each
            self._conditions[text] = self._model.condition([text])
        both, clip = mx.concatenate([tokens, tokens]), with_special(codes, lm.config.special)
        return Walk.start(lm, self._model.adapter, both, clip, self._conditions[text])

    def _moments(self) -> Iterator[dict[str, mx.array]]:
        """Yield each layer's x^T x [K,K] by module; modules that share an input share the array."""
        for index in range(self._bundle.config.lm.layers):
            names = [n for n in self._bundle.tensors if n.startswith(f"layers.{index}.")]
            layer = Layer(Weights(self._bundle.load(names), self._bundle.config, cast(Ops, self._recorder)), index)
            watched = _inputs(layer, index)
            self._recorder.watch([weight for weight, _ in watched])
            for i, walk in enumerate(self._walks):
                self._walks[i] = walk.through(index, layer)
                mx.eval(self._walks[i].x, self._walks[i].a)
                mx.clear_cache()
            sums = self._recorder.sums
            yield {module: sums[id(weight)] for weight, modules in watched for module in modules}


def _inputs(layer: Layer, index: int) -> list[tuple[mx.array, list[str]]]:
    """Return each dense matrix of a layer, as the operations see it, and the modules that are stacked in it."""
    attend, cross = (f"layers.{index}.{name}" for name in ("self_attn", "cross_attn"))
    return [
        (_dense(layer.qkv.parts[0]), [f"{attend}.{p}_proj" for p in "qkv"]),
        (_dense(layer.self_out), [f"{attend}.out_proj"]),
        (_dense(layer.cross_q), [f"{cross}.q_proj"]),
        (_dense(layer.cross_kv.parts[0]), [f"{cross}.{p}_proj" for p in "kv"]),
        (_dense(layer.cross_out), [f"{cross}.out_proj"]),
        (_dense(layer.linear1), [f"layers.{index}.linear1"]),
        (_dense(layer.linear2), [f"layers.{index}.linear2"]),
    ]


def _dense(projection: Projection) -> mx.array:
    weight = projection.weight
    assert isinstance(weight, mx.array), "calibration runs over a dense model"
    return weight
