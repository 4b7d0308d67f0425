"""One column of the end-to-end table: a model on one backend, and what each stage of an edit takes.

Runs in a process of its own (see `worker`), where peak memory is this column's alone. Every round is a whole edit of
the same clip; a slow baseline may do a part of a stage, and then says how much of it.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import numpy as np

import kernels
from model.bundle.bundle import open_bundle
from model.config import FRAME_RATE, HOP
from model.decoding.decode import Decoder, DecoderState
from model.decoding.delay_pattern import positions, with_special
from model.decoding.sampling import Sampling
from model.network.text import text_kv
from model.pipeline import ROWS_TOGETHER, InstructMusicGen
from model.stages import unheard
from reference.contract import Ops

from ..machine import hardware
from ..machine.environment import native_info
from ..results import EditColumn, Geometry, Round
from ..step_bytes import StepShape, prefill_flops, step_bytes
from ..summary import spread
from .clock import Clock, peak_rss
from .evidence import Counted, primitives, reference_calls
from .step_graph import StepGraph
from .subset import PROBE_FRAMES, StageSubset, affordable, clip, repeat_prefixes

INSTRUCTION = "Music piece. Instruct: Only Drums."
GUIDANCE = 3.0
PROBE_STEPS = 2
CHEAP_ROUND = 5.0
"""Seconds below which a whole round is run once to warm up."""
FELL_BACK = ("auto", "reference")
"""A backend that was asked for, and the one that runs where there is no fused one."""


@dataclasses.dataclass(frozen=True)
class ColumnSettings:
    """The settings of a column: its model and backend, a clip of `seconds` times `batch`, and a slow stage's limits."""

    model: str
    backend: str
    seconds: float
    batch: int = 1
    steps: int | None = None  # measure so many decode steps and project the rest; None for all
    keys: str | None = None  # a file that names the tensors of a bundle whose names tell too little
    limit: float | None = None  # seconds a stage may take in a round; beyond it, a part is measured and projected

    @property
    def frames(self) -> int:
        """Codec frames of the clip."""
        return max(1, round(self.seconds * FRAME_RATE))


