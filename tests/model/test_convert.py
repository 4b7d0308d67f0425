"""Conversion: the live weights, exactly; the whole bundle or nothing; in little memory."""

from __future__ import annotations

import errno
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from model import convert as convert_module
from model import hub, torch_file, torch_writer, writer
from model.bundle import open_bundle
from model.codec_weights import load_codec
from model.convert import convert
from model.errors import UsageError, UserError

from .conftest import GOLDEN
from .golden import CONFIG
from .test_codec_weights import folder, hugging_face

ROOT = Path(__file__).parents[2]
LM = "model.peft_model.lm."
LAYERS = f"{LM}transformer.base_model.model.layers"
UPSTREAM = {"adapter": GOLDEN / "upstream.ckpt", "base": GOLDEN / "base", "t5": GOLDEN / "t5"}
State = dict[str, np.ndarray]


def values(path: Path, entry: str) -> State:
    return {name: t.numpy() for name, t in torch_file.load(path)[entry].items()}


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


def expected(checkpoint: State) -> State:
    """Every live weight of golden A, put together independently of the converter."""
    found: State = {}
    dim = CONFIG["dim"]
    for name, value in checkpoint.items():
        if name.startswith((f"{LM}emb.", f"{LM}linears.", f"{LM}out_norm.")):
            found[name.removeprefix(LM)] = value
    for part in ("weight", "bias"):
        found[f"text_conditioner.output_proj.{part}"] = checkpoint[
            f"{LM}condition_provider.conditioners.description.output_proj.{part}"
        ]
    for i in range(CONFIG["layers"]):
        source, target = f"{LAYERS}.{i}", f"layers.{i}"
        for norm in ("norm1", "norm_cross", "norm2"):
            for part in ("weight", "bias"):
                found[f"{target}.{norm}.{part}"] = checkpoint[f"{source}.{norm}.{part}"]
        for linear in ("linear1", "linear2"):
            found[f"{target}.{linear}.weight"] = checkpoint[f"{source}.{linear}.weight"]
        joint = checkpoint[f"{source}.self_attn.in_proj_weight"]
        for row, p in enumerate("qkv"):
            found[f"{target}.self_attn.{p}_proj.weight"] = joint[row * dim : (row + 1) * dim]
        found[f"{target}.self_attn.out_proj.weight"] = checkpoint[f"{source}.self_attn.out_proj.weight"]
        cross = f"{source}.cross_attention"
        for p in "qv":
            a, b = (checkpoint[f"{cross}.{p}_proj.lora_{x}.default.weight"].astype(np.float64) for x in "AB")
            merged = checkpoint[f"{cross}.{p}_proj.base_layer.weight"] + CONFIG["lora_scaling"] * (b @ a)
            found[f"{target}.cross_attn.{p}_proj.weight"] = merged.astype(np.float32)
        found[f"{target}.cross_attn.k_proj.weight"] = checkpoint[f"{cross}.k_proj.weight"]
        found[f"{target}.cross_attn.out_proj.weight"] = checkpoint[f"{cross}.out_proj.weight"]
        merge = f"cp_transformer.merge_linear.{i}.weight"
        found[merge] = checkpoint[f"model.{merge}"]
    for name in ("cp_transformer.pos_emb", "cp_transformer.gates"):
        found[name] = checkpoint[f"model.{name}"]
    return {name: value.astype(np.float32) for name, value in found.items()}


def loaded(path: Path) -> State:
    return {name: np.array(value) for name, value in open_bundle(path).tensors.items()}


def assert_same(found: State, wanted: State) -> None:
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name, strict=True)


def test_32_bits_are_lossless(golden_bundle: Path, checkpoint: State) -> None:
    assert_same(loaded(golden_bundle), expected(checkpoint))
    raw = json.loads((golden_bundle / "config.json").read_text())
    assert raw["decoder"]["num_attention_heads"] == 4 and raw["decoder"]["hidden_size"] == 64


def test_16_bits_are_one_rounding(golden_bundles: Callable[[int], Path], checkpoint: State) -> None:
    assert_same(loaded(golden_bundles(16)), {n: v.astype(np.float16) for n, v in expected(checkpoint).items()})


@pytest.mark.parametrize("bits", [4, 8])
def test_layer_projections_are_quantized_and_nothing_else(
    golden_bundles: Callable[[int], Path], checkpoint: State, bits: int
) -> None:
    wanted: State = {}
    for name, value in expected(checkpoint).items():
        module = name.removesuffix(".weight")
        if name.startswith("layers.") and ("_proj" in name or ".linear" in name):
            words, scales, biases = mx.quantize(mx.array(value), group_size=64, bits=bits)
            wanted[name] = np.array(words)
            wanted[f"{module}.scales"] = np.array(scales.astype(mx.float16))
            wanted[f"{module}.biases"] = np.array(biases.astype(mx.float16))
        else:
            wanted[name] = value.astype(np.float16)
    assert_same(loaded(golden_bundles(bits)), wanted)


