"""The language model and the adapter as torch modules, computed as upstream does (arXiv 2405.18386, section 3.1).

The adapter runs the language model's own layers over the input clip's codes; each of its layers gives a prefix of
queries, keys and values, which the same layer of the language model attends to through a gate. One prefix may serve
several texts: rows of the language model come in groups of `texts` that share a row of the prefix.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .text_network import T5, T5Shape

Prefix = list[tuple[Tensor, Tensor, Tensor]]

Condition = tuple[Tensor, Tensor]
"""States of the text [B, L, D], and what is added to the scores of its positions [B, 1, 1, L]."""

MASKED = -1e4


@dataclass(frozen=True, slots=True)
class Shape:
    """The model's dimensions; the special token's id is `card`."""

    dim: int = 256
    heads: int = 4
    layers: int = 4
    card: int = 256
    codebooks: int = 4
    frames: int = 250
    t5: T5Shape = field(default_factory=T5Shape)


def attention(q: Tensor, k: Tensor, v: Tensor, causal: bool = False, bias: Tensor | None = None) -> Tensor:
    """Return scaled dot-product attention [B, H, n, d]; `bias` is added to the scores.

    Written out on a CPU: at these sizes torch's fused attention takes twice the time there. Under autocast the
    probabilities stay in bfloat16; their sum is still taken in float32.
    """
    if q.is_cuda and bias is None:
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if causal:
        n = scores.shape[-1]
        scores = scores + torch.full((n, n), MASKED, dtype=scores.dtype, device=scores.device).triu(1)
    if bias is not None:
        scores = scores + bias
    with torch.autocast(scores.device.type, enabled=False):
        probabilities = scores.softmax(-1)
    return probabilities @ v


class Layer(nn.Module):
    """One transformer layer's weights; no biases in its linear maps."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        d = shape.dim
        self.heads = shape.heads
        self.norm1, self.norm_cross, self.norm2 = (nn.LayerNorm(d) for _ in range(3))
        self.in_proj, self.out_proj = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
        self.cross_q, self.cross_k, self.cross_v, self.cross_out = (nn.Linear(d, d, bias=False) for _ in range(4))
        self.linear1, self.linear2 = nn.Linear(d, 4 * d, bias=False), nn.Linear(4 * d, d, bias=False)

    def split(self, x: Tensor) -> Tensor:
        """Reshape [B,n,D] to heads [B,H,n,d]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def join(self, x: Tensor) -> Tensor:
        """Reshape heads [B,H,n,d] to [B,n,D]."""
        return x.transpose(1, 2).flatten(2)

    def qkv(self, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the heads' queries, keys and values."""
        q, k, v = self.in_proj(normed).chunk(3, -1)
        return self.split(q), self.split(k), self.split(v)

    def feed_forward(self, x: Tensor) -> Tensor:
        """Add the feed-forward's share to x."""
        y: Tensor = x + self.linear2(F.gelu(self.linear1(self.norm2(x))))
        return y

    def text(self, x: Tensor, condition: Condition) -> Tensor:
        """Add the attention to the text."""
        states, bias = condition
        q = self.split(self.cross_q(self.norm_cross(x)))
        k, v = self.split(self.cross_k(states)), self.split(self.cross_v(states))
        y: Tensor = x + self.cross_out(self.join(attention(q, k, v, bias=bias)))
        return y


