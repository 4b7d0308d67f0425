"""Opening bundles: one clear line for everything that is refused, before memory is taken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import mlx.core as mx
import pytest
from hypothesis import given, settings

from model.bundle.bundle import demo_path, open_bundle
from model.errors import UserError

from ..conftest import Tensors, refused


def test_missing_unexpected_and_mis_shaped_tensors_are_listed_together(edited: Callable[..., Path]) -> None:
    def spoil(tensors: Tensors) -> Tensors:
        for i in range(3):
            del tensors[f"layers.{i}.norm_cross.bias"]
        tensors["layers.7.linear1.weight"] = mx.zeros((2, 2))
        tensors["emb.2.weight"] = mx.zeros((65, 63))
        tensors["linears.0.weight"] = mx.zeros((64, 64), dtype=mx.int32)
        return tensors

    message = refused(edited(32, spoil))
    for i in range(3):
        assert f"layers.{i}.norm_cross.bias" in message
    assert "unexpected: layers.7.linear1.weight [2, 2]" in message
    assert "emb.2.weight [65, 63], needs [65, 64]" in message and "linears.0.weight is int32" in message


def test_at_most_twenty_names_of_a_kind(edited: Callable[..., Path]) -> None:
    message = refused(edited(32, lambda t: {n: a for n, a in t.items() if ".linear" not in n and "_proj" not in n}))
    assert message.count("layers.") == 20 and "and 12 more" in message


def test_names_that_a_terminal_would_obey_are_shown_harmlessly(edited: Callable[..., Path]) -> None:
    message = refused(edited(32, lambda t: t | {"evil\x1b[2J\r\nname": mx.zeros((1,))}))
    assert "evil?[2J name [1]" in message and message.isprintable()


PACKED = "layers.1.cross_attn.v_proj"
NO_FORM = "no 4 or 8 bit form"
SPOILED_PACKING: dict[str, tuple[Callable[[Tensors], Any], str]] = {
    "no biases": (lambda t: t.pop(f"{PACKED}.biases"), f"missing: {PACKED}.biases"),
    "biases alone": (lambda t: [t.pop(f"{PACKED}.scales"), t.pop(f"{PACKED}.weight")], f"unexpected: {PACKED}.biases"),
    "words as floats": (lambda t: t.update({f"{PACKED}.weight": mx.zeros((64, 8))}), "needs uint32"),
    "integer scales": (lambda t: t.update({f"{PACKED}.scales": mx.zeros((64, 1), dtype=mx.int32)}), "float dtype"),
    "too few words": (lambda t: t.update({f"{PACKED}.weight": mx.zeros((64, 7), dtype=mx.uint32)}), NO_FORM),
    "3 bits": (lambda t: t.update({f"{PACKED}.weight": mx.zeros((64, 6), dtype=mx.uint32)}), NO_FORM),
    "rows missing": (lambda t: t.update({f"{PACKED}.weight": t[f"{PACKED}.weight"][:32]}), NO_FORM),
    "other bits than stated": (
        lambda t: t.update({f"{PACKED}.weight": mx.zeros((64, 16), dtype=mx.uint32)}),
        "8 bits in groups of 64, and config",
    ),
    "other groups than stated": (
        lambda t: t.update({f"{PACKED}.{p}": mx.zeros((64, 2), dtype=mx.float16) for p in ("scales", "biases")}),
        "groups of 32, and config",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SPOILED_PACKING)
def test_packed_modules_that_do_not_fit(edited: Callable[..., Path], case: str) -> None:
    spoil, fragment = SPOILED_PACKING[case]
    assert fragment in refused(edited(4, lambda tensors: (spoil(tensors), tensors)[1]))


CONTRADICTIONS: dict[str, tuple[int, Callable[[dict[str, Any]], Any], str]] = {
    "dim": (32, lambda raw: raw["decoder"].update(hidden_size=128), "needs [128]"),
    "heads": (32, lambda raw: raw["decoder"].update(num_attention_heads=5), "num_attention_heads 5"),
    "layers": (32, lambda raw: raw["decoder"].update(num_hidden_layers=4), "missing: layers.3"),
    "fewer layers": (32, lambda raw: raw["decoder"].update(num_hidden_layers=2), "3 adapter layers"),
    "ffn": (32, lambda raw: raw["decoder"].update(ffn_dim=512), "linear1.weight [256, 64], needs [512, 64]"),
    "card": (32, lambda raw: raw["decoder"].update(vocab_size=65), "needs [66, 64]"),
    "codebooks": (32, lambda raw: raw["decoder"].update(num_codebooks=8), "emb.7.weight"),
    "text": (32, lambda raw: raw["text_encoder"].update(d_model=768), "[64, 32], needs [64, 768]"),
    "frames": (32, lambda raw: raw["cp_transformer"].update(max_n_frames=500), "needs [4, 501, 64]"),
    "adapter layers": (32, lambda raw: raw["cp_transformer"].update(num_layers=2), "gates [3], needs [2]"),
    "start layer": (32, lambda raw: raw["cp_transformer"].update(start_layer=1), "3 adapter layers from layer 1"),
    "bits": (4, lambda raw: raw["quantization"].update(bits=8), "config.json says 8"),
    "group size": (4, lambda raw: raw["quantization"].update(group_size=32), "in groups of 32"),
    "quantized by word only": (32, lambda raw: raw.update(quantization={"bits": 4, "group_size": 64}), "no weight has"),
    "ghost module": (4, lambda raw: raw["quantization"].update({"layers.9.linear1": {"bits": 8}}), "layers.9.linear1"),
    "3 bits": (4, lambda raw: raw["quantization"].update(bits=3), "bits=3"),
    "mode": (4, lambda raw: raw["quantization"].update(mode="mxfp4"), "mxfp4"),
    "NaN": (32, lambda raw: raw["decoder"].update(hidden_size=float("nan")), "NaN"),
    "infinite": (32, lambda raw: raw["decoder"].update(hidden_size=float("inf")), "Infinity"),
    "real": (32, lambda raw: raw["decoder"].update(hidden_size=64.0), "hidden_size is 64.0"),
    "boolean": (32, lambda raw: raw["decoder"].update(num_codebooks=True), "num_codebooks is True"),
    "negative": (32, lambda raw: raw["decoder"].update(num_hidden_layers=-3), "num_hidden_layers is -3"),
    "zero": (32, lambda raw: raw["decoder"].update(num_attention_heads=0), "num_attention_heads is 0"),
    "absurd": (32, lambda raw: raw["decoder"].update(num_hidden_layers=10**12), "num_hidden_layers is"),
    "many layers": (32, lambda raw: raw["decoder"].update(num_hidden_layers=1 << 20), "num_hidden_layers"),
    "text for a number": (32, lambda raw: raw["decoder"].update(ffn_dim="256"), "ffn_dim is '256'"),
    "no object": (32, lambda raw: raw.update(decoder=[1]), "decoder is [1]"),
    "a list": (32, lambda raw: [raw], "list"),
    "no heads": (32, lambda raw: raw["decoder"].pop("num_attention_heads") and None, "num_attention_heads"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_configs_that_contradict_the_weights(edited: Callable[..., Path], case: str) -> None:
    bits, change, fragment = CONTRADICTIONS[case]

    def edit(raw: dict[str, Any]) -> Any:
        changed = change(raw)
        return changed if isinstance(changed, list) else raw

    message = refused(edited(bits, config=edit))
    assert fragment in message and "config.json" in message
    assert message.count("layers.") <= 60


@pytest.mark.parametrize("kept", [0, 7, 100, 20_000, -1])
def test_truncated_weights_are_found_before_anything_is_read(edited: Callable[..., Path], kept: int) -> None:
    path = edited()
    data = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(data[:kept])
    assert "truncated" in refused(path)


HEADERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "dtype": lambda h: h["emb.0.weight"].update(dtype="F8_E4M3"),
    "huge shape": lambda h: h["emb.0.weight"].update(shape=[1 << 40, 1 << 20]),
    "negative shape": lambda h: h["emb.0.weight"].update(shape=[-65, -64]),
    "offsets beyond": lambda h: h["emb.0.weight"].update(data_offsets=[0, 1 << 50]),
    "overlap": lambda h: h["emb.0.weight"].update(data_offsets=h["emb.1.weight"]["data_offsets"]),
    "no shape": lambda h: h["emb.0.weight"].pop("shape"),
    "real shape": lambda h: h["emb.0.weight"].update(shape=[65.0, 64]),
    "no entry": lambda h: h.update({"emb.0.weight": 3}),
}


@pytest.mark.parametrize("case", HEADERS)
def test_damaged_headers(edited: Callable[..., Path], case: str) -> None:
    path = edited()
    file = path / "model.safetensors"
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    HEADERS[case](header)
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    message = refused(path)
    assert "model.safetensors" in message and message.count("; ") == 1  # what is wrong, and what to do


@settings(max_examples=60)
@given(st.data())
def test_any_damage_to_the_header_is_one_error_or_none(
    tmp_path_factory: pytest.TempPathFactory, golden_bundle: Path, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "bundle"
    shutil.copytree(golden_bundle, path)
    file = path / "model.safetensors"
    content = bytearray(file.read_bytes())
    limit = 8 + int.from_bytes(content[:8], "little")
    for position in data.draw(st.lists(st.integers(0, limit), min_size=1, max_size=4)):
        content[position] = data.draw(st.integers(0, 255))
    file.write_bytes(content)
    try:
        open_bundle(path)
    except UserError as e:
        assert str(path) in str(e)


def test_folders_that_are_no_bundles(tmp_path: Path, edited: Callable[..., Path]) -> None:
    (tmp_path / "empty").mkdir()
    assert "config.json" in refused(tmp_path / "empty")
    path = edited()
    assert "give the bundle's folder" in refused(path / "model.safetensors")
    assert "does not exist" in refused(tmp_path / "absent")
    codec = path / "compression_state_dict.bin"
    shutil.copy(demo_path() / codec.name, codec)
    assert "4 codebooks of 256, the language model needs 4 of 64" in refused(path)
    codec.write_bytes(codec.read_bytes()[:100_000])
    assert "truncated" in refused(path)
    codec.unlink()
    assert "no codec" in refused(path)
    (path / "model.safetensors").unlink()
    assert "no model.safetensors" in refused(path)
    (path / "config.json").write_text("{" * 100_000)
    assert "config.json" in refused(path)


def test_t5_must_fit_the_text_projection(edited: Callable[..., Path]) -> None:
    path = edited()
    config = json.loads((path / "t5" / "config.json").read_text())
    (path / "t5" / "config.json").write_text(json.dumps(config | {"d_model": 768}))
    assert "d_model=768" in refused(path) and "needs 32" in refused(path)
