"""A bundle opens to the same bits in whichever dialect its tensors and its config.json are written."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings

from model.bundle import info
from model.bundle.bundle import Bundle, open_bundle
from model.config import Quantization
from model.pipeline import InstructMusicGen

from ..conftest import Tensors, refused
from ..golden import tensors as golden_tensors
from . import dialects
from .dialects import DIALECTS, Way, respelled


def load(path: Path) -> Tensors:
    tensors = mx.load(str(path / "model.safetensors"))
    assert isinstance(tensors, dict)
    mx.eval(tensors)
    return tensors


def assert_same(found: Bundle, expected: Bundle) -> None:
    assert found.config == expected.config and set(found.tensors) == set(expected.tensors)
    for name, value in expected.tensors.items():
        np.testing.assert_array_equal(np.array(found.tensors[name]), np.array(value), err_msg=name)


def opened(path: Path) -> Bundle:
    """The bundle, opened without a word that something was guessed."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return open_bundle(path)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(way=dialects.ways())
@pytest.mark.parametrize("bits", [4, 32])
def test_any_dialect_opens_to_the_same_bits(
    tmp_path_factory: pytest.TempPathFactory, golden_bundles: Callable[[int], Path], bits: int, way: Way
) -> None:
    path = tmp_path_factory.mktemp("dialect") / "bundle"
    shutil.copytree(golden_bundles(bits), path)
    mx.save_safetensors(str(path / "model.safetensors"), respelled(load(path), way))
    assert_same(opened(path), open_bundle(golden_bundles(bits)))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_each_dialect_as_it_is(edited: Callable[..., Path], golden_bundle: Path, dialect: str) -> None:
    path = edited(32, lambda tensors: respelled(tensors, Way(dialect)))
    assert_same(opened(path), open_bundle(golden_bundle))


def test_dialects_may_be_mixed_in_one_file(edited: Callable[..., Path], golden_bundle: Path) -> None:
    """Each layer in another dialect: the roles are told layer by layer."""
    layers = {"layers.0.": "Hugging Face", "layers.1.": "T5", "layers.2.": "Llama"}

    def mix(tensors: Tensors) -> Tensors:
        out = {n: v for n, v in tensors.items() if not n.startswith("layers.")}
        for stem, dialect in layers.items():
            at = DIALECTS[dialect].layer.format(stem.split(".")[1])
            out |= {n: v for n, v in respelled(tensors, Way(dialect)).items() if n.startswith(f"{at}.")}
        return out

    assert_same(opened(edited(32, mix)), open_bundle(golden_bundle))


def test_a_dialect_edits_as_ours_does(edited: Callable[..., Path], golden_bundle: Path) -> None:
    way = Way("Hugging Face", fused="both", positions="apart", gates="in layers", merges="stacked", ends="flat")
    m, ours = (
        InstructMusicGen.from_pretrained(path, "reference")
        for path in (edited(32, lambda tensors: respelled(tensors, way)), golden_bundle)
    )
    codes = golden_tensors("lm_teacher")["codes"][:1, :, :12]
    got, want = (each.edit_codes(codes, "Music piece. Instruct: No Drums.", greedy=True) for each in (m, ours))
    np.testing.assert_array_equal(np.array(got), np.array(want))


def test_a_file_of_the_whole_model_holds_tensors_of_other_parts(
    edited: Callable[..., Path], golden_bundle: Path
) -> None:
    """Hugging Face's files hold T5, the codec and the sinusoids too; upstream's the adapter's copies of the layers."""
    others = {
        "text_encoder.encoder.block.0.layer.0.SelfAttention.q.weight": (32, 32),
        "text_encoder.shared.weight": (100, 32),
        "text_encoder.encoder.final_layer_norm.weight": (32,),
        "audio_encoder.encoder.layers.0.conv.weight": (8, 1, 7),
        "audio_encoder.quantizer.layers.0.codebook.embed": (64, 16),
        "decoder.model.decoder.embed_positions.weights": (2048, 64),
        "cp_transformer.layers.0.self_attn.in_proj_weight": (192, 64),
        "cp_transformer.layers.0.norm1.weight": (64,),
    }

    def join(tensors: Tensors) -> Tensors:
        return respelled(tensors, Way("Hugging Face")) | {name: mx.zeros(shape) for name, shape in others.items()}

    assert_same(opened(edited(32, join)), open_bundle(golden_bundle))


