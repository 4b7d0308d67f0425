"""`convert --layout native`: the same weights and tokens on every backend; refused where damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from model import InstructMusicGen
from model.bundle import tiled
from model.bundle.bundle import open_bundle
from model.cli import main
from model.config import Config, LMConfig, Quantization
from model.convert.convert import convert
from model.errors import UsageError, UserError
from model.formats.safetensors_file import read_header

from ... import backends
from ..golden import A


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], tuple[Path, Path]]:
    """bits -> the plain bundle and the native one."""
    folder = tmp_path_factory.mktemp("layout")

    def bundles(bits: int) -> tuple[Path, Path]:
        paths = folder / f"plain-{bits}", folder / f"native-{bits}"
        for path, native in zip(paths, (False, True)):
            if not path.exists():
                convert(**A.upstream, out=path, bits=bits, native=native)
        return paths

    return bundles


@pytest.fixture
def copy(both: Callable[[int], tuple[Path, Path]], tmp_path: Path) -> Path:
    """A native bundle to break."""
    return Path(shutil.copytree(both(4)[1], tmp_path / "copy"))


@pytest.mark.parametrize("bits", [4, 8])
def test_every_tensor_is_the_plain_bundles(both: Callable[[int], tuple[Path, Path]], bits: int) -> None:
    plain, native = (open_bundle(path) for path in both(bits))
    assert plain.config == native.config
    assert plain.tensors.keys() == native.tensors.keys()
    for name, value in plain.tensors.items():
        other = native.tensors[name]
        assert other.dtype == value.dtype and bool(mx.array_equal(other, value)), name
    stored = read_header(native.path / "model.safetensors")
    assert any(name.endswith(".tiles") for name in stored)
    assert not any(name.startswith("layers.") and name.endswith(".scales") for name in stored)
    sizes = [(path / "model.safetensors").stat().st_size for path in both(bits)]
    assert abs(sizes[0] - sizes[1]) < 0.05 * sizes[0]


@pytest.mark.parametrize("backend", [name for name in backends.names() if name != "interpreter"])
def test_both_orders_give_the_same_tokens(both: Callable[[int], tuple[Path, Path]], backend: str) -> None:
    codes = mx.random.randint(0, 8, (1, 4, 6)).astype(mx.int32)
    plain, native = (
        np.array(InstructMusicGen.from_pretrained(path, backend=backend).edit_codes(codes, "Add Piano.", seed=3))
        for path in both(4)
    )
    np.testing.assert_array_equal(plain, native)


@pytest.mark.backend("native")
def test_the_native_backend_takes_the_tiles_as_they_are(
    both: Callable[[int], tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from kernels.native.interleaved import Interleaved

    monkeypatch.setattr(Interleaved, "of", lambda *_: pytest.fail("a matrix was reordered"))
    model = InstructMusicGen.from_pretrained(both(4)[1], backend="native")
    assert isinstance(model.lm.layers[0].qkv.parts[0].weight, Interleaved)


def test_info_names_the_layout(both: Callable[[int], tuple[Path, Path]], capsys: pytest.CaptureFixture[str]) -> None:
    plain, native = both(4)
    assert main(["info", str(native)]) == 0
    matrices = 10 * open_bundle(native).config.lm.layers
    assert f"native (version 1), {matrices} matrices" in capsys.readouterr().out
    assert main(["info", str(plain), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["layout"] is None


def test_the_command_line_converts_so(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    given = [text for name, value in A.upstream.items() for text in (f"--{name}", str(value))]
    assert main(["convert", *given, "--layout", "native", "--out", str(out)]) == 0
    assert json.loads((out / "config.json").read_text())["layout"] == tiled.NATIVE


def test_what_is_not_packed_has_no_order(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--layout native orders packed matrices and --bits 16 packs none"):
        convert(**A.upstream, out=tmp_path / "out", bits=16, native=True)


def test_a_matrix_whose_outputs_fill_no_piece_stays_as_it_was() -> None:
    config = Config(LMConfig(dim=64, heads=2, ffn=80, layers=1, card=32), None, quantization=Quantization(4, 32))
    plain = {
        f"layers.0.{module}.{part}": (dtype, shape)
        for module, n in (("linear1", 80), ("linear2", 64))
        for part, dtype, shape in (
            ("weight", mx.uint32, (n, 8)), ("scales", mx.float16, (n, 2)), ("biases", mx.float16, (n, 2)),
        )
    }  # fmt: skip
    found = tiled.stored_so(plain, config, lambda _: True)
    assert list(found) == [
        "layers.0.linear1.weight", "layers.0.linear1.scales", "layers.0.linear1.biases", "layers.0.linear2.tiles",
    ]  # fmt: skip
    assert found["layers.0.linear2.tiles"] == (mx.uint8, (2, 2, 640))


def _config(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    raw = json.loads((path / "config.json").read_text())
    change(raw)
    (path / "config.json").write_text(json.dumps(raw))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw["layout"].update(version=2), r"config.json: layout is .*'version': 2.*; this program reads"),
        (lambda raw: raw.update(layout="native"), "config.json: layout is 'native'; this program reads"),
        (lambda raw: raw.pop("layout"), "is of the native layout, which .*config.json does not name"),
        (lambda raw: raw.pop("quantization"), "states no quantization, and layers.0"),
        (lambda raw: raw["quantization"].update(bits=8), r"8 bits in groups of .* need uint8 \[N/32"),
    ],
)
def test_a_config_that_does_not_fit_is_one_clear_error(
    copy: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    _config(copy, change)
    with pytest.raises(UserError, match=message) as error:
        open_bundle(copy)
    assert "\n" not in str(error.value)


def test_cut_tiles_are_one_clear_error(copy: Path) -> None:
    path = copy / "model.safetensors"
    tensors = dict(mx.load(str(path)))
    name = next(name for name in tensors if name.endswith(".tiles"))
    for cut in (tensors[name][:-1], tensors[name][:, :-1], tensors[name][:, :, :-2], tensors[name].reshape(-1)):
        mx.save_safetensors(str(path), tensors | {name: mx.contiguous(cut)})
        with pytest.raises(UserError, match=name.removesuffix(".tiles").replace(".", r"\.")):
            open_bundle(copy)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="truncated"):
        open_bundle(copy)
