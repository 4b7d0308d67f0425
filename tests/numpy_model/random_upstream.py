"""Random models in upstream's own file formats: `upstream.ckpt`, `base/` and `t5/`, of any dimensions.

Written by Python's own pickler, so that nothing of `model` but its random numbers has a part in them. The dead weights
hold unrelated values, as in the golden vectors.
"""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from model.synthetic.numbers import Random

from .numbers import Array
from .random_tensors import save, spread_of

TOKENIZER = Path(__file__).parents[1] / "golden" / "A" / "t5"
LM = "model.peft_model.lm."
LAYERS = LM + "transformer.base_model.model.layers"
TEXT = "condition_provider.conditioners.description.output_proj"


@dataclass(frozen=True)
class CodecShape:
    """audiocraft's names; `form` is how a convolution's weight norm is stored."""

    n_filters: int = 4
    dimension: int = 16
    ratios: tuple[int, ...] = (8, 5, 4, 4)
    pad_mode: str = "constant"
    lstm: int = 2
    kernel_size: int = 7
    last_kernel_size: int = 7
    residual_kernel_size: int = 3
    compress: int = 2
    form: str = "weight_g"


@dataclass(frozen=True)
class T5Shape:
    d_model: int = 48
    d_kv: int = 8
    heads: int = 6
    d_ff: int = 96
    layers: int = 3


@dataclass(frozen=True)
class Shape:
    """The defaults are configuration B's, as far as its README tells them."""

    seed: int = 0
    dim: int = 96
    heads: int = 6
    ffn: int = 192
    layers: int = 4
    start_layer: int = 0
    card: int = 48
    rank: int = 2
    max_frames: int = 30
    gates: tuple[float, ...] = (0.7, -0.4, 1.1, 0.3)
    dtype: str = "float16"
    codec: CodecShape = field(default_factory=CodecShape)
    t5: T5Shape = field(default_factory=T5Shape)


def write(shape: Shape, folder: Path) -> dict[str, Path]:
    """Write the files; gives what `convert` calls adapter, base and t5."""
    base, t5 = folder / "base", folder / "t5"
    base.mkdir(parents=True)
    checkpoint = _checkpoint(shape)
    dtypes = {name: shape.dtype if ".layers." in name else "float32" for name in checkpoint}
    save(folder / "upstream.ckpt", "state_dict", checkpoint, dtypes, {})
    below = _base(shape)
    half = "float32" if shape.dtype == "float32" else shape.dtype
    save(base / "state_dict.bin", "best_state", below, dict.fromkeys(below, half), {"xp.cfg": _lm_config(shape)})
    codec = _codec(shape)
    settings = {"xp.cfg": _codec_config(shape)}
    save(base / "compression_state_dict.bin", "best_state", codec, dict.fromkeys(codec, "float32"), settings)
    _t5(shape, t5)
    return {"adapter": folder / "upstream.ckpt", "base": base, "t5": t5}


def clip(samples: int, seed: int) -> Array:
    """Three gliding tones and noise, float32 [samples], that use most of the codebooks."""
    t = np.arange(samples) / 32_000
    rates = (110.0, 523.25, 2093.0)
    tones = [np.sin(2 * np.pi * (rate * t + 40 * (seed % 7 + k) * t**2)) / (k + 2) for k, rate in enumerate(rates)]
    noise = Random(seed, "clip").spread(0.1, (samples,))
    return np.asarray(0.5 * sum(tones) * (0.6 + 0.4 * np.sin(9 * t)) + noise, dtype=np.float32)


def codes(shape: Shape, rows: int, frames: int, name: str) -> Array:
    """int32 [rows, 4, frames]."""
    words = Random(shape.seed, name).words((rows, 4, frames))
    return (words % shape.card).astype(np.int32)


def _checkpoint(shape: Shape) -> dict[str, Array]:
    d, spread = shape.dim, spread_of(shape.seed, "checkpoint")
    state = {
        f"{LM}{TEXT}.weight": spread("text", 1 / math.sqrt(shape.t5.d_model), d, shape.t5.d_model),
        f"{LM}{TEXT}.bias": spread("text bias", 0.3, d),
    }
    for k in range(4):
        state[f"{LM}emb.{k}.weight"] = spread(f"emb {k}", 0.5, shape.card + 1, d)
        state[f"{LM}linears.{k}.weight"] = spread(f"head {k}", 3 / math.sqrt(d), shape.card, d)
    for part, mean in (("weight", 1.0), ("bias", 0.0)):
        state[f"{LM}out_norm.{part}"] = mean + spread(f"out_norm {part}", 0.1, d)
    for i in range(shape.layers):
        layer = _layer(shape, i, spread)
        state |= {f"{LAYERS}.{i}.{name}": value for name, value in layer.items()}
        if i >= shape.start_layer:
            copied = {n: v for n, v in layer.items() if "cross" not in n}
            state |= {f"model.cp_transformer.layers.{i - shape.start_layer}.{n}": v for n, v in copied.items()}
    adapted = shape.layers - shape.start_layer
    state["model.cp_transformer.pos_emb"] = spread("pos_emb", 1.0, adapted + 1, shape.max_frames + 1, d)
    state["model.cp_transformer.gates"] = np.resize(np.array(shape.gates, np.float32), adapted)
    for i in range(adapted):
        state[f"model.cp_transformer.merge_linear.{i}.weight"] = spread(f"merge {i}", 1 / math.sqrt(d), d, d)
    return state


