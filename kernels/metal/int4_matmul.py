"""Host of the packed product: one launch with its norm and epilogue for a decode step, a tiled one for prefill."""

from __future__ import annotations

import functools
import math

import mlx.core as mx

from reference.arguments import check_int4_matmul
from reference.contract import Epilogue, Norm, Packed

from .engine import SIMD, Engine, Launch

DECODE_ROWS = 8
# A kernel's inputs of fewer than 8 elements arrive in another address space; narrower matrices are padded to 8 outputs.
LEAST_OUTPUTS = 8


def int4_matmul(engine: Engine, x: mx.array, weight: Packed, norm: Norm | None, epilogue: Epilogue) -> mx.array:
    """Compute residual + activation(norm(x) · dequant(w)^T + bias); see `reference.contract.Ops.int4_matmul`.

    Up to 8 rows: one launch, weights read once. More: a tiled launch, after `mx.fast.layer_norm` if there is a norm.
    """
    weight = weight.plain()
    n, k = check_int4_matmul(x, weight, norm, epilogue)
    bias, activation, residual = epilogue
    if n < LEAST_OUTPUTS:
        rows = (0, LEAST_OUTPUTS - n)
        w, scales, biases = (mx.pad(a, [rows, (0, 0)]) for a in weight.arrays())
        bias = None if bias is None else mx.pad(bias, [rows])
        residual = None if residual is None else mx.pad(residual, [*[(0, 0)] * (residual.ndim - 1), rows])
        wide = Packed(w, scales, biases, weight.group_size, weight.bits)
        return int4_matmul(engine, x, wide, norm, Epilogue(bias, activation, residual))[..., :n]

    m = math.prod(x.shape[:-1])
    decode = m <= DECODE_ROWS
    template: list[tuple[str, mx.Dtype | int]] = [("T", x.dtype), ("BITS", weight.bits), ("GROUP", weight.group_size)]
    inputs = {"x": x.reshape(m, k), "w": weight.w, "scales": weight.scales, "biases": weight.biases}
    if norm is not None and not decode:
        # In x's type again, which wider weights of the norm change.
        inputs["x"] = mx.fast.layer_norm(inputs["x"], norm[0], norm[1], norm[2]).astype(x.dtype)
    if bias is not None:
        inputs["bias"] = bias
    if residual is not None:
        inputs["residual"] = residual.reshape(m, n)
    defines = {"BIAS": bias is not None, "GELU": activation == "gelu", "RESIDUAL": residual is not None}

    if decode:
        outputs, simdgroups = _decode_shape(m, norm is not None)
        template += [("M", m), ("R", outputs)]
        if norm is not None:
            inputs |= {"norm_weight": norm[0], "norm_bias": norm[1], "eps": scalar(norm[2])}
            template += [("NW", norm[0].dtype), ("NB", norm[1].dtype)]
        launch = Launch(
            "int4_matmul.metal", inputs, output="y", shape=(m, n), dtype=x.dtype, template=tuple(template),
            grid=(-(-n // outputs), 1, 1), along_x="simdgroups", simdgroups=simdgroups,
            headers=("gelu.h", "norm_rows.h", "dequant_dot.h"), defines=defines | {"NORM": norm is not None},
        )
    else:
        bm, bn = (32, 64) if m <= 32 else (64, 64)
        template += [("BM", bm), ("BN", bn)]
        launch = Launch(
            "int4_matmul_tiled.metal", inputs, output="y", shape=(m, n), dtype=x.dtype, template=tuple(template),
            grid=(-(-n // bn), -(-m // bm), 1), threads=4 * SIMD, headers=("simdgroup_matrix.h", "gelu.h"),
            defines=defines,
        )
    y = engine.launch(launch)
    return y.reshape(*x.shape[:-1], n)


def _decode_shape(rows: int, normed: bool) -> tuple[int, int]:
    """(outputs of a simdgroup, simdgroups of a threadgroup).

    Four outputs and two simdgroups are MLX's choice for one row, good where x is a small part of the loads. A norm
    reads its weight and bias along with x, and every threadgroup measures the rows anew: more outputs share that.
    """
    if not normed:
        return 4, 2
    return (8, 4) if rows <= 4 else (4, 8)


@functools.cache
def scalar(value: float) -> mx.array:
    """A constant of a kernel, made once: MLX passes small arrays in the constant address space."""
    return mx.array([value], dtype=mx.float32)