def test_codec_and_t5_come_along(golden_bundle: Path) -> None:
    assert (golden_bundle / "compression_state_dict.bin").read_bytes() == (
        GOLDEN / "base" / "compression_state_dict.bin"
    ).read_bytes()
    for file in (GOLDEN / "t5").iterdir():
        assert (golden_bundle / "t5" / file.name).read_bytes() == file.read_bytes()


def test_a_checkpoint_of_the_trained_weights_alone(upstream: Callable[..., dict[str, Any]], checkpoint: State) -> None:
    """The rest is frozen and comes from the base, whose float16 values are the same."""
    trained = ("cp_transformer.pos_emb", "gates", "merge_linear", "lora_", "base_layer", "cross_attention.k_proj")

    def keep(state: State) -> State:
        return {n: v for n, v in state.items() if any(part in n for part in trained)}

    found = loaded(convert(**upstream(keep)))
    wanted = expected(checkpoint)
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        # The base holds embeddings, heads and norms as float16; golden's values are exact in it or one rounding away.
        np.testing.assert_allclose(found[name], value, rtol=2.0**-11, atol=2.0**-25, err_msg=name)


def test_without_cross_projections_the_joint_ones_stand_in(
    upstream: Callable[..., dict[str, Any]], checkpoint: State
) -> None:
    def drop(state: State) -> State:
        return {n: v for n, v in state.items() if not any(f"cross_attention.{p}_proj" in n for p in "qkv")}

    found = loaded(convert(**upstream(drop)))
    for i in range(3):
        joint = checkpoint[f"{LAYERS}.{i}.cross_attention.in_proj_weight"].astype(np.float32)
        for row, p in enumerate("qkv"):
            got = found[f"layers.{i}.cross_attn.{p}_proj.weight"]
            np.testing.assert_array_equal(got, joint[row * 64 : row * 64 + 64])


def test_lora_scaling_follows_the_hyper_parameters(upstream: Callable[..., dict[str, Any]], checkpoint: State) -> None:
    found = loaded(convert(**upstream(hyper_parameters={"lora": {"lora_alpha": 2, "r": 4}})))
    cross = f"{LAYERS}.1.cross_attention.v_proj"
    a, b = (checkpoint[f"{cross}.lora_{x}.default.weight"].astype(np.float64) for x in "AB")
    wanted = (checkpoint[f"{cross}.base_layer.weight"] + 2 / 4 * (b @ a)).astype(np.float32)
    np.testing.assert_array_equal(found["layers.1.cross_attn.v_proj.weight"], wanted)


def test_an_adapter_of_the_last_layers(upstream: Callable[..., dict[str, Any]]) -> None:
    def shorten(state: State) -> None:
        state["model.cp_transformer.pos_emb"] = state["model.cp_transformer.pos_emb"][:3]
        state["model.cp_transformer.gates"] = state["model.cp_transformer.gates"][:2]
        del state["model.cp_transformer.merge_linear.2.weight"]

    config = open_bundle(convert(**upstream(shorten))).config
    assert (config.adapter.layers, config.adapter.start_layer) == (2, 1)


@pytest.mark.parametrize("wrapper", ["model._orig_mod.", "module.model.", ""])
def test_wrappers_leave_other_prefixes(
    upstream: Callable[..., dict[str, Any]], checkpoint: State, wrapper: str
) -> None:
    arguments = upstream(lambda state: {wrapper + n.removeprefix("model."): v for n, v in state.items()})
    assert_same(loaded(convert(**arguments)), expected(checkpoint))


