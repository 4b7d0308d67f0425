"""Bundles of random weights in the exact published layout, of any size: for demonstration, tests and benchmarks.

    python -m model.synthetic demo model/demo/bundle      # the embedded demo bundle, bit for bit
    python -m model.synthetic large /tmp/large --bits 4   # the published model's geometry, 2.4 GB

Nothing in them was learned; their output is a smoke test, not music. The scales are chosen so that activations keep
their size through the layers, attention has preferences, and text and audio change what comes out. Values come from
integers and correctly rounded operations alone, tensor by tensor from the seed and the tensor's name, so every machine
writes the same bytes.
"""

from __future__ import annotations

import argparse
import json
import math
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from . import bundle_config, layout, torch_writer
from .config import AdapterConfig, CodecConfig, Config, LMConfig, Quantization
from .writer import CODES, Layout, TensorWriter, layout_bytes, need_space, new_folder

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class T5Dims:
    """T5's encoder; the defaults are t5-base."""

    d_model: int = 768
    d_kv: int = 64
    heads: int = 12
    d_ff: int = 3072
    layers: int = 12
    vocab: int = 32128


@dataclass(frozen=True)
class Preset:
    """A geometry."""

    lm: LMConfig
    codec: CodecConfig = CodecConfig()
    t5: T5Dims = T5Dims()
    group_size: int = 64


PRESETS = {
    "demo": Preset(
        LMConfig(dim=128, heads=4, ffn=512, layers=4, card=256, text_dim=64),
        CodecConfig(dimension=32, n_filters=8, bins=256),
        T5Dims(d_model=64, d_kv=16, heads=4, d_ff=128, layers=2, vocab=512),
        group_size=32,
    ),
    "small": Preset(LMConfig(dim=1024, heads=16, ffn=4096, layers=24, card=2048)),
    "medium": Preset(LMConfig(dim=1536, heads=24, ffn=6144, layers=48, card=2048)),
    "large": Preset(LMConfig(dim=2048, heads=32, ffn=8192, layers=48, card=2048)),
}
"""MusicGen's three sizes, and the embedded demo. The adapter spans all layers and 10 s, as upstream's."""

MAX_N_FRAMES = 500


def write_preset(name: str, out: str | Path, *, bits: int = 4, group_size: int | None = None, seed: int = 0) -> Path:
    """Write a preset's bundle at 4, 8, 16 or 32 bits."""
    preset = PRESETS[name]
    quantization = Quantization(bits, group_size or preset.group_size) if bits in (4, 8) else None
    dtype = mx.float32 if bits == 32 else mx.float16
    config = Config(preset.lm, AdapterConfig(preset.lm.layers, MAX_N_FRAMES), dtype, quantization)
    return write_bundle(out, config=config, codec=preset.codec, t5=preset.t5, seed=seed)


def write_bundle(out: str | Path, *, config: Config, codec: CodecConfig, t5: T5Dims, seed: int = 0) -> Path:
    """Write a bundle of random weights, one tensor at a time: the largest takes little memory.

    `out` appears whole or not at all, as with `convert`. ValueError for dimensions that don't fit each other.
    """
    lm = config.lm
    if t5.d_model != lm.text_dim or codec.bins < lm.card or codec.codebooks < lm.codebooks:
        raise ValueError(f"T5 {t5.d_model} or codec {codec.codebooks} x {codec.bins} does not fit the LM {lm}")
    for module, (_, k) in layout.projections(lm).items():
        q = config.recipe.get(module, config.quantization)
        if q and k % q.group_size:
            raise ValueError(f"group_size {q.group_size} does not divide the {k} inputs of {module}")
    stored = layout.stored(config)
    with new_folder(out) as part:
        t5_stored: Layout = {name: (mx.float32, shape) for name, shape in _t5_shapes(t5).items()}
        need_space(part, layout_bytes(stored) + layout_bytes(t5_stored) + 5 * layout.count(layout.codec_shapes(codec)))
        (part / "config.json").write_text(json.dumps(bundle_config.render(config, codec), indent=2) + "\n")
        with TensorWriter(part / "model.safetensors", stored) as writer:
            for name in layout.lm_shapes(lm, config.adapter):
                _write_lm(writer, name, config, stored, seed)
        _write_codec(part / "compression_state_dict.bin", codec, seed)
        _write_t5(part / "t5", t5, t5_stored, seed)
    return Path(out)


