"""Checks of the operations' arguments, for every backend: one ValueError that names the value and the fix."""

from __future__ import annotations

import mlx.core as mx

from .contract import Epilogue, Norm, Packed, Prefix
from .heads import stack_heads

FLOATS = (mx.float16, mx.bfloat16, mx.float32)
GROUP_SIZES = (32, 64, 128)
BITS = (4, 8)


def _float(name: str, a: mx.array) -> None:
    if a.dtype not in FLOATS:
        raise ValueError(f"{name} is {a.dtype}; cast it to float16, bfloat16 or float32")


def check_epilogue(x: mx.array, n: int, norm: Norm | None, epilogue: Epilogue) -> None:
    """Check norm weight and bias [K], bias [N], residual [..., N] in x's dtype, activation None or "gelu"."""
    bias, activation, residual = epilogue
    if activation not in (None, "gelu"):
        raise ValueError(f'activation={activation!r} is not known; use None or "gelu"')
    if bias is not None:
        if bias.shape != (n,):
            raise ValueError(f"bias has shape {bias.shape}; it must be ({n},)")
        _float("bias", bias)
    if residual is not None:
        want = (*x.shape[:-1], n)
        if residual.shape != want:
            raise ValueError(f"residual has shape {residual.shape}; the product has {want}")
        if residual.dtype != x.dtype:
            raise ValueError(f"residual is {residual.dtype} and x is {x.dtype}; cast one of them")
    if norm is not None:
        k = x.shape[-1]
        for name, a in (("norm weight", norm[0]), ("norm bias", norm[1])):
            if a.shape != (k,):
                raise ValueError(f"{name} has shape {a.shape}; x has K={k}")
            _float(name, a)


