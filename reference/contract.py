"""The one contract between the model and whatever computes for it.

`reference`, `kernels.native` and the Metal kernels (on a GPU or in the interpreter) all export the functions below. The
model is built once and is handed one of them as `ops`; nothing in it asks which chip it runs on.

Shape letters: M rows of a matmul, K in-features, N out-features, B batch rows, H heads, T query steps, S keys (cache
slots), P prefix frames, D head dim, L samples or frames of a signal, C channels.

Precision, for every operation: inputs and outputs are float16, bfloat16 or float32; sums are accumulated in float32
and rounded once on store. Up to 16 rows with one position each do not depend on each other, nor do the signals of an
LSTM: native, and the reference on a CPU, give each the bits that it gets alone. Arguments that do not fit raise
ValueError with the value and the fix in the message (`reference.arguments` does the checking for every backend).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import mlx.core as mx

Activation = Literal["gelu"]


class Norm(NamedTuple):
    """A layer norm to apply to `x` before the product: (x - mean) / sqrt(var + eps) * weight + bias, over K."""

    weight: mx.array  # [K]
    bias: mx.array  # [K]
    eps: float = 1e-5


class Epilogue(NamedTuple):
    """What follows a product y: residual + activation(y + bias)."""

    bias: mx.array | None = None  # [N]
    activation: Activation | None = None
    residual: mx.array | None = None  # [..., N]


@dataclass(frozen=True)
class Packed:
    """A quantized matrix [N,K] as `mx.quantize` makes it.

    w: uint32 [N, K·bits/32]; scales, biases: float [N, K/group_size].

    `Ops.pack` may return a subclass that holds the same matrix in a layout of the backend's own; `plain` is the way
    back, for whatever reads the words themselves. Every backend takes every layout.
    """

    w: mx.array
    scales: mx.array
    biases: mx.array
    group_size: int = 64
    bits: int = 4

    @property
    def shape(self) -> tuple[int, int]:
        """N and K of the matrix."""
        return self.w.shape[0], self.w.shape[1] * 32 // self.bits

    def plain(self) -> Packed:
        """Return the matrix as `mx.quantize` lays it out."""
        return self

    def arrays(self) -> list[mx.array]:
        """Return the arrays that hold the matrix in memory."""
        return [self.w, self.scales, self.biases]


@runtime_checkable
class LaidOut(Protocol):
    """Weights of the codec, laid out by `Ops.lay_out` as one backend reads them best; every backend takes them."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weights."""
        ...

    def plain(self) -> mx.array:
        """Return the weights as they were given, float32."""
        ...


Weight = mx.array | LaidOut
CodecOperation = Literal["conv1d", "conv_transpose1d", "lstm"]


class Prefix(NamedTuple):
    """What a layer attends to beside its own past: q [B',H,T,D], k and v [B',H,P,D], and the raw scalar gate."""

    q: mx.array
    k: mx.array
    v: mx.array
    gate: mx.array | float


