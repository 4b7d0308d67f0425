"""The operations of `reference.contract.Ops` as C++ MLX primitives for CPUs.

Lazy like every MLX operation: they run on the CPU stream they were made under when something evaluates them, inside
`mx.compile` too; they have no gradient and no vmap. Weights are read where they lie, packed or 16-bit, never copied.
NativeSettings, each also an environment variable read at first use:

- instruction set, `set_isa` / INSTRUCT_MUSICGEN_ISA: auto, or one of `info()["isas"]`;
- layout, `set_layout`: how `pack` lays matrices out;
- threads, `set_threads` / INSTRUCT_MUSICGEN_THREADS: all cores this process may use unless told;
- activations, `set_activations` / INSTRUCT_MUSICGEN_ACTIVATIONS: "int16" (default), "float32" or "int8";
- kept keys and values, `set_caches` / INSTRUCT_MUSICGEN_CACHES: "float32" (default) or "float16";
- weights' files, INSTRUCT_MUSICGEN_FILES: "mapped" (default) or "read".
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from numbers import Integral
from types import ModuleType
from typing import Any, Literal, NoReturn

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from reference import arguments, forms
from reference.contract import Epilogue, Norm, Packed, Prefix
from reference.tiles import Tiles

from . import codec, cores, mapped_files
from .interleaved import Interleaved, Layout
from .loading import build_record, load
from .settings import ACTIVATIONS, CACHES, LAYOUTS, NativeSettings

name = "native"
NO_NORM = (None, None, 0.0)

_extension, _reason = load()
_settings = NativeSettings()
if _extension is not None and (_fewer := cores.fewer()):
    _extension.set_threads(_fewer)
if _wrong := _settings.read_environment():
    _extension, _reason = None, _wrong

__all__ = [
    "attention", "cache_dtype", "compute_dtype", "conv1d", "conv_transpose1d", "cross_attention", "file_arrays", "info",
    "int4_matmul", "knobs", "lay_out", "linear", "lstm", "name", "pack", "prefix_attention", "self_attention",
    "set_activations", "set_caches", "set_isa", "set_layout", "set_threads", "stream", "unavailable", "use",
    "weight_dtype", "write_cache",
]  # fmt: skip


def unavailable() -> str | None:
    """Return why this backend cannot be used here and what to do about it, in one line; None where it can."""
    return _reason


def _ext() -> ModuleType:
    if _extension is None:
        raise RuntimeError(f"the native backend cannot be used: {_reason}")
    return _extension


def info() -> dict[str, Any]:
    """Return the instruction set in use and those available, threads, activations, BLAS, and the build's versions."""
    ext = _ext()
    return {
        "isa": ext.isa(),
        "isas": ext.isas(),
        "threads": ext.threads(),
        "activations": _settings.activations,
        "caches": _settings.caches,
        "blas": ext.blas(),
        "mlx": ext.mlx_version,
        "compiler": ext.compiler,
        **{f"built_with_{key}": value for key, value in build_record().items()},
    }


def set_isa(isa: str) -> None:
    """Choose an instruction set, "auto" for the best. Raises ValueError if this machine or build cannot run it."""
    if not _ext().set_isa(isa):
        raise ValueError(f"isa={isa!r} cannot run here; use one of auto, {', '.join(_ext().isas())}")


def set_threads(count: int | None) -> None:
    """Set how many threads take part.

    None chooses the default: INSTRUCT_MUSICGEN_THREADS, else all cores that the process may use (its affinity, its
    cgroup's quota, SLURM_CPUS_PER_TASK). Raises ValueError unless the count is from 1 to 1024.
    """
    if count is not None and (not isinstance(count, Integral) or not 1 <= int(count) <= 1024):
        raise ValueError(f"threads={count!r} is out of range; use 1 to 1024, or None for all cores")
    _ext().set_threads(cores.fewer() if count is None else int(count))


def set_activations(activations: Literal["float32", "int16", "int8"]) -> None:
    """Set the precision of activations inside products with packed weights.

    "float32" rounds nothing. "int16", the default, rounds them to 16 bits with a scale for every group of columns (for
    every 32 to 128 with plain weights) in products with K >= 1024, of up to 16 rows unless `pack` made the weights: the
    relative error is about 2e-5 a product, below what float32 sums of that length are allowed; the rest stays float32.
    "int8" rounds them to 8 bits everywhere with weights of 4 bits: faster with many rows, with a relative error of
    about 0.6 % a product. Operations made before keep what they had.
    """
    _settings.choose("activations", activations)


