"""The bytes that one decode step must read, from the model's dimensions: every matrix once, every cached row once.

The rows of a guidance pair share weights and prefix, so those count once for the pair. Activations, the logits and what
is written are thousands of times smaller and left out. `design` figures for MusicGen-large at 4 bits: see the tests.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import mlx.core as mx

from model.bundle.tensors import NORMS, projections
from model.config import AdapterConfig, Config, LMConfig, Quantization
from model.synthetic import MAX_N_FRAMES, PRESETS

PARTS = ("weights", "heads", "embedding", "self cache", "prefix", "text")
FLOAT16 = mx.float16

SIZES = ("small", "medium", "large")
"""MusicGen's published sizes (arXiv 2306.05284, table 1; facebook/musicgen-* on the Hub)."""


def published(size: str, bits: int) -> Config:
    """Return the configuration of a published size with the adapter on all layers, at 4, 8 or 16 bits."""
    lm = PRESETS[size].lm
    quantization = Quantization(bits, 64) if bits < 16 else None
    return Config(lm, AdapterConfig(layers=lm.layers, max_n_frames=MAX_N_FRAMES), FLOAT16, quantization)


@dataclass(frozen=True)
class StepShape:
    """The circumstances of one decode step."""

    batch: int = 1
    guided: bool = True
    length: float = 0.0  # positions in the self-attention cache, the step's own included; a mean may be fractional
    prefix: int = 0  # frames, the special one included
    text: int = 0  # tokens of the longest instruction

    @property
    def rows(self) -> int:
        """Rows of the LM's batch."""
        return self.batch * (2 if self.guided else 1)


def matrix_bytes(shape: tuple[int, ...], quantization: Quantization | None, floats: int) -> int:
    """Return the bytes of an [N, K] matrix: dense, or packed with scales and biases of `floats` bytes each."""
    n, k = shape
    if quantization is None:
        return n * k * floats
    return n * k * quantization.bits // 8 + 2 * n * (k // quantization.group_size) * floats


def step_bytes(
    config: Config, shape: StepShape, *, activations: mx.Dtype, weights: mx.Dtype, caches: mx.Dtype | None = None
) -> dict[str, float]:
    """Return the bytes by part (`PARTS`).

    The text's keys and values and the norms count in `activations`' dtype, dense weights and scales in `weights`', the
    self-attention's cache and the prefix in `caches`' (by default that of the activations).
    """
    lm, floats, dense, cached = config.lm, activations.size, weights.size, (caches or activations).size
    total = 0
    for module, matrix in projections(lm).items():
        if module.endswith(("cross_attn.k_proj", "cross_attn.v_proj")):
            continue  # the text's keys and values are computed once for a clip
        total += matrix_bytes(matrix, config.packing(module), dense)
    heads = sum(matrix_bytes((lm.card, lm.dim), config.packing(f"linears.{k}"), dense) for k in range(lm.codebooks))
    norms = (len(NORMS) * lm.layers + 1) * 2 * lm.dim * floats
    per_row = 2 * lm.layers * lm.dim  # keys and values of one position
    adapted = 2 * config.adapter.layers * lm.dim * cached
    return {
        "weights": float(total + norms),
        "heads": float(heads),
        "embedding": float(shape.rows * lm.codebooks * lm.dim * config.dtype.size),
        "self cache": shape.rows * shape.length * per_row * cached,
        "prefix": float(shape.batch * shape.prefix * adapted),
        "text": float(shape.batch * shape.text * per_row * floats),
    }


def prefill_flops(config: Config, rows: int, frames: int) -> float:
    """Return the floating-point operations of the adapter over `rows` clips of `frames`, two for each multiply-add.

    Counted are its merge maps, the layers' six matrices, and causal attention (scores and values, half of the square);
    of the last layer only what its prefix takes: the merge map, queries, keys and values.
    """
    lm, layers = config.lm, config.adapter.layers
    prefix = lm.dim * lm.dim * (1 + 3)
    rest = frames * lm.dim + lm.dim * lm.dim + 2 * lm.dim * lm.ffn
    return 2.0 * rows * frames * (layers * prefix + (layers - 1) * rest)


def decoder_parameters(lm: LMConfig) -> int:
    """Return the number of the language model's parameters, as its peers have it: without the adapter."""
    return sum(math.prod(shape) for shape in projections(lm).values()) + (2 * lm.card + 1) * lm.codebooks * lm.dim
