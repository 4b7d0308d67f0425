"""What a bundle is made of: the dimensions of each part, as plain frozen records."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import mlx.core as mx

from .instructions import UPSTREAM, Vocabulary

SAMPLE_RATE = 32_000
FRAME_RATE = 50
HOP = SAMPLE_RATE // FRAME_RATE
"""Samples of a codec frame."""
PACKED_BITS = (4, 8)
GROUP_SIZES = (32, 64, 128)
"""Quantization that `reference.arguments` takes, and so every backend."""
UPSTREAM_FRAMES = 250
"""Frames of the clips that upstream trains on and generates: 5 s."""
PROJECTION = r"layers\.\d+\.(self_attn\.\w+_proj|cross_attn\.\w+_proj|linear[12])"
"""The modules that a bundle's default quantization packs, by canonical name: the layers' linear maps."""


@dataclass(frozen=True)
class Quantization:
    """Affine quantization of the layer projections, as `mx.quantize` makes it."""

    bits: int
    group_size: int


@dataclass(frozen=True)
class LMConfig:
    """MusicGen's language model over `codebooks` streams of `card` tokens; `card` itself is the special token."""

    dim: int
    heads: int
    ffn: int
    layers: int
    card: int
    codebooks: int = 4
    text_dim: int = 768

    @property
    def head_dim(self) -> int:
        """Features of one attention head."""
        return self.dim // self.heads

    @property
    def special(self) -> int:
        """The token that stands where the delay pattern has no frame; embedding row `card`."""
        return self.card


@dataclass(frozen=True)
class AdapterConfig:
    """CPTransformer: adapter layer i belongs to LM layer `start_layer` + i."""

    layers: int
    max_n_frames: int
    """Frames that the position tables reach."""
    start_layer: int = 0
    trained_frames: int | None = field(default=None, compare=False)
    """Frames of the clips it was trained on, where the bundle says so: rows behind them are as they were drawn."""

    @property
    def window_frames(self) -> int:
        """The longest window unless asked otherwise: what was trained, or upstream's 5 s where the bundle is silent."""
        return min(self.trained_frames or UPSTREAM_FRAMES, self.max_n_frames)


@dataclass(frozen=True)
class CodecConfig:
    """EnCodec 32 kHz as audiocraft builds it; `ratios` in the decoder's order."""

    dimension: int = 128
    n_filters: int = 64
    ratios: tuple[int, ...] = (8, 5, 4, 4)
    codebooks: int = 4
    bins: int = 2048
    pad_mode: str = "reflect"
    kernel_size: int = 7
    last_kernel_size: int = 7
    residual_kernel_size: int = 3
    n_residual_layers: int = 1
    dilation_base: int = 2
    compress: int = 2
    lstm: int = 2
    sample_rate: int = SAMPLE_RATE


def _float16() -> mx.Dtype:
    import mlx.core as mx  # here, so that the constants above can be read where MLX is not installed

    return mx.float16


@dataclass(frozen=True)
class Config:
    """A whole bundle. `dtype` is that of its unquantized floats; `quantization` None means dense projections."""

    lm: LMConfig
    adapter: AdapterConfig
    dtype: mx.Dtype = field(default_factory=_float16)
    quantization: Quantization | None = None
    overrides: Mapping[str, Quantization | None] = field(default_factory=dict)
    """The modules, by canonical name, that the default does not tell: a projection packed otherwise or (None) not at
    all, and any other module that is packed, be it as the default."""
    instructions: Vocabulary = UPSTREAM
    """The instruments, and the kind of sentences, that it was trained on."""

    def packing(self, module: str) -> Quantization | None:
        """Return how a module's matrix is packed; None if it is stored as floats."""
        return self.overrides.get(module, self.quantization if re.fullmatch(PROJECTION, module) else None)
