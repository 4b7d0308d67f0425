"""The models that the studio serves: all of them opened at the start, few of them loaded at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import kernels

from ..bundle import hub
from ..bundle.bundle import Bundle, demo_path, open_bundle
from ..bundle.info import license_of
from ..config import FRAME_RATE, SAMPLE_RATE
from ..errors import UserError
from ..instructions import VERBS
from ..memory import available
from ..pipeline import InstructMusicGen
from ..results.edit_record import fingerprint
from ..system import threads
from .errors import Refused
from .jobs import GONE, Job

State = Literal["not loaded", "loading", "ready", "failed"]
LOADED = 2
"""Models that are kept in memory, where it suffices."""
DEFAULTS = {"seed": 0, "guidance": 3.0, "temperature": 1.0, "top_k": 250}


@dataclass
class ServedModel:
    """A model by its name in the API; loaded or not."""

    id: str
    bundle: Bundle
    backend: str
    state: State = "not loaded"
    error: str | None = None
    model: InstructMusicGen | None = None
    weights: str = ""
    """The bundle's `fingerprint`, which tells it from others whatever they are called."""

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(path.stat().st_size for path in self.bundle.path.rglob("*") if path.is_file())


class LoadedModels:
    """Every model that was asked for."""

    def __init__(
        self, names: Sequence[str | Path], backend: str = "auto", tell: Callable[[], None] = lambda: None
    ) -> None:
        """Open all bundles, which checks them. `tell` is called when a model's state changes.

        Raises UserError for a bundle that can't be used, or a backend that can't run here.
        """
        threads.check()
        try:
            self.ops = kernels.load(backend)
        except kernels.BackendUnavailable as e:
            raise UserError(str(e)) from e
        self.tell = tell
        self._models: dict[str, ServedModel] = {}
        for name in dict.fromkeys(map(str, names)):
            bundle = open_bundle(name)
            _ = bundle.t5_path  # fetched now if it must be: not in the middle of an edit
            own = self._name(name, bundle)
            self._models[own] = ServedModel(own, bundle, self.ops.name, weights=fingerprint(bundle))
        self._used: list[str] = []

    def _name(self, given: str, bundle: Bundle) -> str:
        """Return what the API calls a bundle: never where it lies on this machine."""
        name = given if hub.local(given) is None else bundle.path.name
        name = "".join(c if c.isprintable() else "?" for c in name)
        found, more = name, 2
        while found in self._models:
            found, more = f"{name}-{more}", more + 1
        return found

    @property
    def first(self) -> str:
        """The model that is used where none is named."""
        return next(iter(self._models))

    def get(self, name: str) -> ServedModel:
        """Return a model by its name. Raises Refused where it is not served."""
        try:
            return self._models[name]
        except KeyError:
            served = ", ".join(self._models)
            raise Refused(f"model: {name!r:.80} is not served here; choose one of {served}", "model") from None

    @property
    def names(self) -> dict[str, str]:
        """What the models are called, by their weights."""
        return {each.weights: each.id for each in reversed(self._models.values())}

    def of(self, job: Job) -> ServedModel:
        """Return the model that a job asked for. Raises Refused where that is not served any more."""
        if not job.weights:
            return self.get(job.model)
        if job.weights in self.names:
            return self.get(self.names[job.weights])
        message = f"its model {job.model.removesuffix(GONE)} is not served any more; start the studio with it, or edit "
        raise Refused(message + f"the clip with another ({', '.join(self._models)})", "model")

    def model(self, served: ServedModel) -> InstructMusicGen:
        """Return a model, loaded: for the one thread that runs edits. Raises what loading raises."""
        name = served.id
        if served.model is None:
            self._make_room(served)
            self._mark(served, "loading")
            try:
                model = InstructMusicGen(served.bundle, self.ops)
                _ = model.codec
            except Exception as e:
                self._mark(served, "failed", " ".join(str(e).split()))
                raise
            served.model = model
            self._mark(served, "ready")
        self._used = [each for each in self._used if each != name] + [name]
        return served.model

    def _make_room(self, wanted: ServedModel) -> None:
        """Let go of those that were not used for longest, while they are many or memory is short."""
        for name in list(self._used):
            loaded = [each for each in self._models.values() if each.model is not None]
            if len(loaded) < LOADED and available() > 2 * wanted.size:
                return
            self._models[name].model = None
            self._used.remove(name)
            self._mark(self._models[name], "not loaded")

    def _mark(self, served: ServedModel, state: State, error: str | None = None) -> None:
        served.state, served.error = state, error
        self.tell()

    def shown(self, work: dict[str, dict[int, float]]) -> list[dict[str, Any]]:
        """Return the models as the API shows them.

        work: by their weights, measured seconds of work for a second of audio, by the number of candidates, which a
        batch decodes together.
        """
        return [self._shown(each, work.get(each.weights)) for each in self._models.values()]

    def _shown(self, served: ServedModel, work: dict[int, float] | None) -> dict[str, Any]:
        config = served.bundle.config
        return {
            "id": served.id, "object": "model", "state": served.state, "error": served.error,
            "description": _description(served.bundle), "instruments": list(config.instructions.instruments),
            "edits": list(VERBS), "window_seconds": config.adapter.window_frames / FRAME_RATE,
            "sample_rate": SAMPLE_RATE, "bits": _bits(served.bundle), "backend": served.backend,
            "license": license_of(served.bundle), "defaults": DEFAULTS, "work_per_second": _by_count(work),
        }  # fmt: skip


def _by_count(work: dict[int, float] | None) -> dict[str, float] | None:
    return {str(count): seconds for count, seconds in sorted(work.items())} if work else None


def _bits(bundle: Bundle) -> int:
    packed = bundle.config.quantization
    return packed.bits if packed else 8 * bundle.config.dtype.size


def _description(bundle: Bundle) -> str:
    if bundle.random_weights:
        return "random weights: its edits are a smoke test, not music"
    if bundle.path == demo_path():
        return "the small model that comes with this program; it learned from synthetic songs of a small band"
    lm = bundle.config.lm
    return f"a language model of {lm.layers} layers and {lm.dim} features"
