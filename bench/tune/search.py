"""Greedy search: one knob after the other, each candidate against the best so far, in pairs, until time is up."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import stats

Knobs = dict[str, Any]
Rounds = Callable[[Sequence[Knobs], float], list[list[float]]]
"""A function of settings to compare and the seconds that it may take, which returns samples of a step for each."""
MIN_GAIN = 1.01
"""A knob is turned where the step is faster by more than this, at the low end of the interval."""
MIN_ROUNDS, MAX_ROUNDS = 5, 100
"""Rounds of a comparison, however little time is left, and however much."""


@dataclass(frozen=True)
class Tried:
    """A knob's value, and how many times faster a step is with it than with the best settings before."""

    knob: str
    value: Any
    ratio: stats.Interval
    taken: bool


@dataclass
class Found:
    """The best settings, with only those knobs that differ from the defaults, and everything that was tried."""

    knobs: Knobs = field(default_factory=dict)
    tried: list[Tried] = field(default_factory=list)
    untried: list[str] = field(default_factory=list)
    """Knobs for which no time was left."""


def search(
    candidates: Mapping[str, Sequence[Any]], rounds: Rounds, seconds: float, start: Mapping[str, Any] | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Found:  # fmt: skip
    """Turn each knob once and return the best settings.

    `candidates`: the values of each knob, the default first; `start`: other settings to begin with. It takes at most
    about `seconds`: the time left is shared by the knobs left.
    """
    found, end = Found(dict(start or {})), time.monotonic() + seconds
    for number, (knob, values) in enumerate(candidates.items()):
        now = found.knobs.get(knob, values[0])
        others = [value for value in values if value != now]
        if not others:
            continue
        left = end - time.monotonic()
        if left <= 0:
            found.untried.append(knob)
            continue
        tell(knob)
        settings = [_with(found.knobs, knob, value, values[0]) for value in (now, *others)]
        share = left / (len(candidates) - number) / 2
        samples = rounds(settings, share)
        ratios = [stats.paired_ratio(samples[0], each) for each in samples[1:]]
        best = max(range(len(others)), key=lambda n: ratios[n].low)
        taken = ratios[best].low > MIN_GAIN
        if taken:  # of many values one looks faster by chance: it has to be so once more
            ratios[best] = stats.paired_ratio(*rounds([settings[0], settings[1 + best]], share))
            taken = ratios[best].low > MIN_GAIN
        if taken:
            found.knobs = settings[1 + best]
        found.tried += [Tried(knob, v, r, taken and n == best) for n, (v, r) in enumerate(zip(others, ratios))]
    return found


def _with(knobs: Knobs, knob: str, value: Any, default: Any) -> Knobs:
    rest = {name: v for name, v in knobs.items() if name != knob}
    return rest if value == default else rest | {knob: value}
