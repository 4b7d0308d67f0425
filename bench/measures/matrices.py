"""The weights themselves: how far each matrix is from the reference's, before anything is run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import mlx.core as mx

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
        rr, ww = mx.square(r).sum().item(), mx.square(w - r).sum().item()
        gain = (w * r).sum().item()
        scale = float(rr) if float(rr) else 1.0  # an all-zero matrix: errors are absolute
        out.append(MatrixError(module, (float(ww) / scale) ** 0.5, float(gain) / scale if float(rr) else 1.0))
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
