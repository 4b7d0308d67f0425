"""Scales that are 10 % off, in one layer, one matrix, the adapter or a single row: what must notice, and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.fidelity import page as fidelity_page
from bench.variants import parse
from model.bundle.bundle import demo_path
from model.convert.convert import convert
from model.evaluation.fidelity import inputs as material
from model.evaluation.fidelity import measure as fidelity_measure
from model.evaluation.fidelity.measure import Fidelity, FidelitySettings
from model.quantize.recipes import RECIPES

from ..conftest import GOLDEN, damaged

pytestmark = pytest.mark.slow

TEXT = "Music piece. Instruct: Only Drums."
HEALTHY = ("lm", "adapter", "attention", "share")


def compare(exact: Path, *others: Path, by: tuple[str, ...] = ()) -> list[Fidelity]:
    variants = parse(str(exact), [str(path) for path in others], backend="reference")
    codes = material.seeded(variants[0].bundle.config.lm, [TEXT], 20, 3)
    return fidelity_measure.measure(variants, codes, FidelitySettings(by=by))[1:]


def changed_layers(healthy: Fidelity, other: Fidelity) -> set[int]:
    """Those whose own errors are not what they were, to the last bit."""
    own = [[tuple(getattr(e, n) for n in HEALTHY) for e in f.layers] for f in (healthy, other)]
    return {layer for layer, (a, b) in enumerate(zip(*own)) if a != b}


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_layer(layer: int, bundles: dict[str, Path], tmp_path: Path) -> None:
    place = damaged(bundles["four"], tmp_path / "damaged", f"layers.{layer}.")
    healthy, found = compare(bundles["exact"], bundles["four"], place, by=("layer",))
    assert found.stands_out == layer and healthy.stands_out is None
    assert changed_layers(healthy, found) == {layer}
    assert found.kl > healthy.kl and found.kl_p95 > healthy.kl_p95 and found.top1 < healthy.top1
    assert found.topk < healthy.topk and found.perplexity > healthy.perplexity
    assert found.layers[-1].stream > healthy.layers[-1].stream
    costs = [{c.part.name: c.kl for c in f.costs["layer"]} for f in (healthy, found)]
    assert {name for name in costs[0] if costs[0][name] != costs[1][name]} == {f"layer {layer}"}
    assert costs[1][f"layer {layer}"] > costs[0][f"layer {layer}"]
    assert {m.module.split(".")[1] for m in found.scaled()} == {str(layer)} and len(found.scaled()) == 10


MATRICES = [f"self_attn.{p}_proj" for p in ("q", "k", "v", "out")]
MATRICES += [f"cross_attn.{p}_proj" for p in ("q", "k", "v", "out")] + ["linear1", "linear2"]


@pytest.mark.parametrize("matrix", MATRICES)
def test_a_matrix_and_a_row(matrix: str, bundles: dict[str, Path], tmp_path: Path) -> None:
    module = f"layers.2.{matrix}"
    whole = damaged(bundles["four"], tmp_path / "whole", f"{module}.")
    # In rows of 64 weights rounding alone gives a gain of 1 % or 2 %, and a scale without its bias shifts the row too.
    part = damaged(bundles["four"], tmp_path / "row", f"{module}.", 17, factor=1.1 if matrix == "linear2" else 1.25)
    healthy, found, row = compare(bundles["exact"], bundles["four"], whole, part)
    assert [m.module for m in found.scaled()] == [module]
    assert changed_layers(healthy, found) == changed_layers(healthy, row) == {2}
    assert found.layers[2].own > healthy.layers[2].own
    # The same matrix tells the adapter's layer from the text attention, which the adapter doesn't have.
    assert (found.layers[2].adapter != healthy.layers[2].adapter) == (not matrix.startswith("cross"))
    assert not row.scaled()
    assert [(m.module, m.row) for m in row.matrices if m.row_scaled] == [(module, 17)]
    assert f"row 17 of {module}" in fidelity_page.weights_verdict(row)
    assert "in layer(s) 2: damage" in fidelity_page.weights_verdict(found)


@pytest.mark.parametrize(("module", "layer"), [("cp_transformer.merge_linear.1", 1), ("linears.2", None)])
def test_the_adapter_and_the_heads(module: str, layer: int | None, bundles: dict[str, Path], tmp_path: Path) -> None:
    mixed = convert(
        adapter=GOLDEN / "upstream.ckpt", base=GOLDEN / "base", t5=GOLDEN / "t5", out=tmp_path / "m", recipe="mixed"
    )
    place = damaged(mixed, tmp_path / "damaged", f"{module}.")
    healthy, found = compare(bundles["exact"], mixed, place, by=("kind",))
    assert [m.module for m in found.scaled()] == [module] and found.kl > healthy.kl
    if layer is None:
        assert not changed_layers(healthy, found)
        assert found.ends["output heads"] > 2 * healthy.ends["output heads"]
    else:
        assert changed_layers(healthy, found) == {layer}
        assert found.layers[layer].adapter > healthy.layers[layer].adapter
        assert found.ends == healthy.ends
    kinds = [{c.part.name: c.kl for c in f.costs["kind"]} for f in (healthy, found)]
    kind = "output heads" if layer is None else "adapter.merge_linear"
    assert {name for name in kinds[0] if kinds[0][name] != kinds[1][name]} == {kind}
    assert kinds[1][kind] > kinds[0][kind]


@pytest.mark.parametrize("recipe", RECIPES)
def test_no_recipe_is_taken_for_damage(recipe: str, bundles: dict[str, Path], tmp_path: Path) -> None:
    clips = [demo_path().parent / "clip.flac"] if RECIPES[recipe].calibrated else []
    out = convert(
        adapter=GOLDEN / "upstream.ckpt",
        base=GOLDEN / "base",
        t5=GOLDEN / "t5",
        out=tmp_path / "b",
        recipe=recipe,
        clips=clips,
    )
    (found,) = compare(bundles["exact"], out)
    assert not found.scaled() and not [m for m in found.matrices if m.row_scaled]
