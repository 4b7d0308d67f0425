"""Host of the packed product: one launch with its norm and epilogue for a decode step, a tiled one for prefill."""

from __future__ import annotations

import functools

import mlx.core as mx

from reference.arguments import check_int4_matmul
from reference.contract import Epilogue, Norm, Packed

from .engine import SIMD, Engine, Launch
from .folding import Foldable, Folded

DECODE_ROWS = 8
# A kernel's inputs of fewer than 8 elements arrive in another address space; narrower matrices are padded to 8 outputs.
LEAST_OUTPUTS = 8


def int4_matmul(engine: Engine, x: mx.array, weight: Packed, norm: Norm | None, epilogue: Epilogue) -> mx.array | None:
    """Compute residual + activation(norm(x) · dequant(w)^T + bias); see `reference.contract.Ops.int4_matmul`.

    Up to 8 rows: one launch, weights read once. More: a tiled launch, after `mx.fast.layer_norm` if there is a norm.
    None where stock MLX is to compute it. x and residual are taken as they lie: a decode step has no reshapes.
    """
    weight = weight.plain()
    n, bias, residual = weight.w.shape[0], epilogue.bias, epilogue.residual
    if n < LEAST_OUTPUTS:
        return _padded(engine, x, weight, norm, epilogue)
    m = x.size // max(x.shape[-1], 1) if x.ndim else 0
    decode = m <= DECODE_ROWS
    folded: Folded | None = None
    if norm is not None:
        if not decode or engine.choices.norm == "apart":
            check_int4_matmul(x, weight, norm, epilogue)
            # In x's type again, which wider weights of the norm change.
            x, norm = mx.fast.layer_norm(x, norm[0], norm[1], norm[2]).astype(x.dtype), None
        elif engine.choices.norm == "folded" and isinstance(weight, Foldable):
            folded = weight.folded(norm)

    inputs = [x, weight.w, weight.scales, weight.biases]
    if bias is not None:
        inputs.append(bias)
    if residual is not None:
        inputs.append(residual)
    if norm is not None:
        inputs += [norm[0], norm[1] if folded is None else folded, scalar(norm[2])]
    key = (
        "int4_matmul", weight.bits, weight.group_size, bias is None, epilogue.activation, residual is None,
        folded is None, tuple([(a.shape, a.dtype) for a in inputs]),
    )  # fmt: skip

    # The tiled kernel takes rows as one axis.
    arrays = inputs if decode else [a.reshape(m, -1) if a is x or a is residual else a for a in inputs]

    def describe() -> Launch | None:
        check_int4_matmul(x, weight, norm, epilogue)
        if engine.choices.by_stock("int4_matmul", m, x.shape[-1], x.dtype):
            return None
        return _launch(engine, arrays, weight, norm, epilogue, folded is not None)

    y = engine.launch(key, arrays, describe)
    return y if y is None or decode else y.reshape(*x.shape[:-1], n)


def _launch(
    engine: Engine, inputs: list[mx.array], weight: Packed, norm: Norm | None, epilogue: Epilogue, folded: bool
) -> Launch:
    """Describe a launch; `inputs` are those of the kernel, in order."""
    x, n = inputs[0], weight.w.shape[0]
    m = x.size // x.shape[-1]
    bias, activation, residual = epilogue
    constants: list[tuple[str, mx.Dtype | int]] = [("T", x.dtype), ("BITS", weight.bits), ("GROUP", weight.group_size)]
    names = ["x", "w", "scales", "biases"]
    names += ["bias"] if bias is not None else []
    names += ["residual"] if residual is not None else []
    defines = {"BIAS": bias is not None, "GELU": activation == "gelu", "RESIDUAL": residual is not None}
    shape = (*x.shape[:-1], n)
    if m <= DECODE_ROWS:
        choices, outputs = engine.choices, outputs_of_a_simdgroup(n, min(engine.choices.outputs, SIMD // m))
        constants += [("M", m), ("R", outputs)]
        if norm is not None:
            names += ["norm_weight", "folded" if folded else "norm_bias", "eps"]
            constants += [("NW", norm[0].dtype), *([] if folded else [("NB", norm[1].dtype)])]
        return Launch(
            "int4_matmul.metal",
            dict(zip(names, inputs, strict=True)),
            output="y",
            shape=shape,
            dtype=x.dtype,
            constants=tuple(constants),
            grid=(n // outputs, 1, 1),
            along_x="simdgroups",
            simdgroups=choices.norm_simdgroups if norm is not None and not folded else choices.product_simdgroups,
            headers=("gelu.h", "wide_loads.h", "norm_rows.h", "dequant_dot.h"),
            defines=defines | {"NORM": norm is not None and not folded, "FOLDED": folded},
        )
    bm, bn = (32, 64) if m <= 32 else (64, 64)
    constants += [("BM", bm), ("BN", bn)]
    return Launch(
        "int4_matmul_tiled.metal",
        dict(zip(names, inputs, strict=True)),
        output="y",
        shape=shape,
        dtype=x.dtype,
        constants=tuple(constants),
        grid=(-(-n // bn), -(-m // bm), 1),
        threads=4 * SIMD,
        headers=("simdgroup_matrix.h", "gelu.h"),
        defines=defines,
    )


def _padded(engine: Engine, x: mx.array, weight: Packed, norm: Norm | None, epilogue: Epilogue) -> mx.array | None:
    """Compute a product of fewer than 8 outputs as one of 8."""
    n, _ = check_int4_matmul(x, weight, norm, epilogue)
    bias, activation, residual = epilogue
    rows = (0, LEAST_OUTPUTS - n)
    w, scales, biases = (mx.pad(a, [rows, (0, 0)]) for a in weight.arrays())
    bias = None if bias is None else mx.pad(bias, [rows])
    residual = None if residual is None else mx.pad(residual, [*[(0, 0)] * (residual.ndim - 1), rows])
    wide = Packed(w, scales, biases, weight.group_size, weight.bits)
    y = int4_matmul(engine, x, wide, norm, Epilogue(bias, activation, residual))
    return None if y is None else y[..., :n]


def outputs_of_a_simdgroup(n: int, most: int = 4) -> int:
    """Return the outputs that a simdgroup of a decode product makes, R in the kernels: a divisor of `n`.

    Four is MLX's choice. Where n is not a multiple of it, a smaller divisor is used: a bounds check would stand between
    the loads of every simdgroup.
    """
    return next(r for r in (8, 4, 2, 1) if r <= most and n % r == 0)


@functools.cache
def scalar(value: float) -> mx.array:
    """Return a constant of a kernel, made once: MLX passes small arrays in the constant address space."""
    return mx.array([value], dtype=mx.float32)
