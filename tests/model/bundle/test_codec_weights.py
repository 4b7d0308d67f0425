"""EnCodec from each form it comes in: the same weights, or an error that names what is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from model.bundle import tensors as layout
from model.bundle.codec_weights import codec_config, load_codec
from model.config import CodecConfig
from model.errors import UserError
from model.formats import torch_file, torch_writer

from ..conftest import GOLDEN

FILE = GOLDEN / "base" / "compression_state_dict.bin"
EPS = 2.0**-24


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    return {name: t.numpy() for name, t in torch_file.load(FILE)["best_state"].items()}


def test_weight_norm_is_merged_in_mlx_layout(state: dict[str, np.ndarray]) -> None:
    config, found = load_codec(FILE)
    assert config == CodecConfig(dimension=16, n_filters=4, bins=64, pad_mode="reflect") == codec_config(FILE)
    assert {name: a.shape for name, a in found.items()} == layout.codec_shapes(config)
    convs = [n.removesuffix("_v") for n in state if n.endswith(".weight_v")]
    assert len(convs) == 28
    for name in convs:
        g, v = state[f"{name}_g"].astype(np.float64), state[f"{name}_v"].astype(np.float64)
        merged = g * v / np.sqrt((v**2).sum(axis=(1, 2)))[:, None, None]
        moved = np.moveaxis(merged, 0, 2) if ".convtr." in name else np.moveaxis(merged, 1, 2)
        # One rounding from float64.
        np.testing.assert_allclose(np.array(found[name]), moved, rtol=EPS, atol=1e-38)
    for name in found:
        assert found[name].dtype == mx.float32
        if name in state:
            np.testing.assert_array_equal(np.array(found[name]), state[name])


def hugging_face(name: str) -> str:
    """transformers' name (its conversion script's mapping)."""
    name = re.sub(r"^(encoder|decoder)\.model\.", r"\1.layers.", name)
    name = name.replace(".conv.conv.", ".conv.").replace(".convtr.convtr.", ".conv.")
    return re.sub(r"^quantizer\.vq\.layers\.(\d+)\._codebook\.", r"quantizer.layers.\1.codebook.", name)


HF_CONFIG = {
    "model_type": "encodec", "audio_channels": 1, "hidden_size": 16, "num_filters": 4, "codebook_size": 64,
    "upsampling_ratios": [8, 5, 4, 4], "pad_mode": "reflect", "kernel_size": 7, "last_kernel_size": 7,
    "residual_kernel_size": 3, "num_residual_layers": 1, "dilation_growth_rate": 2, "compress": 2,
    "num_lstm_layers": 2, "sampling_rate": 32000, "normalize": False, "norm_type": "weight_norm",
    "use_causal_conv": False, "use_conv_shortcut": False, "trim_right_ratio": 1.0, "target_bandwidths": [2.2],
}  # fmt: skip


def folder(path: Path, tensors: dict[str, np.ndarray], config: dict[str, Any] = HF_CONFIG) -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    arrays = {name: mx.array(np.ascontiguousarray(value)) for name, value in tensors.items()}
    mx.save_safetensors(str(path / "model.safetensors"), arrays)
    return path


@pytest.mark.parametrize("form", ["weight_g and weight_v", "parametrizations", "merged"])
def test_hugging_face_folders(tmp_path: Path, state: dict[str, np.ndarray], form: str) -> None:
    config, expected = load_codec(FILE)
    tensors: dict[str, Any] = {}
    for name, value in state.items():
        if form == "parametrizations":
            name = name.replace("weight_g", "parametrizations.weight.original0")
            name = name.replace("weight_v", "parametrizations.weight.original1")
        elif form == "merged" and name.endswith("weight_v"):
            name = name.removesuffix("_v")
            value = np.array(expected[name]).transpose((2, 0, 1) if ".convtr." in name else (0, 2, 1))
        elif form == "merged" and name.endswith("weight_g"):
            continue
        tensors[hugging_face(name)] = value
    found_config, found = load_codec(folder(tmp_path / "hf", tensors))
    assert found_config == config
    for name, want in expected.items():
        np.testing.assert_array_equal(np.array(found[name]), np.array(want), err_msg=name)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_mlx_community_folders(tmp_path: Path, state: dict[str, np.ndarray], dtype: type) -> None:
    config, expected = load_codec(FILE)
    tensors: dict[str, Any] = {}
    for name, value in expected.items():
        array = np.array(value)
        if ".lstm." in name:
            kind, part, layer = re.fullmatch(r".*\.lstm\.(weight|bias)_(ih|hh)_l(\d)", name).groups()
            if (kind, part) == ("bias", "ih"):
                array = array + np.array(expected[name.replace("_ih_", "_hh_")])
            elif kind == "bias":
                continue
            part = "bias" if kind == "bias" else {"ih": "Wx", "hh": "Wh"}[part]
            name = f"{name.rpartition('.')[0]}.{layer}.{part}"
        tensors[hugging_face(name)] = array.astype(dtype)
    found_config, found = load_codec(folder(tmp_path / "mlx", tensors))
    assert found_config == config and set(found) == set(expected)
    for name, value in expected.items():
        want = np.array(value)
        got = np.array(found[name])
        if ".bias_ih" in name:
            want = want + np.array(expected[name.replace("_ih_", "_hh_")])
        if ".bias_hh" in name:
            want = np.zeros_like(want)
        np.testing.assert_array_equal(got, want.astype(dtype).astype(np.float32), err_msg=name)


def exported(path: Path, state: dict[str, np.ndarray], settings: Callable[[str], str] = lambda text: text) -> Path:
    torch_writer.save(path, {"best_state": state, "xp.cfg": settings(torch_file.load(FILE)["xp.cfg"])})
    return path


def test_settings_come_from_the_file(tmp_path: Path, state: dict[str, np.ndarray]) -> None:
    """Not from a default: pad_mode, and OmegaConf's references that audiocraft leaves in."""
    changes = {
        "pad_mode: reflect": "pad_mode: constant",
        "quantizer: rvq, sample_rate: 32000": "quantizer: rvq, sample_rate: '${sample_rate}'",
        "channels: 1\n  causal": "channels: ${channels}\n  causal",
    }
    config = codec_config(exported(tmp_path / "x.bin", state, lambda text: _replaced(text, changes)))
    assert config.pad_mode == "constant" and config.sample_rate == 32000


