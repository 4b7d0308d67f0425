"""Golden A's tensors re-spelled: the dialects in use, and the ways in which each of them may store what it stores."""

from __future__ import annotations

import re
from dataclasses import dataclass

import hypothesis.strategies as st
import mlx.core as mx

from ..conftest import Tensors

PARTS = ("weight", "scales", "biases", "bias")


@dataclass(frozen=True)
class Dialect:
    """Templates: `{}` is the layer's, codebook's or table's number."""

    layer: str
    attention: tuple[str, str]
    q: str
    k: str
    v: str
    out: str
    qkv: str
    norms: tuple[str, str, str]
    ffn: tuple[str, str]
    emb: str
    head: str
    out_norm: str
    text: str


OURS = Dialect(
    "layers.{}", ("self_attn", "cross_attn"), "q_proj", "k_proj", "v_proj", "out_proj", "in_proj",
    ("norm1", "norm_cross", "norm2"), ("linear1", "linear2"), "emb.{}", "linears.{}", "out_norm",
    "text_conditioner.output_proj",
)  # fmt: skip
HUGGING_FACE = Dialect(
    "decoder.model.decoder.layers.{}", ("self_attn", "encoder_attn"), "q_proj", "k_proj", "v_proj", "out_proj",
    "qkv_proj", ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"), ("fc1", "fc2"),
    "decoder.model.decoder.embed_tokens.{}", "decoder.lm_heads.{}", "decoder.model.decoder.layer_norm",
    "enc_to_dec_proj",
)  # fmt: skip
DIALECTS = {
    "ours": OURS,
    "Hugging Face": HUGGING_FACE,
    "audiocraft": Dialect(
        "transformer.layers.{}", ("self_attn", "cross_attention"), "q_proj", "k_proj", "v_proj", "out_proj",
        "in_proj_weight", ("norm1", "norm_cross", "norm2"), ("linear1", "linear2"), "emb.{}", "linears.{}", "out_norm",
        "condition_provider.conditioners.description.output_proj",
    ),
    "torch's decoder layer": Dialect(
        "transformer.layers.{}", ("self_attn", "multihead_attn"), "q_proj", "k_proj", "v_proj", "out_proj",
        "in_proj_weight", ("norm1", "norm2", "norm3"), ("linear1", "linear2"), "embeddings.{}", "heads.{}", "norm",
        "cond_proj",
    ),
    "GPT-2": Dialect(
        "transformer.h.{}", ("attn", "crossattention"), "q_attn", "k_attn", "v_attn", "c_proj", "c_attn",
        ("ln_1", "ln_cross_attn", "ln_2"), ("mlp.c_fc", "mlp.c_proj"), "transformer.wte.{}", "lm_head.{}",
        "transformer.ln_f", "text_proj",
    ),
    "T5": Dialect(
        "decoder.block.{}", ("layer.0.SelfAttention", "layer.1.EncDecAttention"), "q", "k", "v", "o", "qkv",
        ("layer.0.layer_norm", "layer.1.layer_norm", "layer.2.layer_norm"),
        ("layer.2.DenseReluDense.wi", "layer.2.DenseReluDense.wo"), "shared.embed_tokens.{}", "lm_head.{}",
        "decoder.final_layer_norm", "encoder_proj",
    ),
    "diffusers": Dialect(
        "blocks.{}", ("attn1", "attn2"), "to_q", "to_k", "to_v", "to_out.0", "to_qkv", ("norm1", "norm2", "norm3"),
        ("ff.net.0.proj", "ff.net.2"), "token_embeddings.{}", "logit_projs.{}", "norm_out", "caption_projection.linear",
    ),
    "Llama": Dialect(
        "model.layers.{}", ("self_attn", "cross_attn"), "wq", "wk", "wv", "wo", "wqkv",
        ("input_layernorm", "post_attention_layernorm", "post_cross_attention_layernorm"),
        ("mlp.up_proj", "mlp.down_proj"),
        "model.embed_tokens.{}", "lm_head.{}", "model.norm", "text_encoder_proj",
    ),
    "Swift": Dialect(
        "decoderLayers.{}", ("selfAttention", "crossAttention"), "queryProj", "keyProj", "valueProj", "outputProj",
        "qkvProj", ("selfAttnNorm", "crossAttnNorm", "ffnNorm"), ("feedForward.dense1", "feedForward.dense2"),
        "codebookEmbeddings.{}", "outputHeads.{}", "finalNorm", "textProjection",
    ),
    "sequential": Dialect(
        "stack.{}", ("attention", "cross_attention"), "query", "key", "value", "output", "query_key_value",
        ("norms.0", "norms.1", "norms.2"), ("mlp.0", "mlp.2"), "tok_emb.{}", "classifiers.{}", "ln_out",
        "conditioner.proj.0",
    ),
    "Whisper": Dialect(
        "decoder.blocks.{}", ("attn", "cross_attn"), "query", "key", "value", "out", "qkv",
        ("attn_ln", "cross_attn_ln", "mlp_ln"), ("mlp.0", "mlp.2"), "decoder.token_embedding.{}", "decoder.heads.{}",
        "decoder.ln", "text_proj",
    ),
    "mlx.nn": Dialect(
        "decoder.layers.{}", ("self_attention", "cross_attention"), "query_proj", "key_proj", "value_proj", "out_proj",
        "qkv", ("ln1", "ln2", "ln3"), ("dense.wi", "dense.wo"), "wte.{}", "lm_head.{}", "decoder.ln",
        "encoder_projection",
    ),
    "a list of three": Dialect(
        "layers.{}", ("0", "1"), "to_q", "to_k", "to_v", "to_out", "to_qkv", ("0.norm", "1.norm", "2.norm"),
        ("2.ff.0", "2.ff.3"), "token_emb.{}", "to_logits.{}", "final_norm", "proj_text_embed",
    ),
    "short": Dialect(
        "blocks.{}", ("sa", "ca"), "q", "k", "v", "o", "qkv", ("sa_norm", "ca_norm", "ff_norm"), ("ff.w1", "ff.w2"),
        "codebook_emb.{}", "vocab_proj.{}", "out_norm", "cond_projection",
    ),
}  # fmt: skip
"""As they are spelled in the wild; some are made up of what is usual there."""


