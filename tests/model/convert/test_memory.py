"""Conversion in little memory: one tensor at a time."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from model.bundle.bundle import open_bundle
from model.formats import torch_writer

from ..conftest import GOLDEN
from .upstream_files import ROOT

pytestmark = pytest.mark.slow


def big_upstream(folder: Path, layers: int, dim: int) -> dict[str, Path]:
    """Upstream files of another geometry, mostly zeros, written one tensor at a time."""
    ffn, card, r, frames = 4 * dim, 64, 4, 20

    def tensor(*shape: int, dtype: str = "float16") -> torch_writer.Lazy:
        return torch_writer.Lazy(shape, dtype, lambda: np.full(shape, 0.25, dtype))

    common: dict[str, Any] = {f"emb.{k}.weight": tensor(card + 1, dim) for k in range(4)}
    common |= {f"linears.{k}.weight": tensor(card, dim) for k in range(4)}
    common |= {f"out_norm.{p}": tensor(dim) for p in ("weight", "bias")}
    output = "condition_provider.conditioners.description.output_proj"
    common |= {f"{output}.weight": tensor(dim, 32), f"{output}.bias": tensor(dim)}
    tuned: dict[str, Any] = {}
    for i in range(layers):
        each = f"transformer.layers.{i}"
        for norm in ("norm1", "norm_cross", "norm2"):
            common |= {f"{each}.{norm}.{p}": tensor(dim) for p in ("weight", "bias")}
        for attention in ("self_attn", "cross_attention"):
            common[f"{each}.{attention}.in_proj_weight"] = tensor(3 * dim, dim)
            common[f"{each}.{attention}.out_proj.weight"] = tensor(dim, dim)
        common |= {f"{each}.linear1.weight": tensor(ffn, dim), f"{each}.linear2.weight": tensor(dim, ffn)}
        cross = f"model.peft_model.lm.transformer.base_model.model.layers.{i}.cross_attention"
        for p in "qv":
            tuned[f"{cross}.{p}_proj.base_layer.weight"] = tensor(dim, dim, dtype="float32")
            tuned[f"{cross}.{p}_proj.lora_A.default.weight"] = tensor(r, dim, dtype="float32")
            tuned[f"{cross}.{p}_proj.lora_B.default.weight"] = tensor(dim, r, dtype="float32")
        tuned[f"{cross}.k_proj.weight"] = tensor(dim, dim, dtype="float32")
        tuned[f"model.cp_transformer.merge_linear.{i}.weight"] = tensor(dim, dim, dtype="float32")
    tuned["model.cp_transformer.pos_emb"] = tensor(layers + 1, frames + 1, dim, dtype="float32")
    tuned["model.cp_transformer.gates"] = tensor(layers, dtype="float32")
    settings = f"transformer_lm: {{dim: {dim}, num_heads: 8, num_layers: {layers}, n_q: 4, card: {card}}}"
    folder.mkdir()
    torch_writer.save(folder / "x.ckpt", {"state_dict": tuned})
    torch_writer.save(folder / "state_dict.bin", {"best_state": common, "xp.cfg": settings})
    shutil.copy(GOLDEN / "base" / "compression_state_dict.bin", folder)
    return {"adapter": folder / "x.ckpt", "base": folder, "t5": GOLDEN / "t5"}


MEASURE = """
import re, sys
from pathlib import Path
from model.convert.convert import convert
g, folder = sys.argv[1:]
def peak():  # not ru_maxrss, which a child inherits from its parent on Linux
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
convert(adapter=g + "/upstream.ckpt", base=g + "/base", t5=g + "/t5", out=folder + "/warm", bits=8)
before = peak()
convert(adapter=folder + "/in/x.ckpt", base=folder + "/in", t5=g + "/t5", out=folder + "/out", bits=8)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_conversion_holds_one_tensor_at_a_time(tmp_path: Path) -> None:
    layers, dim = 10, 1024
    big_upstream(tmp_path / "in", layers, dim)
    source = sum((tmp_path / "in" / f).stat().st_size for f in ("x.ckpt", "state_dict.bin"))
    command = [sys.executable, "-c", MEASURE, str(GOLDEN), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    extra = int(done.stdout) * 1024
    # The largest matrix: mapped as float16, in float32, and what mx.quantize makes of it and beside it.
    largest = 4 * dim * dim * 4
    assert source > 400e6 and extra < 5 * largest, f"{extra / 1e6:.0f} MB to convert {source / 1e6:.0f} MB"
    config = open_bundle(tmp_path / "out").config
    assert (config.lm.layers, config.lm.dim, config.lm.heads) == (layers, dim, 8)
    merged = 0.25 + 2 * 4 * 0.25 * 0.25
    got = open_bundle(tmp_path / "out").tensors
    parts = [got[f"layers.9.cross_attn.q_proj.{p}"] for p in ("weight", "scales", "biases")]
    assert mx.allclose(mx.dequantize(*parts, group_size=64, bits=8), mx.array(merged), atol=1e-3)
