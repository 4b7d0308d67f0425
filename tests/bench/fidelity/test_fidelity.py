"""`bench fidelity` on the golden model: equal is exactly equal, damage is ranked and found, plain sums agree."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import soundfile
from scipy.special import log_softmax, rel_entr

from bench.cli import main
from bench.variants import parse
from model.convert.convert import convert
from model.errors import UsageError, UserError
from model.evaluation.fidelity import ablation
from model.evaluation.fidelity import inputs as material
from model.evaluation.fidelity import measure as fidelity_measure
from model.evaluation.fidelity import teacher_forcing as forcing
from model.evaluation.fidelity.matrices import dense
from model.evaluation.fidelity.measure import Fidelity, FidelitySettings
from model.evaluation.variant import Variant

from ..conftest import GOLDEN

pytestmark = pytest.mark.slow

TEXTS = ["Music piece. Instruct: Only Drums.", "Music piece. Instruct: Add Piano."]
FRAMES = 24


@pytest.fixture(scope="module")
def found(bundles: dict[str, Path]) -> dict[str, Fidelity]:
    """exact against itself, 8 bits, 4 bits and damaged 4 bits, over random codes, with every kind of cost."""
    others = [str(bundles[name]) for name in ("exact", "eight", "four", "damaged")]
    variants = parse(str(bundles["exact"]), others, backend="reference")
    codes = material.seeded(variants[0].bundle.config.lm, TEXTS, FRAMES, 0)
    every = fidelity_measure.measure(variants, codes, FidelitySettings(by=("kind", "layer", "matrix")))
    return {each.label: each for each in every}


def test_identical_variants_differ_by_exactly_nothing(found: dict[str, Fidelity]) -> None:
    same = found["exact (2)"]
    assert same.kl == same.kl_p95 == 0 and same.top1 == same.topk == 1
    assert same.perplexity == found["exact"].perplexity
    assert not any(same.kl_by_step) and set(same.equal_by_frame) == {1.0}
    assert not any([e.lm, e.adapter, e.attention, e.share, e.stream] != [0] * 5 for e in same.layers)
    assert not any(same.ends.values()) and not same.costs and same.stands_out is None


def test_every_measure_ranks_the_damaged_bundle_last(found: dict[str, Fidelity]) -> None:
    eight, four, damaged = (found[name] for name in ("eight", "four", "damaged"))
    for name in ("kl", "kl_p95", "perplexity"):
        assert 0 < getattr(eight, name) < getattr(four, name) < getattr(damaged, name), name
    for name in ("top1", "topk"):
        assert getattr(eight, name) > getattr(four, name) > getattr(damaged, name), name
    assert np.mean(damaged.kl_by_step[-8:]) > np.mean(four.kl_by_step[-8:]) > np.mean(eight.kl_by_step[-8:])
    assert damaged.layers[-1].stream > four.layers[-1].stream > eight.layers[-1].stream


def test_the_layer_view_finds_the_damaged_layer(found: dict[str, Fidelity]) -> None:
    four, damaged = found["four"], found["damaged"]
    assert damaged.stands_out == 1 and four.stands_out is None
    for before, after in zip(four.layers, damaged.layers):
        own = [(getattr(before, n), getattr(after, n)) for n in ("lm", "adapter", "attention", "share")]
        # A layer's own errors are its own: the other layers' stay what they were, to the last bit.
        assert all(a == b for a, b in own) if before.layer != 1 else all(b > 1.5 * a for a, b in own)
    assert {m.module.split(".")[1] for m in damaged.scaled()} == {"1"} and len(damaged.scaled()) == 10
    assert not four.scaled() and not found["eight"].scaled()


def test_costs_name_what_was_damaged(found: dict[str, Fidelity]) -> None:
    costs = {c.part.name: c.kl for c in found["damaged"].costs["layer"]}
    healthy = {c.part.name: c.kl for c in found["four"].costs["layer"]}
    assert costs["layer 1"] > 1.5 * healthy["layer 1"]
    assert all(costs[name] == healthy[name] for name in healthy if name != "layer 1")
    assert costs["output heads"] == 0  # not quantized
    by_matrix = found["four"].costs["matrix"]
    assert len(by_matrix) == 3 * 10 + 3 + 4 and [c.kl for c in by_matrix] == sorted(
        (c.kl for c in by_matrix), reverse=True
    )


def test_layers_without_prefix_and_own_error() -> None:
    from model.evaluation.fidelity.layers import Comparison, LayerError

    nan = float("nan")
    layers = [LayerError(i, 0.1, nan, nan, nan, 0.1) for i in range(3)] + [LayerError(3, 0.11, 0.2, 0.1, 0.1, 0.3)]
    worst = Comparison(layers, {}).stands_out()
    assert worst is not None and worst.layer == 3 and worst.own == 0.2
    assert Comparison(layers[:3], {}).stands_out() is None


def test_forced_logits_are_those_of_generation(bundles: dict[str, Path]) -> None:
    """Forcing what the model itself says greedily must make each forced token the most probable one."""
    (variant,) = parse(str(bundles["exact"]), backend="reference")
    model = variant.load()
    (each,) = material.seeded(model.lm.config, TEXTS[:1], FRAMES, 1)
    greedy = model.edit_codes(each.condition, each.text, greedy=True)
    work = forcing.decoder(model, model.condition([each.text]), 3.0)
    logits = forcing.forced(work, each, greedy)
    tokens, inside = forcing.expected(greedy, model.lm.config.special)
    assert (logits.argmax(axis=-1)[inside] == tokens[inside]).all()
    assert inside.sum() == FRAMES * 4 and logits.shape == (FRAMES + 3, 4, model.lm.config.card)
    # The chunk is the same positions at once, but for the last ones.
    part = forcing.teacher_window(each, greedy, model.lm.config.special, guided=True)
    np.testing.assert_allclose(forcing.window_logits(work, part), logits[:FRAMES], atol=2e-4)


def test_numbers_against_plain_sums(bundles: dict[str, Path]) -> None:
    """KL and perplexity of the 4-bit bundle once more, from logits of the model and scipy, token by token."""
    variants = parse(str(bundles["exact"]), [str(bundles["four"])], backend="reference")
    lm = variants[0].bundle.config.lm
    rng = np.random.default_rng(5)
    codes = [mx.array(rng.integers(0, lm.card, (1, 4, 9)).astype(np.int32)) for _ in range(2)]
    given = [material.Material("given", TEXTS[0], codes[0], codes[1])]
    _, four = fidelity_measure.measure(variants, given, FidelitySettings(by=()))
    logits = []
    for variant in variants:
        model = variant.load()
        logits.append(forcing.forced(forcing.decoder(model, model.condition(TEXTS[:1]), 3.0), given[0], codes[1]))
    p, q = (log_softmax(x.astype(np.float64), axis=-1) for x in logits)
    target = np.array(codes[1])[0]
    divergences, surprises = [], []
    for frame in range(9):
        for book in range(4):  # frame t of codebook k is predicted at position t + k
            at = frame + book
            divergences.append(rel_entr(np.exp(p[at, book]), np.exp(q[at, book])).sum())
            surprises.append(-q[at, book, target[book, frame]])
    assert four.kl == pytest.approx(np.mean(divergences), rel=1e-9)
    assert four.kl_p95 == pytest.approx(np.percentile(divergences, 95), rel=1e-9)
    assert four.perplexity == pytest.approx(np.exp(np.mean(surprises)), rel=1e-9)


def test_swapping_everything_makes_the_other_model(bundles: dict[str, Path]) -> None:
    """The reference with all matrices of the other predicts as the other: no part is left out or swapped wrongly."""
    variants = parse(str(bundles["exact"]), [str(bundles["four"])], backend="reference")
    reference, other = (v.load() for v in variants)
    (each,) = material.seeded(reference.lm.config, TEXTS[:1], FRAMES, 2)
    part = forcing.teacher_window(each, each.condition, reference.lm.config.special, guided=True)
    alone = [forcing.window_logits(forcing.decoder(m, m.condition(TEXTS[:1]), 3.0), part) for m in (reference, other)]
    modules = list(ablation.swappable(reference))
    both = ablation.swapped(reference, other, modules)
    mixed = forcing.window_logits(forcing.decoder(both, reference.condition(TEXTS[:1]), 3.0), part)
    again = forcing.window_logits(forcing.decoder(reference, reference.condition(TEXTS[:1]), 3.0), part)
    assert np.array_equal(again, alone[0])
    # What is left are embeddings, norms and positions, which a 4-bit bundle rounds to float16.
    size = np.linalg.norm(alone[1] - alone[0])
    assert np.linalg.norm(mixed - alone[1]) < 0.02 * size


def test_quantizing_in_memory_is_what_convert_writes(bundles: dict[str, Path]) -> None:
    memory = parse(str(bundles["exact"]), bits=[4], backend="reference")[1]
    (written,) = parse(str(bundles["four"]), backend="reference")
    for module in ("layers.0.self_attn.q_proj", "layers.2.linear2"):
        a, b = np.array(dense(memory.bundle, module)), np.array(dense(written.bundle, module))
        assert np.array_equal(a, b)
    assert memory.megabytes == written.megabytes
    names = ["emb.1.weight", "layers.0.norm1.bias", "cp_transformer.pos_emb", "cp_transformer.gates"]
    ours, theirs = memory.bundle.load(names), written.bundle.load(names)
    assert all(mx.array_equal(ours[n], theirs[n]) and ours[n].dtype == theirs[n].dtype for n in names)


def test_a_recipe_in_memory_is_what_convert_writes(bundles: dict[str, Path], tmp_path: Path) -> None:
    memory = parse(str(bundles["exact"]), recipes=["mixed"], backend="reference")[1]
    out = convert(
        adapter=GOLDEN / "upstream.ckpt", base=GOLDEN / "base", t5=GOLDEN / "t5", out=tmp_path / "m", recipe="mixed"
    )
    (written,) = parse(str(out), backend="reference")
    assert memory.megabytes == written.megabytes
    for module in ("layers.0.self_attn.q_proj", "layers.1.linear1", "linears.3", "cp_transformer.merge_linear.2"):
        assert np.array_equal(np.array(dense(memory.bundle, module)), np.array(dense(written.bundle, module)))


def test_recipes_pay_on_codes_that_nothing_was_chosen_on(bundles: dict[str, Path]) -> None:
    """On this random model; see docs/recipes.md for what that says of trained ones."""
    variants = parse(str(bundles["exact"]), recipes=["plain", "mse", "mixed"], backend="reference")
    codes = material.seeded(variants[0].bundle.config.lm, TEXTS, FRAMES, 77)
    _, plain, mse, mixed = fidelity_measure.measure(variants, codes, FidelitySettings(by=()))
    assert mse.kl < plain.kl and mixed.kl < 0.75 * plain.kl
    assert mixed.top1 > plain.top1 and mixed.perplexity < plain.perplexity


def test_calibration_pays_on_codes_it_did_not_see(bundles: dict[str, Path], tmp_path: Path) -> None:
    """Calibrated on noise through the codec, measured on random codes and other instructions."""
    for seed in range(4):
        noise = np.cumsum(np.random.default_rng(seed).standard_normal(32_000 * 4)) % 7 - 3
        soundfile.write(tmp_path / f"{seed}.wav", noise / 20, 32_000, "FLOAT")
    source = {"adapter": GOLDEN / "upstream.ckpt", "base": GOLDEN / "base", "t5": GOLDEN / "t5"}
    made = [
        str(convert(**source, out=tmp_path / name, recipe=name, clips=sorted(tmp_path.glob("*.wav"))))
        for name in ("calibrated", "calibrated-mixed")
    ]
    variants = parse(str(bundles["exact"]), made, recipes=["mse", "mixed"], backend="reference")
    texts = [f"Music piece. Instruct: {verb} Strings." for verb in ("Extract", "Double", "Mute", "Soften")]
    codes = material.seeded(variants[0].bundle.config.lm, texts, 40, 77)
    _, ours, ours_mixed, mse, mixed = fidelity_measure.measure(variants, codes, FidelitySettings(by=()))
    assert ours.kl < 0.95 * mse.kl and ours_mixed.kl < 0.95 * mixed.kl
    assert ours.megabytes == mse.megabytes and ours_mixed.megabytes == mixed.megabytes


def test_backends_agree(bundles: dict[str, Path]) -> None:
    variants = parse(str(bundles["four"]), backends=["auto"], backend="reference")
    codes = material.seeded(variants[0].bundle.config.lm, TEXTS[:1], FRAMES, 0)
    _, other = fidelity_measure.measure(variants, codes, FidelitySettings())
    assert other.kl < 1e-6 and other.top1 > 0.98 and other.layers[-1].stream < 1e-4


@contextmanager
def refused(kind: type[Exception], message: str) -> Iterator[None]:
    with pytest.raises(kind, match=message):
        yield


def test_bad_variants_say_what_is_wrong(bundles: dict[str, Path], tmp_path: Path) -> None:
    exact, four = str(bundles["exact"]), str(bundles["four"])
    with refused(UsageError, "already has 4 bits"):
        parse(four, bits=[8])
    with refused(UsageError, "choose 4 or 8"):
        parse(exact, bits=[3])
    with refused(UsageError, "recipe 'best' is not known"):
        parse(exact, recipes=["best"])
    with refused(UsageError, "convert --recipe calibrated"):
        parse(exact, recipes=["calibrated"])
    with refused(UserError, "does not exist"):
        parse(exact, ["./nothing"])
    labels = [v.label for v in parse(exact, [exact, f"{exact}@reference"], bits=[4])]
    assert labels == ["exact", "exact (2)", "exact@reference", "4 bits"]
    assert isinstance(parse(exact)[0], Variant)


def test_codes_from_a_file(bundles: dict[str, Path], tmp_path: Path) -> None:
    lm = parse(str(bundles["exact"]))[0].bundle.config.lm
    codes = np.random.default_rng(0).integers(0, lm.card, (2, 4, 30)).astype(np.int32)
    np.savez(tmp_path / "codes.npz", condition=codes, target=codes[:, :, ::-1])
    read = material.from_file(tmp_path / "codes.npz", lm, TEXTS, 20)
    assert [m.name for m in read] == ["codes 0"] * 2 + ["codes 1"] * 2
    assert np.array_equal(np.array(read[2].condition), codes[1:, :, :20])
    assert read[2].target is not None and np.array_equal(np.array(read[2].target), codes[1:, :, ::-1][:, :, :20])
    for name, arrays, message in (
        ("none", {"codes": codes}, "no array `condition`"),
        ("shape", {"condition": codes[:, :3]}, "must be"),
        ("range", {"condition": codes + lm.card}, "integers from 0"),
    ):
        np.savez(tmp_path / f"{name}.npz", **arrays)
        with refused(UserError, message):
            material.from_file(tmp_path / f"{name}.npz", lm, TEXTS, 20)
    (tmp_path / "bad.npz").write_bytes(b"no zip")
    with refused(UserError, "cannot be read"):
        material.from_file(tmp_path / "bad.npz", lm, TEXTS, 20)


def test_command_writes_one_page(bundles: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["fidelity", "--model", str(bundles["exact"]), "--against", str(bundles["damaged"]), "--frames", "12"]
    assert main([*arguments, "--backend", "reference", "--texts", TEXTS[0], "--out", str(out)]) == 0
    text = capsys.readouterr().out
    for line in ("## Predictions", "## Drift", "Layer 1 stands out", "10 of 37 matrices are scaled", "## Not measured"):
        assert line in text
    assert "MusicGen-large 48 of 2048" in text
    assert (out / "fidelity.png").read_bytes().startswith(b"\x89PNG")
    page = (out / "fidelity.html").read_text()
    assert "data:image/png;base64," in page and "<table>" in page
    variants = json.loads((out / "fidelity.json").read_text())["variants"]
    assert [v["label"] for v in variants] == ["exact", "damaged"] and len(variants[1]["kl_by_step"]) == 15


@pytest.mark.parametrize("option", ["--frames", "--probes", "--agreement"])
def test_usage_errors(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fidelity", option, "0"]) == 2
    assert "must be at least 1" in capsys.readouterr().err


def test_keys_name_the_tensors_of_a_bundle_whose_names_tell_nothing(bundles: dict[str, Path], tmp_path: Path) -> None:
    path, keys = tmp_path / "opaque", tmp_path / "keys.json"
    shutil.copytree(bundles["exact"], path)
    tensors: Any = mx.load(str(path / "model.safetensors"))
    mx.eval(tensors)
    named = {f"x{n}": f"layers.{n}.self_attn.q_proj.weight" for n in range(2)}
    for opaque, name in named.items():
        tensors[opaque] = tensors.pop(name)
    mx.save_safetensors(str(path / "model.safetensors"), tensors)
    with pytest.raises(UserError):
        parse(str(path), backend="reference")
    keys.write_text(json.dumps(named))
    (found,) = parse(str(path), backend="reference", keys=str(keys))
    (whole,) = parse(str(bundles["exact"]), backend="reference")
    for name in named.values():
        assert mx.array_equal(found.bundle.tensors[name], whole.bundle.tensors[name])
