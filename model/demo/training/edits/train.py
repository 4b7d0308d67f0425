"""Train language model, adapter and text side; a trunk at a constant rate, and annealed branches from it.

The trunk can go on for as long as there is time. An annealed branch starts from the trunk's last checkpoint, lets the
rate fall to nothing over its steps and is what gets exported; the trunk does not change.
"""

from __future__ import annotations

import random
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....errors import UserError
from ..codec.codes import Encoded, load_codes
from ..codec.train import load_codec
from ..workspace import Workspace, check_settings, replace
from .network import Model, Shape, apply_delay, initialize
from .objective import SubjectProbe, draw_subjects, hide_history, losses
from .step import Batch, Step
from .text_network import T5Shape
from .tokenizer import Tokens, longest, vocabulary
from .triples import canonical_edits, draw


@dataclass(frozen=True, slots=True)
class EditSettings:
    """What a run is made of; schedules count steps."""

    shape: Shape = field(default_factory=Shape)
    prefixes: int = 4
    texts: int = 4
    matrices_rate: float = 0.02
    rate: float = 1.5e-3
    warm: int = 60
    hidden: float = 0.65
    random_codes: float = 0.15
    dropped: float = 0.1
    probe: float = 0.05
    probe_rows: int = 16
    seed: int = 0

    @classmethod
    def of(cls, saved: dict[str, Any]) -> EditSettings:
        """Rebuild settings from a checkpoint."""
        shape = dict(saved["shape"])
        t5 = T5Shape(**shape.pop("t5"))
        return cls(**{**saved, "shape": Shape(**shape, t5=t5)})


class Run:
    """The state of a run: weights, moments, the step."""

    def __init__(self, settings: EditSettings, codebooks: Tensor | None, device: str) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.device, self.taken, self.seconds = settings, device, 0, 0.0
        self.tokens = Tokens()
        self.model = Model(settings.shape, vocabulary())
        initialize(self.model, codebooks)
        self.model.to(device)
        self.probe = SubjectProbe(settings.shape.t5.d_model).to(device)
        self.step = Step(self.model, self.probe, settings.probe, device)

    def state(self) -> dict[str, Any]:
        """Return everything that a checkpoint holds."""
        return {
            "settings": asdict(self.settings), "step": self.taken, "seconds": self.seconds,
            "model": self.model.state_dict(), "probe": self.probe.state_dict(), **self.step.state(),
        }  # fmt: skip

    def load(self, path: Path) -> None:
        """Go on from a checkpoint. Raises UserError if it is of other settings."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        check_settings(path, state["settings"], asdict(self.settings))
        self.taken, self.seconds = state["step"], state["seconds"]
        self.model.load_state_dict(state["model"])
        self.probe.load_state_dict(state["probe"])
        self.step.load(state)

    def batch(self, songs: list[Encoded]) -> Batch:
        """Draw the batch of the next step, on the CPU; its shapes are those of every other one."""
        s, card = self.settings, self.settings.shape.card
        choice, noise = random.Random(f"{s.seed} {self.taken}"), np.random.default_rng((s.seed, self.taken))
        drawn = draw(songs, s.prefixes, s.texts, choice)
        texts, asked = draw_subjects(choice, s.probe_rows)
        targets = torch.from_numpy(drawn.targets)
        keep = torch.from_numpy(noise.random(len(targets)) >= s.dropped).float()
        sequence = apply_delay(targets, card)[..., :-1]
        return {
            "inputs": torch.from_numpy(drawn.inputs),
            "targets": targets,
            "ids": torch.tensor(self.tokens(list(drawn.texts), longest())),
            "keep": keep,
            "hidden": hide_history(sequence, card, card, noise, s.hidden, s.random_codes),
            "probe_ids": torch.tensor(self.tokens(texts, longest())),
            "probe_asked": torch.tensor(asked),
        }

    def update(self, songs: list[Encoded], share: float) -> Tensor:
        """Take one step at `share` of the rates, and return the codebooks' losses [K]."""
        s = self.settings
        each = self.step(self.batch(songs), s.rate * share, s.matrices_rate * share)
        self.taken += 1
        return each

    @torch.no_grad()
    def validate(self, songs: list[Encoded], count: int) -> dict[str, Any]:
        """Return, by action, loss, loss of the first codebook, and what a wrong sentence costs with no history."""
        result: dict[str, Any] = {}
        card = self.settings.shape.card
        for action, (batch, wrong) in canonical_edits(songs, count).items():
            inputs, targets = (torch.tensor(part, device=self.device) for part in (batch.inputs, batch.targets))
            keep = torch.ones(len(targets), device=self.device)
            ids, others = (torch.tensor(self.tokens(list(t)), device=self.device) for t in (batch.texts, wrong))
            plain = losses(self.model, inputs, targets, ids, keep)
            blind = torch.full_like(apply_delay(targets, card)[..., :-1], card)
            right = losses(self.model, inputs, targets, ids, keep, blind)
            cost = losses(self.model, inputs, targets, others, keep, blind) - right
            result[action] = {"loss": round(float(plain.mean()), 3), "first": round(float(plain[0]), 3),
                              "wrong text costs": round(float(cost.mean()), 3)}  # fmt: skip
        result["loss"] = round(float(np.mean([row["loss"] for row in result.values()])), 3)
        return result