class Model(nn.Module):
    """Language model, adapter and T5."""

    sinusoid: Tensor

    def __init__(self, shape: Shape, vocabulary: int) -> None:
        super().__init__()
        self.shape = shape
        d = shape.dim
        self.emb = nn.ModuleList([nn.Embedding(shape.card + 1, d) for _ in range(shape.codebooks)])
        self.linears = nn.ModuleList([nn.Linear(d, shape.card, bias=False) for _ in range(shape.codebooks)])
        self.out_norm = nn.LayerNorm(d)
        self.layers = nn.ModuleList([Layer(shape) for _ in range(shape.layers)])
        self.t5 = T5(vocabulary, shape.t5)
        self.output_proj = nn.Linear(shape.t5.d_model, d)
        self.merge_linear = nn.ModuleList([nn.Linear(d, d, bias=False) for _ in range(shape.layers)])
        self.gates = nn.Parameter(torch.ones(shape.layers))
        self.pos_emb = nn.Parameter(torch.zeros(shape.layers + 1, shape.frames + 1, d))
        position = torch.arange(shape.frames + shape.codebooks)[:, None].float()
        rates = 10000.0 ** (-torch.arange(d // 2) / (d / 2 - 1))
        angles = position * rates
        self.register_buffer("sinusoid", torch.cat([angles.cos(), angles.sin()], 1), persistent=False)

    def embed(self, codes: Tensor) -> Tensor:
        """Sum the embeddings of codes [B,K,n]: [B,n,D]."""
        total = self.emb[0](codes[:, 0])
        for k in range(1, self.shape.codebooks):
            total = total + self.emb[k](codes[:, k])
        y: Tensor = total
        return y

    def condition(self, ids: Tensor, keep: Tensor) -> Condition:
        """Encode token ids [B,L]. Padding is not attended to: a sentence comes out as it would alone.

        States are zeros in rows that `keep` [B] drops.
        """
        words = (ids != 0).float()
        states = self.output_proj(self.t5(ids)) * (words * keep[:, None])[..., None]
        return states, (MASKED * (1 - words))[:, None, None]

    def prefix(self, codes: Tensor) -> Prefix:
        """Compute every layer's queries, keys and values [P,H,T+1,d] of input codes [P,K,T]; adds the special frame."""
        special = codes.new_full((*codes.shape[:2], 1), self.shape.card)
        content = self.embed(torch.cat([codes, special], -1))
        n = content.shape[1]
        x = self.pos_emb[0, :n].expand(len(content), -1, -1)
        result: Prefix = []
        for i, (layer, merge) in enumerate(zip(self.layers, self.merge_linear)):
            q, k, v = layer.qkv(layer.norm1(x) + merge(content) + self.pos_emb[i + 1, :n])
            result.append((q, k, v))
            if i + 1 < len(self.layers):
                attended = attention(q, k, v, causal=True)
                x = layer.feed_forward(x + layer.out_proj(layer.join(attended)))
        return result

    def forward(self, sequence: Tensor, condition: Condition, prefix: Prefix, texts: int) -> Tensor:
        """Run the layers over delayed tokens [P·texts,K,S]: hidden states [P·texts,S,D] before the heads."""
        steps = sequence.shape[-1]
        x = self.embed(sequence) + self.sinusoid[:steps]
        late = steps - prefix[0][0].shape[2] + 1  # steps behind the last frame take its query
        for layer, gate, (pq, pk, pv) in zip(self.layers, self.gates, prefix):
            q, k, v = layer.qkv(layer.norm1(x))
            own = attention(q, k, v, causal=True)
            aligned = pq[:, :, : min(steps, pq.shape[2] - 1)]
            if late > 0:
                aligned = torch.cat([aligned, aligned[:, :, -1:].expand(-1, -1, late, -1)], 2)
            queries = (q.unflatten(0, (-1, texts)) + aligned[:, None]).transpose(1, 2).flatten(2, 3)
            seen = attention(queries, pk, pv)
            seen = seen.unflatten(2, (texts, steps)).transpose(1, 2).flatten(0, 1)
            x = x + layer.out_proj(layer.join(own + gate * seen))
            x = layer.feed_forward(layer.text(x, condition))
        y: Tensor = self.out_norm(x)
        return y

    def logits(self, hidden: Tensor, frames: int) -> list[Tensor]:
        """Compute each codebook's logits [B,frames,card], aligned to frames: codebook k is k steps late."""
        return [head(hidden[:, k : k + frames]) for k, head in enumerate(self.linears)]


def apply_delay(codes: Tensor, special: int) -> Tensor:
    """Return the delayed sequence [B,K,T+K] of codes [B,K,T]; it starts with a special step."""
    batch, books, frames = codes.shape
    out = codes.new_full((batch, books, frames + books), special)
    for k in range(books):
        out[:, k, 1 + k : 1 + k + frames] = codes[:, k]
    return out


def initialize(model: Model, codebooks: Tensor | None) -> None:
    """Set initial values that let the model copy its input from the start.

    Embeddings and heads come from the codec's codebooks [K, card, width], each in dimensions of its own; heads of
    attention look at the input's frame that the delay pattern asks for; merge maps are orthogonal, gates one.
    """
    d, heads, per = model.shape.dim, model.shape.heads, model.shape.dim // model.shape.heads
    for embedding in model.emb:
        nn.init.normal_(embedding.weight, 0, 0.5)
    for head in model.linears:
        nn.init.normal_(head.weight, 0, 0.02)
    if codebooks is not None:
        _from_codebooks(model, codebooks)
    rates = torch.exp(torch.linspace(math.log(1.5), math.log(0.02), d // 2))
    angles = torch.arange(model.shape.frames + 1)[:, None].float() * rates
    waves = torch.cat([angles.cos(), angles.sin()], 1)
    model.pos_emb.data = torch.stack([0.5 * waves] + [0.8 * waves] * model.shape.layers)
    for i, layer in enumerate(model.layers):
        query, key = torch.zeros(d, d), torch.zeros(d, d)
        for h in range(heads):
            back = _frames_back(i, h)
            for m in range(per // 2):
                f, row = m * heads + h, h * per + 2 * m
                c, s = math.cos(back * rates[f]), math.sin(back * rates[f])
                query[row, f] = query[row + 1, d // 2 + f] = 1
                key[row, f], key[row, d // 2 + f] = c, -s
                key[row + 1, f], key[row + 1, d // 2 + f] = s, c
        layer.in_proj.weight.data[:d], layer.in_proj.weight.data[d : 2 * d] = query, key
        nn.init.orthogonal_(layer.in_proj.weight.data[2 * d :])
        for linear in (layer.out_proj, layer.cross_out, layer.linear2):
            linear.weight.data.mul_(0.5)
        layer.cross_out.weight.data.mul_(3.0)  # the text is heard from the first steps on
    for merge in model.merge_linear:
        nn.init.orthogonal_(merge.weight)


def _frames_back(layer: int, head: int) -> int:
    """Return how many frames before its own a head starts to look: 0 to 3, as the codebooks' delays."""
    order = ((0, 1, 2, 3), (1, 0, 3, 2), (0, 2, 1, 3), (1, 0, 2, 3))
    return order[layer % 4][head % 4]


def _from_codebooks(model: Model, codebooks: Tensor) -> None:
    d, width, card = model.shape.dim, codebooks.shape[2], model.shape.card
    basis = nn.init.orthogonal_(torch.empty(d, d))
    blocks = max(1, d // width)
    for k in range(model.shape.codebooks):
        block = min(k, blocks - 1)
        directions = basis[width * block : width * block + width]
        if k != block:
            directions = nn.init.orthogonal_(torch.empty(len(directions), len(directions))) @ directions
        centered = (codebooks[k] - codebooks[k].mean(0)) / codebooks[k].std()
        size = (1.2, 1.0, 0.8, 0.7)[min(k, 3)] * math.sqrt(d / 256)
        vectors = centered[:, : len(directions)] @ directions * size
        model.emb[k].weight.data[:card] = vectors
        model.linears[k].weight.data = 0.06 * vectors
