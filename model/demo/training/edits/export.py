"""Write a trained model in upstream's own formats: the adapter's checkpoint, audiocraft's two exports, a T5 folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import yaml
from safetensors.numpy import save_file

from ....errors import UserError
from ....formats import torch_writer
from ..codec.network import KERNEL, LSTM_LAYERS, RATIOS, RESIDUAL_KERNEL
from ..codec.train import CodecSettings, load_codec
from ..workspace import Workspace
from .network import Model
from .text_network import hugging_face_names
from .tokenizer import EOS, PAD, vocabulary, write
from .train import EditSettings

Array = npt.NDArray[Any]
TEXT = "condition_provider.conditioners.description.output_proj"
LIGHTNING = "model.peft_model.lm."
RATE = 32_000


def export(work: Workspace, out: Path) -> int:
    """Write adapter.ckpt, base/ and t5/ into a folder, from the annealed model, or else the trunk.

    Return the frames that the adapter was trained on, which `convert` cannot read off tables that began as waves.

    Raises UserError if no model or codec was trained yet.
    """
    codec_path = _first(work.root / "codec", ("last.pt", "frozen.pt"), "codec")
    model_path = _first(work.root / "model", ("annealed.pt", "state.pt"), "model")
    codec, codec_settings = load_codec(codec_path)
    state = torch.load(model_path, map_location="cpu", weights_only=True)
    settings = EditSettings.of(state["settings"])
    model = Model(settings.shape, vocabulary())
    model.load_state_dict(state["model"])
    tensors = {name: value.detach().float().numpy() for name, value in model.state_dict().items()}
    base = language_model(tensors, settings.shape.layers)
    (out / "base").mkdir(parents=True, exist_ok=True)
    checkpoint = {LIGHTNING + _peft(name): value for name, value in base.items()} | adapter(tensors)
    torch_writer.save(out / "adapter.ckpt", {"state_dict": checkpoint})
    export_of = {"best_state": base, "xp.cfg": lm_settings(settings), "version": "1.3.0", "exported": True}
    torch_writer.save(out / "base" / "state_dict.bin", export_of)
    codec_state = {name: value.astype(np.float16) if not name.endswith("embed") else value
                   for name, value in codec_tensors(codec.state_dict()).items()}  # fmt: skip
    codec_export = {"best_state": codec_state, "xp.cfg": codec_xp(codec_settings), "version": "1.3.0", "exported": True}
    torch_writer.save(out / "base" / "compression_state_dict.bin", codec_export)
    write_t5(out / "t5", tensors, settings)
    return settings.shape.frames


def _first(folder: Path, names: tuple[str, ...], stage: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{folder} has none of {', '.join(names)}; run the stage '{stage}' first")


def language_model(tensors: dict[str, Array], layers: int) -> dict[str, Array]:
    """Return the language model by audiocraft's names."""
    state: dict[str, Array] = {}
    for name, value in tensors.items():
        if name.startswith(("emb.", "linears.", "out_norm.")):
            state[name] = value
        elif name.startswith("output_proj."):
            state[f"{TEXT}.{name.partition('.')[2]}"] = value
    for i in range(layers):
        own, to = f"layers.{i}.", f"transformer.layers.{i}."
        for norm in ("norm1", "norm_cross", "norm2"):
            for part in ("weight", "bias"):
                state[f"{to}{norm}.{part}"] = tensors[f"{own}{norm}.{part}"]
        state[f"{to}self_attn.in_proj_weight"] = tensors[f"{own}in_proj.weight"]
        state[f"{to}self_attn.out_proj.weight"] = tensors[f"{own}out_proj.weight"]
        joint = [tensors[f"{own}cross_{part}.weight"] for part in "qkv"]
        state[f"{to}cross_attention.in_proj_weight"] = np.concatenate(joint)
        state[f"{to}cross_attention.out_proj.weight"] = tensors[f"{own}cross_out.weight"]
        for linear in ("linear1", "linear2"):
            state[f"{to}{linear}.weight"] = tensors[f"{own}{linear}.weight"]
    return state


def adapter(tensors: dict[str, Array]) -> dict[str, Array]:
    """Return the adapter's own tensors by upstream's names."""
    state = {"model.cp_transformer.pos_emb": tensors["pos_emb"], "model.cp_transformer.gates": tensors["gates"]}
    for name, value in tensors.items():
        if name.startswith("merge_linear."):
            state[f"model.cp_transformer.{name}"] = value
    return state