def _layer(shape: Shape, i: int, spread: Any) -> dict[str, Array]:
    d, f, r = shape.dim, shape.ffn, shape.rank
    unit = 1 / math.sqrt(d)
    sizes = {
        "self_attn.in_proj_weight": (1.5 * unit, 3 * d, d), "self_attn.out_proj.weight": (0.7 * unit, d, d),
        "self_attn.q_proj.weight": (unit, d, d), "self_attn.k_proj.weight": (unit, d, d),
        "self_attn.v_proj.weight": (unit, d, d), "cross_attention.in_proj_weight": (unit, 3 * d, d),
        "cross_attention.q_proj.base_layer.weight": (1.5 * unit, d, d),
        "cross_attention.q_proj.lora_A.default.weight": (unit, r, d),
        "cross_attention.q_proj.lora_B.default.weight": (0.3 / math.sqrt(r), d, r),
        "cross_attention.k_proj.weight": (1.5 * unit, d, d),
        "cross_attention.v_proj.base_layer.weight": (unit, d, d),
        "cross_attention.v_proj.lora_A.default.weight": (unit, r, d),
        "cross_attention.v_proj.lora_B.default.weight": (0.3 / math.sqrt(r), d, r),
        "cross_attention.out_proj.weight": (unit, d, d), "linear1.weight": (1.5 * unit, f, d),
        "linear2.weight": (1 / math.sqrt(f), d, f),
    }  # fmt: skip
    layer = {name: spread(f"{i} {name}", std, *size) for name, (std, *size) in sizes.items()}
    for norm in ("norm1", "norm_cross", "norm2"):
        layer[f"{norm}.weight"] = 1 + spread(f"{i} {norm} weight", 0.1, d)
        layer[f"{norm}.bias"] = spread(f"{i} {norm} bias", 0.1, d)
    return layer


def _base(shape: Shape) -> dict[str, Array]:
    """MusicGen as it was before: other values wherever the checkpoint has its own."""
    state = {}
    for name, value in _checkpoint(shape).items():
        short = name.removeprefix(LM).replace("transformer.base_model.model.", "transformer.")
        if name.startswith(LM) and "lora_" not in name and "_proj.base_layer" not in name and ".k_proj." not in name:
            state[short] = Random(shape.seed + 1, short).spread(0.2, value.shape)
    return {n: v for n, v in state.items() if not n.endswith(("q_proj.weight", "v_proj.weight"))}


def _lm_config(shape: Shape) -> str:
    return yaml.safe_dump({
        "transformer_lm": {
            "dim": shape.dim, "num_heads": shape.heads, "num_layers": shape.layers,
            "hidden_scale": shape.ffn // shape.dim, "n_q": 4, "card": shape.card, "activation": "gelu",
            "norm_first": True, "bias_ff": False, "bias_attn": False, "bias_proj": False, "causal": True,
            "layer_scale": None, "positional_embedding": "sin", "xpos": False, "norm": "layer_norm",
            "qk_layer_norm": False, "qk_layer_norm_cross": False, "kv_repeat": 1, "past_context": None,
        },
        "codebooks_pattern": {"modeling": "delay", "delay": {"delays": [0, 1, 2, 3]}},
    })  # fmt: skip


def _codec_config(shape: Shape) -> str:
    c = {name: value for name, value in asdict(shape.codec).items() if name != "form"} | {
        "ratios": list(shape.codec.ratios), "channels": 1, "causal": False, "n_residual_layers": 1, "dilation_base": 2,
        "activation": "ELU", "activation_params": {"alpha": 1.0}, "norm": "weight_norm", "norm_params": {},
        "true_skip": True, "disable_norm_outer_blocks": 0, "encoder": {},
        "decoder": {"trim_right_ratio": 1.0, "final_activation": None, "final_activation_params": None},
    }  # fmt: skip
    return yaml.safe_dump({
        "channels": 1, "sample_rate": 32000, "compression_model": "encodec", "seanet": c,
        "encodec": {"autoencoder": "seanet", "quantizer": "rvq", "sample_rate": 32000, "channels": 1, "causal": False,
                    "renormalize": False},
        "rvq": {"n_q": 4, "bins": shape.card},
    })  # fmt: skip


