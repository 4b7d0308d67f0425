"""Random bundles: the tiny one bit for bit, every geometry whole, and activations that stay sane."""

from __future__ import annotations

import contextlib
import filecmp
import hashlib
import json
import math
import os
import pty
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from tokenizers import Tokenizer

from model import InstructMusicGen
from model.bundle import tensors as layout
from model.bundle.bundle import open_bundle
from model.bundle.codec_weights import load_codec
from model.config import AdapterConfig, CodecConfig, Config, LMConfig, Quantization
from model.formats import torch_file
from model.formats.tensor_writer import layout_bytes
from model.synthetic import PRESETS, write_bundle, write_preset
from model.synthetic.numbers import Random
from model.synthetic.t5 import T5Dims

DIGESTS = {
    "config.json": "309b18a2a92fb926",
    "model.safetensors": "b30ab911e41b1250",
    "compression_state_dict.bin": "7a73b6a65b132881",
    "t5/config.json": "0648581a4867e4f7",
    "t5/model.safetensors": "a3ae8d8ef4b0ec7f",
    "t5/tokenizer.json": "0a6b67333e7c5bfa",
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_preset("tiny", tmp_path_factory.mktemp("synthetic") / "tiny")


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_preset_is_the_same_bytes_whenever_it_is_written(tmp_path: Path, tiny: Path) -> None:
    made = write_preset("tiny", tmp_path / "again")
    assert files(made) == files(tiny)
    _, different, unreadable = filecmp.cmpfiles(made, tiny, files(made), shallow=False)
    assert not different and not unreadable
    digests = {name: hashlib.sha256((made / name).read_bytes()).hexdigest()[:16] for name in files(made)}
    assert digests == DIGESTS, "every machine writes the same bytes"
    assert sum((made / f).stat().st_size for f in files(made)) < 5e6


def test_the_seed_changes_every_random_tensor(tmp_path: Path, tiny: Path) -> None:
    one, other = open_bundle(tiny), open_bundle(write_preset("tiny", tmp_path / "tiny", seed=1))
    assert one.config == other.config
    for name, value in one.tensors.items():
        assert not mx.array_equal(value, other.tensors[name]), name


def test_the_large_preset_is_the_published_size() -> None:
    """0.8 G parameters (packed words counted as one) and 2.2 GiB, as the model card says."""
    preset = PRESETS["large"]
    assert preset.lm.head_dim == 64
    stored = layout.stored_tensors(Config(preset.lm, AdapterConfig(48, 500), mx.float16, Quantization(4, 64)))
    assert round(sum(math.prod(shape) for _, shape in stored.values()) / 1e6) == 791
    assert round(layout_bytes(stored) / 2**30, 1) == 2.2
    assert layout.count(layout.codec_shapes(preset.codec)) == 57_925_313
    packed = {name for name, (dtype, _) in stored.items() if dtype == mx.uint32}
    assert packed == {f"{module}.weight" for module in layout.projections(preset.lm)} and len(packed) == 480


def test_progress_counts_the_bytes_of_every_tensor(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    out = write_preset("tiny", tmp_path / "tiny", progress=lambda done, total: seen.append((done, total)))
    bundle = open_bundle(out)
    t5 = mx.load(str(out / "t5" / "model.safetensors"))
    assert isinstance(t5, dict)
    codec = torch_file.load(out / "compression_state_dict.bin")["best_state"]
    sizes = [math.prod(s.shape) * s.dtype.size for s in bundle.sources.values()]
    sizes += [a.nbytes for a in (*t5.values(), *(a.numpy() for a in codec.values()))]
    assert {total for _, total in seen} == {sum(sizes)}
    steps = np.diff([0, *(done for done, _ in seen)])
    assert sorted(steps) == sorted(sizes)  # one call a tensor, and the last one is at the end


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_an_interrupt_leaves_nothing(share: float, tmp_path: Path) -> None:
    """In the language model, the codec and the text encoder."""

    def interrupted(done: int, total: int) -> None:
        if done > share * total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_preset("tiny", tmp_path / "sub" / "tiny", progress=interrupted)
    assert not list((tmp_path / "sub").iterdir())


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "model.synthetic", *arguments], capture_output=True, text=True,
        env=os.environ | environment,
    )  # fmt: skip


