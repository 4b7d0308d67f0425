"""Hosts of the attention kernels of a decode step: gated prefix attention and attention to the text."""

from __future__ import annotations

import functools

import mlx.core as mx

import reference
from reference.arguments import check_cross_attention, check_length, check_prefix_attention
from reference.contract import Epilogue, Norm, Packed, Prefix

from .engine import Engine, Launch
from .int4_matmul import DECODE_ROWS, int4_matmul, outputs_of_a_simdgroup, scalar

LARGEST_HEAD = 256
# Arrays of fewer than 8 elements arrive in another address space; narrower heads are padded with zeros to 8.
LEAST_HEAD = 8
# Rows or queries of a block, which share a read of the prefix: each costs registers for a query and two results.
LARGEST_BLOCK = 4
# A threadgroup with more keys than this shares them with others while the GPU has room. Not tuned: no GPU was at hand.
KEYS_PER_SPLIT = 1024
THREADGROUPS_ENOUGH = 256


PREFIX_INPUTS = ("q", "k", "v", "prefix_q", "prefix_k", "prefix_v", "gate", "length", "scale")


def _simdgroups(engine: Engine, dim: int) -> int:
    """Return the simdgroups of an attention threadgroup: by default 8, whose registers every chip has.

    Raises ValueError if the head dim is beyond what the kernels' threadgroup memory holds.
    """
    if dim > LARGEST_HEAD:
        raise ValueError(f"head dim {dim} is beyond {LARGEST_HEAD}; use the reference")
    return engine.choices.attention_simdgroups


@functools.lru_cache(maxsize=4096)
def _length(length: int) -> mx.array:
    """Made once for all layers of a step."""
    return mx.array([length], dtype=mx.int32)


def _one(a: mx.array) -> mx.array:
    """Return an array of one element with one axis, as the kernels index it."""
    return a if a.ndim == 1 else a.reshape(1)


def _block(rows: int, dim: int) -> int:
    """Return the largest divisor of `rows` that a block can take."""
    return max(n for n in range(1, _largest_block(dim) + 1) if rows % n == 0)


def _largest_block(dim: int) -> int:
    """Return how many rows a block can take: the parts of their softmaxes share 32 KB of threadgroup memory."""
    return LARGEST_BLOCK if dim <= 128 else LARGEST_BLOCK // 2


def prefix_attention(
    engine: Engine, q: mx.array, k: mx.array, v: mx.array, prefix: Prefix, scale: float, length: int | mx.array
) -> mx.array | None:
    """Compute SDPA(q, k[:length], v[:length]) + gate · SDPA(q + prefix_q, prefix_k, prefix_v) in one launch.

    See `reference.contract.Ops.prefix_attention`. Views are read where they lie, never copied. Thousands of keys a
    row are split among threadgroups, which costs a second, small launch. None where stock MLX is to compute it. Raises
    ValueError for head dims beyond 256.
    """
    prefix_q, prefix_k, prefix_v, gate = prefix
    if q.ndim == 4 and q.shape[3] < LEAST_HEAD:
        return _padded(engine, q, k, v, prefix, scale, length)
    gate = _one(gate) if isinstance(gate, mx.array) else scalar(float(gate))
    seen = _one(length) if isinstance(length, mx.array) else _length(length)
    inputs = [q, k, v, prefix_q, prefix_k, prefix_v, gate, seen, scalar(scale)]
    key = ("prefix_attention", tuple([(a.shape, a.dtype) for a in inputs]))

    def check() -> None:
        check_prefix_attention(q, k, v, prefix, length)

    def describe() -> Launch | None:
        check()
        if engine.choices.by_stock("prefix_attention", q.shape[0] * q.shape[2]):
            return None
        return _prefix_launch(engine, dict(zip(PREFIX_INPUTS, inputs, strict=True)))

    result = engine.launch(key, inputs, describe)
    check_length(length, q.shape[2], k.shape[2])  # which a known key does not tell
    if result is None or result.shape == q.shape:
        return result

    def join() -> Launch:
        return Launch(
            "prefix_attention_join.metal",
            {"parts": result, "gate": gate},
            output="y",
            shape=q.shape,
            dtype=q.dtype,
            constants=(("T", q.dtype), ("D", q.shape[3]), ("SPLITS", result.shape[0])),
            grid=(1, q.shape[1], q.shape[0]),
            threads=q.shape[3],
        )

    return engine.launch(("join", key), [result, gate], join)