def test_dead_weights_of_upstream_are_not_taken(edited: Callable[..., Path], golden_bundle: Path) -> None:
    """Beside `in_proj_weight` the self-attention's q, k and v are dead; the cross-attention's `in_proj_weight` is."""

    def add(tensors: Tensors) -> Tensors:
        out = respelled(tensors, Way("audiocraft", fused="self"))
        for i in range(3):
            at = f"transformer.layers.{i}"
            out |= {f"{at}.self_attn.{p}_proj.weight": mx.full((64, 64), 7.0) for p in "qkv"}
            out[f"{at}.cross_attention.in_proj_weight"] = mx.full((192, 64), 7.0)
        return out

    assert_same(opened(edited(32, add)), open_bundle(golden_bundle))


def test_files_named_after_their_parts(edited: Callable[..., Path], golden_bundle: Path) -> None:
    path = edited()
    tensors = load(path)
    adapter = {n.removeprefix("cp_transformer."): v for n, v in tensors.items() if n.startswith("cp_transformer.")}
    mx.save_safetensors(str(path / "adapter.safetensors"), adapter)
    rest = {n: v for n, v in tensors.items() if not n.startswith("cp_transformer.")}
    mx.save_safetensors(str(path / "decoder.safetensors"), rest)
    (path / "model.safetensors").unlink()
    assert_same(opened(path), open_bundle(golden_bundle))
    mx.save_safetensors(str(path / "decoder.safetensors"), rest | {"gates": adapter["gates"]})
    assert "gates is in adapter.safetensors too" in refused(path)


@pytest.mark.parametrize("case", ["packed positions", "packed merges, stacked"])
def test_what_is_no_projection_may_be_packed_in_any_form(edited: Callable[..., Path], case: str) -> None:
    names = ("cp_transformer.pos_emb.{}", 4) if case == "packed positions" else ("cp_transformer.merge_linear.{}", 3)
    expected: dict[str, np.ndarray] = {}

    def pack(tensors: Tensors) -> Tensors:
        template, count = names
        if "pos_emb" in template:
            tables = tensors.pop("cp_transformer.pos_emb")
            tensors |= {f"{template.format(i)}.weight": tables[i] for i in range(count)}
        parts: list[dict[str, mx.array]] = []
        for i in range(count):
            packed = mx.quantize(tensors.pop(f"{template.format(i)}.weight"), group_size=32, bits=8)
            expected[template.format(i)] = np.array(mx.dequantize(*packed, group_size=32, bits=8))
            parts.append(dict(zip(("weight", "scales", "biases"), packed)))
        if "merge" in template:
            stem = template.removesuffix(".{}")
            return tensors | {f"{stem}.{part}": mx.stack([p[part] for p in parts]) for part in parts[0]}
        return tensors | {f"{template.format(i)}.{part}": v for i, p in enumerate(parts) for part, v in p.items()}

    bundle = opened(edited(32, pack))
    for i in range(names[1]):
        got = (
            bundle.tensors["cp_transformer.pos_emb"][i]
            if "pos" in case
            else (bundle.load([f"cp_transformer.merge_linear.{i}.weight"])[f"cp_transformer.merge_linear.{i}.weight"])
        )
        np.testing.assert_array_equal(np.array(got), expected[names[0].format(i)])
    assert info.describe(bundle)["quantization"]["bits"] == 8


# config.json