class Session:
    """A loaded model and its clip. Call `warm_up` first, then `round` as often as wanted."""

    def __init__(self, settings: ColumnSettings, ops: Ops | None = None) -> None:
        """Open the model. `ops` replaces the operations of `settings.backend`, for tests."""
        self.settings = settings
        start, kernel = time.perf_counter(), os.times().system
        self.ops = Counted(ops or kernels.load(settings.backend))
        self.model = InstructMusicGen(open_bundle(settings.model, keys=settings.keys), self.ops)
        _ = self.model.codec, self.model.tokenizer
        self.load_seconds, self.load_kernel_seconds = time.perf_counter() - start, os.times().system - kernel
        self.load_rss = peak_rss()
        lm, adapter = self.model.lm.config, self.model.adapter.config
        self.plan = self.model.plan(settings.frames)
        self.audio = clip(settings.frames, settings.batch)
        self.texts = [INSTRUCTION] * settings.batch
        # Clips that the pipeline edits together; more of them it edits in several batches, one after the other.
        self.rows = min(settings.batch, ROWS_TOGETHER // 2)
        batches = -(-settings.batch // self.rows)
        self.every = batches * [
            (p, w.frames) for w in self.plan for p in range(w.prompt, positions(w.frames, lm.codebooks) - 1)
        ]
        """The position of each step of the edit, and the frames of its window."""
        self.total_steps = len(self.every)
        self.whole = StageSubset(settings.frames, adapter.layers * len(self.plan) * batches, self.total_steps)
        self.parts = dataclasses.replace(self.whole, steps=min(settings.steps or self.total_steps, self.total_steps))
        self.text_tokens = 0
        self.step_primitives: dict[str, int] = {}
        self._graph: StepGraph | None = None

    def warm_up(self) -> EditColumn:
        """Run a small round, a whole one if it is cheap, and record what runs. The times are not results."""
        probe = StageSubset(min(PROBE_FRAMES, self.whole.frames), 1, min(PROBE_STEPS, self.whole.steps))
        start = time.perf_counter()
        with reference_calls() as fallen_back:
            first = self._round(probe)
        first_round = time.perf_counter() - start
        small = self._round(probe)
        if (limit := self.settings.limit) is not None:
            layers = self.model.adapter.config.layers
            self.parts = affordable(small.seconds, probe, self.whole, limit, layers=layers, steps=self.parts.steps)
        if self.parts == self.whole and sum(small.seconds.values()) < CHEAP_ROUND:
            self._round(self.parts)
        config, batch = self.model.bundle.config, self.settings.batch
        return EditColumn(
            backend=self.ops.name,
            first_sound=self._first_sound() if self.parts == self.whole else None,
            info=native_info() if self.ops.name == "native" else None,
            fallback=kernels.available()["native"] if (self.settings.backend, self.ops.name) == FELL_BACK else None,
            load_seconds=self.load_seconds,
            load_kernel_seconds=self.load_kernel_seconds,
            load_rss=self.load_rss,
            first_round_seconds=first_round,
            warmup={"first": first, "second": small},
            step_primitives=self.step_primitives,
            reference_calls=dict(fallen_back),
            step_bytes=self.traffic(),
            step_positions=[position for position, _ in self._chosen(self.parts)],
            adapter_flops=sum(prefill_flops(config, batch, w.frames + w.ahead + 1) for w in self.plan),
            dtypes={name: str(dtype).rpartition(".")[2] for name, dtype in self._dtypes().items()},
            geometry=self.geometry(),
        )

    def round(self) -> Round:
        """Run a whole edit and return each stage's seconds, memory and calls; then time building a step's graph."""
        done = self._round(self.parts)
        if self.ops.name != "interpreter":  # which runs a kernel as it is called
            self._graph = self._graph or StepGraph(self.model, self.rows, GUIDANCE)
            done.build_seconds = self._graph.seconds()
        return done

    def geometry(self) -> Geometry:
        """Return the dimensions of the model and of the run."""
        config = self.model.bundle.config
        quantization = config.quantization
        return Geometry(
            **dataclasses.asdict(config.lm),
            adapter_layers=config.adapter.layers,
            bits=quantization.bits if quantization else 8 * config.dtype.size,
            group_size=quantization.group_size if quantization else None,
            frames=self.settings.frames,
            windows=len(self.plan),
            steps=self.total_steps,
            batch=self.settings.batch,
            text_tokens=self.text_tokens,
        )

    def _first_sound(self) -> float:
        """Return the seconds until the first second of a stream can be heard, from the clip's samples on."""
        self.model.forget_texts()
        mx.synchronize()
        start = time.perf_counter()
        next(iter(self.model.stream(self.texts, self.audio)))
        return time.perf_counter() - start

    def _dtypes(self) -> dict[str, mx.Dtype]:
        stored = self.model.bundle.config.dtype
        return {
            "activations": self.ops.compute_dtype(stored),
            "weights": self.ops.weight_dtype(stored),
            "caches": self.ops.cache_dtype(stored),
        }

    def traffic(self) -> dict[str, float]:
        """Return the bytes that a step must read by part: the mean of the measured steps, in this backend's dtypes."""
        lengths, prefixes = np.mean(self._chosen(self.parts), axis=0) + 1
        shape = StepShape(batch=self.rows, length=float(lengths), prefix=round(float(prefixes)), text=self.text_tokens)
        return step_bytes(self.model.bundle.config, shape, **self._dtypes())

    def _all(self, parts: StageSubset) -> bool:
        return parts.layers == self.whole.layers and parts.steps == self.whole.steps

    def _chosen(self, parts: StageSubset) -> list[tuple[int, int]]:
        """Return the position of each step that a round runs, and the frames of its window.

        These are all steps of all windows, or as many as `parts` says, spread evenly over them. The latter run in the
        first window, the longest: the later ones' prompts make their caches long, and their adapter has not run.
        """
        if self._all(parts):
            return self.every
        return [(self.every[n][0], self.plan[0].frames) for n in spread(0, self.total_steps, parts.steps)]

    def _round(self, parts: StageSubset) -> Round:
        """Run an edit through the pipeline and listen to its stages; stages that are measured in part run apart."""
        clock, model = Clock(), self.model
        before, busy = dict(self.ops.calls), hardware.busy()
        model.forget_texts()
        mx.synchronize()
        model.announce = clock
        codes = model.encode(self.audio[:, : parts.frames * HOP])
        if codes.shape[2] < self.settings.frames:  # the rest of a projected encode: any codes serve
            codes = mx.tile(codes, (1, 1, -(-self.settings.frames // codes.shape[2])))[:, :, : self.settings.frames]
        if self._all(parts):
            durations = self._every_step(clock, codes)
            first_step = durations[0]
        else:
            first_step, durations = self._some_steps(clock, codes[: self.rows], parts)
        self.text_tokens = model.conditions(self.texts)[0].shape[1]
        model.announce = clock
        model.decode(codes[:, :, : parts.frames])
        model.announce = unheard
        codec, layers, steps = zip(dataclasses.astuple(parts), dataclasses.astuple(self.whole))
        return Round(
            seconds=clock.seconds,
            measured={"codec encode": codec, "codec decode": codec, "adapter": layers, "steps": steps},
            step_seconds=durations,
            first_step=first_step,
            peak_rss=clock.rss,
            mlx_peak=clock.mlx,
            busy=hardware.busy().since(busy),
            calls={name: n - before.get(name, 0) for name, n in self.ops.calls.items()},
        )

    def _every_step(self, clock: Clock, codes: mx.array) -> list[float]:
        """Edit codes as users do; return the seconds of each step."""
        ticks: list[list[float]] = []

        @contextmanager
        def listen(stage: str) -> Iterator[None]:
            with clock(stage):
                if stage == "steps":
                    ticks.append([time.perf_counter()])
                yield
                if stage == "steps":
                    # A step that is still running when it is yielded (on a GPU) shows up one step later; what is left
                    # at the end belongs to the last.
                    ticks[-1][-1] = time.perf_counter()

        self.model.announce = listen
        for _ in self.model.edit_steps(codes, self.texts, self.plan, Sampling(), GUIDANCE, 0, pad_texts=False):
            ticks[-1].append(time.perf_counter())
        return [float(d) for window in ticks for d in np.diff(window)]

    def _some_steps(self, clock: Clock, codes: mx.array, parts: StageSubset) -> tuple[float, list[float]]:
        """Run some layers of the adapter and some steps; return the seconds of a first step and of those of `parts`.

        A step's cost is affine in the cache's length, so their mean is the mean of all. The cache's rows in between
        hold zeros, which cost the same to attend to.
        """
        model, lm = self.model, self.model.lm
        adapter, window, texts = model.adapter.config, self.plan[0], self.texts[: self.rows]
        conditions = dict(zip(texts, model.conditions(texts)))
        with clock("text k/v"):
            text = text_kv(lm, conditions, texts)
        clips, prefixes = with_special(codes, lm.config.special), []
        for n, each in enumerate(self.plan[: -(-parts.layers // adapter.layers)]):
            inside = clips[:, :, each.offset : each.offset + each.frames + 1]
            with clock("adapter"):
                some = min(parts.layers - n * adapter.layers, adapter.layers)
                prefixes.append(model.adapter(inside, some))
        state = DecoderState(
            lm, text, repeat_prefixes(prefixes[0], adapter.layers), start_layer=adapter.start_layer,
            rows=2 * len(codes), slots=positions(window.frames, lm.config.codebooks) - 1, query_rows=window.frames,
        )  # fmt: skip
        decoder, chosen = Decoder(lm, model.adapter, text, GUIDANCE, Sampling()), self._chosen(parts)
        tokens = mx.full((*codes.shape[:2], 1), lm.config.special, dtype=mx.int32)
        keys = mx.random.split(mx.random.key(0), len(chosen) + 1)
        start = time.perf_counter()
        logits = decoder.predict(state, tokens)
        built = time.perf_counter() - start
        self.step_primitives = primitives(logits)  # from the graph, before it is evaluated
        start = time.perf_counter()
        mx.eval(decoder.sampling(logits, keys[-1]))  # allocates the caches
        first, durations = built + time.perf_counter() - start, []
        for n, (position, _) in enumerate(chosen):
            state.position = position
            with clock("steps"):
                start = time.perf_counter()
                tokens = decoder.sampling(decoder.predict(state, tokens), keys[n])[..., None]
                mx.eval(tokens)
                durations.append(time.perf_counter() - start)
        return first, durations


def column(**settings: Any) -> tuple[Session, EditColumn]:
    """Load a column and warm it up, in a process of its own (see `processes.worker`)."""
    session = Session(ColumnSettings(**settings))
    return session, session.warm_up()
