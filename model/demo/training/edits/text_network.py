"""The demo's T5 encoder as a torch module, with Hugging Face's parameter names (arXiv 1910.10683)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MASKED = -1e9


@dataclass(frozen=True, slots=True)
class T5Shape:
    """The encoder's dimensions."""

    d_model: int = 64
    d_kv: int = 32
    heads: int = 2
    d_ff: int = 128
    layers: int = 2
    buckets: int = 32
    max_distance: int = 128


class RMSNorm(nn.Module):
    """Divide by the root mean square and scale; no bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return x normalized over its last axis."""
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class Block(nn.Module):
    """One layer: self-attention without scaling of scores, and a ReLU feed-forward."""

    def __init__(self, shape: T5Shape) -> None:
        super().__init__()
        inner = shape.heads * shape.d_kv
        self.heads = shape.heads
        self.norm1, self.norm2 = RMSNorm(shape.d_model), RMSNorm(shape.d_model)
        self.q, self.k, self.v = (nn.Linear(shape.d_model, inner, bias=False) for _ in range(3))
        self.o = nn.Linear(inner, shape.d_model, bias=False)
        self.wi = nn.Linear(shape.d_model, shape.d_ff, bias=False)
        self.wo = nn.Linear(shape.d_ff, shape.d_model, bias=False)
        nn.init.normal_(self.q.weight, std=(shape.d_model * shape.d_kv) ** -0.5)
        for linear in (self.k, self.v, self.wi):
            nn.init.normal_(linear.weight, std=shape.d_model**-0.5)
        nn.init.normal_(self.o.weight, std=inner**-0.5)
        nn.init.normal_(self.wo.weight, std=shape.d_ff**-0.5)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Run x [B, L, d] with the bias [B or 1, H, L, L] of positions and padding."""
        h = self.norm1(x)
        q, k, v = (m(h).unflatten(-1, (self.heads, -1)).transpose(1, 2) for m in (self.q, self.k, self.v))
        attended = (q @ k.transpose(-1, -2) + bias).softmax(-1) @ v
        x = x + self.o(attended.transpose(1, 2).flatten(2))
        y: Tensor = x + self.wo(F.relu(self.wi(self.norm2(x))))
        return y


class T5(nn.Module):
    """Run token ids to hidden states; padded positions (id 0) are attended by none."""

    def __init__(self, vocabulary: int, shape: T5Shape) -> None:
        super().__init__()
        self.shape = shape
        self.shared = nn.Embedding(vocabulary, shape.d_model)
        self.relative = nn.Embedding(shape.buckets, shape.heads)
        self.blocks = nn.ModuleList([Block(shape) for _ in range(shape.layers)])
        self.final = RMSNorm(shape.d_model)
        nn.init.normal_(self.relative.weight, std=0.3)

    def forward(self, ids: Tensor) -> Tensor:
        """Run the encoder over ids [B,L]: hidden states [B,L,d_model]."""
        position = torch.arange(ids.shape[1], device=ids.device)
        bias = self.relative(self._buckets(position[None] - position[:, None])).permute(2, 0, 1)[None]
        bias = bias + torch.where(ids[:, None, None] != 0, 0.0, MASKED)
        x = self.shared(ids)
        for block in self.blocks:
            x = block(x, bias)
        y: Tensor = self.final(x)
        return y

    def _buckets(self, distance: Tensor) -> Tensor:
        half = self.shape.buckets // 2
        near = half // 2
        size = distance.abs()
        ratio = torch.log(size.clamp(min=1).float() / near) / math.log(self.shape.max_distance / near)
        far = (near + (ratio * (half - near)).long()).clamp(max=half - 1)
        return torch.where(distance > 0, half, 0) + torch.where(size < near, size, far)


def hugging_face_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a T5's state to Hugging Face's encoder."""
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        if name == "shared.weight":
            new = name
        elif name == "relative.weight":
            new = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        elif name == "final.weight":
            new = "encoder.final_layer_norm.weight"
        else:
            _, index, part, _ = name.split(".")
            inside = {
                "norm1": "layer.0.layer_norm", "norm2": "layer.1.layer_norm", "wi": "layer.1.DenseReluDense.wi",
                "wo": "layer.1.DenseReluDense.wo",
            }.get(part, f"layer.0.SelfAttention.{part}")  # fmt: skip
            new = f"encoder.block.{index}.{inside}.weight"
        renamed[new] = value
    return renamed