def test_pad_mode_left_out_is_reflect(tmp_path: Path, state: dict[str, np.ndarray]) -> None:
    """As in audiocraft, whose SEANet has that default."""
    settings = {"  pad_mode: reflect\n": ""}
    path = exported(tmp_path / "x.bin", state, lambda text: _replaced(text, settings))
    assert codec_config(path).pad_mode == "reflect"


def _replaced(text: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


REFUSED = {
    "causal": ("causal: false\n  n_filters", "causal: true\n  n_filters"),
    "renormalize": ("renormalize: false", "renormalize: true"),
    "pad_mode": ("pad_mode: reflect", "pad_mode: replicate"),
    "n_residual_layers": ("n_residual_layers: 1", "n_residual_layers: 3"),
    "final_activation": ("final_activation: null,", "final_activation: Tanh,"),
    "n_filters": ("n_filters: 4", "n_filters: 1000000"),
    "24000 Hz": ("channels: 1\nsample_rate: 32000", "channels: 1\nsample_rate: 24000"),
    "is not EnCodec 32 kHz": ("ratios: [8, 5, 4, 4]", "ratios: [8, 5, 4, 2]"),
    "ratios": ("ratios: [8, 5, 4, 4]", "ratios: 8"),
    "bins": ("bins: 64", "bins: .nan"),
    "activation_params.alpha": ("alpha: 1.0", "alpha: 0.5"),
    "seanet.encoder": ("encoder: {}", "encoder: {n_filters: 8}"),
    "seanet.decoder": ("decoder: {trim", "decoder: {n_filters: 8, trim"),
    "not YAML": ("device: cpu", "device: [cpu"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_codecs_that_are_not_supported_are_named(tmp_path: Path, state: dict[str, np.ndarray], case: str) -> None:
    path = exported(tmp_path / "x.bin", state, lambda text: _replaced(text, dict([REFUSED[case]])))
    with pytest.raises(UserError, match="filters" if case == "n_filters" else case) as caught:
        load_codec(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_tensors_that_do_not_fit_are_listed(tmp_path: Path, state: dict[str, np.ndarray]) -> None:
    wrong = dict(state)
    del wrong["decoder.model.0.conv.conv.bias"]
    wrong["encoder.model.0.conv.conv.bias"] = np.zeros(5, np.float32)
    wrong["surprise"] = np.zeros(1, np.float32)
    with pytest.raises(UserError) as caught:
        load_codec(exported(tmp_path / "x.bin", wrong))
    wrong_shape = "encoder.model.0.conv.conv.bias [5]"
    for fragment in ("missing: decoder.model.0.conv.conv.bias", "unexpected: surprise", wrong_shape):
        assert fragment in str(caught.value)


def test_exports_that_only_name_their_codec(
    tmp_path: Path, state: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    hf = folder(tmp_path / "hf", {hugging_face(name): value for name, value in state.items()})
    asked = []

    def resolve(name: str, **_: Any) -> Path:
        asked.append(name)
        return hf

    monkeypatch.setattr("model.bundle.codec_weights.hub.resolve", resolve)
    torch_writer.save(tmp_path / "named.bin", {"pretrained": "//pretrained/facebook/encodec_32khz", "exported": True})
    assert load_codec(tmp_path / "named.bin")[0] == codec_config(FILE) and asked == ["facebook/encodec_32khz"]
    torch_writer.save(tmp_path / "evil.bin", {"pretrained": "../../somewhere"})
    with pytest.raises(UserError, match="somewhere"):
        load_codec(tmp_path / "evil.bin")
    assert len(asked) == 1