class _Random:
    """Numbers of one tensor: PCG64's raw output, whose stream numpy guarantees."""

    def __init__(self, seed: int, name: str) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence([seed, zlib.crc32(name.encode())]))

    def words(self, shape: layout.Shape) -> Array:
        """uint32, every bit random."""
        count = math.prod(shape)
        raw = np.asarray(self._bits.random_raw((count + 1) // 2), dtype="<u8")
        return raw.view("<u4")[:count].reshape(shape)

    def between(self, low: float, high: float, shape: layout.Shape) -> Array:
        """float32, uniform."""
        unit = (self.words(shape) >> 8).astype(np.float32) * np.float32(2.0**-24)
        return unit * np.float32(high - low) + np.float32(low)

    def spread(self, std: float, shape: layout.Shape, mean: float = 0.0) -> Array:
        """float32, uniform with this mean and standard deviation."""
        half = std * math.sqrt(3)
        return self.between(mean - half, mean + half, shape)


# The language model and the adapter

RESIDUAL_LAYERS = 8
"""Up to this many layers each branch adds its full share; in deeper models it shrinks with the square root."""


def _gain(module: str, layers: int) -> float:
    """Standard deviation of a linear map's output where its input has 1."""
    part = module.rpartition(".")[2]
    # Scores of standard deviation 1.6^2: attention over hundreds of frames prefers a few of them.
    if part in ("q_proj", "k_proj"):
        return 1.6
    if part in ("out_proj", "linear2"):
        return 0.8 * min(1.0, math.sqrt(RESIDUAL_LAYERS / layers))
    return 2.0 if module.startswith("linears.") else 1.0


def _write_lm(writer: TensorWriter, name: str, config: Config, stored: Layout, seed: int) -> None:
    module = name.removesuffix(".weight")
    random = _Random(seed, name)
    shape = layout.lm_shapes(config.lm, config.adapter)[name] if name not in stored else stored[name][1]
    if f"{module}.scales" in stored:
        q = config.recipe.get(module, config.quantization)
        assert q is not None
        _write_packed(writer, module, q, _gain(module, config.lm.layers), stored, random)
        return
    writer.write(name, _lm_value(name, shape, config.lm.layers, random).astype(np.dtype(_numpy_name(stored[name][0]))))


def _lm_value(name: str, shape: layout.Shape, layers: int, random: _Random) -> Array:
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
    writer: TensorWriter, module: str, q: Quantization, gain: float, stored: Layout, random: _Random
) -> None:
    """Random words: levels uniform from 0 to 2^bits - 1, which scale and bias centre around 0."""
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


# EnCodec, as audiocraft exports it

CODEC_GAINS = {"first": 6.0, "conv": 1.3, "latent": 1.0, "last": 0.04}
CODEBOOK_STD = (1.0, 0.7, 0.5, 0.35)


def _write_codec(path: Path, codec: CodecConfig, seed: int) -> None:
    """float32 for the real size, float16 values are enough for small ones: the reader makes float32 of both."""
    dtype = "float32" if codec.n_filters > 16 else "float16"
    state: dict[str, Any] = {}

    def add(name: str, shape: layout.Shape, std: float, mean: float = 0.0) -> None:
        state[name] = torch_writer.Lazy(
            shape, dtype, lambda: _Random(seed, name).spread(std, shape, mean).astype(np.dtype(dtype))
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
    torch_writer.save(path, {"best_state": state, "xp.cfg": _xp_cfg(codec), "version": "1.3.0", "exported": True})


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


# T5, as Hugging Face stores its encoder


def _t5_shapes(t5: T5Dims) -> layout.Shapes:
    inner = t5.heads * t5.d_kv
    shapes: layout.Shapes = {"shared.weight": (t5.vocab, t5.d_model)}
    for i in range(t5.layers):
        attention, ffn = (f"encoder.block.{i}.layer.{n}" for n in (0, 1))
        for p in "qkv":
            shapes[f"{attention}.SelfAttention.{p}.weight"] = (inner, t5.d_model)
        shapes[f"{attention}.SelfAttention.o.weight"] = (t5.d_model, inner)
        if i == 0:
            shapes[f"{attention}.SelfAttention.relative_attention_bias.weight"] = (32, t5.heads)
        shapes[f"{attention}.layer_norm.weight"] = (t5.d_model,)
        shapes[f"{ffn}.DenseReluDense.wi.weight"] = (t5.d_ff, t5.d_model)
        shapes[f"{ffn}.DenseReluDense.wo.weight"] = (t5.d_model, t5.d_ff)
        shapes[f"{ffn}.layer_norm.weight"] = (t5.d_model,)
    shapes["encoder.final_layer_norm.weight"] = (t5.d_model,)
    return shapes


def _write_t5(folder: Path, t5: T5Dims, stored: Layout, seed: int) -> None:
    folder.mkdir()
    with TensorWriter(folder / "model.safetensors", stored) as writer:
        for name, (_, shape) in stored.items():
            random = _Random(seed, f"t5.{name}")
            if name.endswith("norm.weight"):
                value = random.spread(0.1, shape, mean=1.0)
            elif name.endswith("bias.weight") or name == "shared.weight":
                value = random.spread(1.0, shape)
            else:
                # T5 does not scale its scores: the query map is smaller by the root of the head dimension.
                scale = shape[1] * (t5.d_kv if name.endswith(".q.weight") else 1)
                value = random.spread(1 / math.sqrt(scale), shape)
            writer.write(name, value)
    config = {
        "architectures": ["T5EncoderModel"], "model_type": "t5", "d_model": t5.d_model, "d_kv": t5.d_kv,
        "num_heads": t5.heads, "d_ff": t5.d_ff, "num_layers": t5.layers, "vocab_size": t5.vocab,
        "feed_forward_proj": "relu", "layer_norm_epsilon": 1e-6, "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128, "pad_token_id": 0, "eos_token_id": 1, "is_encoder_decoder": True,
        "torch_dtype": "float32",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "tokenizer.json").write_text(json.dumps(_tokenizer(), ensure_ascii=False, indent=0) + "\n")


WORDS = """Music piece Instruct Only Drums drums Bass bass Guitar guitar Piano piano Vocals vocals Strings strings Synth synth Add
add Remove remove Extract extract Replace replace with and the a an of to in on only more less make it sound like louder softer
faster slower happy sad dark bright jazz rock pop classical electronic ambient acoustic heavy light melody harmony rhythm beat
solo track instrument instruments voice choir flute violin cello trumpet saxophone organ percussion hi-hat kick snare""".split()
PIECES = "er in es on ar or an en al ic st th ing tion ment s ed ly".split()


def _tokenizer() -> dict[str, Any]:
    """A unigram tokenizer with T5's conventions (pad 0, eos 1, unk 2, eos appended) over a small vocabulary."""
    mark = "\u2581"
    pieces = [mark + word for word in WORDS] + PIECES + [mark] + [chr(c) for c in range(33, 127)]
    scores = [-4.0 - 0.01 * i for i in range(len(WORDS))] + [-6.0] * len(PIECES) + [-7.0] + [-8.0] * 94
    special = [{"id": i, "content": c, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
                "special": True} for i, c in enumerate(("<pad>", "</s>", "<unk>"))]  # fmt: skip
    metaspace = {"type": "Metaspace", "replacement": mark, "prepend_scheme": "always", "split": True}
    single = [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": metaspace,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": single,
            "pair": single + [{"Sequence": {"id": "B", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}},
        },
        "decoder": metaspace,
        "model": {
            "type": "Unigram",
            "unk_id": 2,
            "vocab": [["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], *([p, s] for p, s in zip(pieces, scores))],
            "byte_fallback": False,
        },
    }


def sized(preset: str, **changes: int) -> Preset:
    """A preset with other dimensions of its language model, for tests and measurements."""
    found = PRESETS[preset]
    return replace(found, lm=replace(found.lm, **changes))


def main() -> None:
    """Write a preset's bundle."""
    parser = argparse.ArgumentParser(prog="python -m model.synthetic", description="Write a bundle of random weights.")
    parser.add_argument("preset", choices=PRESETS)
    parser.add_argument("out", type=Path)
    parser.add_argument("--bits", type=int, choices=(4, 8, 16, 32), default=4)
    parser.add_argument("--group-size", type=int, choices=(32, 64, 128))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(write_preset(args.preset, args.out, bits=args.bits, group_size=args.group_size, seed=args.seed))


if __name__ == "__main__":
    main()
