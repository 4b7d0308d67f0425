"""A random EnCodec, as audiocraft exports it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ..bundle import tensors as layout
from ..config import CodecConfig
from ..formats import torch_writer
from ..formats.safetensors_file import Shape
from .numbers import Random

CODEC_GAINS = {"first": 6.0, "conv": 1.3, "latent": 1.0, "last": 0.04}
CODEBOOK_STD = (1.0, 0.7, 0.5, 0.35)


def tensors(codec: CodecConfig, seed: int) -> dict[str, torch_writer.Lazy]:
    """Return what `write` writes, by name.

    float32 for the real size, float16 values are enough for small ones: the reader makes float32 of both.
    """
    dtype = "float32" if codec.n_filters > 16 else "float16"
    state: dict[str, torch_writer.Lazy] = {}

    def add(name: str, shape: Shape, std: float, mean: float = 0.0) -> None:
        state[name] = torch_writer.Lazy(
            shape, dtype, lambda: Random(seed, name).spread(std, shape, mean).astype(np.dtype(dtype))
        )

    convs = dict(layout.codec_convs(codec))
    ends = [m for m in convs if m.startswith("encoder.")]
    for module, (out, kernel, channels) in convs.items():
        transposed = ".convtr." in module
        kind = {"encoder.model.0.conv.conv": "first", ends[-1]: "latent", list(convs)[-1]: "last"}.get(module, "conv")
        gain = CODEC_GAINS[kind]
        # With weight norm g is the norm over all but dimension 0, which in a transposed convolution is the input's:
        # there each output meets two taps of every channel.
        norm = gain * math.sqrt(out * kernel / (2 * channels)) if transposed else gain
        v = (channels, out, kernel) if transposed else (out, channels, kernel)
        add(f"{module}.weight_g", (v[0], 1, 1), 0.05 * norm, norm)
        add(f"{module}.weight_v", v, 1.0)
        add(f"{module}.bias", (out,), 0.02)
    for name, shape in layout.codec_shapes(codec).items():
        if ".lstm." in name:
            add(name, shape, 1 / math.sqrt(3 * codec.n_filters * 2 ** len(codec.ratios)))
        elif name.startswith("quantizer."):
            k = int(name.split(".")[3])
            add(name, shape, CODEBOOK_STD[min(k, 3)])
    return state


def write(path: Path, codec: CodecConfig, state: Mapping[str, torch_writer.Lazy], wrote: Callable[[int], None]) -> None:
    """Write `compression_state_dict.bin` with these tensors; `wrote` takes the bytes of each."""
    tree = {"best_state": dict(state), "xp.cfg": _xp_cfg(codec), "version": "1.3.0", "exported": True}
    torch_writer.save(path, tree, wrote)


def _xp_cfg(codec: CodecConfig) -> str:
    return f"""\
channels: 1
sample_rate: {codec.sample_rate}
solver: compression
compression_model: encodec
encodec: {{autoencoder: seanet, quantizer: rvq, sample_rate: {codec.sample_rate}, channels: 1, causal: false, \
renormalize: false, renorm: null}}
seanet:
  dimension: {codec.dimension}
  channels: 1
  causal: false
  n_filters: {codec.n_filters}
  n_residual_layers: {codec.n_residual_layers}
  ratios: {list(codec.ratios)}
  activation: ELU
  activation_params: {{alpha: 1.0}}
  norm: weight_norm
  norm_params: {{}}
  kernel_size: {codec.kernel_size}
  residual_kernel_size: {codec.residual_kernel_size}
  last_kernel_size: {codec.last_kernel_size}
  dilation_base: {codec.dilation_base}
  pad_mode: {codec.pad_mode}
  true_skip: true
  compress: {codec.compress}
  lstm: {codec.lstm}
  disable_norm_outer_blocks: 0
  decoder: {{trim_right_ratio: 1.0, final_activation: null, final_activation_params: null}}
  encoder: {{}}
rvq: {{n_q: {codec.codebooks}, q_dropout: false, bins: {codec.bins}}}
"""
