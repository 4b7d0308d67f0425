"""A clip's codes and a sentence in, the edited codes out."""

from __future__ import annotations

import functools
import os
from collections.abc import Generator, Sequence
from typing import NamedTuple, TypeAlias

import mlx.core as mx
import numpy.typing as npt

from reference.contract import Ops

from .. import checks
from ..bundle.bundle import Bundle
from ..bundle.damage import explanation
from ..errors import UserError
from ..network.adapter import ADAPTER_OWN, Adapter
from ..network.projection import Weights
from ..network.rows import together
from ..network.t5 import Tokenizer
from ..network.text import TextConditioner, padded, text_kv
from ..network.transformer import LanguageModel
from ..progress import Progress
from ..stages import Announce, unheard
from ..system import mlx_buffers, threads
from ..system.threads import evaluated
from . import steps
from .clip_codes import ClipCodes
from .decode import Decoder, NotFinite
from .guidance import MAX_GUIDANCE
from .likelihood import Likelihood
from .rehearsal import Rehearsal
from .request import layout
from .sampling import Sampling
from .steps import Step
from .windows import Window, WindowedEdit

Array: TypeAlias = mx.array | npt.ArrayLike

ROWS_TOGETHER = 16
"""Rows of a decode step that run together, both rows of a guidance pair counted. Products of up to so many rows give
each row the bits that it gets alone (native, and the reference on a CPU); native computes larger ones otherwise."""


class Batch(NamedTuple):
    """Rows of an edit that run together, and the conditions [1,L,dim] of their texts, by text."""

    rows: tuple[int, ...]
    conditions: dict[str, mx.array]


