"""InstructMusicGen: a clip and a sentence in, the edited clip out."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn, SupportsIndex, TypeAlias

import mlx.core as mx
import numpy.typing as npt

import kernels
from reference.contract import Ops

from . import checks, threads, windows
from .adapter import ADAPTER_OWN, Adapter
from .bundle.bundle import Bundle, open_bundle
from .bundle.codec_weights import load_codec
from .bundle.damage import explanation
from .bundle.names.keys import Keys
from .config import HOP
from .decode import Decoder, NotFinite
from .delay_pattern import positions, undelayed, with_special
from .encodec import EnCodec
from .errors import UserError
from .likelihood import Likelihood
from .progress import Progress, finished
from .projection import Weights
from .rows import together
from .sampling import Sampling
from .stages import Announce, unheard
from .t5 import T5Encoder, Tokenizer
from .text import TextConditioner, padded, text_kv
from .threads import evaluated
from .transformer import LanguageModel

Array: TypeAlias = mx.array | npt.ArrayLike

GUIDANCE = 1e6
"""Beyond, logits leave float32's range; upstream uses 3."""
ROWS_TOGETHER = 16
"""Rows of a decode step that run together, both rows of a guidance pair counted. Products of up to so many rows give
each row the bits that it gets alone (native, and the reference on a CPU); native computes larger ones otherwise."""


class Step(NamedTuple):
    """One generated position: how many are done of how many, its tokens int32 [b,4,1], and the b clips they are of."""

    done: int
    total: int
    tokens: mx.array
    rows: tuple[int, ...]


