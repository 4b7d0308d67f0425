"""GPTQ: rounding with error feedback, each weight's rounding error compensated by those not yet rounded.

Frantar et al., arXiv 2210.17323, with the scales of `packing.least_squares`. What is kept small is the error of the
products with the inputs seen, tr((W - V) H (W - V)^T) with H = x^T x, instead of that of the weights.
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from ..config import Quantization
from .packing import Parts, least_squares, packed_words

DAMPING = 0.01
"""Share of H's mean diagonal that is added to it, so that inputs never seen cost something too; GPTQ's own choice."""

Float64 = npt.NDArray[np.float64]


def inverse_cholesky(moment: mx.array) -> mx.array:
    """Return upper triangular U with U^T U = (H + damping)^-1, for H = `moment` [K,K]; float64, on the CPU.

    With H = V V^T, V upper triangular (Cholesky's factor of H in reverse order), U is V^-1.
    """
    h = np.array(moment, dtype=np.float64)
    h[np.diag_indices_from(h)] += DAMPING * (h.trace() / len(h) or 1.0)
    with mx.stream(mx.cpu):
        lower = mx.linalg.cholesky(mx.array(np.ascontiguousarray(h[::-1, ::-1]), dtype=mx.float64))
        upper = mx.linalg.tri_inv(lower)[::-1, ::-1]
        mx.eval(upper)
    return upper


def quantize(weight: mx.array, moment: mx.array, upper: mx.array, quantization: Quantization, dtype: mx.Dtype) -> Parts:
    """Round weight float [N,K] for its inputs' `moment` H [K,K], `upper` being `inverse_cholesky(H)`.

    Return packed uint32, scales and biases (`dtype`). A row whose products come out no better than by
    `packing.least_squares`, without feedback, keeps the words of that.
    """
    plain = least_squares(weight, quantization, dtype)
    made = gptq_round(np.array(weight.astype(mx.float32)), np.array(upper), quantization, dtype)
    worse = _errors(weight, made, moment, quantization) >= _errors(weight, plain, moment, quantization)
    w, scales, biases = (mx.where(worse[:, None], a, b) for a, b in zip(plain, made))
    mx.eval(w, scales, biases)
    return w, scales, biases


def gptq_round(weight: npt.NDArray[np.float32], upper: Float64, quantization: Quantization, dtype: mx.Dtype) -> Parts:
    """Round weight float32 [N,K] group by group; each column's error is spread over those not yet rounded."""
    size, top = quantization.group_size, 2**quantization.bits - 1
    left = weight.astype(np.float64)
    integers, scales, biases = np.zeros(weight.shape, np.uint32), [], []
    for start in range(0, weight.shape[1], size):
        end = start + size
        _, *chosen = least_squares(mx.array(left[:, start:end].astype(np.float32)), quantization, dtype)
        scales.append(chosen[0])
        biases.append(chosen[1])
        s, b = (np.array(each.astype(mx.float32), dtype=np.float64)[:, 0] for each in chosen)
        inverse = np.divide(1.0, s, out=np.zeros_like(s), where=s != 0)
        block, errors = left[:, start:end].T.copy(), np.zeros((size, len(weight)))
        for i in range(size):
            rounded = np.clip(np.round((block[i] - b) * inverse), 0, top)
            integers[:, start + i] = rounded
            errors[i] = (block[i] - (rounded * s + b)) / upper[start + i, start + i]
            block[i + 1 :] -= upper[start + i, start + i + 1 : end, None] * errors[i]
        left[:, end:] -= errors.T @ upper[start:end, end:]
    words = packed_words(mx.array(integers), quantization.bits)
    return words, mx.concatenate(scales, axis=1), mx.concatenate(biases, axis=1)


def _errors(weight: mx.array, packed: Parts, moment: mx.array, quantization: Quantization) -> mx.array:
    """Return the squared error of each row's products with the inputs, summed over them: [N]."""
    w, scales, biases = packed
    made = mx.dequantize(
        w,
        scales.astype(mx.float32),
        biases.astype(mx.float32),
        group_size=quantization.group_size,
        bits=quantization.bits,
    )
    off = made - weight.astype(mx.float32)
    return (off @ moment * off).sum(axis=1)
