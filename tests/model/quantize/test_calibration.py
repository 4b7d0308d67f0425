"""Calibrated rounding: its arithmetic against plain formulas, the inputs seen against a whole run, and the bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import soundfile

import kernels
from model import InstructMusicGen
from model.bundle.bundle import open_bundle
from model.config import Quantization
from model.convert.convert import convert
from model.errors import UsageError, UserError
from model.evaluation.fidelity import teacher_forcing as forcing
from model.evaluation.fidelity.inputs import Material
from model.instructions import Vocabulary
from model.quantize import gptq
from model.quantize.calibration import TEXTS, Calibration
from model.quantize.packing import Parts, least_squares
from reference import oracle

GOLDEN = Path(__file__).parents[2] / "golden" / "A"
SOURCE: dict[str, Any] = {"adapter": GOLDEN / "upstream.ckpt", "base": GOLDEN / "base", "t5": GOLDEN / "t5"}
FOUR = Quantization(4, 32)


def correlated(seed: int, width: int, count: int = 400) -> np.ndarray:
    """Inputs [count, width] whose columns resemble each other and differ in size, as activations do."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((width // 4, width)) * rng.uniform(0.1, 3, width)
    return rng.standard_normal((count, width // 4)) @ mixing + 0.3 * rng.standard_normal((count, width)) + 0.5


def moment(inputs: np.ndarray) -> mx.array:
    return mx.array((inputs.T @ inputs).astype(np.float32))


def weights(seed: int, rows: int, width: int) -> mx.array:
    return mx.array((0.05 * np.random.default_rng(seed).standard_normal((rows, width))).astype(np.float32))


def unpacked(packed: Parts, q: Quantization = FOUR) -> np.ndarray:
    return np.asarray(oracle.dequantize(*packed, group_size=q.group_size, bits=q.bits))


def test_factor_is_the_inverses() -> None:
    h = moment(correlated(0, 96))
    upper = np.array(gptq.inverse_cholesky(h))
    assert np.array_equal(upper, np.triu(upper)) and upper.dtype == np.float64
    damped = np.array(h, dtype=np.float64) + gptq.DAMPING * np.diag(np.array(h)).mean() * np.eye(96)
    np.testing.assert_allclose(upper.T @ upper @ damped, np.eye(96), atol=1e-7)
    assert np.isfinite(np.array(gptq.inverse_cholesky(mx.zeros((32, 32))))).all()  # inputs that were always 0


def test_unrelated_inputs_need_no_feedback() -> None:
    """With H a multiple of the identity nothing can be made up for: the result is the search's, to the bit."""
    w = weights(1, 16, 128)
    h = 7 * mx.eye(128)
    found = gptq.quantize(w, h, gptq.inverse_cholesky(h), FOUR, mx.float16)
    assert all(mx.array_equal(a, b) for a, b in zip(found, least_squares(w, FOUR, mx.float16)))


def test_one_group_against_optimal_brain_quantization_written_out() -> None:
    """The inverse downdated column by column, as the papers derive it; no Cholesky factor."""
    w, h = weights(2, 24, 32), moment(correlated(2, 32))
    damped = np.array(h, dtype=np.float64) + gptq.DAMPING * np.diag(np.array(h)).mean() * np.eye(32)
    inverse, left = np.linalg.inv(damped), np.array(w, dtype=np.float64)
    _, scales, biases = least_squares(w, FOUR, mx.float16)
    s, b = (np.array(x, dtype=np.float64)[:, 0] for x in (scales, biases))
    made = np.zeros_like(left)
    for i in range(32):
        made[:, i] = np.clip(np.round((left[:, i] - b) / s), 0, 15) * s + b
        left -= np.outer(left[:, i] - made[:, i], inverse[i] / inverse[i, i])
        inverse -= np.outer(inverse[:, i], inverse[i]) / inverse[i, i]
    found = unpacked(gptq.gptq_round(np.array(w), np.array(gptq.inverse_cholesky(h)), FOUR, mx.float16))
    np.testing.assert_allclose(found, made, atol=1e-6)


@pytest.mark.parametrize(("bits", "size"), [(4, 32), (4, 64), (8, 128)])
def test_products_with_inputs_not_seen_are_better(bits: int, size: int) -> None:
    w, q = weights(3, 40, 256), Quantization(bits, size)
    inputs = correlated(3, 256, 2000)
    seen, held_out = inputs[:1500], inputs[1500:]
    h = moment(seen)
    plain, found = least_squares(w, q, mx.float16), gptq.quantize(w, h, gptq.inverse_cholesky(h), q, mx.float16)
    assert [(a.dtype, a.shape) for a in found] == [(a.dtype, a.shape) for a in plain]

    def errors(packed: Parts, x: np.ndarray) -> np.ndarray:
        off = unpacked(packed, q) - np.array(w, dtype=np.float64)
        return np.asarray(((x @ off.T) ** 2).sum(axis=0))

    # The choice between the two is made with float32 sums; here they are float64.
    assert (errors(found, seen) <= errors(plain, seen) * (1 + 1e-3)).all()
    assert errors(found, held_out).sum() < 0.6 * errors(plain, held_out).sum()


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("clips")
    for seed in range(2):
        noise = 0.2 * np.random.default_rng(seed).standard_normal(32_000 * 2)
        soundfile.write(out / f"{seed}.wav", np.cumsum(noise) / 20, 32_000, "FLOAT")
    soundfile.write(out / "short.wav", np.full(1000, 0.1), 32_000, "FLOAT")
    return out


class Spy:
    """A backend that keeps the inputs of one matrix."""

    def __init__(self, ops: Any) -> None:
        self.seen: list[Any] = []
        self._ops, self.watched = ops, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ops, name)

    def linear(self, x: mx.array, w: mx.array, *, norm: Any = None, **fused: Any) -> mx.array:
        if id(w) == self.watched:
            y = np.array(x, dtype=np.float64)
            if norm is not None:
                y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + norm.eps)
                y = y * np.array(norm.weight, dtype=np.float64) + np.array(norm.bias, dtype=np.float64)
            self.seen.append(y.reshape(-1, y.shape[-1]))
        return self._ops.linear(x, w, norm=norm, **fused)


