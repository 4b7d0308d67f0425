"""Conversion: the live weights, exactly, from every form that upstream's files take."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from model.bundle import hub
from model.bundle.bundle import open_bundle
from model.bundle.codec_weights import load_codec
from model.convert.convert import convert
from model.formats import torch_writer

from ..bundle.test_codec_weights import folder, hugging_face
from ..conftest import GOLDEN
from ..golden import CONFIG
from .upstream_files import LAYERS, LM, State, values


def expected(checkpoint: State) -> State:
    """Every live weight of golden A, put together independently of the converter."""
    found: State = {}
    dim = CONFIG["dim"]
    for name, value in checkpoint.items():
        if name.startswith((f"{LM}emb.", f"{LM}linears.", f"{LM}out_norm.")):
            found[name.removeprefix(LM)] = value
    for part in ("weight", "bias"):
        found[f"text_conditioner.output_proj.{part}"] = checkpoint[
            f"{LM}condition_provider.conditioners.description.output_proj.{part}"
        ]
    for i in range(CONFIG["layers"]):
        source, target = f"{LAYERS}.{i}", f"layers.{i}"
        for norm in ("norm1", "norm_cross", "norm2"):
            for part in ("weight", "bias"):
                found[f"{target}.{norm}.{part}"] = checkpoint[f"{source}.{norm}.{part}"]
        for linear in ("linear1", "linear2"):
            found[f"{target}.{linear}.weight"] = checkpoint[f"{source}.{linear}.weight"]
        joint = checkpoint[f"{source}.self_attn.in_proj_weight"]
        for row, p in enumerate("qkv"):
            found[f"{target}.self_attn.{p}_proj.weight"] = joint[row * dim : (row + 1) * dim]
        found[f"{target}.self_attn.out_proj.weight"] = checkpoint[f"{source}.self_attn.out_proj.weight"]
        cross = f"{source}.cross_attention"
        for p in "qv":
            a, b = (checkpoint[f"{cross}.{p}_proj.lora_{x}.default.weight"].astype(np.float64) for x in "AB")
            merged = checkpoint[f"{cross}.{p}_proj.base_layer.weight"] + CONFIG["lora_scaling"] * (b @ a)
            found[f"{target}.cross_attn.{p}_proj.weight"] = merged.astype(np.float32)
        found[f"{target}.cross_attn.k_proj.weight"] = checkpoint[f"{cross}.k_proj.weight"]
        found[f"{target}.cross_attn.out_proj.weight"] = checkpoint[f"{cross}.out_proj.weight"]
        merge = f"cp_transformer.merge_linear.{i}.weight"
        found[merge] = checkpoint[f"model.{merge}"]
    for name in ("cp_transformer.pos_emb", "cp_transformer.gates"):
        found[name] = checkpoint[f"model.{name}"]
    return {name: value.astype(np.float32) for name, value in found.items()}


def loaded(path: Path) -> State:
    return {name: np.array(value) for name, value in open_bundle(path).tensors.items()}


def assert_same(found: State, wanted: State) -> None:
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name, strict=True)


def test_32_bits_are_lossless(golden_bundle: Path, checkpoint: State) -> None:
    assert_same(loaded(golden_bundle), expected(checkpoint))
    raw = json.loads((golden_bundle / "config.json").read_text())
    assert raw["decoder"]["num_attention_heads"] == 4 and raw["decoder"]["hidden_size"] == 64


def test_16_bits_are_one_rounding(golden_bundles: Callable[[int], Path], checkpoint: State) -> None:
    assert_same(loaded(golden_bundles(16)), {n: v.astype(np.float16) for n, v in expected(checkpoint).items()})


@pytest.mark.parametrize("bits", [4, 8])
def test_layer_projections_are_quantized_and_nothing_else(
    golden_bundles: Callable[[int], Path], checkpoint: State, bits: int
) -> None:
    wanted: State = {}
    for name, value in expected(checkpoint).items():
        module = name.removesuffix(".weight")
        if name.startswith("layers.") and ("_proj" in name or ".linear" in name):
            words, scales, biases = mx.quantize(mx.array(value), group_size=64, bits=bits)
            wanted[name] = np.array(words)
            wanted[f"{module}.scales"] = np.array(scales.astype(mx.float16))
            wanted[f"{module}.biases"] = np.array(biases.astype(mx.float16))
        else:
            wanted[name] = value.astype(np.float16)
    assert_same(loaded(golden_bundles(bits)), wanted)


def test_codec_and_t5_come_along(golden_bundle: Path) -> None:
    assert (golden_bundle / "compression_state_dict.bin").read_bytes() == (
        GOLDEN / "base" / "compression_state_dict.bin"
    ).read_bytes()
    for file in (GOLDEN / "t5").iterdir():
        assert (golden_bundle / "t5" / file.name).read_bytes() == file.read_bytes()


def test_a_checkpoint_of_the_trained_weights_alone(upstream: Callable[..., dict[str, Any]], checkpoint: State) -> None:
    """The rest is frozen and comes from the base, whose float16 values are the same."""
    trained = ("cp_transformer.pos_emb", "gates", "merge_linear", "lora_", "base_layer", "cross_attention.k_proj")

    def keep(state: State) -> State:
        return {n: v for n, v in state.items() if any(part in n for part in trained)}

    found = loaded(convert(**upstream(keep)))
    wanted = expected(checkpoint)
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        # The base holds embeddings, heads and norms as float16; golden's values are exact in it or one rounding away.
        np.testing.assert_allclose(found[name], value, rtol=2.0**-11, atol=2.0**-25, err_msg=name)


def test_without_cross_projections_the_joint_ones_stand_in(
    upstream: Callable[..., dict[str, Any]], checkpoint: State
) -> None:
    def drop(state: State) -> State:
        return {n: v for n, v in state.items() if not any(f"cross_attention.{p}_proj" in n for p in "qkv")}

    found = loaded(convert(**upstream(drop)))
    for i in range(3):
        joint = checkpoint[f"{LAYERS}.{i}.cross_attention.in_proj_weight"].astype(np.float32)
        for row, p in enumerate("qkv"):
            got = found[f"layers.{i}.cross_attn.{p}_proj.weight"]
            np.testing.assert_array_equal(got, joint[row * 64 : row * 64 + 64])


def test_lora_scaling_follows_the_hyper_parameters(upstream: Callable[..., dict[str, Any]], checkpoint: State) -> None:
    found = loaded(convert(**upstream(hyper_parameters={"lora": {"lora_alpha": 2, "r": 4}})))
    cross = f"{LAYERS}.1.cross_attention.v_proj"
    a, b = (checkpoint[f"{cross}.lora_{x}.default.weight"].astype(np.float64) for x in "AB")
    wanted = (checkpoint[f"{cross}.base_layer.weight"] + 2 / 4 * (b @ a)).astype(np.float32)
    np.testing.assert_array_equal(found["layers.1.cross_attn.v_proj.weight"], wanted)


def test_an_adapter_of_the_last_layers(upstream: Callable[..., dict[str, Any]]) -> None:
    def shorten(state: State) -> None:
        state["model.cp_transformer.pos_emb"] = state["model.cp_transformer.pos_emb"][:3]
        state["model.cp_transformer.gates"] = state["model.cp_transformer.gates"][:2]
        del state["model.cp_transformer.merge_linear.2.weight"]

    config = open_bundle(convert(**upstream(shorten))).config
    assert (config.adapter.layers, config.adapter.start_layer) == (2, 1)


@pytest.mark.parametrize("wrapper", ["model._orig_mod.", "module.model.", ""])
def test_wrappers_leave_other_prefixes(
    upstream: Callable[..., dict[str, Any]], checkpoint: State, wrapper: str
) -> None:
    arguments = upstream(lambda state: {wrapper + n.removeprefix("model."): v for n, v in state.items()})
    assert_same(loaded(convert(**arguments)), expected(checkpoint))


def test_a_base_that_only_names_its_codec(
    tmp_path: Path, upstream: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Hugging Face folder it stands for goes into the bundle, which is complete offline again."""
    arguments = upstream()
    codec = values(GOLDEN / "base" / "compression_state_dict.bin", "best_state")
    hf = folder(tmp_path / "hf", {hugging_face(name): value for name, value in codec.items()})
    named = {"pretrained": "//pretrained/facebook/encodec_32khz"}
    torch_writer.save(arguments["base"] / "compression_state_dict.bin", named)
    resolve, name = hub.resolve, "facebook/encodec_32khz"
    monkeypatch.setattr(hub, "resolve", lambda given, **options: hf if given == name else resolve(given, **options))
    bundle = open_bundle(convert(**arguments))
    assert bundle.codec_path == tmp_path / "out" / "encodec"
    config, found = load_codec(bundle.codec_path)
    wanted_config, wanted = load_codec(GOLDEN / "base" / "compression_state_dict.bin")
    assert config == wanted_config and all(mx.array_equal(found[name], value) for name, value in wanted.items())
    convert(**arguments)  # over the bundle it made
