"""The shapes that `bench kernels` times: a model's own, then awkward ones."""

from __future__ import annotations

from kernels.cases import Case, attention, conv, cross_attention, linear, lstm, matmul, prefix_attention
from model.config import CodecConfig, LMConfig


def cases(lm: LMConfig, codec: CodecConfig, *, group_size: int = 64, frames: int = 250) -> list[Case]:
    """Return every operation at a model's decode, prefill and codec shapes, then at awkward ones."""
    d, f, heads, dim, g = lm.dim, lm.ffn, lm.heads, lm.head_dim, group_size
    width = codec.n_filters * 2 ** len(codec.ratios)
    ratio = codec.ratios[0]
    return [
        matmul("qkv", 2, 3 * d, d, group_size=g, norm=True, quick=True),
        matmul("out", 2, d, d, group_size=g, residual=True),
        matmul("up", 2, f, d, group_size=g, norm=True, gelu=True),
        matmul("down", 2, d, f, group_size=g, residual=True, quick=True),
        *[matmul("qkv", rows, 3 * d, d, group_size=g) for rows in (1, 4, 8, 16)],
        matmul("qkv", 2, 3 * d, d, group_size=g, bits=8),
        linear("heads", 2, lm.codebooks * lm.card, d, norm=True, quick=True),
        cross_attention(2, heads, dim, text=12, quick=True),
        prefix_attention("mid-clip", 2, heads, dim, length=125, slots=253, prefix=251, quick=True),
        prefix_attention("10 s", 2, heads, dim, length=503, slots=503, prefix=501),
        matmul("qkv prefill", frames + 1, 3 * d, d, group_size=g),
        linear("merge prefill", frames + 1, d, d),
        attention(1, heads, dim, frames + 1),
        conv(width // 2, width, 2 * ratio, ratio, 50),
        conv(codec.n_filters, codec.n_filters // 2, 3, 1, 32000),
        conv(width, width // 2, 2 * ratio, ratio, 50, transposed=True),
        lstm(width, 50),
        matmul("awkward", 3, 2 * d // 3 | 1, 33 * g, group_size=g, norm=True),
        matmul("awkward", 5, 77, 3 * g, group_size=g, residual=True, quick=True),
        prefix_attention("awkward", 2, 3, 48, length=1, slots=7, prefix=13),
        prefix_attention("awkward", 6, heads, dim, length=77, slots=101, prefix=333),
    ]