@dataclass(frozen=True)
class Way:
    """How a file stores what it stores."""

    dialect: str = "ours"
    prefix: str = ""
    adapter: str = "cp_transformer"
    case: str = "snake"
    fused: str = "no"  # "no", "self", "both", "kv" (of the cross-attention)
    gates: str = "one"  # "one", "column", "apart", "apart [1]", "in layers"
    gate: str = "gates"
    positions: str = "one"  # "one", "apart", "flat", "input and layers", "in layers"
    position: str = "pos_emb"
    merge: str = "merge_linear"
    merges: str = "apart"  # "apart", "stacked", "in layers"
    ends: str = "apart"  # embeddings and heads: "apart", "stacked", "flat"
    first: int = 0
    stacked_layers: bool = False


@st.composite
def ways(draw: st.DrawFn) -> Way:
    fused = draw(st.sampled_from(["no", "self", "both", "kv"]))
    dialect = draw(st.sampled_from(list(DIALECTS)))
    # These number the parts of a layer as they number layers.
    stacked = dialect not in ("T5", "a list of three") and draw(st.integers(0, 9)) == 0
    inside = [] if stacked else ["in layers"]
    return Way(
        dialect=dialect,
        prefix=draw(st.sampled_from(["", "lm.", "model.", "model.lm.", "instruct_musicgen.", "net.foo."])),
        adapter=draw(st.sampled_from(["cp_transformer", "adapter", "cp", "cptransformer", "cpTransformer"])),
        case=draw(st.sampled_from(["snake", "camel", "kebab", "underscores"])),
        fused=fused,
        gates=draw(st.sampled_from(["one", "column", "apart", "apart [1]", *inside])),
        gate=draw(st.sampled_from(["gates", "gate", "prefix_gate"])),
        positions=draw(st.sampled_from(["one", "apart", "flat", "input and layers", *inside])),
        position=draw(st.sampled_from(["pos_emb", "position_embeddings", "positional_embedding", "learned_positions"])),
        merge=draw(st.sampled_from(["merge_linear", "merge", "merge_proj", "fusion_linears"])),
        merges=draw(st.sampled_from(["apart", "stacked", *inside])),
        ends=draw(st.sampled_from(["apart", "stacked", "flat"])),
        first=0 if stacked else draw(st.sampled_from([0, 0, 1])),
        stacked_layers=stacked,
    )