def start(work: Workspace, settings: EditSettings, device: str) -> Run:
    """Make a run of the frozen codec, or go on from the trunk's checkpoint."""
    frozen = work.root / "codec" / "frozen.pt"
    if not frozen.is_file():
        raise UserError(f"{frozen} is missing; run the stage 'codec' until its first phase ends")
    codec, _ = load_codec(frozen, device)
    run = Run(settings, codec.quantizer.books.cpu(), device)
    trunk = work.folder("model") / "state.pt"
    if trunk.is_file():
        run.load(trunk)
    return run


def train_model(work: Workspace, settings: EditSettings, device: str, steps: int, every: float, measured: int) -> None:
    """Train the trunk up to a step, from its checkpoint where there is one.

    `every` is the seconds of CPU time between checkpoints, `measured` the steps between validations.
    """
    run = start(work, settings, device)
    path = work.root / "model" / "state.pt"
    _loop(run, work, path, "model", steps, lambda step: min(1.0, (step + 1) / settings.warm), every, measured)


def anneal_model(work: Workspace, settings: EditSettings, device: str, steps: int, every: float, measured: int) -> None:
    """Train a branch of `steps` from the trunk's checkpoint to a rate of 3 %, into model/annealed.pt.

    Raises UserError if there is no trunk.
    """
    run = start(work, settings, device)
    if not run.taken:
        raise UserError(f"{work.root / 'model' / 'state.pt'} is missing; run the stage 'model' first")
    path, first = work.root / "model" / "annealed.pt", run.taken
    if path.is_file():
        held = torch.load(path, map_location=device, weights_only=True)
        if held.get("branched") == first and held["step"] < first + steps:
            run.load(path)
    _loop(
        run, work, path, "anneal", first + steps, lambda step: 1 - 0.97 * (step - first) / steps, every, measured, first
    )


def _loop(
    run: Run,
    work: Workspace,
    path: Path,
    name: str,
    last: int,
    share: Any,
    every: float,
    measured: int,
    branched: int = 0,
) -> None:
    songs, own, other = (list(load_codes(work, part)) for part in ("train", "own", "held-out"))
    clock, rows = time.process_time(), []

    def save() -> None:
        nonlocal clock
        now = time.process_time()
        run.seconds, clock = run.seconds + now - clock, now
        state = {**run.state(), "branched": branched}
        replace(path, lambda aside: torch.save(state, aside))

    while run.taken < last:
        rows.append(run.update(songs, share(run.taken)))
        if run.taken % measured == 0 or run.taken == last:
            save()
            clock = time.process_time()
            row = {"step": run.taken, "cpu_seconds": round(run.seconds), "songs": sum(len(c.codes) for c in songs),
                   "loss": [round(float(x), 3) for x in torch.stack(rows).mean(0)],
                   "own": run.validate(own, 4), "held-out": run.validate(other, 4)}  # fmt: skip
            work.append_log(name, row)
            songs, rows, clock = list(load_codes(work, "train")), [], time.process_time()
        elif time.process_time() - clock > every:
            save()
