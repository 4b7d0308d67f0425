"""The weights themselves: how far each matrix is from the reference's, before anything is run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from model.bundle import Bundle


@dataclass(frozen=True)
class MatrixError:
    """One matrix against the reference's: relative error in the 2-norm, and gain.

    `gain` is <w, r>/<r, r>, the factor that best explains it as the reference r scaled: rounding leaves it at 1, scales
    that are off by 10 % make it 1.1.
    """

    module: str
    error: float
    gain: float


def compare(reference: Bundle, other: Bundle, modules: Iterable[str]) -> list[MatrixError]:
    """Each matrix, read, unpacked, and let go again."""
    out = []
    for module in modules:
        r, w = dense(reference, module), dense(other, module)
        size, change, along = np.array(mx.stack([(r * r).sum(), mx.square(w - r).sum(), (w * r).sum()])).tolist()
        # An all-zero matrix has no size to relate to: its error is absolute.
        out.append(MatrixError(module, (change / (size or 1.0)) ** 0.5, along / size if size else 1.0))
    return out


def dense(bundle: Bundle, module: str) -> mx.array:
    """A matrix as float32 [N, K], unpacked if it is packed."""
    tensors = bundle.reload(n for n in bundle.tensors if n in {f"{module}.{p}" for p in ("weight", "scales", "biases")})
    weight, scales = tensors[f"{module}.weight"], tensors.get(f"{module}.scales")
    if scales is None:
        return weight.astype(mx.float32)
    q = bundle.config.recipe.get(module, bundle.config.quantization)
    assert q is not None
    biases = tensors[f"{module}.biases"].astype(mx.float32)
    return mx.dequantize(weight, scales.astype(mx.float32), biases, group_size=q.group_size, bits=q.bits)
