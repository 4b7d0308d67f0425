"""`edit` from file to file: upstream's result, the Python API's result, lengths, rates, levels, notices."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import soundfile

from model import InstructMusicGen
from model.bundle.bundle import demo_path
from tests import backends

from .conftest import GOLDEN, TEXT, Run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
DEMO_CLIP = ROOT / "model" / "demo" / "clip.flac"


def on(bundle: Path) -> tuple[str | Path, ...]:
    return "--model", bundle, "--backend", "reference"


def test_short_and_long_clip_come_out_as_upstream_edits_them(
    tmp_path: Path, bundle: Path, chain: dict[str, np.ndarray], clip: Path, run: Run
) -> None:
    """WAV to WAV, greedy, one window and two; float32 sums in another order are all that may differ."""
    encodec = mx.load(str(GOLDEN / "encodec.safetensors"))
    assert isinstance(encodec, dict)
    long_clip = tmp_path / "long.wav"
    soundfile.write(long_clip, np.array(encodec["clip.audio"]).ravel(), 32_000, subtype="FLOAT")
    for source, name in ((clip, "short"), (long_clip, "long")):
        out = tmp_path / "out.wav"
        done = run("edit", source, "-i", TEXT, "-o", out, *on(bundle), "--greedy", "--backend", "reference")
        assert done.code == 0, done
        got, rate = soundfile.read(out, dtype="float32")
        assert rate == 32_000 and len(got) == soundfile.info(source).frames
        if name == "short":
            pairs = [(got, chain["short.out_audio"].ravel()[: len(got)])]
        else:
            tail = int(chain["long.out_audio_len"].item()) - 2048
            pairs = [(got[:2048], chain["long.out_audio_head"].ravel()),
                     (got[tail:], chain["long.out_audio_tail"].ravel()[: len(got) - tail])]  # fmt: skip
        for mine, theirs in pairs:
            assert len(mine) > 1000 and np.abs(mine - theirs).max() < 1e-3


@pytest.mark.parametrize("options", [
    {"greedy": True}, {"seed": 5}, {"seed": 6, "top_k": 3}, {"seed": 5, "top_p": 0.8, "temperature": 0.7},
    {"guidance": 1.0}, {"max_steps": 9, "greedy": True},
])  # fmt: skip
def test_options_reach_the_model(tmp_path: Path, bundle: Path, clip: Path, run: Run, options: dict[str, float]) -> None:
    """The file holds bit for bit what the Python API returns for the same options."""
    flags = [f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}") for name, value in options.items()]
    command = ("edit", clip, "-i", TEXT, "-o", tmp_path / "out.wav", *on(bundle))
    assert run(*command, *flags).code == 0
    model = InstructMusicGen.from_pretrained(bundle, backend="reference")
    want = model.generate(TEXT, mx.array(soundfile.read(clip, dtype="float32")[0]), **options)
    assert np.array_equal(soundfile.read(tmp_path / "out.wav", dtype="float32")[0], np.array(want))


@pytest.mark.parametrize("backend", [name for name in backends.names() if name != "interpreter"])
def test_same_seed_same_bytes_and_another_seed_others(tmp_path: Path, clip: Path, run: Run, backend: str) -> None:
    outs = []
    for seed in (3, 3, 4):
        out = tmp_path / "out.wav"
        command = ("edit", clip, "-i", TEXT, "-o", out, "--model", demo_path(), "--backend", backend)
        assert f"backend {backend}" in run(*command, "--seed", str(seed)).out
        outs.append(out.read_bytes())
    assert outs[0] == outs[1] != outs[2]


def test_keep_rate_keeps_the_exact_length(tmp_path: Path, bundle: Path, run: Run) -> None:
    source = tmp_path / "in.flac"
    soundfile.write(source, np.random.default_rng(0).normal(0, 0.1, (14_001, 2)), 44_100)
    for flags, rate, frames in (((), 32_000, round(14_001 * 32_000 / 44_100)), (("--keep-rate",), 44_100, 14_001)):
        out = tmp_path / "out.flac"
        assert run("edit", source, "-i", TEXT, "-o", out, *on(bundle), "--greedy", *flags).code == 0
        info = soundfile.info(out)
        assert (info.samplerate, info.frames, info.channels, info.subtype) == (rate, frames, 1, "PCM_24")


def test_report_names_backend_length_and_level(tmp_path: Path, bundle: Path, clip: Path, run: Run) -> None:
    out = tmp_path / "out.wav"
    done = run("edit", clip, "-i", TEXT, "-o", out, *on(bundle), "--greedy")
    peak = 20 * np.log10(np.abs(soundfile.read(out)[0]).max())
    assert f"{out}: 0.31 s at 32000 Hz, peak {peak:+.1f} dBFS" in done.out
    assert "backend reference: edited in" in done.out and "RTF" in done.out
    assert "peak is above full scale" in done.err and "--normalize" in done.err


def test_normalize_scales_and_does_not_warn(tmp_path: Path, bundle: Path, clip: Path, run: Run) -> None:
    out = tmp_path / "out.wav"
    done = run("edit", clip, "-i", TEXT, "-o", out, *on(bundle), "--greedy", "--normalize")
    assert np.abs(soundfile.read(out)[0]).max() == pytest.approx(10 ** (-1 / 20), rel=1e-5)
    assert "peak -1.0 dBFS" in done.out and "full scale" not in done.err


def test_flac_scales_what_it_cannot_hold_and_says_by_how_much(
    tmp_path: Path, bundle: Path, clip: Path, run: Run
) -> None:
    command = ("edit", clip, "-i", TEXT, *on(bundle), "--greedy", "-o")
    done = run(*command, tmp_path / "out.flac")
    assert "more than the format holds; scaled by -" in done.err
    run(*command, tmp_path / "out.wav")
    loud, scaled = (soundfile.read(tmp_path / name)[0] for name in ("out.wav", "out.flac"))
    assert np.abs(scaled - loud / np.abs(loud).max()).max() < 2**-22


def test_quiet_prints_nothing(tmp_path: Path, bundle: Path, clip: Path, run: Run) -> None:
    done = run("edit", clip, "-i", TEXT, "-o", tmp_path / "o.wav", *on(bundle), "--quiet", "--max-steps", "5")
    assert done == (0, "", "")


@pytest.mark.skipif("native" in backends.missing(), reason="the native backend does not run on this machine")
def test_int8_activations_are_used_when_asked_and_named(
    tmp_path: Path, clip: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kernels import native

    monkeypatch.setattr(native._settings, "activations", "float32")  # undone at the end
    command = ("edit", clip, "-i", TEXT, "--model", demo_path(), "--backend", "native", "--greedy", "-o")
    plain = run(*command, tmp_path / "plain.wav")
    coarse = run(*command, tmp_path / "int8.wav", "--activations", "int8")
    assert "float32 activations" in plain.out and "int8 activations" in coarse.out
    assert (tmp_path / "plain.wav").read_bytes() != (tmp_path / "int8.wav").read_bytes()


@pytest.mark.skipif("native" in backends.missing(), reason="the native backend does not run on this machine")
def test_caches_of_16_bits_are_kept_when_asked(
    tmp_path: Path, clip: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kernels import native
    from model.network.state import LayerState
    from model.network.transformer import Layer

    monkeypatch.setattr(native._settings, "caches", "float32")  # undone at the end
    made: set[mx.Dtype] = set()
    whole = Layer.self_attention

    def attend(layer: Layer, x: mx.array, state: LayerState) -> mx.array:
        out = whole(layer, x, state)
        made.add(state.cache.kv.dtype)
        return out

    monkeypatch.setattr(Layer, "self_attention", attend)
    command = ("edit", clip, "-i", TEXT, "--model", demo_path(), "--backend", "native", "--max-steps", "5", "-o")
    run(*command, tmp_path / "plain.wav")
    assert made == {mx.float32}
    made.clear()
    half = run(*command, tmp_path / "half.wav", "--caches", "float16")
    assert made == {mx.float16} and "float16 caches" in half.out


def test_caches_of_16_bits_elsewhere_are_refused(tmp_path: Path, bundle: Path, clip: Path, run: Run) -> None:
    done = run("edit", clip, "-i", TEXT, "-o", tmp_path / "o.wav", *on(bundle), "--caches", "float16")
    done.fails(2, "--caches float16", "reference")


def test_int8_activations_elsewhere_are_refused(tmp_path: Path, bundle: Path, clip: Path, run: Run) -> None:
    done = run("edit", clip, "-i", TEXT, "-o", tmp_path / "o.wav", *on(bundle), "--activations", "int8")
    done.fails(2, "--activations int8", "unquantized", "reference")


def test_without_model_the_demo_is_taken_and_says_what_it_is(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.bundle.hub.cached", lambda name: False)
    for model in ((), ("--model", "demo"), ("--model", demo_path())):
        done = run("edit", DEMO_CLIP, "-i", TEXT, "-o", tmp_path / "o.wav", "--max-steps", "10", *model)
        assert done.code == 0 and ("small demo that ships with this program, which learned" in done.err) == (not model)
        assert "smoke test" not in done.err and soundfile.info(tmp_path / "o.wav").frames == 6400


def test_without_model_a_cached_bundle_is_used_and_named(
    tmp_path: Path, bundle: Path, clip: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.bundle.hub.cached", lambda name: name == "aufklarer/Instruct-MusicGen-MLX-4bit")
    monkeypatch.setattr("model.bundle.hub.resolve", lambda n, **_: bundle if "aufklarer" in str(n) else Path(n))
    done = run("edit", clip, "-i", TEXT, "-o", tmp_path / "o.wav", "--max-steps", "5")
    assert done.code == 0 and "aufklarer/Instruct-MusicGen-MLX-4bit, from the cache" in done.err


def test_as_a_program_the_whole_demo_clip(tmp_path: Path) -> None:
    """The README's command, as a process: the edit is as long as the clip and not silent."""
    out = tmp_path / "edited.wav"
    argv = [sys.executable, "-m", "model.cli", "edit", DEMO_CLIP, "-i", TEXT, "-o", out, "--model", demo_path()]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    edited, rate = soundfile.read(out)
    clip = soundfile.info(DEMO_CLIP)
    assert rate == 32_000 and len(edited) == round(clip.frames * 32_000 / clip.samplerate)
    assert np.isfinite(edited).all() and edited.std() > 1e-4