def command_on_a_terminal(*arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output, and what a terminal showed of standard error."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "model.synthetic", *arguments], stdout=subprocess.PIPE, stderr=theirs, text=True,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # Linux ends a terminal whose other side is closed with an error
        while piece := os.read(ours, 65536):
            shown += piece
    os.close(ours)
    out, _ = process.communicate()
    return process.returncode, out, shown.decode()


@pytest.mark.slow
def test_the_command_shows_a_bar_where_there_is_a_terminal(tmp_path: Path) -> None:
    out = str(tmp_path / "tiny")
    code, said, error = command_on_a_terminal("tiny", out)
    total = sum(p.stat().st_size for p in Path(out).rglob("*") if p.is_file())
    shown = re.findall(r"([\d.]+)/([\d.]+) MB", re.sub(r"\x1b\[[\d;?]*\w", "", error))
    # Decimal megabytes with one digit; headers, names and the tokenizer are not counted.
    assert shown and shown[-1][0] == shown[-1][1] and 0.9 * total < 1e6 * float(shown[-1][1]) < total
    assert code == 0 and said.strip() == out
    for environment in ({}, {"FORCE_COLOR": "1"}):  # a file is no terminal, in whatever colors
        done = command("tiny", out, **environment)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "says"), [
    (["tiny", "blocked/tiny"], "cannot write"), (["tiny", "x", "--seed", "-1"], "negative"),
])  # fmt: skip
def test_the_command_says_what_is_wrong_in_one_line(arguments: list[str], says: str, tmp_path: Path) -> None:
    (tmp_path / "blocked").touch()
    done = command(arguments[0], str(tmp_path / arguments[1]), *arguments[2:])
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: ") and says in done.stderr and done.stderr.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["blocked"]


heads_and_width = st.tuples(st.integers(1, 3), st.sampled_from([32, 64]))


@settings(max_examples=8)
@given(
    heads_and_width, st.integers(1, 3), st.integers(0, 2), st.sampled_from([4, 8, 16, 32]), st.integers(16, 40),
    st.sampled_from([(10, 8, 8), (8, 5, 4, 4)]), st.sampled_from(["reflect", "constant"]),
)  # fmt: skip
def test_bundles_of_any_geometry_open_as_they_were_asked_for(
    tmp_path_factory: pytest.TempPathFactory, heads: tuple[int, int], layers: int, start: int, bits: int, card: int,
    ratios: tuple[int, ...], pad_mode: str,
) -> None:  # fmt: skip
    count, width = heads
    lm = LMConfig(dim=count * width, heads=count, ffn=128, layers=layers, card=card, text_dim=24)
    start = min(start, layers - 1)
    quantization = Quantization(bits, 32) if bits < 16 else None
    recipe: dict[str, Quantization | None]
    recipe = {"layers.0.linear1": Quantization(8, 64)} if bits == 4 and lm.dim % 64 == 0 else {}
    if quantization:  # a projection kept as floats, and heads packed as the default
        recipe |= {"layers.0.linear2": None, "linears.0": quantization}
    dtype = mx.float32 if bits == 32 else mx.float16
    config = Config(lm, AdapterConfig(layers - start, 10, start), dtype, quantization, recipe)
    codec = CodecConfig(dimension=8, n_filters=2, ratios=ratios, bins=card, pad_mode=pad_mode)
    out = tmp_path_factory.mktemp("any") / "bundle"
    write_bundle(out, config=config, codec=codec, t5=T5Dims(24, 8, 2, 32, 1, 256), seed=3)
    bundle = open_bundle(out)
    assert bundle.config == config
    found, tensors = load_codec(bundle.codec_path)
    assert found == codec and all(mx.isfinite(a).all() for a in tensors.values())


