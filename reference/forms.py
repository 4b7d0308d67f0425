"""The public, functional form of each operation that takes many arrays, over one that takes `Packed`, `Prefix` etc.

A backend writes `implementation(x, packed, norm, epilogue)`; callers may say `int4_matmul(x, w, scales, biases, bits=8,
residual=r)`, as `reference.contract.Ops` has it. The long signatures are written here once, for all backends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import mlx.core as mx

from .contract import Activation, Epilogue, LaidOut, Norm, Packed, Prefix

Operation = Callable[..., mx.array]


def packed(
    w: mx.array | Packed, scales: mx.array | None, biases: mx.array | None, group_size: int, bits: int
) -> Packed:
    """Return the matrix that a caller gave as a `Packed` or in its parts. Raises ValueError if parts are missing."""
    if isinstance(w, Packed):
        if scales is not None or biases is not None:
            raise ValueError("scales and biases are part of a packed matrix; give the matrix alone, or its parts")
        return w
    if scales is None or biases is None:
        raise ValueError("scales and biases are missing; give w, scales and biases as mx.quantize makes them")
    return Packed(w, scales, biases, group_size, bits)


def in_parts(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Replace weights in a backend's layout, among an operation's named arguments, by what `reference.oracle` takes.

    A packed matrix becomes its parts, the codec's weights become arrays.
    """
    w = arguments.get("w")
    if not isinstance(w, Packed):
        return {name: value.plain() if isinstance(value, LaidOut) else value for name, value in arguments.items()}
    w = w.plain()
    parts = {"w": w.w, "scales": w.scales, "biases": w.biases, "group_size": w.group_size, "bits": w.bits}
    return {**arguments, **parts}


def int4_matmul(implementation: Callable[[mx.array, Packed, Norm | None, Epilogue], mx.array]) -> Operation:
    """Make the public form of a packed product."""

    def form(
        x: mx.array,
        w: mx.array | Packed,
        scales: mx.array | None = None,
        biases: mx.array | None = None,
        *,
        group_size: int = 64,
        bits: int = 4,
        bias: mx.array | None = None,
        activation: Activation | None = None,
        residual: mx.array | None = None,
        norm: Norm | None = None,
    ) -> mx.array:
        """Compute residual + activation(norm(x) · dequant(w)^T + bias); see `reference.contract.Ops.int4_matmul`."""
        epilogue = Epilogue(bias, activation, residual)
        return implementation(x, packed(w, scales, biases, group_size, bits), norm, epilogue)

    return _named(form, "int4_matmul")


def linear(implementation: Callable[[mx.array, mx.array, Norm | None, Epilogue], mx.array]) -> Operation:
    """Make the public form of a dense product."""

    def form(
        x: mx.array,
        w: mx.array,
        *,
        bias: mx.array | None = None,
        activation: Activation | None = None,
        residual: mx.array | None = None,
        norm: Norm | None = None,
    ) -> mx.array:
        """Compute residual + activation(norm(x) · w^T + bias); see `reference.contract.Ops.linear`."""
        return implementation(x, w, norm, Epilogue(bias, activation, residual))

    return _named(form, "linear")


def self_attention(
    implementation: Callable[..., tuple[mx.array, mx.array]],
) -> Callable[..., tuple[mx.array, mx.array]]:
    """Make the public form of `implementation(qkv, cache, position, prefix, scale, rows, query_row)`."""

    def form(
        qkv: mx.array,
        cache: mx.array,
        position: int,
        prefix: Prefix | None = None,
        *,
        scale: float,
        rows: slice = slice(None),
        query_row: int = 0,
    ) -> tuple[mx.array, mx.array]:
        """Put keys and values into a cache and attend to it; see `reference.contract.Ops.self_attention`."""
        return implementation(qkv, cache, position, prefix, scale, rows, query_row)

    return _named(form, "self_attention")


def prefix_attention(implementation: Callable[..., mx.array]) -> Operation:
    """Make the public form of `implementation(q, k, v, prefix, scale, length)`."""

    def form(
        q: mx.array,
        k: mx.array,
        v: mx.array,
        prefix_q: mx.array,
        prefix_k: mx.array,
        prefix_v: mx.array,
        gate: mx.array | float,
        *,
        scale: float,
        length: int | mx.array,
    ) -> mx.array:
        """Compute SDPA(q, k[:length], v[:length]) + gate · SDPA(q + prefix_q, prefix_k, prefix_v).

        See `reference.contract.Ops.prefix_attention`; Instruct-MusicGen (arXiv 2405.18386), section 3.2.
        """
        return implementation(q, k, v, Prefix(prefix_q, prefix_k, prefix_v, gate), scale, length)

    return _named(form, "prefix_attention")


def cross_attention(implementation: Callable[..., mx.array]) -> Operation:
    """Make the public form of `implementation(x, packed, k, v, scale, norm)`."""

    def form(
        x: mx.array,
        w: mx.array | Packed,
        scales: mx.array | None = None,
        biases: mx.array | None = None,
        k: mx.array | None = None,
        v: mx.array | None = None,
        *,
        scale: float,
        group_size: int = 64,
        bits: int = 4,
        norm: Norm | None = None,
    ) -> mx.array:
        """Compute SDPA(heads(norm(x) · dequant(w)^T), k, v), 0 for rows without text.

        See `reference.contract.Ops.cross_attention`.
        """
        if k is None or v is None:
            raise ValueError("k and v are missing; give the text's keys and values")
        return implementation(x, packed(w, scales, biases, group_size, bits), k, v, scale, norm)

    return _named(form, "cross_attention")


def _named(form: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Name a form after its operation.

    Its code object stays `form`, so that a profiler that counts the operations' code by name counts each call once.
    """
    form.__name__ = form.__qualname__ = name
    return form
