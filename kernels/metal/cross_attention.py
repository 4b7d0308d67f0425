"""Host of the attention to the text: one launch for a decode step, a composition for prompted windows."""

from __future__ import annotations

import functools
from collections.abc import Callable

import mlx.core as mx

import reference
from reference.arguments import check_cross_attention
from reference.attention import cross_attention as stock
from reference.contract import Epilogue, Norm, Packed

from .engine import Bound, Engine, Launch
from .int4_matmul import DECODE_ROWS, int4_matmul, normalized, outputs_of_a_simdgroup, scalar
from .prefix_attention import simdgroups
from .prepared import plans_of

Attend = Callable[[mx.array, Packed, mx.array, mx.array, float, "Norm | None"], mx.array]


def cross_attention(
    engine: Engine, x: mx.array, weight: Packed, k: mx.array, v: mx.array, scale: float, norm: Norm | None
) -> mx.array:
    """Compute SDPA(heads(norm(x) · dequant(w)^T), k, v), 0 for rows without text; see `reference.contract.Ops`.

    One launch does a step of up to 8 rows of text. Prompted windows (T > 1) compose the projection kernel with MLX's
    attention. Keep k and v contiguous: a view would be copied at every step. Stock MLX computes it where that was
    chosen, or where the kernel was refused.
    """
    weight = weight.plain()
    kind = (
        "cross_attention", x.shape, x.dtype, k.shape, k.dtype, v.shape, v.dtype,
        None if norm is None else (norm[0].shape, norm[0].dtype, norm[1].shape, norm[1].dtype),
    )  # fmt: skip
    plans, key = plans_of(engine, weight, kind)
    plan = engine.known(plans, key)
    if plan is None:
        plan = engine.keep(plans, key, _plan(engine, x, weight, k, v, scale, norm))
    y: mx.array = plan(x, weight, k, v, scale, norm)
    return y


def _plan(
    engine: Engine, x: mx.array, weight: Packed, k: mx.array, v: mx.array, scale: float, norm: Norm | None
) -> Attend:
    """Return the function that computes calls of this kind. Raises ValueError for arguments that do not fit."""
    check_cross_attention(x, weight, k, v, norm)
    small = min(weight.w.size, weight.scales.size, k.size) < 8  # too small for the kernel's address spaces
    if x.shape[1] > 1 or k.shape[0] > DECODE_ROWS or small:
        return functools.partial(_composed, engine)
    if engine.choices.by_stock("cross_attention", k.shape[0]):
        return stock
    if norm is not None and engine.choices.norm == "apart":
        return functools.partial(_norm_apart, engine)
    bound = engine.bind(_launch(engine, _inputs(x, weight, k, v, scale, norm), weight, norm))
    return stock if bound is None else functools.partial(_step, bound)


def _inputs(x: mx.array, weight: Packed, k: mx.array, v: mx.array, scale: float, norm: Norm | None) -> list[mx.array]:
    inputs = [x, weight.w, weight.scales, weight.biases, k, v, scalar(scale)]
    if norm is not None:
        inputs += (norm[0], norm[1], scalar(norm[2]))
    return inputs


def _step(
    bound: Bound, x: mx.array, weight: Packed, k: mx.array, v: mx.array, scale: float, norm: Norm | None
) -> mx.array:
    return bound(inputs=_inputs(x, weight, k, v, scale, norm))[0]


def _norm_apart(
    engine: Engine, x: mx.array, weight: Packed, k: mx.array, v: mx.array, scale: float, norm: Norm
) -> mx.array:
    return cross_attention(engine, normalized(x, norm), weight, k, v, scale, None)


def _composed(
    engine: Engine, x: mx.array, weight: Packed, k: mx.array, v: mx.array, scale: float, norm: Norm | None
) -> mx.array:
    b, steps, _ = x.shape
    text_rows, heads, _, dim = k.shape
    q = int4_matmul(engine, x[:text_rows], weight, norm, Epilogue())
    q = q.reshape(text_rows, steps, heads, dim).swapaxes(1, 2)
    out = reference.attention(q, k, v, scale=scale).swapaxes(1, 2).reshape(text_rows, steps, -1)
    return mx.concatenate([out, mx.zeros((b - text_rows, steps, heads * dim), dtype=x.dtype)])


def _launch(engine: Engine, inputs: list[mx.array], weight: Packed, norm: Norm | None) -> Launch:
    x, k, v = inputs[0], inputs[4], inputs[5]
    text_rows, heads, _, dim = k.shape
    constants: list[tuple[str, mx.Dtype | int]] = [
        ("T", x.dtype),
        ("BITS", weight.bits),
        ("GROUP", weight.group_size),
        ("M", text_rows),
        ("R", outputs_of_a_simdgroup(dim)),
        ("D", dim),
        ("KT", k.dtype),
        ("VT", v.dtype),
    ]
    names = ["x", "w", "scales", "biases", "k", "v", "scale"]
    if norm is not None:
        names += ["norm_weight", "norm_bias", "eps"]
        constants += [("NW", norm[0].dtype), ("NB", norm[1].dtype)]
    return Launch(
        "cross_attention.metal",
        dict(zip(names, inputs, strict=True)),
        output="y",
        shape=(x.shape[0], 1, heads * dim),
        dtype=x.dtype,
        constants=tuple(constants),
        grid=(heads, 1, 1),
        simdgroups=simdgroups(engine, dim),
        headers=("wide_loads.h", "norm_rows.h", "dequant_dot.h", "online_softmax.h"),
        defines={"NORM": norm is not None},
    )
