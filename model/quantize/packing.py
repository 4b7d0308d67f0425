"""How a matrix becomes packed words, scales and biases: the order of its bits, and two ways to choose the scales."""

from __future__ import annotations

import mlx.core as mx

from ..config import Quantization

SHRINKS = (1.0, 0.92, 0.84, 0.76, 0.68)
"""How much of a group's range the search starts from; the values beyond it are clipped."""
REFITS = 3
BLOCK = 1 << 22
"""Weights searched at once: about half a gigabyte of intermediate results."""

Parts = tuple[mx.array, mx.array, mx.array]
"""Packed uint32 [N,K·bits/32], scales and biases [N,K/group size]."""


def minmax(weight: mx.array, quantization: Quantization, dtype: mx.Dtype) -> Parts:
    """Pack weight float [N,K] by `mx.quantize`, each group from its least to its greatest weight.

    Return packed uint32, scales and biases (rounded to `dtype`) in `mx.quantize`'s layout.
    """
    w, scales, biases = mx.quantize(
        weight.astype(mx.float32), group_size=quantization.group_size, bits=quantization.bits
    )
    return w, scales.astype(dtype), biases.astype(dtype)


def least_squares(weight: mx.array, quantization: Quantization, dtype: mx.Dtype) -> Parts:
    """Pack as `minmax` does, with scales of less squared error.

    Each group takes, among `mx.quantize`'s own choice and several clipped ranges refitted by least squares (the
    integers fixed, then the scale and bias; REFITS times), what leaves the least squared error after the scale and bias
    are rounded to `dtype`. So no group is further from its weights than with `mx.quantize`. Needs no calibration; the
    same weights give the same bits. A block of rows at a time, for it needs room.
    """
    rows = max(1, BLOCK // weight.shape[1])
    blocks = []
    for start in range(0, weight.shape[0], rows):
        blocks.append(_least_squares(weight[start : start + rows], quantization, dtype))
        mx.eval(blocks[-1])
    w, scales, biases = (mx.concatenate(list(part)) for part in zip(*blocks))
    return w, scales, biases


def packed_words(integers: mx.array, bits: int) -> mx.array:
    """Pack integers [N,K] below 2^bits into uint32 [N,K·bits/32], the first of each word in its lowest bits."""
    words = integers.astype(mx.uint32).reshape(len(integers), -1, 32 // bits)
    return (words << _shifts(bits)).sum(axis=-1).astype(mx.uint32)


def _shifts(bits: int) -> mx.array:
    return mx.arange(32 // bits, dtype=mx.uint32) * bits


def _least_squares(weight: mx.array, quantization: Quantization, dtype: mx.Dtype) -> Parts:
    bits, size = quantization.bits, quantization.group_size
    w, scales, biases = minmax(weight, quantization, dtype)
    rows, top = weight.shape[0], 2**bits - 1
    groups = weight.astype(mx.float32).reshape(rows, -1, size)
    integers = ((w[..., None] >> _shifts(bits)) & top).reshape(groups.shape).astype(mx.float32)
    best = integers, scales[..., None], biases[..., None]
    error = _error(groups, *best)
    low, high = groups.min(axis=-1, keepdims=True), groups.max(axis=-1, keepdims=True)
    middle, half = (low + high) / 2, (high - low) / 2
    for shrink in SHRINKS:
        scale, bias = mx.maximum(2 * shrink * half / top, 1e-12), middle - shrink * half
        for _ in range(REFITS):
            scale, bias = _refit(groups, _rounded(groups, scale, bias, top))
        s, b = scale.astype(dtype), bias.astype(dtype)
        usable = mx.abs(s) > 0
        q = _rounded(groups, mx.where(usable, s, 1), b, top)
        better = mx.logical_and(_error(groups, q, s, b) < error, usable)
        best = mx.where(better, q, best[0]), mx.where(better, s, best[1]), mx.where(better, b, best[2])
        error = mx.minimum(error, mx.where(better, _error(groups, q, s, b), error))
    return packed_words(best[0].reshape(rows, -1), bits), best[1][..., 0], best[2][..., 0]


def _rounded(groups: mx.array, scale: mx.array, bias: mx.array, top: int) -> mx.array:
    """Return the integer of each weight."""
    return mx.clip(mx.round((groups - bias.astype(mx.float32)) / scale.astype(mx.float32)), 0, top)


def _refit(groups: mx.array, integers: mx.array) -> tuple[mx.array, mx.array]:
    """Return the scale and bias of least squared error for given integers."""
    mean_q, mean_w = integers.mean(axis=-1, keepdims=True), groups.mean(axis=-1, keepdims=True)
    centered = integers - mean_q
    scale = (centered * (groups - mean_w)).sum(axis=-1, keepdims=True) / mx.maximum(
        (centered * centered).sum(axis=-1, keepdims=True), 1e-12
    )
    scale = mx.maximum(scale, 1e-12)
    return scale, mean_w - scale * mean_q


def _error(groups: mx.array, integers: mx.array, scale: mx.array, bias: mx.array) -> mx.array:
    """Return the squared error of each group, [N,groups,1]."""
    made = integers * scale.astype(mx.float32) + bias.astype(mx.float32)
    return mx.square(made - groups).sum(axis=-1, keepdims=True)
