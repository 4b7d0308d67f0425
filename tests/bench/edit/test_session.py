"""bench.edit.session and .evidence: what a column measures, and that it can't claim a backend that didn't run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

import reference
from bench import cli, summary
from bench.edit.evidence import Counted, primitives, reference_calls
from bench.edit.session import ColumnSettings, Session
from bench.edit.step_graph import BUILDS
from bench.edit.tables import proof
from bench.summary import fused_primitives, spread, stock_primitives, unfused
from model.stages import STAGES
from tests import backends

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> str:
    from model.synthetic import write_preset

    return str(write_preset("tiny", tmp_path_factory.mktemp("bench") / "demo"))


class Warm(Session):
    """A session that keeps what warming up found."""

    def __init__(self, settings: ColumnSettings) -> None:
        super().__init__(settings)
        self.info = self.warm_up()


@pytest.fixture(scope="module")
def plain(demo: str) -> Warm:
    return Warm(ColumnSettings(demo, "reference", 0.2))


def test_a_round_is_a_whole_edit(plain: Warm) -> None:
    r = plain.round()
    assert set(r.seconds) == set(STAGES) and all(s > 0 for s in r.seconds.values())
    assert len(r.step_seconds) == plain.total_steps == 13
    # The steps' own times make up the stage: nothing is timed outside of it or twice.
    assert 0.5 * r.seconds["steps"] < sum(r.step_seconds) <= r.seconds["steps"]
    assert all(done == whole for done, whole in r.measured.values())
    assert r.calls["self_attention"] == 13 * plain.model.lm.config.layers
    assert all(20e6 < b < 4e9 for b in r.peak_rss.values())


def test_a_round_is_the_edit_that_users_run(plain: Warm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a copy of the pipeline: what it measures cannot drift from what runs."""
    ran = []
    plain_steps = plain.model.edit_steps
    monkeypatch.setattr(plain.model, "edit_steps", lambda *a, **k: ran.append(a) or plain_steps(*a, **k))
    plain.round()
    assert len(ran) == 1


def test_more_clips_than_run_together_are_edited_in_batches(demo: str) -> None:
    session = Session(ColumnSettings(demo, "reference", 0.06, batch=9))
    info = session.warm_up()
    r = session.round()
    assert len(r.step_seconds) == session.total_steps == info.geometry.steps == 2 * 6
    assert r.measured["adapter"] == (8, 8) and info.geometry.batch == 9


def test_the_reference_says_so(plain: Warm) -> None:
    assert plain.info.backend == "reference"
    assert stock_primitives(plain.info.step_primitives)["QuantizedMatmul"] == 24
    assert plain.info.reference_calls["int4_matmul"] > 0


@pytest.mark.parametrize("backend", [name for name in backends.names() if name != "interpreter"])
def test_building_a_steps_graph_is_timed_apart_from_running_it(demo: str, backend: str) -> None:
    session = Warm(ColumnSettings(demo, backend, 0.1))
    first, second = session.round(), session.round()
    assert len(first.build_seconds) == len(second.build_seconds) == BUILDS
    # It is the graph of a whole step, in which nothing has run; and what it does is none of a round's calls.
    graph = session._graph
    assert graph is not None
    nodes = primitives(graph.build())
    layers = session.model.lm.config.layers
    assert sum(nodes.values()) == pytest.approx(sum(session.info.step_primitives.values()), rel=0.1, abs=30)
    writes = sum(nodes.get(name, 0) for name in ("SliceUpdate", "write_cache", "self_attention"))
    assert writes == layers, nodes
    assert first.calls == second.calls
    mx.eval(graph.build())  # it can run, and its caches are as they were
    assert sum(primitives(graph.build()).values()) == sum(nodes.values())


@pytest.mark.backend("interpreter")
def test_what_runs_at_once_builds_no_graph(demo: str) -> None:
    session = Warm(ColumnSettings(demo, "interpreter", 0.06, steps=1))
    assert session.round().build_seconds == []


@pytest.mark.skipif("native" not in backends.names(), reason="no C++ compiler: no native backend")
def test_the_fused_column_ran_fused_code(demo: str) -> None:
    info = Session(ColumnSettings(demo, "native", 0.2)).warm_up()
    assert info.backend == "native" and info.info["isa"]
    assert info.reference_calls == {} and unfused(info) == {}
    assert stock_primitives(info.step_primitives) == {}
    assert sum(fused_primitives(info.step_primitives).values()) >= 4 * 7  # seven fused calls a layer
    column = dataclasses.replace(info, label="fused")
    assert "calls into the reference in a first small edit: none" in proof(column)


