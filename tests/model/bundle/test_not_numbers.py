"""Weights that are no numbers: an edit is an error that names them, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import soundfile

from model import InstructMusicGen
from model.bundle.codec_weights import load_codec
from model.cli import main
from model.convert.convert import convert
from model.errors import UserError
from model.formats import torch_file, torch_writer
from tests import backends

from ..conftest import GOLDEN
from ..convert.upstream_files import UPSTREAM

pytestmark = pytest.mark.slow

NOISE = np.random.default_rng(0).normal(0, 0.1, 6400).astype(np.float32)
TEXT = "Music piece. Instruct: Only Drums."
BACKENDS = [name for name in backends.names() if name != "interpreter"]


def spoiled(name: str, value: float) -> Callable[[dict[str, mx.array]], dict[str, mx.array]]:
    """One element of a tensor replaced."""

    def change(tensors: dict[str, mx.array]) -> dict[str, mx.array]:
        whole = np.array(tensors[name].astype(mx.float32))
        whole.reshape(-1)[0] = value
        return tensors | {name: mx.array(whole).astype(tensors[name].dtype)}

    return change


PLACES = ("layers.1.linear1.scales", "layers.2.cross_attn.v_proj.biases", "layers.0.norm1.bias", "out_norm.weight",
          "linears.2.weight", "cp_transformer.gates", "cp_transformer.merge_linear.0.weight")  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", PLACES)
def test_a_weight_that_is_no_number_is_named(
    edited: Callable[..., Path], name: str, value: float, backend: str
) -> None:
    model = InstructMusicGen.from_pretrained(edited(bits=4, weights=spoiled(name, value)), backend=backend)
    for options in ({}, {"greedy": True}, {"guidance": 1.0}, {"top_p": 0.9}):
        with pytest.raises(UserError, match=f"NaN or infinity in .*{name}"):
            model.generate(TEXT, NOISE, 4, **options)


def test_the_command_line_writes_nothing(
    edited: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "in.wav", NOISE, 32_000, subtype="FLOAT")
    bundle = edited(bits=4, weights=spoiled("out_norm.bias", np.nan))
    argv = ["edit", tmp_path / "in.wav", "-i", TEXT, "-o", tmp_path / "out.wav", "--model", bundle, "--quiet"]
    assert main([str(a) for a in argv]) == 1
    assert "NaN or infinity in out_norm.bias" in capsys.readouterr().err and not (tmp_path / "out.wav").exists()


def test_the_text_projection_is_told_from_t5(edited: Callable[..., Path]) -> None:
    bundle = edited(bits=32, weights=spoiled("text_conditioner.output_proj.weight", np.nan))
    model = InstructMusicGen.from_pretrained(bundle, backend="reference")
    with pytest.raises(UserError, match=r"NaN or infinity in text_conditioner\.output_proj\.weight"):
        model.generate(TEXT, NOISE, 4)


def test_t5_is_suspected_where_the_bundle_is_sound(edited: Callable[..., Path]) -> None:
    bundle = edited(bits=32)
    file = bundle / "t5" / "model.safetensors"
    tensors = mx.load(str(file))
    assert isinstance(tensors, dict)
    mx.eval(tensors)
    mx.save_safetensors(str(file), {name: value * mx.nan for name, value in tensors.items()})
    with pytest.raises(UserError, match=r"maybe not T5's in .*t5"):
        InstructMusicGen.from_pretrained(bundle, backend="reference").generate(TEXT, NOISE, 4)


def _spoiled_codec(path: Path) -> None:
    tree = torch_file.load(GOLDEN / "base" / "compression_state_dict.bin")
    state = {name: tensor.numpy().copy() for name, tensor in tree["best_state"].items()}
    bias = next(name for name in state if name.startswith("decoder.") and name.endswith("conv.conv.bias"))
    state[bias][0] = np.nan
    torch_writer.save(path, {"best_state": state, "xp.cfg": tree["xp.cfg"]})


def test_a_codec_that_is_no_number_is_refused_when_loaded_and_converted(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "state_dict.bin").symlink_to(GOLDEN / "base" / "state_dict.bin")
    _spoiled_codec(base / "compression_state_dict.bin")
    with pytest.raises(UserError, match=r"NaN or infinity in decoder\..*bias"):
        load_codec(base / "compression_state_dict.bin")
    with pytest.raises(UserError, match=r"NaN or infinity in decoder\..*bias"):
        convert(**(UPSTREAM | {"base": base}), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_t5_that_is_no_number_is_refused_by_convert(tmp_path: Path) -> None:
    import shutil

    t5 = Path(shutil.copytree(GOLDEN / "t5", tmp_path / "t5"))
    tensors = mx.load(str(t5 / "model.safetensors"))
    assert isinstance(tensors, dict)
    mx.eval(tensors)
    name = "encoder.final_layer_norm.weight"
    mx.save_safetensors(str(t5 / "model.safetensors"), tensors | {name: tensors[name] * mx.inf})
    with pytest.raises(UserError, match=r"NaN or infinity in encoder\.final_layer_norm\.weight"):
        convert(**(UPSTREAM | {"t5": t5}), out=tmp_path / "out")