CONFIGS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "camel case": lambda raw: {
        "decoder": {"hiddenSize": 64, "numAttentionHeads": 4, "ffnDim": 256, "numHiddenLayers": 3, "vocabSize": 64,
                    "numCodebooks": 4},
        "textEncoder": {"dModel": 32}, "cpTransformer": {"numLayers": 3, "maxNFrames": 40, "startLayer": 0},
        "quantization": {"groupSize": 64, "bits": 4},
    },
    "audiocraft's": lambda raw: {
        "transformer_lm": {"dim": 64, "num_heads": 4, "hidden_scale": 4, "num_layers": 3, "card": 64, "n_q": 4},
        "t5": {"name": "t5-base"}, "adapter": {"layers": 3, "max_frames": 40},
        "quantization_config": {"group_size": 64, "bits": 4},
    },
    "flat": lambda raw: {
        "d_model": 64, "n_heads": 4, "n_layers": 3, "codebook_size": 64, "n_codebooks": 4, "text_dim": 32,
        "max_n_frames": 40, "start_layer": 0, "quantization": {"group_size": 64, "bits": 4},
    },
    "in a section of the model": lambda raw: {"model": {k: v for k, v in raw.items() if k != "model_type"}},
    "quantization in the decoder": lambda raw: (
        {k: v for k, v in raw.items() if k != "quantization"}
        | {"decoder": raw["decoder"] | {"quantization": raw["quantization"]}}
    ),
    "quantization twice": lambda raw: raw | {"quantization_config": dict(raw["quantization"])},
    "no quantization": lambda raw: {k: v for k, v in raw.items() if k != "quantization"},
}  # fmt: skip


@pytest.mark.parametrize("case", CONFIGS)
def test_config_json_in_other_forms(
    edited: Callable[..., Path], golden_bundles: Callable[[int], Path], case: str
) -> None:
    assert_same(opened(edited(4, config=CONFIGS[case])), open_bundle(golden_bundles(4)))


@pytest.mark.parametrize("where", ["beside", "below", "as stored", "canonical"])
def test_entries_for_single_modules_are_found_under_any_name(edited: Callable[..., Path], where: str) -> None:
    """mlx-lm writes them by the module's path in the model, which may have more or less of a prefix than the file."""
    name = {
        "beside": "layers.1.fc1", "below": "layers.1.fc1", "as stored": "decoder.model.decoder.layers.1.fc1",
        "canonical": "layers.1.linear1",
    }[where]  # fmt: skip

    def repack(tensors: Tensors) -> Tensors:
        weight = mx.dequantize(*(tensors[f"layers.1.linear1.{p}"] for p in ("weight", "scales", "biases")),
                               group_size=64, bits=4)  # fmt: skip
        packed = mx.quantize(weight, group_size=32, bits=8)
        tensors |= {f"layers.1.linear1.{p}": v for p, v in zip(("weight", "scales", "biases"), packed)}
        return respelled(tensors, Way("Hugging Face"))

    def state(raw: dict[str, Any]) -> None:
        entry = {name: {"bits": 8, "group_size": 32}, "lm_heads.0": False}
        raw["quantization"] |= {"modules": entry} if where == "below" else entry

    bundle = opened(edited(4, repack, state))
    assert bundle.config.overrides == {"layers.1.linear1": Quantization(8, 32)}


def test_quantization_stated_twice_must_agree(edited: Callable[..., Path]) -> None:
    path = edited(4, config=lambda raw: raw.update(quantization_config={"bits": 8, "group_size": 64}))
    assert "states its quantization twice" in refused(path)


def test_the_text_encoder_may_be_a_name(edited: Callable[..., Path]) -> None:
    path = edited(32, config=lambda raw: raw.update(text_encoder="t5-base"))
    assert json.loads((path / "config.json").read_text())["text_encoder"] == "t5-base"
    assert opened(path).t5_name == "google-t5/t5-base"