def _peft(name: str) -> str:
    """Return a name as the checkpoint has it, with peft's wrapper around the transformer."""
    return name.replace("transformer.layers.", "transformer.base_model.model.layers.", 1)


def lm_settings(settings: EditSettings) -> str:
    """Return the language model's xp.cfg."""
    shape = settings.shape
    text: str = yaml.safe_dump({
        "transformer_lm": {
            "dim": shape.dim, "num_heads": shape.heads, "num_layers": shape.layers, "hidden_scale": 4,
            "n_q": shape.codebooks, "card": shape.card, "activation": "gelu", "norm_first": True, "bias_ff": False,
            "bias_attn": False, "bias_proj": False, "causal": True, "layer_scale": None, "positional_embedding": "sin",
            "xpos": False, "norm": "layer_norm", "qk_layer_norm": False, "qk_layer_norm_cross": False, "kv_repeat": 1,
            "past_context": None,
        },
        "codebooks_pattern": {"modeling": "delay", "delay": {"delays": list(range(shape.codebooks))}},
    })  # fmt: skip
    return text


def codec_tensors(state: dict[str, torch.Tensor]) -> dict[str, Array]:
    """Return the codec by audiocraft's names."""
    renamed: dict[str, Array] = {}
    for name, tensor in state.items():
        value = tensor.detach().float().numpy()
        side, _, rest = name.partition(".")
        if side == "quantizer":
            if rest == "books":
                for k, book in enumerate(value):
                    renamed[f"quantizer.vq.layers.{k}._codebook.embed"] = book
            continue
        index, _, part = rest.partition(".")
        if part.startswith("lstm."):
            renamed[f"{side}.model.{rest}"] = value
            continue
        inner, _, leaf = part.rpartition(".")
        transposed = not inner and state[f"{side}.{index}.weight_v"].shape[0] != len(state[f"{side}.{index}.bias"])
        kind = "convtr.convtr" if transposed else "conv.conv"  # in transposed convolutions outputs come second
        renamed[".".join(x for x in (side, "model", index, inner, kind, leaf) if x)] = value
    return renamed


def codec_xp(settings: CodecSettings) -> str:
    """Return the codec's xp.cfg."""
    text: str = yaml.safe_dump({
        "channels": 1, "sample_rate": RATE, "solver": "compression", "compression_model": "encodec",
        "encodec": {"autoencoder": "seanet", "quantizer": "rvq", "sample_rate": RATE, "channels": 1, "causal": False,
                    "renormalize": False, "renorm": None},
        "seanet": {
            "dimension": settings.dimension, "channels": 1, "causal": False, "n_filters": settings.filters,
            "n_residual_layers": 1, "ratios": list(RATIOS), "activation": "ELU", "activation_params": {"alpha": 1.0},
            "norm": "weight_norm", "norm_params": {}, "kernel_size": KERNEL, "residual_kernel_size": RESIDUAL_KERNEL,
            "last_kernel_size": KERNEL, "dilation_base": 2, "pad_mode": "reflect", "true_skip": True, "compress": 2,
            "lstm": LSTM_LAYERS, "disable_norm_outer_blocks": 0, "encoder": {},
            "decoder": {"trim_right_ratio": 1.0, "final_activation": None, "final_activation_params": None},
        },
        "rvq": {"n_q": settings.codebooks, "q_dropout": False, "bins": settings.bins},
    })  # fmt: skip
    return text


def write_t5(folder: Path, tensors: dict[str, Array], settings: EditSettings) -> None:
    """Write the text side as a Hugging Face folder: config.json, model.safetensors in float16, tokenizer.json."""
    folder.mkdir(parents=True, exist_ok=True)
    shape = settings.shape.t5
    state = {name.removeprefix("t5."): torch.from_numpy(v) for name, v in tensors.items() if name.startswith("t5.")}
    named = {name: value.numpy().astype(np.float16) for name, value in hugging_face_names(state).items()}
    save_file(named, folder / "model.safetensors")
    config = {
        "architectures": ["T5EncoderModel"], "model_type": "t5", "d_model": shape.d_model, "d_kv": shape.d_kv,
        "num_heads": shape.heads, "d_ff": shape.d_ff, "num_layers": shape.layers, "vocab_size": vocabulary(),
        "feed_forward_proj": "relu", "layer_norm_epsilon": 1e-6, "relative_attention_num_buckets": shape.buckets,
        "relative_attention_max_distance": shape.max_distance, "pad_token_id": PAD, "eos_token_id": EOS,
        "is_encoder_decoder": True, "torch_dtype": "float16",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    write(folder)
