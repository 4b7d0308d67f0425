"""What `info` says is what the files hold."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import pytest
from rich.console import Console

from model.bundle import info
from model.bundle.bundle import demo_path, open_bundle
from model.config import Quantization
from model.synthetic import write_preset

from ..conftest import GOLDEN


def text(description: dict[str, object]) -> str:
    console = Console(file=io.StringIO(), width=200)
    info.show(description, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("bits", [4, 8, 16, 32])
def test_counts_and_sizes(golden_bundles: Callable[[int], Path], bits: int) -> None:
    path = golden_bundles(bits)
    found = info.describe(open_bundle(path))
    assert json.loads(json.dumps(found)) == found
    parts = found["parts"]
    # 3 layers of 8 maps 64 x 64 and two of 64 x 256.
    projections = 3 * (8 * 64 * 64 + 2 * 64 * 256)
    assert parts["layer projections"]["weights"] == projections
    packed = projections * bits // 32 + 2 * projections // 64 if bits < 16 else projections
    assert parts["layer projections"]["parameters"] == packed
    assert parts["adapter"]["weights"] == 4 * 41 * 64 + 3 * 64 * 64 + 3
    assert parts["embeddings"]["weights"] == 4 * 65 * 64 and parts["output heads"]["weights"] == 4 * 64 * 64
    tensors = mx.load(str(path / "model.safetensors"))
    assert isinstance(tensors, dict)
    stored = [part for name, part in parts.items() if name not in ("codec", "T5 text encoder")]
    assert sum(part["parameters"] for part in stored) == sum(a.size for a in tensors.values())
    assert sum(part["bytes"] for part in stored) == sum(a.nbytes for a in tensors.values())
    assert parts["codec"]["bytes"] == (path / "compression_state_dict.bin").stat().st_size
    assert parts["T5 text encoder"]["bytes"] == sum(p.stat().st_size for p in (GOLDEN / "t5").iterdir())
    assert found["total"]["weights"] == sum(part["weights"] for part in parts.values())
    quantized = {"bits": bits, "group_size": 64, "modules": 30, "others": [], "recipe": "plain"}
    assert found["quantization"] == (quantized if bits < 16 else None)


def test_the_text_names_what_matters(golden_bundles: Callable[[int], Path]) -> None:
    shown = text(info.describe(open_bundle(golden_bundles(4))))
    for fragment in ("30 projections in 4 bits, groups of 64; the rest float16", "3 layers, dim 64, 4 heads of 16",
                     "windows of 0.8 s (40 frames)", "reflect padding", "CC-BY-NC 4.0", "no commercial"):  # fmt: skip
        assert fragment in shown


def test_modules_packed_otherwise_are_told(tmp_path: Path, golden_bundles: Callable[[int], Path]) -> None:
    path = tmp_path / "mixed"
    shutil.copytree(golden_bundles(4), path)
    tensors = mx.load(str(path / "model.safetensors"))
    assert isinstance(tensors, dict)
    weight = mx.random.normal((256, 64))
    for part, value in zip(("weight", "scales", "biases"), mx.quantize(weight, group_size=32, bits=8)):
        tensors[f"layers.2.linear1.{part}"] = value
    mx.eval(tensors)
    mx.save_safetensors(str(path / "model.safetensors"), tensors)
    raw = json.loads((path / "config.json").read_text())
    raw["quantization"]["layers.2.linear1"] = {"bits": 8, "group_size": 32}
    (path / "config.json").write_text(json.dumps(raw))
    bundle = open_bundle(path)
    assert bundle.config.overrides == {"layers.2.linear1": Quantization(8, 32)}
    shown = text(info.describe(bundle))
    assert "29 projections in 4 bits, groups of 64; 1 projections in 8 bits, groups of 32" in shown


def test_the_demo_states_its_license() -> None:
    found = info.describe(open_bundle(demo_path()))
    assert not found["random_weights"] and found["license"] == "MIT"
    assert "its license is MIT" in text(found) and "CC-BY-NC" not in text(found)


def test_random_weights_are_called_a_smoke_test(tmp_path: Path) -> None:
    found = info.describe(open_bundle(write_preset("tiny", tmp_path / "tiny")))
    assert found["random_weights"] and found["license"] is None
    assert "a smoke test, not music" in text(found) and "CC-BY-NC" not in text(found)


def test_a_bundle_without_t5_names_the_repo(tmp_path: Path, golden_bundle: Path) -> None:
    shutil.copytree(golden_bundle, tmp_path / "b", ignore=shutil.ignore_patterns("t5"))
    found = info.describe(open_bundle(tmp_path / "b"))
    assert found["t5"] == "google-t5/t5-base (Hugging Face)" and "T5 text encoder" not in found["parts"]