def _prefix_launch(engine: Engine, inputs: dict[str, mx.array]) -> Launch:
    q, k, v, prefix_q, prefix_k, prefix_v = (inputs[name] for name in PREFIX_INPUTS[:6])
    b, h, t, d = q.shape
    shared, frames, slots = prefix_q.shape[0], prefix_k.shape[2], k.shape[2]
    decode = t == 1
    rows = _block(b // shared, d) if decode else min(t, _largest_block(d))
    blocks = b // shared // rows if decode else -(-t // rows)
    groups = h * (shared if decode else b) * blocks
    splits = 1
    if decode:
        keys = slots * rows + frames
        if keys > 2 * KEYS_PER_SPLIT:
            splits = max(1, min(-(-keys // KEYS_PER_SPLIT), THREADGROUPS_ENOUGH // groups))
    constants = (
        ("T", q.dtype),
        ("D", d),
        ("ROWS", rows),
        ("DECODE", decode),
        ("SPLITS", splits),
        ("KT", k.dtype),
        ("VT", v.dtype),
        ("PKT", prefix_k.dtype),
        ("PVT", prefix_v.dtype),
    )
    return Launch(
        "prefix_attention.metal",
        inputs,
        output="y" if splits == 1 else "parts",
        shape=q.shape if splits == 1 else (splits, b, h, 2, d + 2),
        dtype=q.dtype if splits == 1 else mx.float32,
        constants=constants,
        grid=(h, shared if decode else b, blocks * splits),
        # The parts of a block of queries fill threadgroup memory with more than 8.
        simdgroups=_simdgroups(engine, d) if decode else min(_simdgroups(engine, d), 8),
        headers=("wide_loads.h", "online_softmax.h"),
        defines={"SPLIT": splits > 1},
        contiguous=False,
    )


def _padded(
    engine: Engine, q: mx.array, k: mx.array, v: mx.array, prefix: Prefix, scale: float, length: int | mx.array
) -> mx.array | None:
    """Attend with heads of fewer than 8 elements as with heads of 8."""
    check_prefix_attention(q, k, v, prefix, length)
    d, spare = q.shape[3], [(0, 0), (0, 0), (0, 0), (0, LEAST_HEAD - q.shape[3])]
    q, k, v, *parts = (mx.pad(a, spare) for a in (q, k, v, prefix.q, prefix.k, prefix.v))
    out = prefix_attention(engine, q, k, v, Prefix(parts[0], parts[1], parts[2], prefix.gate), scale, length)
    return None if out is None else out[..., :d]


def cross_attention(
    engine: Engine, x: mx.array, weight: Packed, k: mx.array, v: mx.array, scale: float, norm: Norm | None
) -> mx.array | None:
    """Compute SDPA(heads(norm(x) · dequant(w)^T), k, v), 0 for rows without text; see `reference.contract.Ops`.

    One launch for a step of up to 8 rows of text. Prompted windows (T > 1) compose the projection kernel with MLX's
    attention. Keep k and v contiguous: a view would be copied at every step. None where stock MLX is to compute it.
    """
    weight = weight.plain()
    if norm is not None and engine.choices.norm == "apart":
        check_cross_attention(x, weight, k, v, norm)
        x, norm = mx.fast.layer_norm(x, norm[0], norm[1], norm[2]).astype(x.dtype), None
    inputs = [x, weight.w, weight.scales, weight.biases, k, v, scalar(scale)]
    if norm is not None:
        inputs += [norm[0], norm[1], scalar(norm[2])]
    small = min(weight.w.size, weight.scales.size, k.size) < 8  # too small for the kernel's address spaces
    if x.ndim != 3 or k.ndim != 4 or x.shape[1] > 1 or k.shape[0] > DECODE_ROWS or small:
        return _composed(engine, x, weight, k, v, scale, norm)
    key = ("cross_attention", weight.bits, weight.group_size, tuple([(a.shape, a.dtype) for a in inputs]))

    def describe() -> Launch | None:
        check_cross_attention(x, weight, k, v, norm)
        if engine.choices.by_stock("cross_attention", k.shape[0]):
            return None
        return _cross_launch(engine, inputs, weight, norm)

    return engine.launch(key, inputs, describe)


def _composed(
    engine: Engine, x: mx.array, weight: Packed, k: mx.array, v: mx.array, scale: float, norm: Norm | None
) -> mx.array | None:
    check_cross_attention(x, weight, k, v, norm)
    b, steps, _ = x.shape
    text_rows, heads, _, dim = k.shape
    q = int4_matmul(engine, x[:text_rows], weight, norm, Epilogue())
    if q is None:
        return None
    q = q.reshape(text_rows, steps, heads, dim).swapaxes(1, 2)
    out = reference.attention(q, k, v, scale=scale).swapaxes(1, 2).reshape(text_rows, steps, -1)
    return mx.concatenate([out, mx.zeros((b - text_rows, steps, heads * dim), dtype=x.dtype)])


def _cross_launch(engine: Engine, inputs: list[mx.array], weight: Packed, norm: Norm | None) -> Launch:
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
        simdgroups=_simdgroups(engine, dim),
        headers=("wide_loads.h", "norm_rows.h", "dequant_dot.h", "online_softmax.h"),
        defines={"NORM": norm is not None},
    )