def respelled(tensors: Tensors, way: Way) -> Tensors:
    """Canonical tensors of a bundle, stored that way."""
    d = DIALECTS[way.dialect]
    rest = dict(tensors)
    out: Tensors = {}
    layers = 1 + max(int(n.split(".")[1]) for n in rest if n.startswith("layers."))
    books = 1 + max(int(n.split(".")[1]) for n in rest if n.startswith("emb."))

    def layer(i: int) -> str:
        return d.layer.format(i + way.first)

    def module(name: str) -> dict[str, mx.array]:
        return {part: rest.pop(f"{name}.{part}") for part in PARTS if f"{name}.{part}" in rest}

    def put(name: str, parts: dict[str, mx.array]) -> None:
        for part, value in parts.items():
            joined = name.removesuffix("_weight") + f"_{part}" if name.endswith("_weight") else f"{name}.{part}"
            out[joined] = value

    def together(names: list[str], axis: str) -> dict[str, mx.array]:
        each = [module(name) for name in names]
        join = mx.stack if axis == "stacked" else mx.concatenate
        return {part: join([m[part] for m in each]) for part in each[0]}

    for i in range(layers):
        for side, spelled in zip(("self_attn", "cross_attn"), d.attention):
            own, at = f"layers.{i}.{side}", f"{layer(i)}.{spelled}"
            if way.fused == "both" or (way.fused == "self" and side == "self_attn"):
                put(f"{at}.{d.qkv}", together([f"{own}.{x}_proj" for x in "qkv"], "flat"))
            elif way.fused == "kv" and side == "cross_attn":
                put(f"{at}.{d.q}", module(f"{own}.q_proj"))
                put(f"{at}.kv_proj", together([f"{own}.{x}_proj" for x in "kv"], "flat"))
            else:
                for x, name in zip("qkv", (d.q, d.k, d.v)):
                    put(f"{at}.{name}", module(f"{own}.{x}_proj"))
            put(f"{at}.{d.out}", module(f"{own}.out_proj"))
        for canonical, name in zip(("norm1", "norm_cross", "norm2"), d.norms):
            put(f"{layer(i)}.{name}", module(f"layers.{i}.{canonical}"))
        for canonical, name in zip(("linear1", "linear2"), d.ffn):
            put(f"{layer(i)}.{name}", module(f"layers.{i}.{canonical}"))
    for canonical, name in (("emb", d.emb), ("linears", d.head)):
        names = [f"{canonical}.{k}" for k in range(books)]
        if way.ends == "apart":
            for k, each in enumerate(names):
                put(name.format(k + way.first), module(each))
        else:
            put(name.replace(".{}", ""), together(names, way.ends))
    put(d.out_norm, module("out_norm"))
    put(d.text, module("text_conditioner.output_proj"))
    if way.stacked_layers:
        out = _stacked(out, d.layer, layers)

    gates, tables = rest.pop("cp_transformer.gates"), rest.pop("cp_transformer.pos_emb")
    count = gates.size
    if way.gates in ("one", "column"):
        out[f"{way.adapter}.{way.gate}"] = gates.reshape(-1, 1) if way.gates == "column" else gates
    for i in range(count):
        if way.gates.startswith("apart"):
            shape = (1,) if way.gates.endswith("[1]") else ()
            out[f"{way.adapter}.{way.gate}.{i + way.first}"] = gates[i].reshape(shape)
        elif way.gates == "in layers":
            out[f"{layer(i)}.{way.gate}"] = gates[i].reshape(1)
    if way.positions == "one":
        out[f"{way.adapter}.{way.position}"] = tables
    elif way.positions == "flat":
        out[f"{way.adapter}.{way.position}.weight"] = tables.reshape(-1, tables.shape[-1])
    elif way.positions == "apart":
        for i in range(count + 1):
            out[f"{way.adapter}.{way.position}.{i}.weight"] = tables[i]
    else:
        out[f"{way.adapter}.{way.position}"] = tables[0]
        for i in range(count):
            at = (
                f"{layer(i)}.{way.position}"
                if way.positions == "in layers"
                else (f"{way.adapter}.layers.{i}.{way.position}")
            )
            out[at] = tables[i + 1]
    names = [f"cp_transformer.merge_linear.{i}" for i in range(count)]
    if way.merges == "stacked":
        put(f"{way.adapter}.{way.merge}", together(names, "stacked"))
    for i, name in enumerate(names if way.merges != "stacked" else []):
        at = layer(i) if way.merges == "in layers" else way.adapter
        put(f"{at}.{way.merge}" + ("" if way.merges == "in layers" else f".{i + way.first}"), module(name))
    assert not rest, sorted(rest)
    return {cased(way.prefix + name, way.case): value for name, value in out.items()}


def _stacked(tensors: Tensors, layer: str, layers: int) -> Tensors:
    """One tensor for all layers, as a scan over them has it."""
    before, _, _ = layer.partition(".{}")
    out = {n: v for n, v in tensors.items() if not re.match(re.escape(before) + r"\.\d+\.", n)}
    for name in tensors:
        if name.startswith(f"{layer.format(0)}."):
            rest = name.removeprefix(f"{layer.format(0)}.")
            out[f"{before}.{rest}"] = mx.stack([tensors[f"{layer.format(i)}.{rest}"] for i in range(layers)])
    return out


def cased(name: str, case: str) -> str:
    """The name in another case."""
    if case == "camel":
        return re.sub(r"(?<=[a-z0-9])_([a-z])", lambda m: m[1].upper(), name)
    if case == "kebab":
        return re.sub(r"(?<=[a-z0-9])_(?=[a-z0-9])", "-", name)
    return name.replace(".", "_") if case == "underscores" else name
