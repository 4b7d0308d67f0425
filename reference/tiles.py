"""Packed matrices in the order in which CPUs read them best: pieces of 32 outputs by one group of columns.

A piece is one run of bytes: word after word of its 32 outputs side by side, then their scales, then their biases. With
4 bits a word's nibbles n0 (the lowest) to n7 are the bytes n0 | n4 << 4, n1 | n5 << 4, n2 | n6 << 4, n3 | n7 << 4, so
that masks alone give neighboring columns. It takes as many bytes as what `mx.quantize` makes, and there is a way back,
bit by bit. Here in stock MLX, for any machine; `kernels.native` has its own (src/simd/weights.h).
"""

from __future__ import annotations

import mlx.core as mx

from .contract import Packed

OUTPUTS = 32
"""Outputs of a piece; N must be a multiple."""
DTYPE = mx.float16
"""The dtype of scales and biases."""

Shape = tuple[int, ...]


def fits(n: int) -> bool:
    """Tell whether a matrix of `n` outputs can be laid out in pieces."""
    return n % OUTPUTS == 0


def shape(n: int, k: int, group_size: int, bits: int) -> Shape:
    """Return the shape of a matrix's bytes: tiles of 32 outputs, groups of columns, bytes of a piece."""
    return n // OUTPUTS, k // group_size, OUTPUTS * (group_size * bits // 8 + 2 * DTYPE.size)


def lay_out(weight: Packed) -> mx.array:
    """Return a plain matrix, whose scales and biases are float16, as uint8 of `shape`."""
    groups = weight.scales.shape[1]
    words = weight.w.reshape(-1, OUTPUTS, groups, weight.group_size * weight.bits // 32).transpose(0, 2, 3, 1)
    if weight.bits == 4:
        words = _spread(words)
    parts = [words, *(a.reshape(-1, OUTPUTS, groups).swapaxes(1, 2) for a in (weight.scales, weight.biases))]
    flat = [mx.contiguous(part.reshape(*part.shape[:2], -1)).view(mx.uint8) for part in parts]
    return mx.concatenate(flat, axis=-1)


class Tiles(Packed):
    """A packed matrix [N,K] as uint8 [N/32, K/group_size, bytes of a piece], lazy; stacked ones as one array each."""

    stacked: tuple[mx.array, ...]

    def __init__(self, stacked: tuple[mx.array, ...], group_size: int, bits: int) -> None:
        for name, value in (("group_size", group_size), ("bits", bits), ("stacked", stacked)):
            object.__setattr__(self, name, value)  # frozen, like every Packed

    @property
    def data(self) -> mx.array:
        """Return the bytes as one array."""
        return self.stacked[0] if len(self.stacked) == 1 else mx.concatenate(list(self.stacked))

    @property
    def shape(self) -> tuple[int, int]:
        """N and K of the matrix."""
        return sum(a.shape[0] for a in self.stacked) * OUTPUTS, self.stacked[0].shape[1] * self.group_size

    def part(self, number: int) -> mx.array:
        """Return the words (0), the scales (1) or the biases (2) as `mx.quantize` makes them."""
        codes = OUTPUTS * self.group_size * self.bits // 8
        start, stop = (0, codes, codes + OUTPUTS * DTYPE.size, self.stacked[0].shape[2])[number : number + 2]
        flat = mx.contiguous(self.data[:, :, start:stop]).view(DTYPE if number else mx.uint32)
        each = flat.reshape(*flat.shape[:2], -1, OUTPUTS)
        if number == 0 and self.bits == 4:
            each = _gathered(each)
        return each.transpose(0, 3, 1, 2).reshape(self.shape[0], -1)

    def plain(self) -> Packed:
        """Return the words, scales and biases that it was made of, bit by bit."""
        w, scales, biases = (self.part(number) for number in range(3))
        return Packed(w, scales, biases, self.group_size, self.bits)

    def arrays(self) -> list[mx.array]:
        """Return the arrays that hold the matrix in memory."""
        return list(self.stacked)

    __eq__, __hash__, __repr__ = object.__eq__, object.__hash__, object.__repr__  # Packed's read the words


def _spread(words: mx.array) -> mx.array:
    low, high = words & 0xFFFF, words >> 16
    return _apart(low) | _apart(high) << 4


def _apart(half: mx.array) -> mx.array:
    """Put 4 nibbles into the lower halves of 4 bytes."""
    half = (half | half << 8) & 0x00FF00FF
    return (half | half << 4) & 0x0F0F0F0F


def _gathered(words: mx.array) -> mx.array:
    low, high = words & 0x0F0F0F0F, (words >> 4) & 0x0F0F0F0F
    return _together(low) | _together(high) << 16


def _together(half: mx.array) -> mx.array:
    """Put the lower halves of 4 bytes into 4 nibbles."""
    half = (half | half >> 4) & 0x00FF00FF
    return (half | half >> 8) & 0xFFFF