class InstructMusicGen:
    """The whole pipeline on one backend's operations.

    The LM and the adapter are loaded at once, the codec when first used; T5 is loaded to read a text and let go, since
    the text is read once for a clip and T5 would cost a fifth of the memory.
    """

    def __init__(self, bundle: Bundle, ops: Ops, announce: Announce = unheard) -> None:
        """Load the LM and the adapter's gates; `announce` is told of the stages of each edit (see `model.stages`)."""
        self.bundle, self.ops, self.announce = bundle, ops, announce
        resident = [name for name in bundle.tensors if not name.startswith(ADAPTER_OWN)]
        weights = Weights(bundle.reload(resident), bundle.config, ops)
        self.lm = LanguageModel(weights)
        self.adapter = Adapter(weights, self.lm, bundle.reload)
        self.conditioner = TextConditioner(weights)
        self._conditions: dict[str, mx.array] = {}
        self._codec: EnCodec | None = None
        self._tokenizer: Tokenizer | None = None
        self._made_in, self._loading = os.getpid(), threading.RLock()

    @classmethod
    def from_pretrained(
        cls, path_or_repo: str | Path, backend: str = "auto", *, revision: str | None = None,
        keys: str | Path | Keys | None = None,
    ) -> InstructMusicGen:  # fmt: skip
        """Load a bundle from a folder or a Hugging Face repo, to run on `backend` (see `kernels.load`).

        keys: for a bundle whose tensors' names tell too little, a JSON file or a mapping of stored names to known ones
        (see `model.bundle.names.keys`).

        Raises model.errors.UserError for a bundle that cannot be used, kernels.BackendUnavailable for a backend that
        cannot run here.
        """
        threads.check()
        return cls(open_bundle(path_or_repo, revision=revision, keys=keys), kernels.load(backend))

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Raise TypeError."""
        raise TypeError(
            "a model is not copied or pickled: threads can share one (each call has a result of its own), and another "
            f"process loads its own, InstructMusicGen.from_pretrained({str(self.bundle.path)!r}, {self.backend!r})"
        )

    @property
    def backend(self) -> str:
        """The name of the operations in use: "metal", "native", "reference" or "interpreter"."""
        return self.ops.name

    @property
    def codec(self) -> EnCodec:
        """EnCodec, loaded when first used."""
        with self._loading:
            if self._codec is None:
                self._codec = EnCodec(*load_codec(self.bundle.codec_path), self.ops)
            return self._codec

    @property
    def tokenizer(self) -> Tokenizer:
        """T5's tokenizer, loaded when first used."""
        with self._loading:
            if self._tokenizer is None:
                self._tokenizer = Tokenizer(self.bundle.t5_path)
            return self._tokenizer

    def generate(
        self,
        text: str | Sequence[str],
        audio: Array,
        max_steps: int | None = None,
        seed: int | Sequence[int] | None = 0,
        temperature: float = 1.0,
        top_k: int = 250,
        top_p: float = 0.0,
        guidance: float = 3.0,
        greedy: bool = False,
        *,
        window_frames: int | None = None,
        stride_frames: int | None = None,
        progress: Progress | None = None,
    ) -> mx.array:
        """Edit `audio` as `text` says.

        text: a sentence as upstream was trained on ("Music piece. Instruct: Only Drums."), or one for each row.
        audio: [samples] or [batch, samples], 32 kHz mono, of any library; integers (int16) are scaled. max_steps: edit
        only the first `max_steps` frames (50 a second); the result then is that long. seed: same seed, build and
        backend give the same samples; one for every row, or one each; None draws one and logs it. top_p, if above 0,
        takes precedence over top_k; temperature 0 is greedy. guidance 1 turns guidance off. window_frames,
        stride_frames: see `edit_codes`.

        A row of a batch comes out as it would alone, with its text and its seed (to the bit on native, and on the
        reference on a CPU): rows whose texts have unequal numbers of tokens are edited one after the other.

        Returns float32 of audio's shape, evaluated, so that any thread can use it; several threads can use one model.
        Raises ValueError, naming the value and the fix, for unusable input, UserError where the weights hold NaN or
        infinity, and RuntimeError in a forked child of a process that has used MLX.
        """
        threads.check(self._made_in)
        clip = checks.samples(audio)
        if max_steps is not None:
            max_steps = checks.whole("max_steps", max_steps, 1)
            clip = clip[..., : min(max_steps * HOP, clip.shape[-1])]  # MLX takes 32-bit bounds only
        rows, frames = clip.size // clip.shape[-1], -(-clip.shape[-1] // HOP)
        texts, plan = checks.texts(text, rows), self.plan(frames, window_frames, stride_frames)
        seeds, sampling = checks.seeds(seed, rows), Sampling(temperature, top_k, top_p, greedy)
        guidance = checks.number("guidance", guidance, -GUIDANCE, GUIDANCE)
        # All of it is checked before the clip is encoded, which takes a while.
        run = self.edit_steps(self.encode(clip), texts, plan, sampling, guidance, seeds, pad_texts=False)
        return evaluated(self.decode(finished(run, progress))[:, : clip.shape[-1]].reshape(clip.shape))

    def encode(self, audio: Array) -> mx.array:
        """audio float32 [samples] or [B,samples] at 32 kHz -> codes int32 [B,4,T], T = ceil(samples/640), evaluated."""
        threads.check(self._made_in)
        clip = checks.samples(audio, least=1)
        codec = self.codec
        with self.announce("codec encode"):
            return evaluated(codec.encode(clip.reshape(-1, clip.shape[-1])))

    def decode(self, codes: Array) -> mx.array:
        """codes int32 [B,4,T] -> audio float32 [B,640·T], evaluated. Raises UserError where that is no numbers."""
        threads.check(self._made_in)
        codec, tokens = self.codec, checks.codes(codes, self.lm.config.codebooks, self.lm.config.card)
        with self.announce("codec decode"):
            audio = evaluated(codec.decode(tokens))
        if not mx.isfinite(audio).all().item():
            raise UserError(f"{self.bundle.codec_path}: the codec's samples are NaN or infinite; get a whole copy")
        return audio

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
        plan: Sequence[windows.Window] | None = None,
        progress: Progress | None = None,
    ) -> mx.array:
        """Edit codes int32 [B,4,T] (without the special frame, which is appended here) -> codes of the same shape.

        A clip longer than the window (`window_frames`, by default what the adapter was trained on, see
        `AdapterConfig.window_frames`, and at most its `max_n_frames`) is edited in windows `stride_frames` apart (by
        default half a window), as `windows.plan` lays them out; `plan` overrides them. An empty text is upstream's
        null text.

        seed: one for every row, or one each. pad_texts: texts of unequal numbers of tokens are padded to the longest,
        as upstream's batches are, and their rows run together; the model attends to the padding, so that a row depends
        on the longest text. Without it every row comes out as it would alone.
        """
        threads.check(self._made_in)
        tokens = checks.codes(codes, self.lm.config.codebooks, self.lm.config.card)
        if plan is None:
            plan = self.plan(tokens.shape[2], window_frames, stride_frames)
        sampling = Sampling(temperature, top_k, top_p, greedy)
        run = self.edit_steps(tokens, checks.texts(text, tokens.shape[0]), plan, sampling, guidance, seed, pad_texts)
        return finished(run, progress)

    def edit_steps(
        self,
        codes: mx.array,
        texts: Sequence[str],
        plan: Sequence[windows.Window],
        sampling: Sampling,
        guidance: float,
        seed: int | Sequence[int] | None,
        pad_texts: bool = True,
        likelihood: Likelihood | None = None,
    ) -> Generator[Step, None, mx.array]:
        """Run what `edit_codes` runs: yield after every position, return the edited codes [B,4,T].

        Close it to cancel; read `Step.tokens` to stream (they are in the delay pattern). Rows that cannot run together
        are edited in batches, one after the other: `Step.rows` says which one a step belongs to. `likelihood` is told
        how probable each row's tokens were.
        """
        threads.check(self._made_in)
        seeds = checks.seeds(seed, len(texts))
        guidance = checks.number("guidance", guidance, -GUIDANCE, GUIDANCE)
        conditions = self.conditions(texts)
        if pad_texts:
            conditions = padded(conditions)
        batches = together([c.shape[1] for c in conditions], ROWS_TOGETHER if guidance == 1 else ROWS_TOGETHER // 2)
        total, done = len(batches) * sum(positions(w.frames) - w.prompt - 1 for w in plan), 0
        clips = with_special(codes, self.lm.config.special)
        edited: dict[int, mx.array] = {}
        for rows in batches:
            with self.announce("text k/v"):
                text = text_kv(self.lm, {texts[row]: conditions[row] for row in rows}, [texts[row] for row in rows])
            tally = None if likelihood is None else likelihood.part(rows, guided=guidance != 1)
            decoder = Decoder(self.lm, self.adapter, text, guidance, sampling, self.announce, tally)
            clip = mx.concatenate([clips[row : row + 1] for row in rows])
            parts: list[mx.array] = []
            window = clip[:, :, :0]
            for number, (offset, frames, prompt) in enumerate(plan):
                given = window[:, :, window.shape[2] - prompt :]
                chunks = []
                own = [seeds[row] for row in rows]
                try:
                    inside = clip[:, :, offset : offset + frames + 1]
                    for tokens in decoder.tokens(inside, given, frames, own, number):
                        chunks.append(tokens)
                        if len(chunks) > 1:
                            done += 1
                            yield Step(done, total, tokens, rows)
                except NotFinite as e:
                    raise UserError(explanation(self.bundle, "predictions")) from e
                window = undelayed(mx.concatenate(chunks, axis=2), frames)
                mx.eval(window)
                parts.append(window[:, :, prompt:])
            edited |= zip(rows, mx.split(mx.concatenate(parts, axis=2), len(rows)))
        return evaluated(mx.concatenate([edited[row] for row in range(len(texts))]))

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
            with self.announce("t5 load"):
                tokenizer, encoder = self.tokenizer, T5Encoder(self.bundle.t5_path, self.ops)
            with self.announce("text"):
                known |= {text: self.conditioner([text], tokenizer, encoder) for text in missing}
                mx.eval(known)
            if not all(mx.isfinite(value).all().item() for value in known.values()):
                raise UserError(explanation(self.bundle, "condition of the text", f"T5's in {self.bundle.t5_path}"))
        self._conditions = known
        return [known[text] for text in texts]

    def plan(self, total: int, window: int | None = None, stride: int | None = None) -> list[windows.Window]:
        """Lay out the windows of `total` frames; window and stride in frames, None: as `edit_codes` says."""
        adapter = self.adapter.config
        longest = adapter.max_n_frames
        if window is not None:
            window = checks.whole("window_frames", window, 1, longest)
        window = window or adapter.window_frames
        if stride is not None:
            stride = checks.whole("stride_frames", stride, 1, window)
        return windows.plan(total, window, stride or max(window // 2, 1))
