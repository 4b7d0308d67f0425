"""Upstream's files as dicts of float64 arrays under short names; which of their weights are live is decided here."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from model.formats import torch_file

from .numbers import Array

LORA_SCALE = 2.0  # alpha / r of every upstream configuration
LM = "model.peft_model.lm."
LAYERS = "transformer.base_model.model.layers."


@dataclass(frozen=True)
class Upstream:
    """What the three sources say: weights by short name, and the numbers that shapes alone do not give."""

    lm: dict[str, Array]
    codec: dict[str, Array]
    codec_config: dict[str, Any]
    t5: dict[str, Array]
    t5_config: dict[str, Any]
    t5_folder: Path
    heads: int

    @property
    def layers(self) -> int:
        return len({n.split(".")[1] for n in self.lm if n.startswith("layers.")})

    @property
    def adapted(self) -> int:
        return int(self.lm["gates"].size)

    @property
    def start_layer(self) -> int:
        return self.layers - self.adapted

    @property
    def card(self) -> int:
        return int(self.lm["linears.0.weight"].shape[0])

    @property
    def max_frames(self) -> int:
        return int(self.lm["pos_emb"].shape[1]) - 1


def read(adapter: Path, base: Path, t5: Path) -> Upstream:
    lm_config = yaml.safe_load(torch_file.load(base / "state_dict.bin")["xp.cfg"])
    codec_file = torch_file.load(base / "compression_state_dict.bin")
    return Upstream(
        lm=live(_float64(torch_file.load(adapter)["state_dict"])),
        codec=merged(_float64(codec_file["best_state"])),
        codec_config=yaml.safe_load(codec_file["xp.cfg"]),
        t5=_safetensors(t5 / "model.safetensors"),
        t5_config=json.loads((t5 / "config.json").read_text()),
        t5_folder=t5,
        heads=lm_config["transformer_lm"]["num_heads"],
    )


def live(state: dict[str, Array]) -> dict[str, Array]:
    """Self-attention from in_proj_weight; cross-attention from q/k/v_proj, LoRA added; the rest under its own name."""
    w = {}
    for name, value in state.items():
        if name.startswith(LM + LAYERS):
            w["layers." + name[len(LM + LAYERS) :]] = value
        elif name.startswith(LM):
            w[name[len(LM) :].replace("condition_provider.conditioners.description.", "")] = value
        elif name.startswith("model.cp_transformer.") and ".layers." not in name:
            w[name[len("model.cp_transformer.") :]] = value
    for name in [n for n in w if n.endswith(".base_layer.weight")]:
        stem = name[: -len(".base_layer.weight")]
        a, b = (w.pop(f"{stem}.lora_{x}.default.weight") for x in "AB")
        w[f"{stem}.weight"] = w.pop(name) + LORA_SCALE * (b @ a)
    dead = re.compile(r".*(self_attn\.[qkv]_proj\.weight|cross_attention\.in_proj_weight)")
    return {name: value for name, value in w.items() if not dead.fullmatch(name)}


def merged(state: dict[str, Array]) -> dict[str, Array]:
    """weight_norm undone, in torch's older or newer spelling: w = g · v / |v|, the norm over dims 1 and 2."""
    w = dict(state)
    for g, v in (("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1")):
        for name in [n for n in w if n.endswith(v)]:
            stem, direction = name[: -len(v)], w.pop(name)
            norm = np.sqrt((direction**2).sum(axis=(1, 2), keepdims=True))
            w[f"{stem}weight"] = w.pop(stem + g) * direction / norm
    return w


def _float64(state: dict[str, torch_file.Tensor]) -> dict[str, Array]:
    return {name: tensor.numpy().astype(np.float64) for name, tensor in state.items()}


def _safetensors(path: Path) -> dict[str, Array]:
    from safetensors.numpy import load_file

    return {name: value.astype(np.float64) for name, value in load_file(path).items()}
