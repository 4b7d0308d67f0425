"""The oracle's weights as a bundle stores them: rounded to float16, or packed and unpacked again bit by bit."""

from __future__ import annotations

from dataclasses import replace

import mlx.core as mx
import numpy as np

from model.bundle.bundle import Bundle
from reference import oracle

from .files import Upstream
from .numbers import Array


def as_stored(up: Upstream, bundle: Bundle) -> Upstream:
    """`up` with the LM and adapter that `bundle` holds, which must name each of its weights."""
    stored = {name: _unpacked(bundle, name) for name in bundle.tensors if not name.endswith((".scales", ".biases"))}
    lm: dict[str, Array] = {}
    for name in up.lm:
        if name.endswith("self_attn.in_proj_weight"):
            stem = name.removesuffix("in_proj_weight")
            lm[name] = np.concatenate([stored.pop(f"{stem}{p}_proj.weight") for p in "qkv"])
        else:
            lm[name] = stored.pop(_canonical(name))
    assert not stored, sorted(stored)
    return replace(up, lm=lm)


def _canonical(name: str) -> str:
    if name.startswith("output_proj."):
        return f"text_conditioner.{name}"
    if name.startswith(("pos_emb", "gates", "merge_linear.")):
        return f"cp_transformer.{name}"
    return name.replace(".cross_attention.", ".cross_attn.")


def _unpacked(bundle: Bundle, name: str) -> Array:
    module, tensor = name.removesuffix(".weight"), bundle.tensors[name]
    if f"{module}.scales" not in bundle.tensors:
        return np.asarray(tensor.astype(mx.float32)).astype(np.float64)
    q = bundle.config.quantization
    assert q is not None
    scales, biases = (bundle.tensors[f"{module}.{part}"].astype(mx.float32) for part in ("scales", "biases"))
    return oracle.dequantize(tensor, scales, biases, group_size=q.group_size, bits=q.bits)