class CodeEditor:
    """The language model, its adapter and the reading of texts, on one backend's operations.

    The LM and the adapter are loaded at once, T5 whenever a text is read that is not remembered.
    """

    def __init__(self, bundle: Bundle, ops: Ops, announce: Announce = unheard) -> None:
        """Load the LM and the adapter's gates; `announce` is told of the stages of each edit (see `model.stages`)."""
        self.bundle, self.ops, self.announce = bundle, ops, announce
        mlx_buffers.limit()
        resident = [name for name in bundle.tensors if not name.startswith(ADAPTER_OWN)]
        weights = Weights(bundle.load(resident), bundle.config, ops, bundle.tiles())
        self.lm = LanguageModel(weights)
        self.adapter = Adapter(weights, self.lm, bundle.load)
        self.conditioner = TextConditioner(weights, lambda: bundle.t5_path)
        self._conditions: dict[str, mx.array] = {}
        self._made_in = os.getpid()

    @property
    def backend(self) -> str:
        """The name of the operations in use: "metal", "native", "reference" or "interpreter"."""
        return self.ops.name

    @property
    def tokenizer(self) -> Tokenizer:
        """T5's tokenizer, loaded when first used."""
        return self.conditioner.tokenizer

    def edit_codes(
        self,
        codes: Array,
        text: str | Sequence[str],
        *,
        greedy: bool = False,
        guidance: float = 3.0,
        temperature: float = 1.0,
        top_k: int = 250,
        top_p: float = 0.0,
        seed: int | Sequence[int] | None = 0,
        pad_texts: bool = True,
        window_frames: int | None = None,
        stride_frames: int | None = None,
        look_ahead_frames: int | None = None,
        plan: Sequence[Window] | None = None,
        progress: Progress | None = None,
    ) -> mx.array:
        """Edit codes int32 [B,4,T] (without the special frame, which is appended here) -> codes of the same shape.

        A clip longer than the window (`window_frames`, by default what the adapter was trained on, see
        `AdapterConfig.window_frames`, and at most its `max_n_frames`) is edited in windows `stride_frames` apart (by
        default half of what a window edits), as `windows.plan` lays them out: each continues what is edited, and hears
        `look_ahead_frames` more of the clip than it edits (by default none). `plan` overrides all of it. An empty
        text is upstream's null text.

        seed: one for every row, or one each. pad_texts: texts of unequal numbers of tokens are padded to the longest,
        as upstream's batches are, and their rows run together; the model attends to the padding, so that a row depends
        on the longest text. Without it every row comes out as it would alone.
        """
        threads.check(self._made_in)
        tokens = checks.codes(codes, self.lm.config.codebooks, self.lm.config.card)
        if plan is None:
            plan = self.plan(tokens.shape[2], window_frames, stride_frames, look_ahead_frames)
        sampling = Sampling(temperature, top_k, top_p, greedy)
        run = self.edit_steps(tokens, checks.texts(text, tokens.shape[0]), plan, sampling, guidance, seed, pad_texts)
        return steps.edited(run, progress)

    def edit_steps(
        self,
        codes: mx.array | ClipCodes,
        texts: Sequence[str],
        plan: Sequence[Window],
        sampling: Sampling,
        guidance: float,
        seed: int | Sequence[int] | None,
        pad_texts: bool = True,
        likelihood: Likelihood | None = None,
        *,
        batches: Sequence[Batch] | None = None,
        edited: mx.array | None = None,
    ) -> Generator[Step, None, mx.array]:
        """Run what `edit_codes` runs: yield after every position, return the edited codes [B,4,T].

        Close it to cancel; read `Step.tokens` to stream (they are in the delay pattern). Rows that cannot run together
        are edited in batches, one after the other: `Step.rows` says which one a step belongs to. likelihood: collects
        how probable each row's tokens were. batches: edit only these of what the method `batches` returns. edited:
        codes int32 [B,4,n] of all rows that are edited already, up to a window's end.

        Raises ValueError for an unusable seed or guidance, and UserError where the weights hold NaN or infinity.
        """
        threads.check(self._made_in)
        seeds = checks.seeds(seed, len(texts))
        guidance = checks.number("guidance", guidance, -MAX_GUIDANCE, MAX_GUIDANCE)
        batches = self.batches(texts, guidance, pad_texts) if batches is None else batches
        clip = codes if isinstance(codes, ClipCodes) else ClipCodes.of(codes, self.lm.config.special)
        if edited is None:
            edited = mx.zeros((len(texts), self.lm.config.codebooks, 0), dtype=mx.int32)
        known = [window.steps for window in plan if window.stop <= edited.shape[2]]
        total, done = len(batches) * sum(window.steps for window in plan), 0
        found: dict[int, mx.array] = {}
        sizes = [(len(own), conditions[texts[own[0]]].shape[1]) for own, conditions in batches]
        Rehearsal(self.lm, self.adapter.config, plan, sizes, guidance != 1).compile(self.announce)
        for own, conditions in batches:
            with self.announce("text k/v"):
                text = text_kv(self.lm, conditions, [texts[row] for row in own])
            tally = None if likelihood is None else likelihood.part(own, guided=guidance != 1)
            decoder = Decoder(self.lm, self.adapter, text, guidance, sampling, self.announce, tally)
            heard = functools.partial(clip.heard, rows=own)
            edit = WindowedEdit(decoder, heard, plan, [seeds[row] for row in own], edited[mx.array(own)])
            done += sum(known)
            try:
                for tokens in edit:
                    done += 1
                    yield Step(done, total, tokens, own)
            except NotFinite as e:
                raise UserError(explanation(self.bundle, "predictions")) from e
            found |= zip(own, mx.split(edit.codes, len(own)))
        return evaluated(mx.concatenate([found[row] for row in sorted(found)]))

    def plan(
        self, total: int, window: int | None = None, stride: int | None = None, look_ahead: int | None = None
    ) -> list[Window]:
        """Lay out the windows of `total` frames; all in frames, None: as `edit_codes` says."""
        return layout(self.adapter.config, total, window, stride, look_ahead)

    def batches(self, texts: Sequence[str], guidance: float, pad_texts: bool = False) -> list[Batch]:
        """Return the rows that run together: those whose texts have equally many tokens, at most `ROWS_TOGETHER`.

        pad_texts: pad all texts to the longest one's tokens first.
        """
        conditions = self.conditions(texts)
        if pad_texts:
            conditions = padded(conditions)
        most = ROWS_TOGETHER if guidance == 1 else ROWS_TOGETHER // 2
        parts = together([c.shape[1] for c in conditions], most)
        return [Batch(rows, {texts[row]: conditions[row] for row in rows}) for rows in parts]

    def forget_texts(self) -> None:
        """Forget the last texts' conditions, so that they are encoded anew."""
        self._conditions = {}

    def condition(self, texts: Sequence[str]) -> mx.array:
        """Encode texts, padded to the longest: float32 [B,L,dim]."""
        return mx.concatenate(padded(self.conditions(texts)))

    def conditions(self, texts: Sequence[str]) -> list[mx.array]:
        """Encode each text for itself: float32 [1,L,dim], L its number of tokens. The last texts are remembered."""
        known = {text: self._conditions[text] for text in texts if text in self._conditions}
        if missing := [text for text in dict.fromkeys(texts) if text not in known]:
            known |= zip(missing, self.conditioner(missing, self.announce))
            if not all(mx.isfinite(value).all().item() for value in known.values()):
                raise UserError(explanation(self.bundle, "condition of the text", f"T5's in {self.bundle.t5_path}"))
        self._conditions = known
        return [known[text] for text in texts]