def test_dimensions_that_do_not_fit_each_other(tmp_path: Path) -> None:
    preset = PRESETS["tiny"]
    config = Config(preset.lm, AdapterConfig(4, 10), mx.float16, Quantization(4, 64))
    for options, fragment in (
        ({"t5": T5Dims()}, f"t5.d_model={T5Dims().d_model} must be the LM's text_dim={preset.lm.text_dim}"),
        ({"codec": replace(preset.codec, bins=8)}, f"codec.bins=8 must be at least the LM's card={preset.lm.card}"),
        ({"codec": replace(preset.codec, codebooks=1)}, "codec.codebooks=1 must be at least the LM's codebooks=4"),
        ({"config": replace(config, lm=replace(preset.lm, dim=96))}, "group_size 64 does not divide the 96 inputs"),
        ({"config": replace(config, dtype=mx.bfloat16)}, "bfloat16"),
    ):
        with pytest.raises(ValueError, match=fragment):
            write_bundle(tmp_path / "x", **({"config": config, "codec": preset.codec, "t5": preset.t5} | options))
    assert not list(tmp_path.iterdir())


def test_numbers_are_uniform_and_their_own() -> None:
    values = Random(0, "a").spread(2.0, (100_000,), mean=1.0)
    # The standard error of a uniform sample's mean is std / sqrt(n) = 0.0063; of its std 0.0020 (std · 0.32 / sqrt(n)).
    assert abs(values.mean() - 1) < 5 * 0.0063 and abs(values.std() - 2) < 5 * 0.0020
    assert values.dtype == np.float32
    words = Random(0, "a").words((99,))
    for other in (Random(0, "b"), Random(1, "a")):
        assert not np.array_equal(words, other.words((99,)))
    # PCG64's guaranteed stream, so that other machines and versions of numpy make the same bundle.
    assert Random(0, "a").words((2,)).tolist() == [79026516, 2228418906]


def test_the_tiny_tokenizer_knows_its_instructions(tiny: Path) -> None:
    tokenizer = Tokenizer.from_file(str(tiny / "t5" / "tokenizer.json"))
    encoded = tokenizer.encode("Music piece. Instruct: Only Drums.")
    assert encoded.tokens[:2] == ["▁Music", "▁piece"] and encoded.tokens[-1] == "</s>" and encoded.ids[-1] == 1
    assert 2 not in encoded.ids and 2 in tokenizer.encode("日").ids
    vocab = json.loads((tiny / "t5" / "config.json").read_text())["vocab_size"]
    assert tokenizer.get_vocab_size() <= vocab


@pytest.mark.slow
def test_a_random_model_listens_to_text_and_audio(tiny: Path) -> None:
    """Greedy tokens vary over time, and other texts and other clips give other tokens."""
    model = InstructMusicGen.from_pretrained(tiny, backend="reference")
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(2 * 32_000).astype(np.float32)
    clips = mx.array(np.stack([np.cumsum(noise)[:16_000] / 300, 0.1 * noise[16_000:32_000]]))
    codes = model.encode(clips)
    assert all(len(set(row)) > 5 for row in np.array(codes[:, 0]).tolist())
    drums = np.array(model.edit_codes(codes, "Music piece. Instruct: Only Drums.", greedy=True))
    piano = np.array(model.edit_codes(codes, "Music piece. Instruct: Remove piano.", greedy=True))
    assert all(len(set(row)) > 5 for row in drums[:, 0].tolist())
    assert (drums != piano).mean() > 0.25 and (drums[0] != drums[1]).mean() > 0.25
    audio = model.decode(mx.array(drums))
    level = float(mx.sqrt(mx.square(audio).mean()))
    assert 0.01 < level < 1 and mx.isfinite(audio).all()


@pytest.mark.slow
def test_depth_does_not_blow_activations_up(tmp_path: Path) -> None:
    """48 layers at float16: finite logits whose spread is a usable temperature."""
    lm = LMConfig(dim=64, heads=2, ffn=128, layers=48, card=32, text_dim=24)
    config = Config(lm, AdapterConfig(48, 20), mx.float16, Quantization(4, 32))
    codec = CodecConfig(dimension=8, n_filters=2, bins=32)
    write_bundle(tmp_path / "deep", config=config, codec=codec, t5=T5Dims(24, 8, 2, 32, 1, 256))
    model = InstructMusicGen.from_pretrained(tmp_path / "deep", backend="reference")
    codes = mx.array(np.random.default_rng(1).integers(0, 32, (1, 4, 12)), dtype=mx.int32)
    got = np.array(model.edit_codes(codes, "Music piece. Instruct: Only Drums.", greedy=True))
    assert got.shape == (1, 4, 12) and len(np.unique(got)) > 8
