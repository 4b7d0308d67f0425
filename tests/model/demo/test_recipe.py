"""Every stage at toy size, end to end: sketched songs in, an edit by the converted bundle out. Needs torch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from model.convert.convert import convert
from model.demo.training.__main__ import main
from model.demo.training.edits.sentences import canonical
from model.demo.training.workspace import Workspace

pytestmark = [pytest.mark.train, pytest.mark.slow]
CODEC = ["--steps", "4", "--decoder-steps", "3", "--batch", "1", "--measured", "7"]


def stage(work: Path, name: str, *more: str) -> None:
    assert main([name, "--work", str(work), *more]) == 0


@pytest.fixture(scope="module")
def encoded(sketched: Path) -> Path:
    stage(sketched, "codec", *CODEC)
    stage(sketched, "encode", "--validation", "1")
    return sketched


@pytest.fixture(scope="module")
def trained(encoded: Path) -> Path:
    stage(encoded, "model", "--steps", "2", "--batch", "1", "--measured", "2")
    stage(encoded, "model", "--anneal", "1", "--batch", "1", "--measured", "1")
    stage(encoded, "export", "--out", str(encoded / "export"))
    return encoded


@pytest.fixture(scope="module")
def bundle(trained: Path) -> Path:
    export = trained / "export"
    paths: dict[str, Any] = {"adapter": export / "adapter.ckpt", "base": export / "base", "t5": export / "t5"}
    return convert(**paths, out=trained / "bundle", bits=32, trained_frames=250)


def test_the_log_tells_what_each_stage_measured(trained: Path) -> None:
    log = Workspace(trained).log()
    assert [row["step"] for row in log["codec"]] == [4, 7] and log["codec"][0]["frozen"]
    assert len(log["codec"][-1]["mix"]) == 2
    assert [row["step"] for row in log["model"]] == [2] and [row["step"] for row in log["anneal"]] == [3]
    assert {"only", "no", "add", "loss"} == set(log["model"][0]["held-out"])


def test_a_codec_that_was_stopped_goes_on_as_if_it_had_not_been(
    encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from model.demo.training.codec import train

    update, stop = train.Run.update, [99]

    def stopping(run: train.Run, audio: torch.Tensor) -> dict[str, torch.Tensor]:
        if run.step == stop[0]:
            raise KeyboardInterrupt
        return update(run, audio)

    monkeypatch.setattr(train.Run, "update", stopping)
    settings = train.CodecSettings(
        filters=4, dimension=8, bins=8, batch=1, window=3200, plain=2, steps=4, decoder_steps=3
    )
    states = []
    for first in (99, 3, 5):
        work = Workspace(tmp_path / str(first))
        shutil.copytree(encoded / "songs", work.root / "songs")
        if first != 99:
            stop[0] = first
            with pytest.raises(KeyboardInterrupt):
                train.train_codec(work, settings, "cpu", every=0.0, measured=100)
            stop[0] = 99
        train.train_codec(work, settings, "cpu", every=0.0, measured=100)
        states.append(torch.load(work.root / "codec" / "state.pt", weights_only=True))
    for other in states[1:]:
        for name, value in states[0]["codec"].items():
            assert torch.equal(value, other["codec"][name]), name


def test_a_model_that_was_stopped_goes_on_as_if_it_had_not_been(trained: Path, tmp_path: Path) -> None:
    import torch

    found = []
    for steps in (["2"], ["1", "2"]):
        work = tmp_path / "-".join(steps)
        for part in ("songs", "codes", "codec"):
            shutil.copytree(trained / part, work / part)
        for step in steps:
            stage(work, "model", "--steps", step, "--batch", "1", "--measured", "9")
        found.append(torch.load(work / "model" / "state.pt", weights_only=True)["model"])
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name]), name


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("codec", [*CODEC[:-2], "--seed", "5"], "seed=0, not 5"),
        ("model", ["--steps", "9", "--batch", "2"], "prefixes=1, not 2"),
        ("model", ["--steps", "9", "--batch", "1", "--device", "cuda"], "torch finds no GPU here"),
    ],
)
def test_a_checkpoint_of_other_settings_is_refused(
    name: str, more: list[str], said: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    if "cuda" in more and torch.cuda.is_available():
        return
    assert main([name, "--work", str(trained), *more]) == 1
    assert said in capsys.readouterr().err


def test_the_converted_bundle_computes_what_was_trained(trained: Path, bundle: Path) -> None:
    import torch

    from model.decoding.decode import Decoder
    from model.decoding.sampling import Sampling
    from model.demo.training.codec.train import load_codec
    from model.demo.training.edits.network import Model, apply_delay
    from model.demo.training.edits.tokenizer import Tokens, vocabulary
    from model.demo.training.edits.train import EditSettings
    from model.pipeline import InstructMusicGen

    ours = InstructMusicGen.from_pretrained(bundle, "reference")
    codec, _ = load_codec(trained / "codec" / "last.pt")
    song = np.load(trained / "songs" / "own-0000.npy")[0].sum(axis=0)[:16_000].astype(np.float32)
    codes = codec.encode(torch.tensor(song)[None, None])
    assert (
        np.mean(np.array(ours.encode(mx.array(song))) == codes.numpy()) > 0.9
    )  # the file holds float16, and an untrained codec decides by hairs
    audio = codec.decode(codes)[0, 0].numpy()
    tokens = mx.array(codes.numpy().astype(np.int32))
    assert np.abs(np.array(ours.decode(tokens))[0] - audio).max() < 0.01 * np.abs(audio).max() + 1e-3

    state = torch.load(trained / "model" / "annealed.pt", weights_only=True)
    settings = EditSettings.of(state["settings"])
    model = Model(settings.shape, vocabulary())
    model.load_state_dict(state["model"])
    texts = [canonical("only", 0)]
    ids = torch.tensor(Tokens()(texts))
    with torch.no_grad():
        condition, _ = text = model.condition(ids, torch.ones(1))
        sequence = apply_delay(codes, settings.shape.card)[..., :-1]
        hidden = model(sequence, text, model.prefix(codes), 1)
        wanted = torch.stack([head(hidden) for head in model.linears], 1)[0].numpy()
    assert np.abs(np.array(ours.condition(texts)) - condition.numpy()).max() < 0.01

    frames = codes.shape[-1]
    job = Decoder(ours.lm, ours.adapter, ours.lm.text_kv(ours.condition(texts)), 1.0, Sampling(1.0, 0, 0.0, True))
    clip = mx.concatenate([tokens, mx.full((1, 4, 1), ours.lm.config.special, dtype=mx.int32)], axis=2)
    stream = job.start(clip, frames)
    steps = mx.array(sequence.numpy().astype(np.int32))
    found = np.stack([np.array(job.predict(stream, steps[:, :, j : j + 1])[0]) for j in range(steps.shape[2])], axis=1)
    assert np.abs(found - wanted).max() < 0.02 * np.abs(wanted).max()


def test_the_exports_printed_command_makes_a_bundle_that_edits_in_whole_windows(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from model.bundle.bundle import open_bundle
    from model.cli import main as program

    stage(trained, "export", "--out", str(tmp_path / "export"))
    command = capsys.readouterr().out.partition("instruct-musicgen ")[2].split()
    assert program([str(tmp_path / "bundle") if part == "BUNDLE" else part for part in command]) == 0
    adapter = open_bundle(tmp_path / "bundle").config.adapter
    assert adapter.window_frames == adapter.max_n_frames == 250


def test_a_bundle_is_judged_and_its_edits_are_logged(
    trained: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = trained / "judged.json"
    stage(trained, "judge", "--bundle", str(bundle), "--set", "own", "--songs", "1", "--out", str(out))
    result = json.loads(out.read_text())
    assert len(result["rows"]) == 12 and {row["action"] for row in result["rows"]} == {"only", "no", "add"}
    assert "true target nearest of nine" in capsys.readouterr().out
    assert Workspace(trained).log()["judge"][-1]["set"] == "own"
