"""A run that should take a minute and does not says where its time went."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from . import one_minute


def reporter(markexpr: str) -> Any:
    def report(name: str, when: Any, seconds: float) -> pytest.TestReport:
        return pytest.TestReport(name, ("", 0, ""), {}, "passed", None, when, duration=seconds)

    stats = {
        "": [report("quick", "setup", 0.25), report("late", "setup", 2.0), report("late", "teardown", 0.5)],
        "passed": [report("quick", "call", 0.5), report("late", "call", 0.5)],
        "warnings": [object()],
    }
    config = SimpleNamespace(getoption=lambda name: {"markexpr": markexpr}[name])
    return SimpleNamespace(config=config, stats=stats)


def test_the_slowest_tests_are_named_with_what_they_set_up() -> None:
    assert one_minute.summary(reporter("not slow"), 71.2) == [
        "the one-minute loop took 71 s; slowest: late 3.0 s; quick 0.8 s"
    ]


@pytest.mark.parametrize(("markexpr", "seconds"), [("not slow", 59.0), ("", 600.0), ("serial", 99.0)])
def test_other_runs_say_nothing(markexpr: str, seconds: float) -> None:
    assert one_minute.summary(reporter(markexpr), seconds) == []
