"""Threads follow what a container or Slurm gives this process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernels.native import cores

from .test_threads import run


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


GROUPS = {
    "none": ({}, None),
    "v2 unlimited": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
    "v2 own": ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "150000 100000\n"}, 2),
    "v2 parent": ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
                   "sys/fs/cgroup/a/cpu.max": "50000 100000\n"}, 1),
    "v2 in a container": ({"proc/self/cgroup": "0::/docker/1\n", "sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3),
    "v1": ({"proc/self/cgroup": "4:cpu,cpuacct:/j\n0::/\n",
            "sys/fs/cgroup/cpu,cpuacct/j/cpu.cfs_quota_us": "250000\n",
            "sys/fs/cgroup/cpu,cpuacct/j/cpu.cfs_period_us": "100000\n"}, 3),
    "v1 unlimited": ({"proc/self/cgroup": "4:cpu:/\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                      "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, None),
    "nonsense": ({"proc/self/cgroup": "x\n0::/\n\n", "sys/fs/cgroup/cpu.max": "many 0\n"}, None),
}  # fmt: skip


@pytest.mark.parametrize("case", GROUPS)
def test_the_quota_of_every_group_above_counts(tmp_path: Path, case: str) -> None:
    files, want = GROUPS[case]
    assert cores.limit(tree(tmp_path, files), {}) == want


@pytest.mark.parametrize(("task", "want"), [
    ("3", 3), (" 3 ", 3), ("", None), ("0", None), ("two", None), ("8", 4), ("²", None), ("٣", None),
    ("9" * 5000, None),
])  # fmt: skip
def test_slurm_counts_too_and_the_smallest_wins(tmp_path: Path, task: str, want: int | None) -> None:
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "400000 100000\n"} if task == "8" else {}
    assert cores.limit(tree(tmp_path, files), {"SLURM_CPUS_PER_TASK": task}) == want


@pytest.mark.parametrize("told", ["²", "٣", "9" * 5000, "two", ""])
def test_a_number_of_threads_that_is_none_is_left_out(monkeypatch: pytest.MonkeyPatch, told: str) -> None:
    monkeypatch.setattr(cores, "limit", lambda: 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    monkeypatch.setenv("INSTRUCT_MUSICGEN_THREADS", told)
    assert cores.fewer() == 1
    monkeypatch.setenv("INSTRUCT_MUSICGEN_THREADS", "3")
    assert cores.fewer() == 0


@pytest.mark.slow
def test_the_pool_follows_slurm_unless_it_is_told_otherwise() -> None:
    script = "import kernels.native as n; n.set_threads(5); n.set_threads(None); print(n.info()['threads'])"
    fresh = "import kernels.native as n; print(n.info()['threads'])"
    allowed = len(os.sched_getaffinity(0))
    for text in (script, fresh):
        told = {"INSTRUCT_MUSICGEN_THREADS": "", "SLURM_CPUS_PER_TASK": "1"}
        assert run(text, **told).stdout.strip() == "1"
        assert run(text, **told | {"INSTRUCT_MUSICGEN_THREADS": "3"}).stdout.strip() == "3"
        assert run(text, **told | {"SLURM_CPUS_PER_TASK": "4096"}).stdout.strip() == str(cores.fewer() or allowed)
