"""Conversion: options and files that it refuses, in one line that names the value and the fix."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.convert.convert import convert
from model.errors import UsageError, UserError

from ..conftest import GOLDEN
from .upstream_files import LAYERS, LM, UPSTREAM, State

BAD_OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "3 bits": ({"bits": 3}, "--bits 3: choose one of 4, 8, 16, 32"),
    "odd group": ({"group_size": 48}, "--group-size 48: choose one of 32, 64, 128"),
    "group too wide": ({"group_size": 128}, "--group-size 128 does not divide dim=64; use --group-size 32 or 64"),
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_usage_errors_name_the_value_and_the_fix(tmp_path: Path, case: str) -> None:
    options, message = BAD_OPTIONS[case]
    with pytest.raises(UsageError) as caught:
        convert(**UPSTREAM, out=tmp_path / "out", **({"bits": 4} | options))
    assert str(caught.value) == message and not list(tmp_path.iterdir())


def _nan(state: State) -> None:
    state[f"{LM}emb.1.weight"] = np.full_like(state[f"{LM}emb.1.weight"], np.nan)


def _drop(*names: str) -> Callable[[State], State]:
    return lambda state: {n: v for n, v in state.items() if not n.endswith(names)}


def _reshape(name: str, shape: tuple[int, ...]) -> Callable[[State], None]:
    return lambda state: state.update({name: np.zeros(shape, np.float32)})


BAD_FILES: dict[str, tuple[dict[str, Any], str]] = {
    "no adapter in it": ({"adapter": _drop("gates", "pos_emb", "merge_linear.0.weight")}, "lacks cp_transformer"),
    "a merge map is missing": ({"adapter": _drop("merge_linear.1.weight")}, "missing: cp_transformer.merge_linear.1"),
    "half a LoRA": ({"adapter": _drop("1.cross_attention.q_proj.lora_A.default.weight")}, "matching lora_A"),
    "LoRA of another size": (
        {"adapter": _reshape(f"{LAYERS}.0.cross_attention.q_proj.lora_A.default.weight", (4, 32))}, "LoRA of layers.0"),
    "mis-shaped": ({"adapter": _reshape(f"{LAYERS}.2.linear2.weight", (64, 255))}, "layers.2.linear2.weight [64, 255]"),
    "integers": ({"adapter": lambda s: s.update({f"{LM}out_norm.bias": np.zeros(64, int)})}, "out_norm.bias is int64"),
    "NaN": ({"adapter": _nan}, "emb.1.weight holds NaN"),
    "heads": ({"settings": ("num_heads: 4", "num_heads: 7")}, "num_heads 7"),
    "heads of text": ({"settings": ("num_heads: 4", "num_heads: four")}, "num_heads is 'four'"),
    "dim": ({"settings": ("dim: 64", "dim: 128")}, "needs [65, 128]"),
    "card": ({"settings": ("card: 64", "card: 32")}, "needs [33, 64]"),
    "layers": ({"settings": ("num_layers: 3", "num_layers: 2")}, "does not fit 2 layers"),
    "rope": ({"settings": ("_embedding: sin", "_embedding: rope")}, "positional_embedding is 'rope'"),
    "delays": ({"settings": ("delays: [0, 1, 2, 3], f", "delays: [0, 0, 0, 0], f")}, "delays is"),
    "bias": ({"settings": ("bias_attn: false", "bias_attn: true")}, "bias_attn is True"),
    "not YAML": ({"settings": ("device: cpu", "device: {cpu")}, "xp.cfg is not YAML"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FILES)
def test_files_that_do_not_fit_are_named(tmp_path: Path, upstream: Callable[..., dict[str, Any]], case: str) -> None:
    changes, fragment = BAD_FILES[case]
    with pytest.raises(UserError) as caught:
        convert(**upstream(**changes))
    message = str(caught.value)
    assert fragment in message and "\n" not in message
    assert sorted(p.name for p in tmp_path.iterdir()) == ["base", "x.ckpt"]


def test_weights_too_large_for_float16(upstream: Callable[..., dict[str, Any]]) -> None:
    arguments = upstream(lambda s: s.update({f"{LM}out_norm.weight": np.full(64, 1e5, np.float32)}))
    with pytest.raises(UserError, match=r"out_norm\.weight has values up to 1e\+05.*--bits 32"):
        convert(**(arguments | {"bits": 16}))


def test_paths_that_do_not_lead_anywhere(tmp_path: Path) -> None:
    wrong = {
        "adapter": (tmp_path / "x.ckpt", "does not exist"), "base": (tmp_path / "none", "does not exist"),
        "t5": (tmp_path / "t5", "does not exist"),
    }  # fmt: skip
    for name, (path, fragment) in wrong.items():
        with pytest.raises(UserError, match=fragment):
            convert(**(UPSTREAM | {name: path}), out=tmp_path / "out")
    (tmp_path / "t5").mkdir()
    with pytest.raises(UserError, match=r"config\.json"):
        convert(**(UPSTREAM | {"t5": tmp_path / "t5"}), out=tmp_path / "out")
    with pytest.raises(UserError, match=r"no state_dict\.bin"):
        convert(**(UPSTREAM | {"base": tmp_path / "t5"}), out=tmp_path / "out")
    with pytest.raises(UserError, match=r"0 \.ckpt files"):
        convert(**(UPSTREAM | {"adapter": tmp_path / "t5"}), out=tmp_path / "out")
    with pytest.raises(UserError, match="best_state"):
        swapped = {"adapter": GOLDEN / "base" / "state_dict.bin", "base": _swapped(tmp_path)}
        convert(**(UPSTREAM | swapped), out=tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["swapped", "t5"]


def _swapped(tmp_path: Path) -> Path:
    """A base folder whose state_dict.bin is the adapter's checkpoint."""
    folder = tmp_path / "swapped"
    folder.mkdir()
    shutil.copy(GOLDEN / "upstream.ckpt", folder / "state_dict.bin")
    shutil.copy(GOLDEN / "base" / "compression_state_dict.bin", folder)
    return folder
