"""Host of gated prefix attention: one launch, or two where the keys are split among threadgroups."""

from __future__ import annotations

import functools
from collections.abc import Callable

import mlx.core as mx

from reference.arguments import check_length, check_prefix_attention
from reference.attention import prefix_attention as stock
from reference.contract import Prefix

from .engine import Bound, Engine, Launch
from .int4_matmul import scalar
from .splits import splits

MAX_HEAD_DIM = 256
# Arrays of fewer than 8 elements arrive in another address space; narrower heads are padded with zeros to 8.
MIN_HEAD_DIM = 8
# Rows or queries of a block, which share a read of the prefix: each costs registers for a query and two results.
MAX_BLOCK_ROWS = 4

NAMES = ("q", "k", "v", "prefix_q", "prefix_k", "prefix_v", "gate", "length", "scale")

Attend = Callable[[mx.array, mx.array, mx.array, Prefix, float, "int | mx.array"], mx.array]


def prefix_attention(
    engine: Engine, q: mx.array, k: mx.array, v: mx.array, prefix: Prefix, scale: float, length: int | mx.array
) -> mx.array:
    """Compute SDPA(q, k[:length], v[:length]) + gate · SDPA(q + prefix_q, prefix_k, prefix_v) in one launch.

    See `reference.contract.Ops.prefix_attention`. Views are read where they lie, never copied. Where a threadgroup for
    each head would have too many keys, or leave cores idle, keys are split among threadgroups, which costs a second,
    small launch. Stock MLX computes it where that was chosen, or where the kernel was refused. Raises ValueError for
    head dims beyond 256.
    """
    gate = prefix[3]
    key = (
        "prefix_attention", q.shape, q.dtype, k.shape, k.dtype, v.shape, v.dtype, prefix[0].shape, prefix[0].dtype,
        prefix[1].shape, prefix[1].dtype, prefix[2].shape, prefix[2].dtype,
        (gate.shape, gate.dtype) if isinstance(gate, mx.array) else None,
        (length.shape, length.dtype) if isinstance(length, mx.array) else None,
    )  # fmt: skip
    plan = engine.known(engine.plans, key)
    if plan is None:
        check_prefix_attention(q, k, v, prefix, length)
        plan = engine.keep(engine.plans, key, attention_plan(engine, q, k, v, prefix, scale, length))
    else:
        check_length(length, q.shape[2], k.shape[2])
    y: mx.array = plan(q, k, v, prefix, scale, length)
    return y


def attention_plan(
    engine: Engine, q: mx.array, k: mx.array, v: mx.array, prefix: Prefix, scale: float, length: int | mx.array
) -> Attend:
    """Return the function that computes calls of this kind, whose arguments were checked.

    It checks nothing: the caller checks the length, which is not part of the kind.
    """
    if q.shape[3] < MIN_HEAD_DIM:
        return functools.partial(_padded, engine)
    if engine.choices.by_stock("prefix_attention", q.shape[0] * q.shape[2]):
        return stock
    inputs = _inputs(q, k, v, prefix, scale, length)
    launch = _launch(engine, dict(zip(NAMES, inputs, strict=True)))
    bound = engine.bind(launch)
    if bound is None:
        return stock
    if launch.output == "y":
        return functools.partial(_at_once, bound)
    join = engine.bind(_join(q, mx.zeros(launch.shape, dtype=launch.dtype), inputs[6]))
    return stock if join is None else functools.partial(_in_parts, bound, join)


def _at_once(
    bound: Bound, q: mx.array, k: mx.array, v: mx.array, prefix: Prefix, scale: float, length: int | mx.array
) -> mx.array:
    return bound(inputs=_inputs(q, k, v, prefix, scale, length))[0]


def _in_parts(
    bound: Bound, join: Bound, q: mx.array, k: mx.array, v: mx.array, prefix: Prefix, scale: float,
    length: int | mx.array,
) -> mx.array:  # fmt: skip
    inputs = _inputs(q, k, v, prefix, scale, length)
    return join(inputs=[bound(inputs=inputs)[0], inputs[6]])[0]


