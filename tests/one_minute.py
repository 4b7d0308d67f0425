"""What took longest, where the loop without slow tests took more than its minute. Nothing fails: machines differ."""

from __future__ import annotations

from collections import defaultdict

import pytest

SECONDS = 60.0
SHOWN = 5


def summary(reporter: pytest.TerminalReporter, seconds: float) -> list[str]:
    """Name the slowest tests of a run of `-m "not slow"` that took so long, for its last lines."""
    if reporter.config.getoption("markexpr") != "not slow" or seconds <= SECONDS:
        return []
    tests = defaultdict[str, float](float)
    for each in (report for reports in reporter.stats.values() for report in reports):
        if isinstance(each, pytest.TestReport):  # set-up, call and teardown have one each
            tests[each.nodeid] += each.duration
    slowest = "; ".join(
        f"{name} {took:.1f} s" for name, took in sorted(tests.items(), key=lambda each: -each[1])[:SHOWN]
    )
    return [f"the one-minute loop took {seconds:.0f} s; slowest: {slowest}"]
