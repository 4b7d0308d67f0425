"""Checkpoints without torch: the same values, and nothing that a file holds ever runs or takes memory unasked."""

from __future__ import annotations

import builtins
import functools
import json
import operator
import os
import pathlib
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from model.errors import UserError
from model.formats import torch_file, torch_writer
from model.formats.pickle_symbols import Placeholder, Symbol

from ..conftest import GOLDEN
from .torch_pickles import Storage, View, dumps, write


@pytest.mark.parametrize(
    ("file", "keys", "entry"),
    [
        ("upstream.ckpt", "upstream_ckpt_keys.json", "state_dict"),
        ("base/state_dict.bin", "base/state_dict_keys.json", "best_state"),
        ("base/compression_state_dict.bin", "base/compression_state_dict_keys.json", "best_state"),
    ],
)
def test_golden_files_have_the_stated_tensors(file: str, keys: str, entry: str) -> None:
    found = torch_file.tensors(torch_file.load(GOLDEN / file)[entry], file)
    stated = json.loads((GOLDEN / keys).read_text())
    assert {name: [list(t.shape), f"torch.{t.dtype}"] for name, t in found.items()} == stated
    assert all(np.isfinite(t.numpy()).all() for t in found.values())


def test_lightning_extras_load_as_marks_beside_the_true_values() -> None:
    extras = torch_file.load(GOLDEN / "lightning_extras.ckpt")
    full = torch_file.load(GOLDEN / "upstream.ckpt")["state_dict"]
    assert extras["global_step"] == 12345 and extras["hyper_parameters"]["tmp_dir"] == "runs/x"
    optimizer = extras["hyper_parameters"]["optimizer"]
    assert isinstance(optimizer, Placeholder) and optimizer.made_by == "functools.partial"
    assert optimizer.state[0] == Symbol("torch.optim.adamw", "AdamW")
    assert len(extras["state_dict"]) == 13
    for name, tensor in extras["state_dict"].items():
        np.testing.assert_array_equal(tensor.numpy(), full[name].numpy())
    assert "torch" not in sys.modules and "src.models.components.model" not in sys.modules


arrays = st.sampled_from(sorted(torch_writer.STORAGES)).flatmap(
    lambda dtype: st.lists(st.integers(0, 4), max_size=4).map(
        lambda shape: (np.arange(int(np.prod(shape))) % 7).reshape(shape).astype(dtype)
    )
)


@given(st.lists(arrays, max_size=4), st.text(max_size=5), st.integers(-(2**70), 2**70), st.floats(allow_nan=False))
def test_what_the_writer_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, values: list[np.ndarray], text: str, integer: int, real: float
) -> None:
    path = tmp_path_factory.mktemp("written") / "x.bin"
    plain = {"text": text, "int": integer, "float": real, "list": [True, None], "tuple": (1, "a")}
    torch_writer.save(path, plain | {"tensors": values})
    found = torch_file.load(path)
    for tensor, value in zip(found.pop("tensors"), values, strict=True):
        assert tensor.dtype == value.dtype.name
        np.testing.assert_array_equal(tensor.numpy(), value, strict=True)
        if value.dtype.kind == "f":
            np.testing.assert_array_equal(np.array(tensor.array()), value)
    assert found == plain


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_views_that_share_a_storage(tmp_path: Path, protocol: int) -> None:
    data = np.arange(24, dtype=np.float32)
    storage = Storage("FloatStorage", "0", 24)
    views = {
        "transposed": View(storage, 0, (6, 4), (1, 6)),
        "slice": View(storage, 13, (2, 3), (6, 1)),
        "every other": View(storage, 1, (12,), (2,)),
        "expanded": View(storage, 5, (3, 2), (0, 1)),
        "scalar": View(storage, 7, (), ()),
        "rows": View(storage, 4, (3, 4), (4, 1)),
        "empty": View(storage, 0, (0, 9), (9, 1)),
    }
    found = torch_file.load(write(tmp_path / "x.pt", dumps(views, protocol), {"0": data.tobytes()}))
    np.testing.assert_array_equal(found["transposed"].numpy(), data.reshape(4, 6).T)
    np.testing.assert_array_equal(found["slice"].numpy(), [[13, 14, 15], [19, 20, 21]])
    np.testing.assert_array_equal(found["every other"].numpy(), data[1::2])
    np.testing.assert_array_equal(found["expanded"].numpy(), [[5, 6]] * 3)
    assert found["scalar"].numpy() == 7 and found["empty"].numpy().shape == (0, 9)
    assert not found["slice"].numpy().flags.writeable
    for name, tensor in found.items():
        np.testing.assert_array_equal(np.array(tensor.array()), tensor.numpy(), err_msg=name)


