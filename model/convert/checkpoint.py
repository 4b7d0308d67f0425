"""The upstream files of Instruct-MusicGen as one set of canonical tensors.

`finetuned.ckpt` (Lightning, with LoRA as peft stores it) over `state_dict.bin` (audiocraft's MusicGen). Which weights
are live: self-attention uses `in_proj_weight`, and the `self_attn.{q,k,v}_proj` beside it are never used;
cross-attention uses the checkpoint's `q_proj.base_layer`, `k_proj` and `v_proj.base_layer` plus LoRA, not its
`in_proj_weight`, which only stands in where they are absent. `cp_transformer.layers` repeats the LM's layers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..bundle import tensors as layout
from ..config import AdapterConfig, LMConfig
from ..errors import UserError
from ..formats import torch_file
from ..formats.settings import SettingsReader
from ..formats.torch_file import FLOATS
from . import lora

Array = npt.NDArray[np.float32]

TEXT = "condition_provider.conditioners.description.output_proj"
SETTINGS = {
    "n_q": 4, "norm_first": True, "bias_ff": False, "bias_attn": False, "bias_proj": False, "causal": True,
    "layer_scale": None, "positional_embedding": "sin", "xpos": False, "norm": "layer_norm", "activation": "gelu",
    "qk_layer_norm": False, "qk_layer_norm_cross": False, "kv_repeat": 1, "past_context": None,
}  # fmt: skip
"""Settings of audiocraft's `transformer_lm` that the published models have and this project implements."""


@dataclass(frozen=True)
class Slice:
    """Rows of a stored tensor."""

    tensor: torch_file.Tensor
    start: int
    stop: int

    def numpy(self) -> npt.NDArray[Any]:
        """Read the rows."""
        return self.tensor.numpy()[self.start : self.stop]


