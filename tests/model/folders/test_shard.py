"""Every file is exactly one shard's, whoever starts the processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import UsageError
from model.folders.shard import Shard, of_environment, parse

NAMES = st.text(st.characters(exclude_categories=[]), max_size=40)


@given(NAMES, st.integers(1, 50))
def test_each_name_is_in_exactly_one_shard(name: str, size: int) -> None:
    assert [Shard(number, size).holds(name) for number in range(1, size + 1)].count(True) == 1


def test_many_names_are_dealt_about_evenly() -> None:
    counts = [sum(Shard(number, 8).holds(f"song {n}.wav") for n in range(4000)) for number in range(1, 9)]
    assert min(counts) > 400 and max(counts) < 600


@pytest.mark.parametrize("text", ["", "0/8", "9/8", "3", "a/b", "-1/8", "1/0", "1/8/2", "1.5/8", "99999999999/1"])
def test_shards_out_of_range_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="I/N"):
        parse(text)


def test_a_shard_reads_back() -> None:
    assert parse(" 3/8 ")[:2] == (3, 8) and str(parse("3/8")) == "3/8"


def array(task: int, low: int, high: int, count: int) -> dict[str, str]:
    values = {"ID": task, "MIN": low, "MAX": high, "COUNT": count}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


@pytest.mark.parametrize(("known", "want"), [
    ({}, (1, 1)),
    ({"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "4"}, (3, 4)),
    ({"MLX_RANK": "1", "MLX_WORLD_SIZE": "2"}, (2, 2)),
    ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "4"}, (1, 4)),
    ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, (1, 1)),  # a batch script itself: nothing else runs beside it
    (array(0, 0, 7, 8), (1, 8)), (array(8, 1, 8, 8), (8, 8)), (array(5, 1, 9, 5), (3, 5)), (array(4, 4, 4, 1), (1, 1)),
    (array(2, 1, 2, 2) | {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "3"}, (5, 6)),
])  # fmt: skip
def test_launchers_variables_are_understood(known: dict[str, str], want: tuple[int, int]) -> None:
    assert of_environment(known)[:2] == want


def test_arrays_of_several_processes_cover_every_shard_once() -> None:
    found = {
        of_environment(array(task, 1, 3, 3) | {"SLURM_PROCID": str(rank), "SLURM_STEP_NUM_TASKS": "4"})[:2]
        for task in (1, 2, 3)
        for rank in range(4)
    }
    assert found == {(number, 12) for number in range(1, 13)}


def test_mlx_hosts_give_the_size(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text(json.dumps([["127.0.0.1:1"], ["127.0.0.1:2"], ["127.0.0.1:3"]]))
    assert of_environment({"MLX_RANK": "2", "MLX_HOSTFILE": str(hosts)})[:2] == (3, 3)
    hosts.write_text("")
    assert of_environment({"MLX_RANK": "0", "MLX_HOSTFILE": str(hosts)})[:2] == (1, 1)
    hosts.write_text("{")
    for known in ({"MLX_RANK": "0", "MLX_HOSTFILE": str(hosts)}, {"MLX_RANK": "0"}):
        with pytest.raises(UsageError, match="give --shard"):
            of_environment(known)


@pytest.mark.parametrize("known", [
    {"OMPI_COMM_WORLD_RANK": "4", "OMPI_COMM_WORLD_SIZE": "4"}, {"MLX_RANK": "x", "MLX_WORLD_SIZE": "2"},
    {"SLURM_PROCID": "-1", "SLURM_STEP_NUM_TASKS": "4"}, array(3, 1, 7, 3), array(9, 1, 8, 8), array(2, 1, 8, 0),
])  # fmt: skip
def test_variables_that_contradict_each_other_are_refused(known: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="give --shard"):
        of_environment(known)