def test_a_base_that_only_names_its_codec(
    tmp_path: Path, upstream: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Hugging Face folder it stands for goes into the bundle, which is complete offline again."""
    arguments = upstream()
    codec = values(GOLDEN / "base" / "compression_state_dict.bin", "best_state")
    hf = folder(tmp_path / "hf", {hugging_face(name): value for name, value in codec.items()})
    named = {"pretrained": "//pretrained/facebook/encodec_32khz"}
    torch_writer.save(arguments["base"] / "compression_state_dict.bin", named)
    resolve, name = hub.resolve, "facebook/encodec_32khz"
    monkeypatch.setattr(hub, "resolve", lambda given, **options: hf if given == name else resolve(given, **options))
    bundle = open_bundle(convert(**arguments))
    assert bundle.codec_path == tmp_path / "out" / "encodec"
    config, found = load_codec(bundle.codec_path)
    wanted_config, wanted = load_codec(GOLDEN / "base" / "compression_state_dict.bin")
    assert config == wanted_config and all(mx.array_equal(found[name], value) for name, value in wanted.items())
    convert(**arguments)  # over the bundle it made


# What is refused


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


# The whole bundle or nothing


def test_an_old_bundle_is_replaced_and_nothing_else_is(tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(**UPSTREAM, out=out, bits=32)
    convert(**UPSTREAM, out=out, bits=4)
    assert open_bundle(out).config.quantization is not None
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"not \(only\) a bundle"):
        convert(**UPSTREAM, out=out, bits=32)
    assert (out / "notes.txt").read_text() == "mine" and open_bundle(out).config.quantization is not None
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="not a folder"):
        convert(**UPSTREAM, out=tmp_path / "file", bits=32)
    (tmp_path / "empty").mkdir()
    convert(**UPSTREAM, out=tmp_path / "empty", bits=32)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "file", "out"]


def test_too_little_space_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(writer.shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    with pytest.raises(UserError, match=r"the disk is full: .* has 1 MB free and \d+ MB are needed"):
        convert(**UPSTREAM, out=tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stage", ["tensors", "codec", "t5"])
def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if stage == "tensors":
        original = writer.TensorWriter.write

        def write(self: writer.TensorWriter, name: str, value: Any) -> None:
            full() if name.startswith("layers.2") else original(self, name, value)

        monkeypatch.setattr(writer.TensorWriter, "write", write)
    else:
        monkeypatch.setattr(convert_module, "_copy_codec" if stage == "codec" else "_copy", full)
    with pytest.raises(UserError, match="the disk is full: cannot write") as caught:
        convert(**UPSTREAM, out=tmp_path / "out")
    assert not list(tmp_path.iterdir()) and "\n" not in str(caught.value)


CONVERT = """
import sys
from model.convert import convert
from model.errors import UserError
g = sys.argv[1]
try:
    convert(adapter=g + "/upstream.ckpt", base=g + "/base", t5=g + "/t5", out=sys.argv[2], bits=32)
except UserError as e:
    sys.exit(f"error: {e}")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits and signals")
def test_a_real_write_error_leaves_nothing(tmp_path: Path) -> None:
    """The kernel refuses to grow a file beyond 300 kB, as it would on a full disk."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))"
    command = [sys.executable, "-c", limit + CONVERT, str(GOLDEN), str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: the disk is full") and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


SLOW = """
import time
from model import writer
write = writer.TensorWriter.write
def slow(self, name, value):
    write(self, name, value)
    if name.startswith("layers.1"):
        print("writing", flush=True)
        time.sleep(60)
writer.TensorWriter.write = slow
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits and signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_killed_conversion_leaves_no_bundle(tmp_path: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW + CONVERT, str(GOLDEN), str(tmp_path / "out")], cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode != 0 and not (tmp_path / "out").exists()
    if number != signal.SIGKILL:
        assert not list(tmp_path.iterdir())
        return
    # Nothing can clean up after SIGKILL but the next conversion.
    assert [p.name for p in tmp_path.iterdir()] == [f".out.part-{process.pid}"]
    convert(**UPSTREAM, out=tmp_path / "out", bits=32)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_the_writer_refuses_what_does_not_fit_its_header(tmp_path: Path) -> None:
    stored = {"a": (mx.float32, (2, 3)), "b": (mx.bfloat16, (4,)), "c": (mx.uint32, ())}
    values = {"a": mx.ones((2, 3)), "b": mx.arange(4).astype(mx.bfloat16), "c": np.array(7, np.uint32)}
    with writer.TensorWriter(tmp_path / "x.safetensors", stored) as file:
        for name, value in values.items():
            file.write(name, value)
    found = mx.load(str(tmp_path / "x.safetensors"))
    assert isinstance(found, dict)
    for name, value in values.items():
        assert found[name].dtype == stored[name][0] and mx.array_equal(found[name], mx.array(value))
    for name, value in {"b": values["b"], "a": mx.ones((3, 2))}.items():
        with pytest.raises(ValueError, match="is due"), writer.TensorWriter(tmp_path / "y", stored) as file:
            file.write(name, value)
    with pytest.raises(ValueError, match="float16"), writer.TensorWriter(tmp_path / "y", stored) as file:
        file.write("a", mx.ones((2, 3)).astype(mx.float16))
    with pytest.raises(ValueError, match="not every tensor"), writer.TensorWriter(tmp_path / "y", stored):
        pass


# Memory


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
from model.convert import convert
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