def test_the_inputs_seen_are_those_of_the_whole_model(tmp_path: Path, clips: Path) -> None:
    bundle = open_bundle(convert(**SOURCE, out=tmp_path / "exact", bits=32))
    calibration = Calibration(bundle, kernels.load("reference"), [clips / "0.wav"])
    found = list(calibration._moments())
    spy = Spy(kernels.load("reference"))
    model = InstructMusicGen(bundle, spy)
    samples = soundfile.read(clips / "0.wav", dtype="float32")[0]
    codes, window = model.encode(mx.array(samples)), bundle.config.adapter.max_n_frames
    parts = [codes[:, :, at : at + window] for at in range(0, codes.shape[2] - window + 1, window)]
    assert calibration.summary == f"{len(parts)} window(s) of 1 clip(s)" and len(parts) > 1
    last = model.lm.layers[-1]
    for module, weight in (
        ("self_attn.k_proj", last.qkv.parts[0].weight),
        ("cross_attn.v_proj", last.cross_kv.parts[0].weight),
        ("cross_attn.q_proj", last.cross_q.weight),
        ("linear2", last.linear2.weight),
    ):
        spy.watched, spy.seen = id(weight), []
        for part, text in zip(parts, TEXTS):
            chunk = forcing.teacher_window(Material("", text, part, None), part, model.lm.config.special, guided=True)
            forcing.window_logits(forcing.decoder(model, model.condition([text]), 3.0), chunk)
        inputs = np.concatenate(spy.seen)
        expected = inputs.T @ inputs
        close = 2e-4 * np.abs(expected).max()  # float32 sums, and streams of float32 that went two ways
        np.testing.assert_allclose(np.array(found[-1][f"layers.2.{module}"]), expected, atol=close)


@pytest.mark.slow
def test_bundle_keeps_layout_and_size_and_names_what_was_done(tmp_path: Path, clips: Path) -> None:
    made = [
        convert(**SOURCE, out=tmp_path / name, recipe=name, clips=[clips] if "calibrated" in name else ())
        for name in ("plain", "calibrated", "mixed", "calibrated-mixed")
    ]
    assert not list(tmp_path.rglob("*dense*"))
    raw = json.loads((made[1] / "config.json").read_text())["quantization"]
    assert raw["recipe"] == "calibrated" and raw["calibration"].endswith("of 3 clip(s)")
    for plain, ours in (made[:2], made[2:]):
        a, b = (open_bundle(path) for path in (plain, ours))
        layouts = [{name: (s.dtype, s.shape) for name, s in each.sources.items()} for each in (a, b)]
        assert layouts[0] == layouts[1]
        assert a.config.overrides == b.config.overrides
        differ = {n.rpartition(".")[0] for n in a.tensors if not mx.array_equal(a.tensors[n], b.tensors[n])}
        assert differ and all(module.startswith("layers.") for module in differ)
    again = convert(**SOURCE, out=tmp_path / "again", recipe="calibrated", clips=[clips])
    assert (again / "model.safetensors").read_bytes() == (made[1] / "model.safetensors").read_bytes()


def test_what_cannot_be_calibrated(tmp_path: Path, clips: Path) -> None:
    with pytest.raises(UsageError, match="needs --clips"):
        convert(**SOURCE, out=tmp_path / "x", recipe="calibrated")
    with pytest.raises(UsageError, match="plain is not calibrated"):
        convert(**SOURCE, out=tmp_path / "x", clips=[clips])
    with pytest.raises(UserError, match="shorter than half a second"):
        convert(**SOURCE, out=tmp_path / "x", recipe="calibrated", clips=[clips / "short.wav"])
    with pytest.raises(UserError, match="cannot be read"):
        convert(**SOURCE, out=tmp_path / "x", recipe="calibrated", clips=[tmp_path / "none.wav"])
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_it_asks_what_the_bundle_was_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    start = Calibration._start

    def watched(self: Calibration, codes: mx.array, text: str) -> Any:
        asked.append(text)
        return start(self, codes, text)

    monkeypatch.setattr(Calibration, "_start", watched)
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 4 * 40 * 640)
    soundfile.write(tmp_path / "clip.wav", noise, 32_000)
    convert(**SOURCE, out=tmp_path / "b", recipe="calibrated", clips=[tmp_path / "clip.wav"],
            instructions=Vocabulary(("Strings",)))  # fmt: skip
    assert asked == [f"Music piece. Instruct: {verb} Strings." for verb in ("Only", "No", "Add", "Only")]
    assert all("Remove" not in text for text in TEXTS) and "Music piece. Instruct: No Drums." in TEXTS