def set_caches(caches: Literal["float32", "float16"]) -> None:
    """Set the precision of keys and values that are kept from step to step: caches, and the clip's prefix.

    "float32", the default, rounds nothing. "float16" halves what attention reads and what the caches take, at a
    relative error of up to 5e-4 a value, as upstream has it on a GPU; where two tokens are nearly as likely, the other
    one may be chosen. Windows begun before keep what they had. Raises ValueError for another value.
    """
    _settings.choose("caches", caches)


def set_layout(layout: Literal["interleaved", "plain"]) -> None:
    """Set how `pack` lays matrices out from now on: "interleaved", as products read them, or "plain".

    Raises ValueError for another layout.
    """
    _settings.choose("layout", layout)


def knobs() -> dict[str, list[Any]]:
    """Return the knobs that `bench tune` may set, each with its values, the default first.

    A knob that an environment variable sets is left out.
    """
    count = _ext().threads()
    some = sorted({count, *(n for n in (count - 1, count // 2) if n >= 1)}, reverse=True)
    found: dict[str, list[Any]] = {"threads": some, "isa": ["auto", *_ext().isas()[1:]], "layout": list(LAYOUTS)}
    fixed = {"threads": "INSTRUCT_MUSICGEN_THREADS", "isa": "INSTRUCT_MUSICGEN_ISA"}
    return {name: values for name, values in found.items() if not os.environ.get(fixed.get(name, ""))}


def use(values: Mapping[str, Any]) -> None:
    """Set knobs. Raises ValueError if one is unknown, or has a value that it cannot have."""
    known = knobs()
    setters: dict[str, Callable[[Any], None]] = {"threads": set_threads, "isa": set_isa, "layout": set_layout}
    for name, value in values.items():
        if name not in setters:
            raise ValueError(f"{name} is not known; use some of {', '.join(setters)}")
        if name in known:
            setters[name](value)


def stream(words: npt.NDArray[np.uint64]) -> int:
    """Load each of `words` [n] once on all threads, to measure bandwidth, and return their bitwise or."""
    found: int = _ext().stream(words)
    return found


def compute_dtype(stored: mx.Dtype) -> mx.Dtype:
    """Return float32: activations are few and sums are float32 anyway; weights stay in `stored` (any float)."""
    return mx.float32


def cache_dtype(stored: mx.Dtype) -> mx.Dtype:
    """Return the dtype of kept keys and values, as `set_caches` chose it."""
    return CACHES[_settings.caches]


def weight_dtype(stored: mx.Dtype) -> mx.Dtype:
    """Return `stored`: 16-bit weights are widened in registers as they are read."""
    return stored


def _explain(error: Exception, check: Callable[..., Any], *args: Any) -> NoReturn:
    """Raise the shared check's message, which names the value and the fix, else the extension's own."""
    check(*args)
    raise ValueError(str(error).splitlines()[0]) from error


def pack(weight: Packed) -> Packed:
    """Return the matrix in the order in which this backend reads it: as large, and started at once, not lazily."""
    if isinstance(weight, Interleaved):
        return weight
    if isinstance(weight, Tiles) and _settings.layout == "interleaved":
        return Interleaved.settled(_ext(), weight)
    weight = weight.plain()
    arguments.check_packed(weight)
    return weight if _settings.layout == "plain" else Interleaved.of(_ext(), weight)


def _packed(weight: Packed) -> tuple[list[mx.array], Layout]:
    """Return packed weights as the extension takes them."""
    if isinstance(weight, Interleaved):
        return [weight.data], weight.layout
    weight = weight.plain()
    return [weight.w, weight.scales, weight.biases], (weight.group_size, weight.bits, 0, 0, 0)


def _int4_matmul(x: mx.array, weight: Packed, norm: Norm | None, epilogue: Epilogue) -> mx.array:
    try:
        out: mx.array = _ext().int4_matmul(
            x, *_packed(weight), epilogue.bias, _gelu(epilogue.activation), epilogue.residual, *(norm or NO_NORM),
            ACTIVATIONS.index(_settings.activations),
        )  # fmt: skip
        return out
    except (ValueError, TypeError) as e:
        _explain(e, arguments.check_int4_matmul, x, weight.plain(), norm, epilogue)


def _linear(x: mx.array, w: mx.array, norm: Norm | None, epilogue: Epilogue) -> mx.array:
    try:
        out: mx.array = _ext().linear(
            x, w, epilogue.bias, _gelu(epilogue.activation), epilogue.residual, *(norm or NO_NORM)
        )
        return out
    except (ValueError, TypeError) as e:
        _explain(e, arguments.check_linear, x, w, norm, epilogue)


def _prefix_attention(
    q: mx.array, k: mx.array, v: mx.array, prefix: Prefix, scale: float, length: int | mx.array
) -> mx.array:
    """Compute gated prefix attention; k and v may be strided views of a larger cache, which are read in place.

    An array `length` is checked when the operation runs.
    """
    try:
        out: mx.array = _ext().prefix_attention(q, k, v, *prefix, scale, length)
        return out
    except (ValueError, TypeError) as e:
        _explain(e, arguments.check_prefix_attention, q, k, v, prefix, length)


def write_cache(cache: mx.array, kv: mx.array, position: int, rows: slice = slice(None)) -> mx.array:
    """Put keys and values at some positions of a cache; see `reference.contract.Ops.write_cache`."""
    first, step = arguments.check_write_cache(cache, kv, position, rows)
    out: mx.array = _ext().write_cache(cache, kv, position, first, step)
    return out


def _self_attention(
    qkv: mx.array, cache: mx.array, position: int, prefix: Prefix | None, scale: float, rows: slice, query_row: int
) -> tuple[mx.array, mx.array]:
    own, gate = ([], 0.0) if prefix is None else (list(prefix[:3]), prefix[3])
    try:
        at = range(cache.shape[1])[rows]
        out, after = _ext().self_attention(
            qkv, cache, position, (at.start, at.step, len(at)), own, gate, query_row, scale
        )
        return out, after
    except (ValueError, TypeError, IndexError) as e:
        _explain(e, arguments.check_self_attention, qkv, cache, position, prefix, rows, query_row)


def _cross_attention(
    x: mx.array, weight: Packed, k: mx.array, v: mx.array, scale: float, norm: Norm | None
) -> mx.array:
    try:
        out: mx.array = _ext().cross_attention(
            x, *_packed(weight), k, v, scale, *(norm or NO_NORM), ACTIVATIONS.index(_settings.activations)
        )
        return out
    except (ValueError, TypeError) as e:
        _explain(e, arguments.check_cross_attention, x, weight.plain(), k, v, norm)


int4_matmul = forms.int4_matmul(_int4_matmul)
linear = forms.linear(_linear)
self_attention = forms.self_attention(_self_attention)
prefix_attention = forms.prefix_attention(_prefix_attention)
cross_attention = forms.cross_attention(_cross_attention)


lay_out, conv1d, conv_transpose1d, lstm = codec.operations(_ext)
file_arrays = mapped_files.reader(_extension, _settings)


def attention(
    q: mx.array, k: mx.array, v: mx.array, *, scale: float, mask: mx.array | Literal["causal"] | None = None
) -> mx.array:
    """Compute softmax(scale · q k^T + mask) v; see `reference.contract.Ops`.

    `mask` is an additive float array, "causal" or None.
    """
    if isinstance(mask, str) and mask != "causal":
        raise ValueError(f'mask={mask!r} is not known; use an additive array, "causal" or None')
    causal = isinstance(mask, str)
    try:
        out: mx.array = _ext().attention(q, k, v, scale, None if causal else mask, causal)
        return out
    except (ValueError, TypeError) as e:
        what = mask.shape if isinstance(mask, mx.array) else mask
        raise ValueError(
            f"q {q.shape} {q.dtype}, k {k.shape} {k.dtype}, v {v.shape} {v.dtype} and mask {what} do not fit; "
            "they must be float [B,H,T,D], [B,H,S,D], [B,H,S,D] and a float mask that broadcasts to [B,H,T,S]"
        ) from e


def _gelu(activation: str | None) -> bool:
    if activation not in (None, "gelu"):
        raise ValueError(f'activation={activation!r} is not known; use None or "gelu"')
    return activation == "gelu"
