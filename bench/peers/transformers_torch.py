"""transformers' MusicgenForCausalLM as a column of `bench peers`; runs in any Python that has torch, without MLX.

Random weights of the same geometry, key-value caches for itself and the text, inference mode, torch's fused attention,
all cores. It has no adapter: a step does the work of plain MusicGen.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any


class Torch:
    """The model and its caches, filled up to `start` positions."""

    def __init__(self, dtype: str, rows: int, start: int, steps: int, text: int, dims: dict[str, int]) -> None:
        import torch  # type: ignore[import-not-found,unused-ignore]
        from transformers import MusicgenForCausalLM
        from transformers.models.musicgen.configuration_musicgen import MusicgenDecoderConfig

        self.torch, self.rows, self.start, self.steps = torch, rows, start, steps
        torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
        make: Any = MusicgenDecoderConfig
        config = make(
            vocab_size=dims["card"],
            num_hidden_layers=dims["layers"],
            ffn_dim=dims["ffn"],
            num_attention_heads=dims["heads"],
            hidden_size=dims["dim"],
            num_codebooks=dims["codebooks"],
            max_position_embeddings=2048,
            attn_implementation="sdpa",
            pad_token_id=dims["card"],
            bos_token_id=dims["card"],
        )
        with torch.device("meta"):
            model = MusicgenForCausalLM(config).to(getattr(torch, dtype))
        self.model = model.to_empty(device="cpu").eval()
        with torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                tensor.uniform_(-0.02, 0.02)
        self.codebooks = dims["codebooks"]
        self.text = torch.zeros(rows, text, dims["dim"], dtype=getattr(torch, dtype)).uniform_(-1, 1)
        self.cache: Any = None
        with torch.inference_mode():
            self.cache = self._forward(start).past_key_values

    def _forward(self, length: int) -> Any:
        ids = self.torch.zeros(self.rows * self.codebooks, length, dtype=self.torch.long)
        cached = {"past_key_values": self.cache, "use_cache": True}
        return self.model(input_ids=ids, encoder_hidden_states=self.text, **cached)

    def round(self) -> dict[str, Any]:
        """Return the seconds of each step from `start` on."""
        out = []
        with self.torch.inference_mode():
            for _ in range(self.steps):
                begin = time.perf_counter()
                logits = self._forward(1).logits
                float(logits[0, 0, 0])
                out.append(time.perf_counter() - begin)
            self.cache.self_attention_cache.crop(-self.steps)
        return {"step_seconds": out}


def make(**settings: Any) -> tuple[Torch, dict[str, Any]]:
    """Make the column that `bench peers` asked for (see `processes.worker`)."""
    # transformers uses a package called kernels where it finds one; ours is another.
    sys.modules["kernels"] = None  # type: ignore[assignment]
    column = Torch(**settings)
    import torch
    import transformers

    weight_bytes = sum(p.numel() * p.element_size() for p in column.model.parameters())
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    return column, {"versions": versions, "weight_bytes": weight_bytes, "threads": torch.get_num_threads()}
