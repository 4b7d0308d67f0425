"""Host of the packed product: one launch with its norm and epilogue for a decode step, a tiled one for prefill."""

from __future__ import annotations

import functools
from collections.abc import Callable

import mlx.core as mx

from reference import matmul
from reference.arguments import check_int4_matmul
from reference.contract import Epilogue, Norm, Packed

from .engine import SIMD, Bound, Engine, Launch
from .prepared import Prepared, plans_of

DECODE_ROWS = 8
# A kernel's inputs of fewer than 8 elements arrive in another address space; narrower matrices are padded to 8 outputs.
MIN_OUTPUTS = 8


def int4_matmul(engine: Engine, x: mx.array, weight: Packed, norm: Norm | None, epilogue: Epilogue) -> mx.array:
    """Compute residual + activation(norm(x) · dequant(w)^T + bias); see `reference.contract.Ops.int4_matmul`.

    Up to 8 rows take one launch, which reads the weights once. More take a tiled launch, after `mx.fast.layer_norm` if
    there is a norm. Stock MLX computes it where that was chosen, or where the kernel was refused. A decode step has no
    reshapes: x and residual are taken as they lie.
    """
    weight = weight.plain()
    bias, activation, residual = epilogue
    kind = (
        "int4_matmul", x.shape, x.dtype, activation,
        None if bias is None else (bias.shape, bias.dtype),
        None if residual is None else (residual.shape, residual.dtype),
        None if norm is None else (norm[0].shape, norm[0].dtype, norm[1].shape, norm[1].dtype),
    )  # fmt: skip
    plans, key = plans_of(engine, weight, kind)
    plan = engine.known(plans, key)
    if plan is None:
        plan = engine.keep(plans, key, _plan(engine, x, weight, norm, epilogue))
    y: mx.array = plan(x, weight, norm, epilogue)
    return y


Product = Callable[[mx.array, Packed, "Norm | None", Epilogue], mx.array]


def _plan(engine: Engine, x: mx.array, weight: Packed, norm: Norm | None, epilogue: Epilogue) -> Product:
    """Return the function that computes products of this kind. Raises ValueError for arguments that do not fit."""
    n, k = check_int4_matmul(x, weight, norm, epilogue)
    if n < MIN_OUTPUTS:
        return functools.partial(_padded, engine)
    decode = x.size // k <= DECODE_ROWS
    if norm is not None and (not decode or engine.choices.norm == "apart"):
        return functools.partial(_norm_apart, engine)
    if engine.choices.by_stock("int4_matmul", x.size // k, k, x.dtype):
        return matmul.int4_matmul
    folded = norm is not None and engine.choices.norm == "folded" and isinstance(weight, Prepared)
    inputs = _inputs(x, weight, norm, epilogue, folded)
    # The tiled kernel takes rows as one axis.
    arrays = inputs if decode else [_flat(a) if a is x or a is epilogue.residual else a for a in inputs]
    bound = engine.bind(_launch(engine, arrays, weight, norm, epilogue, folded))
    if bound is None:
        return matmul.int4_matmul
    return functools.partial(_decode, bound, folded) if decode else functools.partial(_tiled, bound)


def _inputs(x: mx.array, weight: Packed, norm: Norm | None, epilogue: Epilogue, folded: bool) -> list[mx.array]:
    """Return the kernels' inputs, in the order of `_launch`'s names."""
    inputs = [x, weight.w, weight.scales, weight.biases]
    if epilogue[0] is not None:
        inputs.append(epilogue[0])
    if epilogue[2] is not None:
        inputs.append(epilogue[2])
    if norm is not None:
        second = weight.folded(norm) if folded and isinstance(weight, Prepared) else norm[1]
        inputs += (norm[0], second, scalar(norm[2]))
    return inputs


def _decode(bound: Bound, folded: bool, x: mx.array, weight: Packed, norm: Norm | None, epilogue: Epilogue) -> mx.array:
    return bound(inputs=_inputs(x, weight, norm, epilogue, folded))[0]


def _tiled(bound: Bound, x: mx.array, weight: Packed, norm: Norm | None, epilogue: Epilogue) -> mx.array:
    if epilogue.residual is not None:
        epilogue = epilogue._replace(residual=_flat(epilogue.residual))
    (y,) = bound(inputs=_inputs(_flat(x), weight, norm, epilogue, False))
    return y.reshape(*x.shape[:-1], -1)


def _flat(x: mx.array) -> mx.array:
    return x.reshape(-1, x.shape[-1])


def _norm_apart(engine: Engine, x: mx.array, weight: Packed, norm: Norm, epilogue: Epilogue) -> mx.array:
    return int4_matmul(engine, normalized(x, norm), weight, None, epilogue)


def normalized(x: mx.array, norm: Norm) -> mx.array:
    """Compute a norm by stock MLX, in x's type, which wider weights of the norm would change."""
    return mx.fast.layer_norm(x, norm[0], norm[1], norm[2]).astype(x.dtype)


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


def _padded(engine: Engine, x: mx.array, weight: Packed, norm: Norm | None, epilogue: Epilogue) -> mx.array:
    """Compute a product of fewer than 8 outputs as one of 8."""
    n, rows = weight.shape[0], (0, MIN_OUTPUTS - weight.shape[0])
    bias, activation, residual = epilogue
    w, scales, biases = (mx.pad(a, [rows, (0, 0)]) for a in (weight.w, weight.scales, weight.biases))
    bias = None if bias is None else mx.pad(bias, [rows])
    residual = None if residual is None else mx.pad(residual, [*[(0, 0)] * (residual.ndim - 1), rows])
    wide = Packed(w, scales, biases, weight.group_size, weight.bits)
    return int4_matmul(engine, x, wide, norm, Epilogue(bias, activation, residual))[..., :n]


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