def test_bfloat16_is_exact(tmp_path: Path) -> None:
    values = np.array([1.0, -2.5, 2.0**-130, 3.3895314e38], np.float32)
    words = (values.view(np.uint32) >> 16).astype(np.uint16)
    tree = {"old": View(Storage("BFloat16Storage", "0", 4), 0, (4,), (1,)),
            "new": View(Storage("UntypedStorage", "0", 8), 1, (3,), (1,), "bfloat16")}  # fmt: skip
    found = torch_file.load(write(tmp_path / "x.pt", dumps(tree), {"0": words.tobytes()}))
    expected = (words.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(found["old"].numpy(), expected)
    np.testing.assert_array_equal(found["new"].numpy(), expected[1:])


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.args


CANARY = "canary-of-a-malicious-pickle"
TOUCH = f"import pathlib; pathlib.Path({CANARY!r}).touch()"
ATTACKS: dict[str, Any] = {
    "os.system": Call(os.system, f"touch {CANARY}"),
    "eval": Call(builtins.eval, f"__import__('pathlib').Path({CANARY!r}).touch()"),
    "exec": Call(builtins.exec, TOUCH),
    "popen": Call(subprocess.Popen, ["touch", CANARY]),
    "import": Call(builtins.__import__, "os"),
    "open": Call(builtins.open, CANARY, "w"),
    "partial of a command": functools.partial(os.system, f"touch {CANARY}"),
    "method by getattr": Call(pathlib.Path.touch, pathlib.PurePosixPath(CANARY)),
    "attrgetter": Call(operator.attrgetter("system"), os.getcwd),
    "methodcaller": operator.methodcaller("touch"),
    "deep in a state dict": {"a": [(Call(os.system, f"touch {CANARY}"),)]},
}


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_malicious_pickle_is_refused_and_never_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: str, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "evil.ckpt", pickle.dumps({"state_dict": ATTACKS[attack]}, protocol))
    with pytest.raises(UserError, match=r"evil\.ckpt.*(refers to|calls)") as caught:
        torch_file.load(path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / CANARY).exists()


@pytest.mark.parametrize(
    "opcodes",
    [
        b"(cos\nsystem\nS'touch canary-of-a-malicious-pickle'\no.",  # OBJ
        b"(S'touch canary-of-a-malicious-pickle'\nios\nsystem\n.",  # INST
        b"\x80\x02cos\nsystem\n)\x81.",  # NEWOBJ
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",  # STACK_GLOBAL
        b"\x80\x02ctypes\nFunctionType\n)R.",
        b"\x80\x02\x82\x01.",  # EXT1: the copyreg registry
        b"\x80\x02cantigravity\nx\n.",  # importing would already be an effect
        b"\x80\x02cbuiltins\ngetattr\ncfoo\nBar\nX\x04\x00\x00\x00evil\x86R)R.",  # call what getattr gives
        b"\x80\x05\x97.",  # NEXT_BUFFER
    ],
)
def test_every_opcode_that_could_call_is_inert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opcodes: bytes) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="refusing"):
        torch_file.load(write(tmp_path / "evil.ckpt", opcodes))
    assert not (tmp_path / CANARY).exists() and "antigravity" not in sys.modules


def test_classes_that_are_not_installed_stay_marks(tmp_path: Path) -> None:
    opcodes = b"\x80\x02cnot_installed.anywhere\nThing\n)\x81}X\x01\x00\x00\x00aK\x07sb."
    found = torch_file.load(write(tmp_path / "x.pt", opcodes))
    assert isinstance(found, Placeholder) and found.state == {"a": 7}
    assert "not_installed" not in sys.modules


