"""Packed weights in the order in which the native products read them: see src/simd/weights.h."""

from __future__ import annotations

from types import ModuleType

import mlx.core as mx

from reference import tiles
from reference.contract import Packed
from reference.tiles import Tiles

DTYPES = (mx.float32, mx.float16, mx.bfloat16)  # of scales and biases, as src/mlx/bindings.cpp numbers them

Layout = tuple[int, int, int, int, int]


class Interleaved(Packed):
    """A packed matrix [N,K] as one array of bytes; `plain` makes its words, scales and biases."""

    data: mx.array
    dtype: mx.Dtype
    """The dtype of scales and biases."""
    _extension: ModuleType
    _shape: tuple[int, int]

    def __init__(
        self, extension: ModuleType, data: mx.array, shape: tuple[int, int], group_size: int, bits: int, dtype: mx.Dtype
    ) -> None:
        """Take bytes that are in this order already."""
        fields = {"group_size": group_size, "bits": bits, "data": data, "dtype": dtype}
        for name, value in (fields | {"_extension": extension, "_shape": shape}).items():
            object.__setattr__(self, name, value)  # frozen, like every Packed

    @classmethod
    def of(cls, extension: ModuleType, weight: Packed) -> Interleaved:
        """Reorder a matrix, started at once, so that the original is soon freed and the next one read meanwhile."""
        layout = (weight.group_size, weight.bits, 0, 0, 0)
        data: mx.array = extension.interleave([weight.w, weight.scales, weight.biases], layout)
        mx.async_eval(data)  # type: ignore[no-untyped-call]
        return cls(extension, data, weight.shape, weight.group_size, weight.bits, weight.scales.dtype)

    @classmethod
    def settled(cls, extension: ModuleType, weight: Tiles) -> Interleaved:
        """Take a matrix that is stored in this order; started at once."""
        data: mx.array = extension.settle(list(weight.stacked))
        mx.async_eval(data)  # type: ignore[no-untyped-call]
        return cls(extension, data, weight.shape, weight.group_size, weight.bits, tiles.DTYPE)

    @property
    def shape(self) -> tuple[int, int]:
        """N and K of the matrix."""
        return self._shape

    def plain(self) -> Packed:
        """Return the words, scales and biases that it was made of, bit by bit."""
        w, scales, biases = (self._extension.deinterleave([self.data], self.layout, part) for part in range(3))
        return Packed(w, scales, biases, self.group_size, self.bits)

    def arrays(self) -> list[mx.array]:
        """Return the arrays that hold the matrix in memory."""
        return [self.data]

    @property
    def layout(self) -> Layout:
        """The numbers that the extension needs besides the bytes."""
        return self.group_size, self.bits, *self._shape, DTYPES.index(self.dtype)

    __eq__, __hash__, __repr__ = object.__eq__, object.__hash__, object.__repr__  # Packed's read the words
