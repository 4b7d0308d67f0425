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
    constants: list[tuple[str, mx.Dtype | int]] = [("T", x.dtype), ("BITS", weight.bits), ("GROUP", weight.group_size)]
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
        outputs = outputs_of_a_simdgroup(n)
        # Two simdgroups are MLX's choice. With a norm every threadgroup measures the rows anew, and more share that.
        simdgroups = 8 if norm is not None else 2
        constants += [("M", m), ("R", outputs)]
        if norm is not None:
            inputs |= {"norm_weight": norm[0], "norm_bias": norm[1], "eps": scalar(norm[2])}
            constants += [("NW", norm[0].dtype), ("NB", norm[1].dtype)]
        launch = Launch(
            "int4_matmul.metal",
            inputs,
            output="y",
            shape=(m, n),
            dtype=x.dtype,
            constants=tuple(constants),
            grid=(n // outputs, 1, 1),
            along_x="simdgroups",
            simdgroups=simdgroups,
            headers=("gelu.h", "wide_loads.h", "norm_rows.h", "dequant_dot.h"),
            defines=defines | {"NORM": norm is not None},
        )
    else:
        bm, bn = (32, 64) if m <= 32 else (64, 64)
        constants += [("BM", bm), ("BN", bn)]
        launch = Launch(
            "int4_matmul_tiled.metal",
            inputs,
            output="y",
            shape=(m, n),
            dtype=x.dtype,
            constants=tuple(constants),
            grid=(-(-n // bn), -(-m // bm), 1),
            threads=4 * SIMD,
            headers=("simdgroup_matrix.h", "gelu.h"),
            defines=defines,
        )
    y = engine.launch(launch)
    return y.reshape(*x.shape[:-1], n)


def outputs_of_a_simdgroup(n: int) -> int:
    """Return the outputs that a simdgroup of a decode product makes, R in the kernels: a divisor of `n`.

    Four are MLX's choice. Where n is not a multiple, fewer take the place of a guard, which would stand between the
    loads of every simdgroup.
    """
    return 4 if n % 4 == 0 else 2 if n % 2 == 0 else 1


@functools.cache
def scalar(value: float) -> mx.array:
    """Return a constant of a kernel, made once: MLX passes small arrays in the constant address space."""
    return mx.array([value], dtype=mx.float32)
