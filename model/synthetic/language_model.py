"""Random weights of the language model and the adapter, packed or dense."""

from __future__ import annotations

import math

import mlx.core as mx
import numpy as np

from ..bundle import tensors as layout
from ..config import Config, Quantization
from ..formats.safetensors_file import CODES, Shape
from ..formats.tensor_writer import Layout, TensorWriter
from .numbers import Array, Random

RESIDUAL_LAYERS = 8
"""Up to this many layers, each branch adds its full share; in deeper models it shrinks with the square root."""


def _gain(module: str, layers: int) -> float:
    """Return standard deviation of a linear map's output where its input has 1."""
    part = module.rpartition(".")[2]
    # Scores of standard deviation 1.6^2: attention over hundreds of frames prefers a few of them.
    if part in ("q_proj", "k_proj"):
        return 1.6
    if part in ("out_proj", "linear2"):
        return 0.8 * min(1.0, math.sqrt(RESIDUAL_LAYERS / layers))
    return 2.0 if module.startswith("linears.") else 1.0


def write_tensor(writer: TensorWriter, name: str, config: Config, stored: Layout, seed: int) -> None:
    """Write one tensor of `layout.lm_shapes`, with its scales and biases if `stored` has it packed."""
    module = name.removesuffix(".weight")
    random = Random(seed, name)
    shape = layout.lm_shapes(config.lm, config.adapter)[name] if name not in stored else stored[name][1]
    if f"{module}.scales" in stored:
        q = config.packing(module)
        assert q is not None
        _write_packed(writer, module, q, _gain(module, config.lm.layers), stored, random)
        return
    writer.write(name, _lm_value(name, shape, config.lm.layers, random).astype(np.dtype(_numpy_name(stored[name][0]))))


def _lm_value(name: str, shape: Shape, layers: int, random: Random) -> Array:
    if name == "cp_transformer.gates":
        return random.between(0.5, 1.0, shape)
    if ".norm" in name or name.startswith("out_norm"):
        return random.spread(0.1, shape, mean=float(name.endswith(".weight")))
    if name.startswith("emb.") or name == "cp_transformer.pos_emb":
        return random.spread(0.5, shape)
    if name.endswith(".bias"):
        return random.spread(0.1, shape)
    return random.spread(_gain(name.removesuffix(".weight"), layers) / math.sqrt(shape[1]), shape)


def _write_packed(
    writer: TensorWriter, module: str, q: Quantization, gain: float, stored: Layout, random: Random
) -> None:
    """Write random words: levels uniform from 0 to 2^bits - 1, which scale and bias center around 0."""
    words, (dtype, groups) = stored[f"{module}.weight"][1], stored[f"{module}.scales"]
    levels = 2**q.bits
    std = gain / math.sqrt(words[1] * 32 // q.bits)
    scale = std / math.sqrt((levels * levels - 1) / 12)
    kind = np.dtype(_numpy_name(dtype))
    writer.write(f"{module}.weight", random.words(words))
    scales = random.between(0.75 * scale, 1.25 * scale, groups).astype(kind)
    writer.write(f"{module}.scales", scales)
    writer.write(f"{module}.biases", (scales.astype(np.float32) * np.float32(-(levels - 1) / 2)).astype(kind))


def _numpy_name(dtype: mx.Dtype) -> str:
    name = {"F32": "float32", "F16": "float16"}.get(CODES[dtype])
    if name is None:
        raise ValueError(f"random bundles hold float16 or float32, not {dtype}")
    return name
