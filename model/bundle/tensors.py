"""The tensors of each part by canonical name, with their shapes: what a reader demands and a writer produces."""

from __future__ import annotations

import math
from collections.abc import Iterator

import mlx.core as mx

from ..config import AdapterConfig, CodecConfig, Config, LMConfig, Quantization
from ..formats.safetensors_file import Shape, Shapes

NORMS = ("norm1", "norm_cross", "norm2")
ATTENTIONS = ("self_attn", "cross_attn")


def layer_projections(lm: LMConfig, layer: int) -> Shapes:
    """Return the weight shapes [N,K] of one layer's linear maps by module name: all that is ever quantized."""
    name = f"layers.{layer}"
    shapes: Shapes = {
        f"{name}.{attention}.{p}_proj": (lm.dim, lm.dim) for attention in ATTENTIONS for p in ("q", "k", "v", "out")
    }
    shapes[f"{name}.linear1"] = (lm.ffn, lm.dim)
    shapes[f"{name}.linear2"] = (lm.dim, lm.ffn)
    return shapes


def projections(lm: LMConfig) -> Shapes:
    """Return `layer_projections` of every layer."""
    return {name: shape for i in range(lm.layers) for name, shape in layer_projections(lm, i).items()}


def lm_shapes(lm: LMConfig, adapter: AdapterConfig) -> Shapes:
    """Return the shape of every tensor of the LM and the adapter, unquantized, in the order files hold them."""
    shapes: Shapes = {f"emb.{k}.weight": (lm.card + 1, lm.dim) for k in range(lm.codebooks)}
    for i in range(lm.layers):
        for norm in NORMS:
            shapes[f"layers.{i}.{norm}.weight"] = shapes[f"layers.{i}.{norm}.bias"] = (lm.dim,)
        shapes |= {f"{module}.weight": shape for module, shape in layer_projections(lm, i).items()}
    shapes["out_norm.weight"] = shapes["out_norm.bias"] = (lm.dim,)
    shapes |= {f"linears.{k}.weight": (lm.card, lm.dim) for k in range(lm.codebooks)}
    shapes["text_conditioner.output_proj.weight"] = (lm.dim, lm.text_dim)
    shapes["text_conditioner.output_proj.bias"] = (lm.dim,)
    shapes["cp_transformer.pos_emb"] = (adapter.layers + 1, adapter.max_n_frames + 1, lm.dim)
    shapes |= {f"cp_transformer.merge_linear.{i}.weight": (lm.dim, lm.dim) for i in range(adapter.layers)}
    shapes["cp_transformer.gates"] = (adapter.layers,)
    return shapes


def packed(module: str, shape: Shape, quantization: Quantization, dtype: mx.Dtype) -> dict[str, tuple[mx.Dtype, Shape]]:
    """Return the three tensors of a quantized [N, K] module, as `mx.quantize` makes them."""
    n, k = shape
    groups = (n, k // quantization.group_size)
    return {
        f"{module}.weight": (mx.uint32, (n, k * quantization.bits // 32)),
        f"{module}.scales": (dtype, groups),
        f"{module}.biases": (dtype, groups),
    }


def stored_tensors(config: Config) -> dict[str, tuple[mx.Dtype, Shape]]:
    """Return the dtype and shape of each tensor of a bundle's `model.safetensors` as this project writes it."""
    layout: dict[str, tuple[mx.Dtype, Shape]] = {}
    for name, shape in lm_shapes(config.lm, config.adapter).items():
        module = name.removesuffix(".weight")
        if quantization := config.packing(module):
            layout |= packed(module, shape, quantization, config.dtype)
        else:
            layout[name] = (config.dtype, shape)
    return layout


def codec_convs(codec: CodecConfig) -> Iterator[tuple[str, Shape]]:
    """Yield EnCodec's convolutions: module name and weight [out,k,in], of audiocraft's SEANet (not causal)."""
    width, index = codec.n_filters, 1
    yield "encoder.model.0.conv.conv", (width, codec.kernel_size, 1)
    for ratio in reversed(codec.ratios):
        yield from _residuals("encoder", index, width, codec)
        index += codec.n_residual_layers + 1
        yield f"encoder.model.{index}.conv.conv", (2 * width, 2 * ratio, width)
        index, width = index + 1, 2 * width
    index += bool(codec.lstm) + 1
    yield f"encoder.model.{index}.conv.conv", (codec.dimension, codec.last_kernel_size, width)
    yield "decoder.model.0.conv.conv", (width, codec.kernel_size, codec.dimension)
    index = 1 + bool(codec.lstm)
    for ratio in codec.ratios:
        yield f"decoder.model.{index + 1}.convtr.convtr", (width // 2, 2 * ratio, width)
        index, width = index + 2, width // 2
        yield from _residuals("decoder", index, width, codec)
        index += codec.n_residual_layers
    yield f"decoder.model.{index + 1}.conv.conv", (1, codec.last_kernel_size, width)


def _residuals(side: str, index: int, width: int, codec: CodecConfig) -> Iterator[tuple[str, Shape]]:
    hidden = width // codec.compress
    for j in range(codec.n_residual_layers):
        yield f"{side}.model.{index + j}.block.1.conv.conv", (hidden, codec.residual_kernel_size, width)
        yield f"{side}.model.{index + j}.block.3.conv.conv", (width, 1, hidden)


def codec_shapes(codec: CodecConfig) -> Shapes:
    """Return the shape of every tensor of EnCodec as `codec_weights.load_codec` returns it."""
    shapes: Shapes = {}
    for name, shape in codec_convs(codec):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]
    width = codec.n_filters * 2 ** len(codec.ratios)
    where = {"encoder": 1 + len(codec.ratios) * (codec.n_residual_layers + 2), "decoder": 1}
    for side, index in where.items():
        for layer in range(codec.lstm):
            for part in ("ih", "hh"):
                shapes[f"{side}.model.{index}.lstm.weight_{part}_l{layer}"] = (4 * width, width)
                shapes[f"{side}.model.{index}.lstm.bias_{part}_l{layer}"] = (4 * width,)
    for k in range(codec.codebooks):
        shapes[f"quantizer.vq.layers.{k}._codebook.embed"] = (codec.bins, codec.dimension)
    return shapes


def count(shapes: Shapes) -> int:
    """Return the number of weights."""
    return sum(math.prod(shape) for shape in shapes.values())
