"""Hosts of the attention kernels of a decode step: gated prefix attention and attention to the text."""

from __future__ import annotations

import functools

import mlx.core as mx

import reference
from reference.arguments import check_cross_attention, check_prefix_attention
from reference.contract import Epilogue, Norm, Packed, Prefix

from .engine import Engine, Launch
from .int4_matmul import DECODE_ROWS, int4_matmul, outputs_of_a_simdgroup, scalar

LARGEST_HEAD = 256
# Of an attention threadgroup. On M1 and M2 a pipeline that needs many registers takes fewer threads: most variants
# would refuse 16 simdgroups, while 384 threads fit every pipeline whose limit has been published.
SIMDGROUPS = 8
# Arrays of fewer than 8 elements arrive in another address space; narrower heads are padded with zeros to 8.
LEAST_HEAD = 8
# Rows or queries of a block, which share a read of the prefix: each costs registers for a query and two results.
LARGEST_BLOCK = 4
# A threadgroup with more keys than this shares them with others while the GPU has room. Not tuned: no GPU was at hand.
KEYS_PER_SPLIT = 1024
THREADGROUPS_ENOUGH = 256


def _simdgroups(dim: int) -> int:
    """Return the simdgroups of an attention threadgroup: 256 threads, which fit the registers of every chip.

    Raises ValueError if the head dim is beyond what the kernels' threadgroup memory holds.
    """
    if dim > LARGEST_HEAD:
        raise ValueError(f"head dim {dim} is beyond {LARGEST_HEAD}; use the reference")
    return SIMDGROUPS


@functools.lru_cache(maxsize=4096)
def _length(length: int) -> mx.array:
    """Made once for all layers of a step."""
    return mx.array([length], dtype=mx.int32)


def _block(rows: int, dim: int) -> int:
    """Return the largest divisor of `rows` that a block can take."""
    return max(n for n in range(1, _largest_block(dim) + 1) if rows % n == 0)


def _largest_block(dim: int) -> int:
    """Return how many rows a block can take: the parts of their softmaxes share 32 KB of threadgroup memory."""
    return LARGEST_BLOCK if dim <= 128 else LARGEST_BLOCK // 2


def prefix_attention(
    engine: Engine, q: mx.array, k: mx.array, v: mx.array, prefix: Prefix, scale: float, length: int | mx.array
) -> mx.array:
    """Compute SDPA(q, k[:length], v[:length]) + gate · SDPA(q + prefix_q, prefix_k, prefix_v) in one launch.

    See `reference.contract.Ops.prefix_attention`. Views are read where they lie, never copied. Thousands of keys a
    row are split among threadgroups, which costs a second, small launch. Raises ValueError for head dims beyond 256.
    """
    check_prefix_attention(q, k, v, prefix, length)
    prefix_q, prefix_k, prefix_v, gate = prefix
    b, h, t, d = q.shape
    if d < LEAST_HEAD:
        spare = [(0, 0), (0, 0), (0, 0), (0, LEAST_HEAD - d)]
        q, k, v, prefix_q, prefix_k, prefix_v = (mx.pad(a, spare) for a in (q, k, v, prefix_q, prefix_k, prefix_v))
        padded = prefix_attention(engine, q, k, v, Prefix(prefix_q, prefix_k, prefix_v, gate), scale, length)
        return padded[..., :d]
    shared, frames, slots = prefix_q.shape[0], prefix_k.shape[2], k.shape[2]
    simdgroups = _simdgroups(d)
    gate = gate.reshape(1) if isinstance(gate, mx.array) else scalar(float(gate))
    length = length.reshape(1) if isinstance(length, mx.array) else _length(length)

    decode = t == 1
    rows = _block(b // shared, d) if decode else min(t, _largest_block(d))
    blocks = b // shared // rows if decode else -(-t // rows)
    groups = h * (shared if decode else b) * blocks
    splits = 1
    if decode:
        keys = slots * rows + frames
        if keys > 2 * KEYS_PER_SPLIT:
            splits = max(1, min(-(-keys // KEYS_PER_SPLIT), THREADGROUPS_ENOUGH // groups))
    inputs = {
        "q": q,
        "k": k,
        "v": v,
        "prefix_q": prefix_q,
        "prefix_k": prefix_k,
        "prefix_v": prefix_v,
        "gate": gate,
        "length": length,
        "scale": scalar(scale),
    }
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
    result = engine.launch(
        Launch(
            "prefix_attention.metal",
            inputs,
            output="y" if splits == 1 else "parts",
            shape=q.shape if splits == 1 else (splits, b, h, 2, d + 2),
            dtype=q.dtype if splits == 1 else mx.float32,
            constants=constants,
            grid=(h, shared if decode else b, blocks * splits),
            simdgroups=simdgroups,
            headers=("wide_loads.h", "online_softmax.h"),
            defines={"SPLIT": splits > 1},
            contiguous=False,
        )
    )
    if splits == 1:
        return result
    return engine.launch(
        Launch(
            "prefix_attention_join.metal",
            {"parts": result, "gate": gate},
            output="y",
            shape=q.shape,
            dtype=q.dtype,
            constants=(("T", q.dtype), ("D", d), ("SPLITS", splits)),
            grid=(1, h, b),
            threads=d,
        )
    )


def cross_attention(
    engine: Engine, x: mx.array, weight: Packed, k: mx.array, v: mx.array, scale: float, norm: Norm | None
) -> mx.array:
    """Compute SDPA(heads(norm(x) · dequant(w)^T), k, v), 0 for rows without text; see `reference.contract.Ops`.

    One launch for a step of up to 8 rows of text. Prompted windows (T > 1) compose the projection kernel with MLX's
    attention. Keep k and v contiguous: a view would be copied at every step.
    """
    weight = weight.plain()
    check_cross_attention(x, weight, k, v, norm)
    b, steps, width = x.shape
    text_rows, heads, _, dim = k.shape
    small = min(weight.w.size, weight.scales.size, k.size) < 8  # too small for the kernel's address spaces
    if steps > 1 or text_rows > DECODE_ROWS or small:
        q = int4_matmul(engine, x[:text_rows], weight, norm, Epilogue())
        q = q.reshape(text_rows, steps, heads, dim).swapaxes(1, 2)
        out = reference.attention(q, k, v, scale=scale).swapaxes(1, 2).reshape(text_rows, steps, -1)
        return mx.concatenate([out, mx.zeros((b - text_rows, steps, heads * dim), dtype=x.dtype)])

    simdgroups = _simdgroups(dim)
    inputs = {
        "x": x.reshape(b, width),
        "w": weight.w,
        "scales": weight.scales,
        "biases": weight.biases,
        "k": k,
        "v": v,
        "scale": scalar(scale),
    }
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
    if norm is not None:
        inputs |= {"norm_weight": norm[0], "norm_bias": norm[1], "eps": scalar(norm[2])}
        constants += [("NW", norm[0].dtype), ("NB", norm[1].dtype)]
    y = engine.launch(
        Launch(
            "cross_attention.metal",
            inputs,
            output="y",
            shape=(b, heads * dim),
            dtype=x.dtype,
            constants=tuple(constants),
            grid=(heads, 1, 1),
            simdgroups=simdgroups,
            headers=("wide_loads.h", "norm_rows.h", "dequant_dot.h", "online_softmax.h"),
            defines={"NORM": norm is not None},
        )
    )
    return y.reshape(b, 1, heads * dim)
