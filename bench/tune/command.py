"""`bench tune`: find a backend's fastest settings on this machine, and keep them for `kernels.load` to use."""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

import kernels
from kernels import tuning
from model.errors import UsageError, UserError
from model.synthetic import PRESETS

from .. import options, stats
from ..output import console, tables
from ..output.tables import Table
from ..processes.child import Child
from .search import MAX_ROUNDS, MIN_ROUNDS, Found, Knobs, search

WORKLOAD = "bench.tune.workload:column"
SEARCH_SHARE = 0.75
"""The share of the time that the search may take; the rest is for measuring its result against the start."""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the options of `bench tune`."""
    p = subparsers.add_parser("tune", help="find this machine's fastest settings, used from then on")
    p.add_argument("--backend", choices=("auto", *tuning.TUNED), default="auto", help="what to tune (default auto)")
    p.add_argument("--size", choices=tuple(PRESETS), default="large", help="MusicGen size to measure (default large)")
    p.add_argument("--bits", type=int, choices=(4, 8), default=4, help="bits of the projections (default 4)")
    p.add_argument("--seconds", type=float, default=150.0, help="about how long it may take (default 150)")
    p.add_argument(
        "--start", action="append", default=[], metavar="NAME=VALUE", help="a setting to begin with (may be repeated)"
    )
    p.add_argument("--dry-run", action="store_true", help="measure and print, keep nothing")
    p.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Search, measure the result against the settings that it began with, print and keep it."""
    options.within("--seconds", args.seconds, 1, 3600)
    backend = args.backend if args.backend != "auto" else kernels.load().name
    if backend not in tuning.TUNED:
        raise UserError(f"the {backend} backend has nothing to tune; use one of {', '.join(tuning.TUNED)}")
    try:
        kernels.load(backend)
    except kernels.BackendUnavailable as e:
        raise UserError(str(e)) from e
    candidates = importlib.import_module(f"kernels.{backend}").knobs()
    start = dict(_setting(text, candidates) for text in args.start)
    measured = StepTimer({"backend": backend, "size": args.size, "bits": args.bits})
    found = search(
        candidates,
        measured,
        args.seconds * SEARCH_SHARE,
        start,
        tell=lambda knob: console.say(f"measuring {backend}: {knob}"),
    )
    console.say("measuring what was found, against what it began with")
    before, after = measured([start, found.knobs], args.seconds * (1 - SEARCH_SHARE))
    ratio = stats.paired_ratio(before, after)
    step = {**measured.of, "milliseconds": [1e3 * stats.summarize(each).median for each in (before, after)]}
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    result = tuning.Tuning(tuning.Key.of(backend), found.knobs, ratio.estimate, now, step)
    kept = None if args.dry_run else tuning.save(result)
    record = asdict(result) | {"interval": ratio, "tried": found.tried, "kept": kept and str(kept)}
    options.show(args, record, [table(result, found, ratio)])
    if kept:
        console.say(f"kept in {kept}; used from now on")
    return 0


class StepTimer:
    """A timer of steps under several settings, round by round in turn.

    Settings that need another environment (MLX's limits of a buffer) run in a process of their own. `of`: the model
    whose steps they are.
    """

    def __init__(self, settings: Mapping[str, Any], make: str = WORKLOAD) -> None:
        self.of: dict[str, Any] = {}
        self._settings, self._make = dict(settings), make

    def __call__(self, candidates: Sequence[Knobs], seconds: float) -> list[list[float]]:
        """Return the samples of each setting, at least MIN_ROUNDS of them."""
        groups: dict[str, list[int]] = {}
        for n, each in enumerate(candidates):
            groups.setdefault(json.dumps(each.get("environment", {}), sort_keys=True), []).append(n)
        samples: list[list[float]] = [[] for _ in candidates]
        with ExitStack() as stack:
            children: list[tuple[Child, list[int]]] = []
            for environment, members in groups.items():
                variables = {name: str(value) for name, value in json.loads(environment).items()}
                child = stack.enter_context(Child("tuning", {tuning.VARIABLE: "off", **variables}))
                asked = {**self._settings, "candidates": [candidates[n] for n in members]}
                self.of = child.ask("load", make=self._make, settings=asked)
                children.append((child, members))
            end = time.monotonic() + seconds
            while len(samples[0]) < MIN_ROUNDS or (time.monotonic() < end and _unsure(samples)):
                for child, members in children[:: 1 if len(samples[0]) % 2 else -1]:
                    for n, sample in zip(members, child.ask("round")):
                        samples[n].append(sample)
        return samples


def _unsure(samples: Sequence[Sequence[float]]) -> bool:
    """Tell whether more rounds are worth their time. It is asked after every few of them."""
    count = len(samples[0])
    return count < MAX_ROUNDS and (count % MIN_ROUNDS > 0 or stats.unsure(*samples))


def _setting(text: str, candidates: Mapping[str, Sequence[Any]]) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or name not in candidates:
        raise UsageError(f"--start {text} must be NAME=VALUE with a name of {', '.join(candidates)}")
    parse: Callable[[str], Any] = json.loads
    try:
        given = parse(value)
    except ValueError:
        given = value
    if given not in candidates[name]:
        known = ", ".join(json.dumps(each) for each in candidates[name])
        raise UsageError(f"--start {text}: {name} must be one of {known}")
    return name, given


def table(result: tuning.Tuning, found: Found, ratio: stats.Interval) -> Table:
    """Return what was tried: a row for each value and its result."""
    rows = [
        [t.knob, json.dumps(t.value), tables.ratio(t.ratio, MIN_ROUNDS), "taken" if t.taken else ""]
        for t in found.tried
    ]
    before, after = result.step["milliseconds"]
    knobs = ", ".join(f"{name}={json.dumps(value)}" for name, value in found.knobs.items()) or "the defaults"
    notes = [
        f"{result.key.backend} on {result.key.architecture}; {result.key.system}; MLX {result.key.mlx}",
        f"Found: {knobs}. A step of {result.step.get('layers')} layers: {before:.3g} ms before, {after:.3g} ms with "
        f"it, {ratio.estimate:.3g}x ({ratio.low:.3g}-{ratio.high:.3g}), in pairs after the search.",
        "Each value against the best before it; taken where the low end of the interval is above 1.01x.",
    ]
    notes += [f"No time was left for {knob}: give more --seconds." for knob in found.untried]
    return Table("bench tune", ["knob", "value", "faster", ""], rows, notes)
