"""config.json: Hugging Face's MusicGen configuration, plus `quantization`, `cp_transformer` and `instructions`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..config import FRAME_RATE, AdapterConfig, CodecConfig, Config, LMConfig, Quantization
from ..errors import UserError
from ..formats.safetensors_file import Header
from ..instructions import UPSTREAM, Vocabulary
from . import hub
from .names import canonical

LIMIT = 1 << 20
"""No dimension of any model comes near it; a larger one is a damaged file."""
MAX_LAYERS = 1000
"""Nor this; each layer has tensors whose names are checked."""


def parse(raw: Mapping[str, Any], tensors: Header, path: Path) -> Config:
    """The dimensions that config.json states; those it leaves out are told by the tensors' shapes.

    `tensors` are dtypes and shapes by canonical name. UserError: a value that is no dimension, or that neither tells.
    """
    decoder = _object(raw, "decoder", path) or raw
    adapter = _object(raw, "cp_transformer", path)
    text = _object(raw, "text_encoder", path)

    def shape(name: str, axis: int) -> int | None:
        sizes = tensors.get(name, (None, ()))[1]
        return sizes[axis] if axis < len(sizes) else None

    def count(prefix: str) -> int | None:
        return len({n.split(".")[1] for n in tensors if n.startswith(prefix)}) or None

    def dimension(
        source: Mapping[str, Any], names: tuple[str, ...], default: int | None, least: int = 1, most: int = LIMIT
    ) -> int:
        for name in names:
            if (value := source.get(name)) is not None:
                return _integer(value, name, path, least, most)
        if default is None:
            raise UserError(f"{path} lacks {names[0]}, and the weights don't tell it")
        return default

    lm = LMConfig(
        dim=dimension(decoder, ("hidden_size", "dim"), shape("out_norm.weight", 0)),
        heads=dimension(decoder, ("num_attention_heads", "num_heads"), None),
        ffn=dimension(decoder, ("ffn_dim",), shape("layers.0.linear1.weight", 0)),
        layers=dimension(decoder, ("num_hidden_layers", "num_layers"), count("layers."), most=MAX_LAYERS),
        card=dimension(decoder, ("vocab_size", "card"), shape("linears.0.weight", 0)),
        codebooks=dimension(decoder, ("num_codebooks", "n_q"), count("emb."), most=MAX_LAYERS),
        text_dim=dimension(text, ("d_model",), shape("text_conditioner.output_proj.weight", 1)),
    )
    if lm.dim % lm.heads or lm.dim % 2:
        raise UserError(f"{path}: hidden_size {lm.dim} is odd or not a multiple of num_attention_heads {lm.heads}")
    rows, frames = shape("cp_transformer.pos_emb", 0), shape("cp_transformer.pos_emb", 1)
    layers = dimension(adapter, ("num_layers", "layers", "num_hidden_layers"), rows and rows - 1, most=MAX_LAYERS)
    found = AdapterConfig(
        layers=layers,
        max_n_frames=dimension(adapter, ("max_n_frames", "max_frames"), frames and frames - 1),
        start_layer=dimension(adapter, ("start_layer",), max(lm.layers - layers, 0), least=0),
    )
    if (trained := adapter.get("trained_frames")) is not None:
        trained = _integer(trained, "trained_frames", path, 1, found.max_n_frames)
        found = replace(found, trained_frames=trained)
    if found.start_layer + layers > lm.layers:
        raise UserError(
            f"{path}: {layers} adapter layers from layer {found.start_layer} on do not fit {lm.layers} layers of the LM"
        )
    dtype = tensors.get("emb.0.scales", tensors.get("emb.0.weight", (mx.float16, ())))[0]
    default, recipe = _quantization(raw.get("quantization"), path)
    return Config(lm, found, dtype, default, recipe, _instructions(_object(raw, "instructions", path), path))


def _instructions(stated: Mapping[str, Any], path: Path) -> Vocabulary:
    """`{"instruments": [...], "everyday": true}`; what is not stated is as upstream trained."""
    names, everyday = stated.get("instruments", list(UPSTREAM.instruments)), stated.get("everyday", False)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: instruments is {names!r:.40}; it must be a list of names")
    if not isinstance(everyday, bool):
        raise UserError(f"{path}: everyday is {everyday!r:.40}; it must be true or false")
    try:
        return Vocabulary(tuple(names), everyday)
    except ValueError as e:
        raise UserError(f"{path}: instruments: {e}") from e


def _quantization(stated: Any, path: Path) -> tuple[Quantization | None, dict[str, Quantization]]:
    """The default, and what is stated for single modules (as mlx-lm writes it: by module name, or false for none)."""
    if stated is None:
        return None, {}
    if not isinstance(stated, dict):
        raise UserError(f"{path}: quantization is {stated!r:.40}; it must be an object with bits and group_size")
    if stated.get("mode", "affine") != "affine":
        raise UserError(f"{path}: quantization mode {stated['mode']!r:.40} is not supported; only affine is")
    recipe = {canonical(name): _pair(each, path) for name, each in stated.items() if isinstance(each, dict)}
    return _pair(stated, path), recipe


def _pair(stated: Mapping[str, Any], path: Path) -> Quantization:
    bits, group_size = stated.get("bits"), stated.get("group_size", 64)
    if isinstance(bits, bool) or bits not in (4, 8) or isinstance(group_size, bool) or group_size not in (32, 64, 128):
        raise UserError(
            f"{path}: quantization with bits={bits!r:.40}, group_size={group_size!r:.40} is not supported; "
            "bits must be 4 or 8 and group_size 32, 64 or 128"
        )
    return Quantization(bits, group_size)


def _object(raw: Mapping[str, Any], name: str, path: Path) -> Mapping[str, Any]:
    value = raw.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(f"{path}: {name} is {value!r:.40}; it must be an object")
    return value


def _integer(value: Any, name: str, path: Path, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise UserError(f"{path}: {name} is {value!r:.40}; it must be an integer from {least} to {most}")
    return value


def render(config: Config, codec: CodecConfig, t5_name: str = hub.T5) -> dict[str, Any]:
    """The config.json of a bundle with these dimensions."""
    lm, adapter = config.lm, config.adapter
    raw: dict[str, Any] = {
        "model_type": "musicgen",
        "torch_dtype": str(config.dtype).rpartition(".")[2],
        "decoder": {
            "model_type": "musicgen_decoder",
            "vocab_size": lm.card,
            "hidden_size": lm.dim,
            "num_hidden_layers": lm.layers,
            "num_attention_heads": lm.heads,
            "ffn_dim": lm.ffn,
            "num_codebooks": lm.codebooks,
            "activation_function": "gelu",
            "audio_channels": 1,
            "max_position_embeddings": 2048,
            "bos_token_id": lm.special,
            "pad_token_id": lm.special,
        },
        "audio_encoder": {
            "model_type": "encodec",
            "sampling_rate": codec.sample_rate,
            "audio_channels": 1,
            "hidden_size": codec.dimension,
            "num_filters": codec.n_filters,
            "upsampling_ratios": list(codec.ratios),
            "codebook_size": codec.bins,
            "num_lstm_layers": codec.lstm,
            "pad_mode": codec.pad_mode,
        },
        "text_encoder": {"model_type": "t5", "_name_or_path": t5_name, "d_model": lm.text_dim},
        "cp_transformer": {
            "num_layers": adapter.layers,
            "max_n_frames": adapter.max_n_frames,
            "start_layer": adapter.start_layer,
            "frame_rate": FRAME_RATE,
        },
    }
    if adapter.trained_frames is not None:
        raw["cp_transformer"]["trained_frames"] = adapter.trained_frames
    if config.instructions != UPSTREAM:
        raw["instructions"] = config.instructions.entry()
    if config.quantization is not None:
        raw["quantization"] = {"group_size": config.quantization.group_size, "bits": config.quantization.bits}
        for module, q in config.recipe.items():
            raw["quantization"][module] = {"group_size": q.group_size, "bits": q.bits} if q else False
    return raw