@pytest.mark.skipif(mx.metal.is_available(), reason="auto takes the GPU here")
def test_why_no_fused_backend_ran_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INSTRUCT_MUSICGEN_ACTIVATIONS", "int3")
    assert cli.main(["--columns", "fused", "--seconds", "0.1", "--repeat", "1", "--steps", "1"]) == 0
    (line,) = (each for each in capfd.readouterr().out.splitlines() if each.startswith("No fused backend ran"))
    assert "INSTRUCT_MUSICGEN_ACTIVATIONS='int3'" in line


class Impostor:
    """Calls itself native and computes with the reference."""

    name = "native"

    def __getattr__(self, name: Any) -> Any:
        return getattr(reference, name)


@pytest.mark.backend("native")
def test_an_impostor_is_found_out(demo: str) -> None:
    info = Session(ColumnSettings(demo, "native", 0.1), Impostor()).warm_up()
    assert stock_primitives(info.step_primitives)["QuantizedMatmul"] > 0
    assert info.reference_calls["prefix_attention"] > 0 and info.reference_calls["self_attention"] > 0
    assert "prefix_attention" in proof(dataclasses.replace(info, label="fused"))
    assert unfused(info)["prefix_attention"] > 0


@pytest.mark.skipif("native" not in backends.names(), reason="no C++ compiler: no native backend")
def test_one_operation_that_is_not_fused_is_found_out(demo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real backend, its packed product replaced by the reference's."""
    import kernels.native

    monkeypatch.setattr(kernels.native, "int4_matmul", reference.int4_matmul)
    info = Session(ColumnSettings(demo, "native", 0.1)).warm_up()
    assert set(unfused(info)) == {"int4_matmul", "QuantizedMatmul"}


def test_a_slow_column_measures_a_part_and_says_how_much(demo: str) -> None:
    session = Session(ColumnSettings(demo, "reference", 0.6, limit=1e-4))
    info = session.warm_up()
    r = session.round()
    assert r.measured == {
        "codec encode": (10, 30),
        "codec decode": (10, 30),
        "adapter": (1, 4),
        "steps": (3, 33),
    }
    column = dataclasses.replace(info, label="reference", rounds=[r])
    assert summary.projected(column, "steps") and summary.projected(column, summary.WHOLE)
    assert not summary.projected(column, "text")
    assert summary.samples(column, "adapter") == [r.seconds["adapter"] * 4]
    assert len(r.step_seconds) == 3


def test_steps_option_spreads_over_the_clip(demo: str) -> None:
    session = Session(ColumnSettings(demo, "reference", 0.3, steps=4))
    session.warm_up()
    r = session.round()
    assert r.measured["steps"] == (4, 18)
    assert sum(r.step_seconds) <= r.seconds["steps"]  # all four, not the last one
    assert spread(0, 18, 3) == [3, 9, 15] and spread(5, 7, 2) == [5, 6]


def test_batch_and_windows(demo: str) -> None:
    session = Session(ColumnSettings(demo, "reference", 0.1, batch=2))
    session.warm_up()
    assert session.geometry().batch == 2 and session.round().calls["int4_matmul"] > 0


def test_counting_changes_nothing() -> None:
    ops = Counted(reference)
    x, w = mx.ones((2, 8)), mx.ones((3, 8))
    assert mx.array_equal(ops.linear(x, w), reference.linear(x, w))
    assert ops.calls == {"linear": 1} and ops.name == "reference"
    assert ops.compute_dtype(mx.float16) == reference.compute_dtype(mx.float16)


def test_primitives_and_reference_calls() -> None:
    with reference_calls() as calls:
        y = reference.linear(mx.ones((2, 8)), mx.ones((3, 8)))
    assert calls == {"linear": 1}
    assert primitives(y)["Matmul"] == 1


def test_a_part_of_a_clip_of_two_windows(demo: str) -> None:
    """7.5 s: frames 0 to 250, as users' windows are, then 125 to 375 after a prompt of 125.

    Every adapter runs; steps are of both windows.
    """
    session = Session(ColumnSettings(demo, "reference", 7.5, steps=4))
    info = session.warm_up()
    r = session.round()
    layers = session.model.adapter.config.layers
    every = [*range(253), *range(125, 253)]
    assert len(every) == session.total_steps and r.measured["steps"] == (4, len(every))
    assert r.measured["adapter"] == (2 * layers, 2 * layers)
    assert r.calls["attention"] == info.warmup["first"].calls["attention"] + 2 * layers - 1
    assert info.step_positions == [every[i] for i in (47, 142, 238, 333)] and len(r.step_seconds) == 4
    mean = sum(info.step_positions) / 4 + 1
    assert session.traffic()["self cache"] / mean == pytest.approx(2 * 2 * layers * session.model.lm.config.dim * 4)