BAD_VIEWS = {
    "offset past the end": (3, (2,), (1,)),
    "stride past the end": (0, (2, 2), (3, 1)),
    "absurd shape": (0, (1 << 40, 1 << 40), (1, 1)),
    "a size beyond the file from a stride of 0": (0, (1 << 33,), (0,)),
    "negative stride": (3, (2,), (-1,)),
    "negative offset": (-1, (1,), (1,)),
    "ranks differ": (0, (2, 2), (1,)),
    "shape no integers": (0, (2.0,), (1,)),
    "boolean": (True, (2,), (1,)),
    "rank 40": (0, (1,) * 40, (1,) * 40),
}


@pytest.mark.parametrize("case", BAD_VIEWS)
def test_a_view_beyond_its_storage_is_refused(tmp_path: Path, case: str) -> None:
    view = View(Storage("FloatStorage", "0", 4), *BAD_VIEWS[case])
    with pytest.raises(UserError, match="a tensor of shape"):
        torch_file.load(write(tmp_path / "x.pt", dumps([view]), {"0": bytes(16)}))


@pytest.mark.parametrize("storage", [Storage("FloatStorage", "0", 5), Storage("FloatStorage", "0", -1),
                                     Storage("FloatStorage", "../0", 4), Storage("FloatStorage", "9", 4)])  # fmt: skip
def test_a_storage_that_is_not_there_is_refused(tmp_path: Path, storage: Storage) -> None:
    with pytest.raises(UserError, match="its storage"):
        torch_file.load(write(tmp_path / "x.pt", dumps([View(storage, 0, (1,), (1,))]), {"0": bytes(16)}))


def test_archives_that_torch_does_not_write(tmp_path: Path) -> None:
    bomb = write(tmp_path / "bomb.pt", dumps({"a": "x" * 10_000_000}), compression=zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 100_000
    big = write(tmp_path / "big.pt", dumps({}), byteorder="big")
    legacy = tmp_path / "legacy.pt"
    legacy.write_bytes(torch_file.LEGACY_MAGIC + bytes(100))
    pointer = tmp_path / "pointer.ckpt"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    text = tmp_path / "text.ckpt"
    text.write_text("hello")
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("a.txt", "hello")
    fragments = {bomb: "compressed", big: "big-endian", legacy: "before 1.6", pointer: "LFS", text: "not a torch",
                 other: "data.pkl", tmp_path: "directory", tmp_path / "absent": "No such file"}  # fmt: skip
    for path, fragment in fragments.items():
        with pytest.raises(UserError, match=fragment) as caught:
            torch_file.load(path)
        assert "\n" not in str(caught.value)
        assert str(caught.value).count("; ") == 1  # what is wrong, and what to do


def test_oversized_pickles_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_file, "MAX_PICKLE", 1000)
    with pytest.raises(UserError, match="at most 1000"):
        torch_file.load(write(tmp_path / "x.pt", dumps("x" * 2000)))


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_truncated_files_are_named_so(tmp_path: Path, kept: float) -> None:
    data = (GOLDEN / "lightning_extras.ckpt").read_bytes()
    path = tmp_path / "cut.ckpt"
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(UserError, match="cannot read"):
        torch_file.load(path)


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 17_623), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_files_load_or_are_refused(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[int, int]]
) -> None:
    data = bytearray((GOLDEN / "lightning_extras.ckpt").read_bytes())
    for position, value in edits:
        data[position] = value
    path = tmp_path_factory.mktemp("damaged") / "x.ckpt"
    path.write_bytes(data)
    try:
        tree = torch_file.load(path)
        found = torch_file.tensors(tree["state_dict"], path) if isinstance(tree, dict) and "state_dict" in tree else {}
    except UserError as e:
        assert str(path) in str(e)
    else:
        assert all(t.numpy().nbytes <= len(data) for t in found.values())


@settings(max_examples=300)
@given(st.binary(max_size=60), st.sampled_from([b"", b"\x80\x02", b"\x80\x02}(", b"\x80\x04\x95\x10" + bytes(7)]))
def test_any_bytes_as_pickle_end_in_a_value_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, opcodes: bytes, head: bytes
) -> None:
    path = write(tmp_path_factory.mktemp("fuzz") / "x.pt", head + opcodes + b".")
    try:
        torch_file.load(path)
    except UserError as e:
        assert str(path) in str(e)