class Upstream:
    """The checkpoint over the base, by canonical name; values are read one at a time, as float32."""

    def __init__(self, adapter: Path, base: Path) -> None:
        self.adapter_path, self.base_path = adapter, base
        tree = torch_file.load(adapter)
        found = _normalized(_state_dict(tree, adapter), adapter)
        self.loras = lora.find(found, adapter)
        self.scaling = lora.scaling(tree, self.loras)
        exported = torch_file.load(base)
        if not isinstance(exported, dict) or not isinstance(exported.get("xp.cfg"), str):
            raise UserError(
                f"{base} is not a MusicGen exported by audiocraft (it lacks best_state or xp.cfg); "
                "give its state_dict.bin"
            )
        below = _normalized(_state_dict(exported, base), base)
        # All but LoRA, the adapter and cross-attention is frozen in training: the checkpoint may leave it out.
        self.stored = below | found
        self.lm, self.adapter = self._dimensions(SettingsReader(exported["xp.cfg"], base))
        self.sources = dict(self._sources())
        self._validate()

    def read(self, name: str) -> Array:
        """Return a tensor by canonical name, float32, LoRA merged."""
        source = self.sources[name]
        value = source.numpy()
        if pair := self.loras.get(name.removesuffix(".weight")):
            return lora.merged(value, pair, self.scaling)
        return value.astype(np.float32)

    def _dimensions(self, xp: SettingsReader) -> tuple[LMConfig, AdapterConfig]:
        """Read the dimensions from the settings, and what they leave open from the shapes."""
        for key, value in SETTINGS.items():
            xp.require(f"transformer_lm.{key}", value)
        if (pattern := xp.get("codebooks_pattern.modeling", "delay")) != "delay":
            raise UserError(f"{xp.path}: the codebook pattern is {pattern!r:.40}; only delay is supported")
        xp.require("codebooks_pattern.delay.delays", list(range(4)))
        dim, codebooks = xp.integer("transformer_lm.dim"), xp.integer("transformer_lm.n_q")
        layers = xp.integer("transformer_lm.num_layers")
        pos_emb = self._shape("cp_transformer.pos_emb", 3)
        lm = LMConfig(
            dim=dim,
            heads=xp.integer("transformer_lm.num_heads"),
            ffn=self._shape("layers.0.linear1.weight", 2)[0],
            layers=layers,
            card=xp.integer("transformer_lm.card"),
            codebooks=codebooks,
            text_dim=self._shape(f"{TEXT}.weight", 2)[1],
        )
        if lm.dim % lm.heads or lm.dim % 2:
            raise UserError(f"{xp.path}: dim {lm.dim} is odd or not a multiple of num_heads {lm.heads}")
        if layers > 4096 or not 2 <= pos_emb[0] <= layers + 1 or pos_emb[1] < 2:
            raise UserError(
                f"{self.adapter_path}: cp_transformer.pos_emb {list(pos_emb)} does not fit {layers} layers of {xp.path}"
            )
        # Upstream adapts the last layers: from start_layer to the end.
        adapted = pos_emb[0] - 1
        return lm, AdapterConfig(layers=adapted, max_n_frames=pos_emb[1] - 1, start_layer=layers - adapted)

    def _shape(self, name: str, ndim: int) -> tuple[int, ...]:
        tensor = self.stored.get(name)
        if tensor is None or len(tensor.shape) != ndim:
            raise UserError(
                f"{self.adapter_path} over {self.base_path} lacks {name}; "
                "give an Instruct-MusicGen checkpoint and its MusicGen base"
            )
        return tensor.shape

    def _sources(self) -> Iterator[tuple[str, torch_file.Tensor | Slice]]:
        """Yield what each canonical tensor is made of; those that are missing are left out."""
        dim = self.lm.dim
        for name in layout.lm_shapes(self.lm, self.adapter):
            upstream = name.replace("text_conditioner.output_proj", TEXT).replace(".cross_attn.", ".cross_attention.")
            module = upstream.removesuffix(".weight")
            head, _, part = module.rpartition(".")
            row = {"q_proj": 0, "k_proj": 1, "v_proj": 2}.get(part)
            own = self.stored.get(f"{module}.base_layer.weight", self.stored.get(upstream))
            joint = self.stored.get(f"{head}.in_proj_weight") if row is not None else None
            # In self-attention separate q, k and v are dead weights; in cross-attention they are the live ones.
            if own is not None and (row is None or head.endswith("cross_attention")):
                yield name, own
            elif joint is not None and row is not None and joint.shape == (3 * dim, dim):
                yield name, Slice(joint, row * dim, (row + 1) * dim)

    def _validate(self) -> None:
        wanted = layout.lm_shapes(self.lm, self.adapter)
        missing = [n for n in wanted if n not in self.sources]
        wrong = []
        for name, source in self.sources.items():
            tensor = source.tensor if isinstance(source, Slice) else source
            if not isinstance(source, Slice) and source.shape != wanted[name]:
                wrong.append(f"{name} {list(source.shape)}, needs {list(wanted[name])}")
            elif tensor.dtype not in FLOATS:
                wrong.append(f"{name} is {tensor.dtype}, needs a float dtype")
        for module, (a, b) in self.loras.items():
            shape = wanted.get(f"{module}.weight")
            if shape is None or a.shape[1:] != shape[1:] or b.shape[:1] != shape[:1]:
                wrong.append(f"LoRA of {module}: {list(b.shape)} x {list(a.shape)} for {list(shape or ())}")
        kinds = {"missing": missing, "mis-shaped": wrong}
        if found := "; ".join(f"{kind}: {', '.join(names[:20])}" for kind, names in kinds.items() if names):
            raise UserError(f"{self.adapter_path} over {self.base_path} does not fit the base's settings: {found}")


def _state_dict(tree: Any, path: Path) -> dict[str, torch_file.Tensor]:
    """Return the tensors of a Lightning checkpoint, an audiocraft export, or a bare state dict."""
    if isinstance(tree, dict):
        for key in ("state_dict", "best_state"):
            if key in tree:
                return torch_file.tensors(tree[key], path)
    return torch_file.tensors(tree, path)


PEFT = re.compile(r"^(?:model\.|_orig_mod\.|module\.)*(?:peft_model\.lm\.|lm\.)?(?:_orig_mod\.)?")


def _normalized(stored: Mapping[str, torch_file.Tensor], path: Path) -> dict[str, torch_file.Tensor]:
    """Strip the wrappers' prefixes from the names, and drop the adapter's copies of the LM's layers."""
    result: dict[str, torch_file.Tensor] = {}
    for name, tensor in stored.items():
        short = PEFT.sub("", name, count=1).replace("transformer.base_model.model.", "transformer.", 1)
        short = re.sub(r"^transformer\.(?=layers\.)", "", short)
        if short.startswith("cp_transformer.layers."):
            continue
        if short in result:
            raise UserError(f"{path}: {name} is there twice, under different prefixes; remove one of them")
        result[short] = tensor
    return result