class Ops(Protocol):
    """The operations that a backend provides. Implementations may be modules or objects."""

    name: str

    def compute_dtype(self, stored: mx.Dtype) -> mx.Dtype:
        """Return the dtype activations should have on this backend when the bundle's floats are `stored`."""
        ...

    def weight_dtype(self, stored: mx.Dtype) -> mx.Dtype:
        """Return the dtype that dense weights, scales and biases are best kept in when the file holds `stored`."""
        ...

    def cache_dtype(self, stored: mx.Dtype) -> mx.Dtype:
        """Return the dtype in which keys and values are kept for later steps when the bundle's floats are `stored`."""
        ...

    def pack(self, weight: Packed) -> Packed:
        """Return a packed matrix in the layout that this backend computes with best, `weight` itself if that is it.

        Costs one pass over the matrix where the layout changes. Raises ValueError if its parts do not fit each other.
        """
        ...

    def int4_matmul(
        self,
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
        """Compute residual + activation(norm(x) · dequant(w)^T + bias).

        x [..., K]; w a `Packed`, or its uint32 words [N, K·bits/32] with scales and biases [N, K/group_size] exactly as
        `mx.quantize` makes them (affine; bits 4 or 8; group_size 32, 64 or 128); bias [N]; residual (a layer's input,
        added by its skip connection) and result [..., N] in x's dtype. Matrices that share an input (q, k and v) are
        stacked along N and cost one call. `gelu` is the exact erf form. Raises ValueError if arguments do not fit.
        """
        ...

    def linear(
        self,
        x: mx.array,
        w: mx.array,
        *,
        bias: mx.array | None = None,
        activation: Activation | None = None,
        residual: mx.array | None = None,
        norm: Norm | None = None,
    ) -> mx.array:
        """Compute residual + activation(norm(x) · w^T + bias).

        x [..., K], not empty; w dense [N, K] of any float dtype; bias [N]; residual and result [..., N] in x's dtype.
        Raises ValueError if arguments do not fit.
        """
        ...

    def prefix_attention(
        self,
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
        """Compute SDPA(q, k[:length], v[:length]) + gate · SDPA(q + prefix_q, prefix_k, prefix_v), as one pass.

        q [B,H,T,D]; k, v [B,H,S,D] with S >= length >= T; prefix_q [B',H,T,D], prefix_k, prefix_v [B',H,P,D] where B'
        divides B and row b uses prefix row b mod B' (the rows of a guidance pair share one prefix and one read of it).
        Two separate softmaxes. The first is causal: query t stands at position length-T+t and sees keys up to its own
        position; cache slots from `length` on are never used, whatever they hold. The second sees all P frames. gate is
        a raw scalar (float, or array of one element). `length` may be an int32 array of one element so that a compiled
        graph can be used again. Result [B,H,T,D] in q's dtype. (Instruct-MusicGen, section 3.2.)
        """
        ...

    def write_cache(self, cache: mx.array, kv: mx.array, position: int, rows: slice = slice(None)) -> mx.array:
        """Put kv at `position` of some rows of a cache, and return the cache with it.

        cache [2,B,H,S,D] of any float dtype, kv [2,b,H,T,D] with S >= position + T, `rows` b of the B in rising order;
        values are rounded to the cache's dtype. In place where nothing else holds the cache: use the result instead.
        """
        ...

    def self_attention(
        self,
        qkv: mx.array,
        cache: mx.array,
        position: int,
        prefix: Prefix | None = None,
        *,
        scale: float,
        rows: slice = slice(None),
        query_row: int = 0,
    ) -> tuple[mx.array, mx.array]:
        """Put the keys and values of T positions into a cache and attend to it: all between a layer's two products.

        qkv [b,T,3·H·D], the three maps side by side, of `rows` b of the B in rising order; cache [2,B,H,S,D] of any
        float dtype with S >= position + T. The cache is written as by `write_cache`; then the T queries attend causally
        to the `position` + T keys that are there. With a prefix they do so by `prefix_attention`, whose prefix_q are
        the T rows of prefix.q [B',H,P',D] from `query_row` on. Return the result [b,T,H·D] in qkv's dtype, and the
        cache, which is written in place where nothing else holds it.
        """
        ...

    def cross_attention(
        self,
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
        """Compute SDPA(heads(norm(x) · dequant(w)^T), k, v): query projection and text attention as one operation.

        x [B,T,K]; w, or w, scales and biases, as in `int4_matmul` with N = H·D; k, v [B',H,S,D], B' <= B. Rows b >= B'
        are the unconditional ones, whose text is all zeros: their result is exactly 0 and nothing is computed for them.
        Result [B,T,H·D] in x's dtype.
        """
        ...

    def attention(
        self, q: mx.array, k: mx.array, v: mx.array, *, scale: float, mask: mx.array | Literal["causal"] | None = None
    ) -> mx.array:
        """Compute softmax(scale · q k^T + mask) v.

        q [B,H,T,D]; k, v [B,H,S,D]; mask: an array to add that broadcasts to [B,H,T,S], "causal" or None. Result
        [B,H,T,D] in q's dtype.
        """
        ...

    def lay_out(self, w: mx.array, operation: CodecOperation, *, stride: int = 1) -> Weight:
        """Return weights of `operation` as this backend reads them best, `w` itself if that is it.

        w [N,k,C] of a convolution, of the transposed one with this stride, or either matrix [4C,C] of an LSTM. Costs
        one pass over the weights where the layout changes.
        """
        ...

    def conv1d(
        self,
        x: mx.array,
        w: Weight,
        bias: mx.array,
        *,
        stride: int = 1,
        elu: bool = False,
        residual: mx.array | None = None,
    ) -> mx.array:
        """Compute residual + conv(elu(x)) + bias, unpadded; x [B,L,C], w [N,k,C]; result [B,(L-k)//stride+1,N]."""
        ...

    def conv_transpose1d(self, x: mx.array, w: Weight, bias: mx.array, *, stride: int, elu: bool = False) -> mx.array:
        """Compute the full transposed convolution of elu(x), plus bias.

        x [B,L,C], w [N,k,C]; result [B,(L-1)·stride+k,N].
        """
        ...

    def lstm(
        self, x: mx.array, w_ih: Weight, w_hh: Weight, bias: mx.array, state: mx.array | None = None
    ) -> tuple[mx.array, mx.array]:
        """Run one LSTM layer; x [B,L,C], w_ih, w_hh [4C,C] (gates i,f,g,o), bias [4C].

        Return the result [B,L,C] and the state after it, float32 [2,B,C]: hidden values, then cell values. Given back
        with the frames that follow, it continues the signal; None is a state of zeros.
        """
        ...


@runtime_checkable
class Compiling(Protocol):
    """Operations of a backend whose kernels are compiled on the user's machine, in addition to `Ops`."""

    def missing(self, run: Callable[[], object]) -> Sequence[Any]:
        """Return the kernels that `run` would launch and that are not compiled yet. Nothing is computed meanwhile."""
        ...

    def compile(self, launches: Sequence[Any], progress: Callable[[int, int], None] | None = None) -> None:
        """Compile the kernels; `progress` is called with how many are done and how many there are.

        A kernel that the machine refuses is computed by stock MLX from then on; one warning says so.
        """
        ...
