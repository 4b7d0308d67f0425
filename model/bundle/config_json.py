"""config.json: Hugging Face's MusicGen configuration, plus `quantization`, `cp_transformer` and `instructions`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..config import FRAME_RATE, AdapterConfig, CodecConfig, Config, LMConfig
from ..errors import UserError
from ..instructions import UPSTREAM, Vocabulary
from . import hub
from .config_keys import StatedConfig
from .names.match import Hints
from .source import Source

MAX_LAYERS = 1000
"""No model comes near it; each layer has tensors whose names are checked."""


def hints(stated: StatedConfig) -> Hints:
    """Return the dimensions that matching names needs, as far as they are stated."""
    lm, adapter = _sections(stated)
    return Hints(
        dim=stated.integer("dim", lm),
        layers=stated.integer("layers", lm, most=MAX_LAYERS),
        codebooks=stated.integer("codebooks", lm, most=MAX_LAYERS),
        adapter_layers=_adapter_layers(stated, adapter),
    )


def parse(stated: StatedConfig, sources: Mapping[str, Source]) -> Config:
    """Return the dimensions that config.json states; those that it leaves out come from the tensors' shapes.

    `sources`: the tensors by canonical name. Entries for single quantized modules are left to `check_tensors`. Raises
    UserError if a value is no dimension, or if neither file gives one.
    """
    path = stated.path

    def shape(name: str, axis: int) -> int | None:
        source = sources.get(name)
        if source is None or axis >= len(source.shape) or (axis and source.dtype == mx.uint32):
            return None
        return source.shape[axis]

    def count(prefix: str) -> int | None:
        return len({n.removeprefix(prefix).partition(".")[0] for n in sources if n.startswith(prefix)}) or None

    def told(value: int | None, default: int | None, name: str) -> int:
        if value is None and default is None:
            raise UserError(f"{path} lacks {name}, and the weights don't tell it; add it")
        return value if value is not None else int(default or 0)

    known = hints(stated)
    inside, around = _sections(stated)
    text = (stated.section("text"),)
    text_dim = stated.integer("text_dim", text) or stated.integer("flat text_dim", inside)
    lm = LMConfig(
        dim=told(known.dim, shape("out_norm.weight", 0), "hidden_size"),
        heads=told(stated.integer("heads", inside), None, "num_attention_heads"),
        ffn=told(stated.integer("ffn", inside), shape("layers.0.linear1.weight", 0), "ffn_dim"),
        layers=told(known.layers, count("layers."), "num_hidden_layers"),
        card=told(stated.integer("card", inside), shape("linears.0.weight", 0), "vocab_size"),
        codebooks=told(known.codebooks, count("emb."), "num_codebooks"),
        text_dim=told(text_dim, shape("text_conditioner.output_proj.weight", 1), "d_model of the text encoder"),
    )
    if lm.dim % lm.heads or lm.dim % 2:
        raise UserError(
            f"{path}: hidden_size {lm.dim} is odd or not a multiple of num_attention_heads {lm.heads}; correct it"
        )
    tables = shape("cp_transformer.pos_emb", 0) or count("cp_transformer.pos_emb.")
    rows = shape("cp_transformer.pos_emb", 1) or shape("cp_transformer.pos_emb.0.weight", 0)
    layers = told(known.adapter_layers, tables and tables - 1, "num_layers of cp_transformer")
    start = stated.integer("start layer", around, least=0)
    found = AdapterConfig(
        layers=layers,
        max_n_frames=told(stated.integer("frames", around), rows and rows - 1, "max_n_frames"),
        start_layer=told(start, max(lm.layers - layers, 0), "start_layer"),
    )
    trained = stated.integer("trained frames", around, most=found.max_n_frames)
    found = replace(found, trained_frames=trained)
    if found.start_layer + layers > lm.layers:
        raise UserError(
            f"{path}: {layers} adapter layers from layer {found.start_layer} on do not fit {lm.layers} LM layers; "
            "correct it"
        )
    first = sources.get("emb.0.scales", sources.get("emb.0.weight"))
    default, _ = stated.quantization()
    vocabulary = _instructions(_object(stated.raw, "instructions", path), path)
    return Config(lm, found, first.dtype if first else mx.float16, default, {}, vocabulary)


def _sections(stated: StatedConfig) -> tuple[tuple[Mapping[str, Any], ...], tuple[Mapping[str, Any], ...]]:
    """Return the sections where the language model's dimensions may stand, and those for the adapter's."""
    decoder, adapter = stated.section("decoder"), stated.section("adapter")
    return (decoder, stated.raw), (adapter, decoder, stated.raw)


def _adapter_layers(stated: StatedConfig, sections: tuple[Mapping[str, Any], ...]) -> int | None:
    own = stated.integer("adapter layers", sections[:1], most=MAX_LAYERS)
    return own if own is not None else stated.integer("flat adapter layers", sections[1:], most=MAX_LAYERS)


def _instructions(stated: Mapping[str, Any], path: Path) -> Vocabulary:
    """Read `{"instruments": [...], "everyday": true}`; what is left out is as upstream trained."""
    names, everyday = stated.get("instruments", list(UPSTREAM.instruments)), stated.get("everyday", False)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: instruments is {names!r:.40}; it must be a list of names")
    if not isinstance(everyday, bool):
        raise UserError(f"{path}: everyday is {everyday!r:.40}; it must be true or false")
    try:
        return Vocabulary(tuple(names), everyday)
    except ValueError as e:
        raise UserError(f"{path}: instruments: {e}") from e


def _object(raw: Mapping[str, Any], name: str, path: Path) -> Mapping[str, Any]:
    value = raw.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(f"{path}: {name} is {value!r:.40}; it must be an object")
    return value


def render(config: Config, codec: CodecConfig, t5_name: str = hub.T5) -> dict[str, Any]:
    """Return the config.json of a bundle with these dimensions."""
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
        for module, q in config.overrides.items():
            raw["quantization"][module] = {"group_size": q.group_size, "bits": q.bits} if q else False
    return raw
