"""Golden configurations, converted once a session at each precision; and changed: files of upstream, and bundles."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from model.bundle.bundle import open_bundle
from model.convert.convert import convert
from model.errors import UserError
from model.formats import torch_file, torch_writer
from tests.numpy_model import golden_folder

from .convert.upstream_files import State, values
from .golden import FOLDERS, A, Golden

GOLDEN = A.folder
Tensors = dict[str, mx.array]
Converted = Callable[[Golden, int], Path]


@pytest.fixture(scope="session", params=[*(f.name for f in FOLDERS), pytest.param("oracle-B", marks=pytest.mark.slow)])
def golden(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Golden:
    """Each folder of tests/golden, and a configuration like B that the float64 oracle makes here."""
    if request.param == "oracle-B":
        return Golden(golden_folder.write(golden_folder.B, tmp_path_factory.mktemp("oracle") / request.param))
    return Golden(GOLDEN.parent / request.param)


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """(golden, bits) -> the bundle converted with them, once."""
    folder = tmp_path_factory.mktemp("golden")

    def bundle(golden: Golden, bits: int) -> Path:
        out = folder / f"{golden.folder.name}-{bits}"
        if not out.exists():
            convert(**golden.upstream, out=out, bits=bits)
        return out

    return bundle


@pytest.fixture(scope="session")
def golden_bundles(converted: Converted) -> Callable[[int], Path]:
    """bits -> the bundle of golden A converted with them."""
    return lambda bits: converted(A, bits)


@pytest.fixture(scope="session")
def golden_bundle(golden_bundles: Callable[[int], Path]) -> Path:
    """Golden A at 32 bits: lossless."""
    return golden_bundles(32)


@pytest.fixture(scope="module")
def checkpoint() -> State:
    return values(GOLDEN / "upstream.ckpt", "state_dict")


@pytest.fixture(scope="module")
def base() -> State:
    return values(GOLDEN / "base" / "state_dict.bin", "best_state")


@pytest.fixture
def upstream(tmp_path: Path, checkpoint: State, base: State) -> Callable[..., dict[str, Any]]:
    """Arguments for convert, with changes to the checkpoint, the base and its settings."""

    def make(
        adapter: Callable[[State], State | None] | None = None, below: Callable[[State], State | None] | None = None,
        settings: tuple[str, str] = ("", ""), **extras: Any,
    ) -> dict[str, Any]:  # fmt: skip
        above = dict(checkpoint)
        above = (adapter(above) or above) if adapter else above
        torch_writer.save(tmp_path / "x.ckpt", {"state_dict": above, **extras})
        folder = tmp_path / "base"
        folder.mkdir(exist_ok=True)
        state = dict(base)
        state = (below(state) or state) if below else state
        text = torch_file.load(GOLDEN / "base" / "state_dict.bin")["xp.cfg"]
        assert settings[0] in text
        torch_writer.save(folder / "state_dict.bin", {"best_state": state, "xp.cfg": text.replace(*settings, 1)})
        shutil.copy(GOLDEN / "base" / "compression_state_dict.bin", folder)
        out = tmp_path / "out"
        return {"adapter": tmp_path / "x.ckpt", "base": folder, "t5": GOLDEN / "t5", "out": out, "bits": 32}

    return make


@pytest.fixture
def edited(tmp_path: Path, golden_bundles: Callable[[int], Path]) -> Callable[..., Path]:
    """edited(bits, weights=edit tensors, config=edit config) -> a changed copy of golden A's bundle."""

    def make(
        bits: int = 32, weights: Callable[[Tensors], Tensors] | None = None,
        config: Callable[[dict[str, Any]], Any] | None = None,
    ) -> Path:  # fmt: skip
        out = tmp_path / "bundle"
        shutil.copytree(golden_bundles(bits), out)
        if weights:
            tensors = mx.load(str(out / "model.safetensors"))
            assert isinstance(tensors, dict)
            mx.eval(tensors)
            mx.save_safetensors(str(out / "model.safetensors"), weights(tensors))
        if config:
            raw = json.loads((out / "config.json").read_text())
            raw = config(raw) or raw
            (out / "config.json").write_text(json.dumps(raw))
        return out

    return make


def refused(path: Path) -> str:
    """The one line that refuses a bundle."""
    with pytest.raises(UserError) as caught:
        open_bundle(path)
    message = str(caught.value)
    assert "\n" not in message
    return message