def check_packed(weight: Packed) -> tuple[int, int]:
    """Return the (N, K) of a plain packed matrix. Raises ValueError if its parts do not fit each other."""
    w, scales, biases, group_size, bits = weight.w, weight.scales, weight.biases, weight.group_size, weight.bits
    if bits not in BITS:
        raise ValueError(f"bits={bits} is not supported; quantize with bits 4 or 8")
    if group_size not in GROUP_SIZES:
        raise ValueError(f"group_size={group_size} is not supported; use one of 32, 64, 128")
    if not (w.dtype == mx.uint32 and w.ndim == 2):
        raise ValueError(f"w is {w.dtype} {w.shape}; it must be uint32 [N, K*bits/32]")
    n, k = weight.shape
    if not (n > 0 and k > 0):
        raise ValueError(f"w has shape {w.shape}; it must not be empty")
    if k % group_size != 0:
        raise ValueError(f"K={k} is not a multiple of group_size={group_size}; pad the input before quantizing")
    want = (n, k // group_size)
    for name, a in (("scales", scales), ("biases", biases)):
        if a.shape != want:
            raise ValueError(f"{name} have shape {a.shape}; w {w.shape} with group_size={group_size} needs {want}")
        _float(name, a)
    if scales.dtype != biases.dtype:
        raise ValueError(f"scales are {scales.dtype} and biases {biases.dtype}; cast one of them")
    return n, k


def check_int4_matmul(x: mx.array, weight: Packed, norm: Norm | None, epilogue: Epilogue) -> tuple[int, int]:
    """Return the (N, K) of a product with a plain packed matrix. Raises ValueError if an argument does not fit."""
    n, k = check_packed(weight)
    _float("x", x)
    if not (x.ndim >= 1 and x.shape[-1] == k):
        raise ValueError(f"x has shape {x.shape}; w {weight.w.shape} at {weight.bits} bits: last axis of {k} needed")
    if not (x.size > 0):
        raise ValueError(f"x has shape {x.shape}; it must not be empty")
    check_epilogue(x, n, norm, epilogue)
    return n, k


def check_linear(x: mx.array, w: mx.array, norm: Norm | None, epilogue: Epilogue) -> tuple[int, int]:
    """Return the (N, K) of a product with a dense matrix. Raises ValueError if an argument does not fit."""
    _float("x", x)
    _float("w", w)
    if w.ndim != 2:
        raise ValueError(f"w has shape {w.shape}; it must be [N, K]")
    n, k = w.shape
    if not (x.ndim >= 1 and x.shape[-1] == k):
        raise ValueError(f"x has shape {x.shape}; w {w.shape} needs a last axis of {k}")
    if not (x.size > 0):
        raise ValueError(f"x has shape {x.shape}; it must not be empty")
    check_epilogue(x, n, norm, epilogue)
    return n, k


def _value(a: mx.array) -> int | None:
    """Return the number in an array of one element; None while a graph is traced, where it is not known."""
    try:
        value = a.item()
    except (ValueError, RuntimeError):
        return None
    return value if isinstance(value, int) else None


def check_length(length: int | mx.array, t: int, s: int) -> None:
    """Raise ValueError unless T queries may see `length` of a cache's S slots."""
    if isinstance(length, int):
        if not (length <= s):
            raise ValueError(f"length={length} is beyond the cache's {s} slots; allocate a longer cache")
        if not (length >= t):
            raise ValueError(f"length={length} is less than the {t} queries; it counts the queries' own positions too")
    else:
        if length.size != 1:
            raise ValueError(f"length has shape {length.shape}; it must be an int or an array of one element")
        if length.dtype != mx.int32:
            raise ValueError(f"length is {length.dtype}; cast it to int32")
        value = _value(length)
        if value is not None and not (value >= t):
            raise ValueError(f"length={value} is less than the {t} queries; it counts the queries' own positions too")


def check_prefix_attention(q: mx.array, k: mx.array, v: mx.array, prefix: Prefix, length: int | mx.array) -> None:
    """Raise ValueError unless shapes and dtypes are those of `reference.contract.Ops.prefix_attention`."""
    prefix_q, prefix_k, prefix_v, gate = prefix
    for name, a in (("q", q), ("k", k), ("v", v)):
        if not (a.ndim == 4 and a.size > 0):
            raise ValueError(f"{name} has shape {a.shape}; it must be a non-empty [B,H,T,D]")
        _float(name, a)
    b, h, t, d = q.shape
    if k.shape != v.shape:
        raise ValueError(f"k has shape {k.shape} and v {v.shape}; they must be equal")
    s = k.shape[2]
    if k.shape != (b, h, s, d):
        raise ValueError(f"k has shape {k.shape}; q {q.shape} needs [{b},{h},S,{d}]")
    check_length(length, t, s)
    for name, a in (("prefix_q", prefix_q), ("prefix_k", prefix_k), ("prefix_v", prefix_v)):
        if not (a.ndim == 4 and a.size > 0):
            raise ValueError(f"{name} has shape {a.shape}; it must be a non-empty [B',H,P,D]")
        _float(name, a)
    bp = prefix_q.shape[0]
    if b % bp != 0:
        raise ValueError(f"{bp} prefix rows do not divide {b} query rows; repeat or select the prefix")
    if prefix_q.shape != (bp, h, t, d):
        raise ValueError(f"prefix_q has shape {prefix_q.shape}; q {q.shape} needs [B',{h},{t},{d}]")
    p = prefix_k.shape[2]
    for name, a in (("prefix_k", prefix_k), ("prefix_v", prefix_v)):
        if a.shape != (bp, h, p, d):
            raise ValueError(f"{name} has shape {a.shape}; it must be [{bp},{h},{p},{d}]")
    if isinstance(gate, mx.array) and not (gate.size == 1):
        raise ValueError(f"gate has shape {gate.shape}; it must be a scalar")


def check_write_cache(cache: mx.array, kv: mx.array, position: int, rows: slice) -> tuple[int, int]:
    """Check against `reference.contract.Ops.write_cache`. Return the first row and the step from one row to the next.

    Raises ValueError if an argument does not fit.
    """
    for name, a, axes in (("cache", cache, "[2,B,H,S,D]"), ("kv", kv, "[2,b,H,T,D]")):
        if not (a.ndim == 5 and a.size > 0):
            raise ValueError(f"{name} has shape {a.shape}; it must be a non-empty {axes}")
        _float(name, a)
    parts, batch, heads, slots, dim = cache.shape
    chosen = range(batch)[rows]
    if kv.shape != (parts, len(chosen), heads, kv.shape[3], dim):
        raise ValueError(
            f"kv has shape {kv.shape}; the cache {cache.shape} needs [{parts},{len(chosen)},{heads},T,{dim}]"
        )
    if position < 0 or position + kv.shape[3] > slots:
        raise ValueError(
            f"position={position} and {kv.shape[3]} more do not fit the cache's {slots} slots; allocate a longer cache"
        )
    if chosen.step < 1:
        raise ValueError(f"rows={rows} count backwards; reverse kv instead")
    return chosen.start, chosen.step


def check_qkv(qkv: mx.array, cache: mx.array, prefix: Prefix | None, query_row: int) -> None:
    """Check the arguments that only `reference.contract.Ops.self_attention` takes.

    Raises ValueError if one does not fit.
    """
    if not (qkv.ndim == 3 and qkv.size > 0):
        raise ValueError(f"qkv has shape {qkv.shape}; it must be a non-empty [b,T,3·H·D]")
    if not (cache.ndim == 5 and cache.size > 0 and cache.shape[0] == 2):
        raise ValueError(f"cache has shape {cache.shape}; it must be a non-empty [2,B,H,S,D]")
    heads, dim = cache.shape[2], cache.shape[4]
    if qkv.shape[2] != 3 * heads * dim:
        raise ValueError(f"qkv has shape {qkv.shape}; the cache's {heads} heads of {dim} need [b,T,{3 * heads * dim}]")
    if prefix is not None and not (prefix.q.ndim == 4 and 0 <= query_row <= prefix.q.shape[2] - qkv.shape[1]):
        raise ValueError(
            f"query_row={query_row} and {qkv.shape[1]} queries do not fit prefix_q {prefix.q.shape}; it must be "
            "[B',H,P',D] with a row for each"
        )


def check_self_attention(
    qkv: mx.array, cache: mx.array, position: int, prefix: Prefix | None, rows: slice, query_row: int
) -> tuple[int, int]:
    """Check all arguments of `reference.contract.Ops.self_attention`.

    Return the first row and the step from one row to the next. Raises ValueError if an argument does not fit.
    """
    check_qkv(qkv, cache, prefix, query_row)
    parts, steps = stack_heads(qkv, cache.shape[2], cache.shape[4]), qkv.shape[1]
    found = check_write_cache(cache, parts[1:], position, rows)
    if prefix is not None:
        own = cache[:1, rows].squeeze(0)
        given = prefix._replace(q=prefix.q[:, :, query_row : query_row + steps])
        check_prefix_attention(parts[:1].squeeze(0), own, own, given, position + steps)
    return found


def check_cross_attention(x: mx.array, weight: Packed, k: mx.array, v: mx.array, norm: Norm | None) -> None:
    """Raise ValueError unless shapes and dtypes are those of `reference.contract.Ops.cross_attention`; w is plain."""
    n, _ = check_int4_matmul(x, weight, norm, Epilogue())
    if x.ndim != 3:
        raise ValueError(f"x has shape {x.shape}; it must be [B,T,K]")
    for name, a in (("k", k), ("v", v)):
        if not (a.ndim == 4 and a.size > 0):
            raise ValueError(f"{name} has shape {a.shape}; it must be a non-empty [B',H,S,D]")
        _float(name, a)
    if k.shape != v.shape:
        raise ValueError(f"k has shape {k.shape} and v {v.shape}; they must be equal")
    if k.shape[1] * k.shape[3] != n:
        raise ValueError(f"w makes {n} features; k {k.shape} has {k.shape[1]} heads of {k.shape[3]}")
    if not (k.shape[0] <= x.shape[0]):
        raise ValueError(
            f"k has {k.shape[0]} rows and x only {x.shape[0]}; give x at least one row for each of k, those with text "
            "first"
        )