def _inputs(
    q: mx.array, k: mx.array, v: mx.array, prefix: Prefix, scale: float, length: int | mx.array
) -> list[mx.array]:
    prefix_q, prefix_k, prefix_v, gate = prefix
    gate = _one(gate) if isinstance(gate, mx.array) else scalar(float(gate))
    seen = _one(length) if isinstance(length, mx.array) else _length(length)
    return [q, k, v, prefix_q, prefix_k, prefix_v, gate, seen, scalar(scale)]


@functools.lru_cache(maxsize=4096)
def _length(length: int) -> mx.array:
    """Return the length as an array, made once for all layers of a step."""
    return mx.array([length], dtype=mx.int32)


def _one(a: mx.array) -> mx.array:
    """Return an array of one element with one axis, as the kernels index it."""
    return a if a.ndim == 1 else a.reshape(1)


def _block(rows: int, dim: int) -> int:
    """Return the largest divisor of `rows` that a block can take."""
    return max(n for n in range(1, _largest_block(dim) + 1) if rows % n == 0)


def _largest_block(dim: int) -> int:
    """Return how many rows a block can take: the parts of their softmaxes share 32 KB of threadgroup memory."""
    return MAX_BLOCK_ROWS if dim <= 128 else MAX_BLOCK_ROWS // 2


def simdgroups(engine: Engine, dim: int) -> int:
    """Return the simdgroups of an attention threadgroup: by default 8, whose registers every chip has.

    Raises ValueError if the head dim is beyond what the kernels' threadgroup memory holds.
    """
    if dim > MAX_HEAD_DIM:
        raise ValueError(f"head dim {dim} is beyond {MAX_HEAD_DIM}; use the reference")
    return engine.choices.attention_simdgroups


def _launch(engine: Engine, inputs: dict[str, mx.array]) -> Launch:
    q, k, v, prefix_q, prefix_k, prefix_v = (inputs[name] for name in NAMES[:6])
    b, h, t, d = q.shape
    shared, frames, slots = prefix_q.shape[0], prefix_k.shape[2], k.shape[2]
    decode = t == 1
    rows = _block(b // shared, d) if decode else min(t, _largest_block(d))
    blocks = b // shared // rows if decode else -(-t // rows)
    parts = splits(engine.choices, slots, rows, frames, h * shared * blocks) if decode else 1
    constants = (
        ("T", q.dtype),
        ("D", d),
        ("ROWS", rows),
        ("DECODE", decode),
        ("SPLITS", parts),
        ("KT", k.dtype),
        ("VT", v.dtype),
        ("PKT", prefix_k.dtype),
        ("PVT", prefix_v.dtype),
    )
    return Launch(
        "prefix_attention.metal",
        inputs,
        output="y" if parts == 1 else "parts",
        shape=q.shape if parts == 1 else (parts, b, h, 2, d + 2),
        dtype=q.dtype if parts == 1 else mx.float32,
        constants=constants,
        grid=(h, shared if decode else b, blocks * parts),
        # The parts of a block of queries fill threadgroup memory with more than 8.
        simdgroups=simdgroups(engine, d) if decode else min(simdgroups(engine, d), 8),
        headers=("wide_loads.h", "online_softmax.h"),
        defines={"SPLIT": parts > 1},
        contiguous=False,
    )


def _join(q: mx.array, parts: mx.array, gate: mx.array) -> Launch:
    return Launch(
        "prefix_attention_join.metal",
        {"parts": parts, "gate": gate},
        output="y",
        shape=q.shape,
        dtype=q.dtype,
        constants=(("T", q.dtype), ("D", q.shape[3]), ("SPLITS", parts.shape[0])),
        grid=(1, q.shape[1], q.shape[0]),
        threads=q.shape[3],
    )


def _padded(
    engine: Engine, q: mx.array, k: mx.array, v: mx.array, prefix: Prefix, scale: float, length: int | mx.array
) -> mx.array:
    """Attend with heads of fewer than 8 elements as with heads of 8."""
    d, spare = q.shape[3], [(0, 0), (0, 0), (0, 0), (0, MIN_HEAD_DIM - q.shape[3])]
    q, k, v, *parts = (mx.pad(a, spare) for a in (q, k, v, prefix.q, prefix.k, prefix.v))
    wide = Prefix(parts[0], parts[1], parts[2], prefix.gate)
    return prefix_attention(engine, q, k, v, wide, scale, length)[..., :d]