def _codec(shape: Shape) -> dict[str, Array]:
    c, spread, state = shape.codec, spread_of(shape.seed, "codec"), {}

    def conv(name: str, out: int, into: int, kernel: int, gain: float = 1.3, transposed: bool = False) -> None:
        name = f"{name}.convtr.convtr" if transposed else f"{name}.conv.conv"
        direction = spread(f"{name} v", 1.0, *((into, out, kernel) if transposed else (out, into, kernel)))
        if transposed:  # its norm is an input channel's; two taps of each channel meet in an output
            gain *= math.sqrt(out * kernel / (2 * into))
        size = gain * (1 + spread(f"{name} g", 0.05, direction.shape[0], 1, 1))
        if c.form == "weight":
            norm = np.sqrt((direction.astype(np.float64) ** 2).sum(axis=(1, 2), keepdims=True))
            state[f"{name}.weight"] = (size * direction / norm).astype(np.float32)
        elif c.form == "weight_g":
            state[f"{name}.weight_g"], state[f"{name}.weight_v"] = size, direction
        else:
            state[f"{name}.parametrizations.weight.original0"] = size
            state[f"{name}.parametrizations.weight.original1"] = direction
        state[f"{name}.bias"] = spread(f"{name} bias", 0.02, out)

    def residual(name: str, width: int) -> None:
        conv(f"{name}.block.1", width // c.compress, width, c.residual_kernel_size)
        conv(f"{name}.block.3", width, width // c.compress, 1, 0.8)

    def lstm(name: str, width: int) -> None:
        for layer in range(c.lstm):
            for part, size in (("weight_ih", (width,)), ("weight_hh", (width,)), ("bias_ih", ()), ("bias_hh", ())):
                full = f"{name}.lstm.{part}_l{layer}"
                state[full] = spread(full, 1 / math.sqrt(3 * width), 4 * width, *size)

    width, at = c.n_filters, 1
    conv("encoder.model.0", width, 1, c.kernel_size, 6.0)
    for ratio in reversed(c.ratios):
        residual(f"encoder.model.{at}", width)
        conv(f"encoder.model.{at + 2}", 2 * width, width, 2 * ratio)
        width, at = 2 * width, at + 3
    if c.lstm:
        lstm(f"encoder.model.{at}", width)
        at += 1
    conv(f"encoder.model.{at + 1}", c.dimension, width, c.last_kernel_size, 1.0)
    conv("decoder.model.0", width, c.dimension, c.kernel_size)
    if c.lstm:
        lstm("decoder.model.1", width)
    at = 2 if c.lstm else 1
    for ratio in c.ratios:
        conv(f"decoder.model.{at + 1}", width // 2, width, 2 * ratio, transposed=True)
        residual(f"decoder.model.{at + 2}", width // 2)
        width, at = width // 2, at + 3
    conv(f"decoder.model.{at + 1}", 1, width, c.last_kernel_size, 0.04)
    for k, std in enumerate((1.0, 0.7, 0.5, 0.35)):
        book = f"quantizer.vq.layers.{k}._codebook"
        state[f"{book}.embed"] = spread(book, std, shape.card, c.dimension)
        state[f"{book}.embed_avg"] = spread(f"{book} average", std, shape.card, c.dimension)
        state[f"{book}.inited"], state[f"{book}.cluster_size"] = np.ones(1), np.ones(shape.card)
    return state


def _t5(shape: Shape, folder: Path) -> None:
    from safetensors.numpy import save_file

    folder.mkdir()
    for file in ("spiece.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(TOKENIZER / file, folder)
    t, spread = shape.t5, spread_of(shape.seed, "t5")
    config = json.loads((TOKENIZER / "config.json").read_text()) | {
        "d_model": t.d_model, "d_kv": t.d_kv, "num_heads": t.heads, "d_ff": t.d_ff, "num_layers": t.layers,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    inner, unit = t.heads * t.d_kv, 1 / math.sqrt(t.d_model)
    state = {"shared.weight": spread("shared", 1.0, config["vocab_size"], t.d_model)}
    state["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"] = spread("bias", 1.0, 32, t.heads)
    state["encoder.final_layer_norm.weight"] = 1 + spread("final", 0.1, t.d_model)
    for i in range(t.layers):
        attention, ffn = (f"encoder.block.{i}.layer.{n}" for n in (0, 1))
        for p in "qkv":
            std = unit / math.sqrt(t.d_kv) if p == "q" else unit
            state[f"{attention}.SelfAttention.{p}.weight"] = spread(f"{i} {p}", std, inner, t.d_model)
        state[f"{attention}.SelfAttention.o.weight"] = spread(f"{i} o", 1 / math.sqrt(inner), t.d_model, inner)
        state[f"{ffn}.DenseReluDense.wi.weight"] = spread(f"{i} wi", unit, t.d_ff, t.d_model)
        state[f"{ffn}.DenseReluDense.wo.weight"] = spread(f"{i} wo", 1 / math.sqrt(t.d_ff), t.d_model, t.d_ff)
        for part in (attention, ffn):
            state[f"{part}.layer_norm.weight"] = 1 + spread(f"{part} norm", 0.1, t.d_model)
    save_file(state, folder / "model.safetensors")
