"""Opening bundles: every layout that is accepted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from model.bundle import tensors as layout
from model.bundle.bundle import Bundle, demo_path, open_bundle
from model.config import Quantization
from model.errors import UserError

from ..conftest import Tensors, refused


def assert_same_tensors(found: Bundle, expected: Bundle) -> None:
    assert found.config == expected.config and set(found.tensors) == set(expected.tensors)
    for name, value in expected.tensors.items():
        np.testing.assert_array_equal(np.array(found.tensors[name]), np.array(value), err_msg=name)


def test_the_demo_bundle_opens_and_is_complete() -> None:
    bundle = open_bundle(demo_path())
    assert not bundle.random_weights and bundle.config.quantization == Quantization(4, 128)
    assert set(layout.lm_shapes(bundle.config.lm, bundle.config.adapter)) <= set(bundle.tensors)
    assert bundle.config.adapter.max_n_frames == bundle.config.adapter.window_frames == 250
    assert sum(file.stat().st_size for file in demo_path().rglob("*")) < 8e6
    assert bundle.t5_path == demo_path() / "t5" and bundle.codec_path.is_file()


def test_demo_names_the_bundle_of_the_package_unless_a_folder_has_that_name(
    tmp_path: Path, golden_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_bundle("demo").path == demo_path()
    with pytest.raises(UserError, match="--revision main"):
        open_bundle("demo", revision="main")
    shutil.copytree(golden_bundle, tmp_path / "demo")
    assert open_bundle("demo").config == open_bundle(golden_bundle).config


def _mlx_examples(name: str) -> str:
    return f"lm.{name}"


def _deep(name: str) -> str:
    return "model.lm.transformer." + name.replace(".cross_attn.", ".cross_attention.")


def _mixed(name: str) -> str:
    if name.startswith("text_conditioner."):
        return name.replace("text_conditioner.", "condition_provider.conditioners.description.")
    return f"transformer.{name}" if name.startswith("layers.") else name


@pytest.mark.parametrize("spelling", [_mlx_examples, _deep, _mixed])
@pytest.mark.parametrize("bits", [4, 32])
def test_other_spellings_of_the_names(
    edited: Callable[..., Path], golden_bundles: Callable[[int], Path], spelling: Callable[[str], str], bits: int
) -> None:
    path = edited(bits, lambda tensors: {spelling(name): value for name, value in tensors.items()})
    assert_same_tensors(open_bundle(path), open_bundle(golden_bundles(bits)))


@pytest.mark.parametrize("name", ["gate.{}", "gates.{}", "cp_transformer.gate.{}", "lm.cp_transformer.gates.{}"])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_one_gate_a_layer(edited: Callable[..., Path], golden_bundle: Path, name: str, shape: tuple[int, ...]) -> None:
    def split(tensors: Tensors) -> Tensors:
        gates = tensors.pop("cp_transformer.gates")
        return tensors | {name.format(i): gates[i].reshape(shape) for i in range(gates.size)}

    path = edited(32, split)
    assert_same_tensors(open_bundle(path), open_bundle(golden_bundle))
    whole = dict(open_bundle(golden_bundle).tensors)
    reloaded = open_bundle(path).load(["cp_transformer.gates"])["cp_transformer.gates"]
    np.testing.assert_array_equal(np.array(reloaded), np.array(whole["cp_transformer.gates"]))
    without = {n: a for n, a in split(whole).items() if not n.endswith(".1")}
    mx.save_safetensors(str(path / "model.safetensors"), without)
    assert "missing: cp_transformer.gates.1" in refused(path)


def test_gates_as_a_column(edited: Callable[..., Path], golden_bundle: Path) -> None:
    path = edited(32, lambda t: t | {"cp_transformer.gates": t["cp_transformer.gates"].reshape(-1, 1)})
    assert_same_tensors(open_bundle(path), open_bundle(golden_bundle))


def test_dimensions_that_config_leaves_out(edited: Callable[..., Path], golden_bundle: Path) -> None:
    def strip(raw: dict[str, Any]) -> dict[str, Any]:
        return {"decoder": {"num_attention_heads": 4}}

    assert open_bundle(edited(32, config=strip)).config == open_bundle(golden_bundle).config


def test_a_flat_config_without_quantization(edited: Callable[..., Path], golden_bundles: Callable[[int], Path]) -> None:
    def flat(raw: dict[str, Any]) -> dict[str, Any]:
        return {"hidden_size": 64, "num_attention_heads": 4, "unknown": [1, {}]}

    assert open_bundle(edited(8, config=flat)).config == open_bundle(golden_bundles(8)).config


def test_shards_are_one_bundle(edited: Callable[..., Path], golden_bundle: Path) -> None:
    path = edited()
    tensors = dict(open_bundle(golden_bundle).tensors)
    names = sorted(tensors)
    for i, part in enumerate((names[:30], names[30:])):
        mx.save_safetensors(str(path / f"model-0000{i + 1}-of-00002.safetensors"), {n: tensors[n] for n in part})
    (path / "model.safetensors").unlink()
    assert_same_tensors(open_bundle(path), open_bundle(golden_bundle))


def test_single_modules_may_be_packed_otherwise(edited: Callable[..., Path], golden_bundle: Path) -> None:
    """8 bits for one projection, floats for another, packed embeddings: each told by its own tensors."""
    dense = open_bundle(golden_bundle).tensors

    def repack(tensors: Tensors) -> Tensors:
        parts = ("weight", "scales", "biases")
        for module, bits in (("layers.0.linear2", 8), ("emb.1", 4), ("cp_transformer.merge_linear.2", 8)):
            values = mx.quantize(dense[f"{module}.weight"], group_size=32, bits=bits)
            tensors |= {f"{module}.{part}": value for part, value in zip(parts, values)}
        for part in parts[1:]:
            del tensors[f"layers.1.self_attn.q_proj.{part}"]
        tensors["layers.1.self_attn.q_proj.weight"] = dense["layers.1.self_attn.q_proj.weight"].astype(mx.float16)
        return tensors

    stated = {"layers.0.linear2": {"bits": 8, "group_size": 32}, "lm.emb.1": {"bits": 4, "group_size": 32},
              "cp_transformer.merge_linear.2": {"bits": 8, "group_size": 32}, "mode": "affine"}  # fmt: skip
    path = edited(4, repack, lambda raw: raw["quantization"].update(stated))
    bundle = open_bundle(path)
    assert bundle.config.quantization == Quantization(4, 64)
    assert bundle.config.overrides["layers.0.linear2"] == Quantization(8, 32)
    assert "layers.1.self_attn.q_proj.scales" not in bundle.tensors
    # What is no layer projection is handed out dense, wherever it is asked for.
    for name in ("emb.1.weight", "cp_transformer.merge_linear.2.weight"):
        shape = layout.lm_shapes(bundle.config.lm, bundle.config.adapter)[name]
        assert bundle.tensors[name].shape == shape
        bits = bundle.config.overrides[name.removesuffix(".weight")].bits
        packed = mx.quantize(dense[name], group_size=32, bits=bits)
        want = np.array(mx.dequantize(*packed, group_size=32, bits=bits))
        np.testing.assert_array_equal(np.array(bundle.tensors[name]), want)
        np.testing.assert_array_equal(np.array(bundle.load([name])[name]), want)


def test_reload_gives_the_names_asked_for(golden_bundles: Callable[[int], Path]) -> None:
    bundle = open_bundle(golden_bundles(4))
    names = ["layers.2.linear1.weight", "layers.2.linear1.scales", "cp_transformer.merge_linear.0.weight"]
    found = bundle.load(names)
    assert sorted(found) == sorted(names)
    for name in names:
        np.testing.assert_array_equal(np.array(found[name]), np.array(bundle.tensors[name]))


def test_t5_from_the_hub_where_there_is_none(edited: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = edited(32, config=lambda raw: raw["text_encoder"].update(_name_or_path="t5-base"))
    shutil.rmtree(path / "t5")
    bundle = open_bundle(path)  # nothing is fetched to open it
    asked: list[Any] = []
    monkeypatch.setattr("model.bundle.hub.resolve", lambda name, **kwargs: asked.append(name) or path)
    assert bundle.t5_path == path and asked == ["google-t5/t5-base"]
    hostile = copy_with_name(path, "../../../etc")
    assert open_bundle(hostile).t5_name == "google-t5/t5-base"


def copy_with_name(path: Path, name: str) -> Path:
    raw = json.loads((path / "config.json").read_text())
    raw["text_encoder"]["_name_or_path"] = name
    (path / "config.json").write_text(json.dumps(raw))
    return path
