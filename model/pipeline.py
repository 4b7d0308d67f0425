"""InstructMusicGen: a clip and a sentence in, the edited clip out."""

from __future__ import annotations

import functools
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import NamedTuple

import mlx.core as mx

import kernels
from reference.contract import Ops

from . import windows
from .adapter import ADAPTER_OWN, Adapter
from .bundle.bundle import Bundle, open_bundle
from .bundle.codec_weights import load_codec
from .bundle.names.keys import Keys
from .config import FRAME_RATE, HOP
from .decode import Job, steps
from .delay_pattern import positions, undelayed
from .encodec import EnCodec
from .progress import Progress
from .rows import together
from .sampling import Sampling, checked_seeds
from .t5 import T5Encoder, Tokenizer
from .text import TextConditioner, padded
from .transformer import LanguageModel, Pair
from .weights import Weights

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

    def __init__(self, bundle: Bundle, ops: Ops) -> None:
        self.bundle, self.ops = bundle, ops
        resident = [name for name in bundle.tensors if not name.startswith(ADAPTER_OWN)]
        weights = Weights(bundle.reload(resident), bundle.config, ops)
        self.lm = LanguageModel(weights)
        self.adapter = Adapter(weights, self.lm, bundle.reload)
        self.conditioner = TextConditioner(weights)
        self._conditions: dict[str, mx.array] = {}

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
        return cls(open_bundle(path_or_repo, revision=revision, keys=keys), kernels.load(backend))

    @property
    def backend(self) -> str:
        """The name of the operations in use: "metal", "native", "reference" or "interpreter"."""
        return self.ops.name

    @functools.cached_property
    def codec(self) -> EnCodec:
        """EnCodec, loaded when first used."""
        config, tensors = load_codec(self.bundle.codec_path)
        return EnCodec(config, tensors, self.ops)

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """T5's tokenizer, loaded when first used."""
        return Tokenizer(self.bundle.t5_path)

    def generate(
        self,
        text: str | Sequence[str],
        audio: mx.array,
        max_steps: int | None = None,
        seed: int | Sequence[int] = 0,
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
        audio: float32 [samples] or [batch, samples], 32 kHz mono. max_steps: edit only the first `max_steps` frames
        (50 a second); the result then is that long. seed: same seed, build and backend give the same samples; one for
        every row, or one each. top_p, if above 0, takes precedence over top_k; temperature 0 is greedy. guidance 1
        turns guidance off. window_frames, stride_frames: see `edit_codes`.

        A row of a batch comes out as it would alone, with its text and its seed (to the bit on native, and on the
        reference on a CPU): rows whose texts have unequal numbers of tokens are edited one after the other.

        Returns float32 of audio's shape. Raises ValueError, naming the value and the fix, for unusable input.
        """
        audio = _checked_audio(audio)
        if max_steps is not None:
            if max_steps < 1:
                raise ValueError(f"max_steps={max_steps} must be at least 1 (50 steps make a second)")
            audio = audio[..., : min(max_steps * HOP, audio.shape[-1])]  # MLX takes 32-bit bounds only
        codes = self.edit_codes(
            self.encode(audio), text, seed=seed, temperature=temperature, top_k=top_k, top_p=top_p, guidance=guidance,
            greedy=greedy, window_frames=window_frames, stride_frames=stride_frames, progress=progress,
            pad_texts=False,
        )
        return self.decode(codes)[:, : audio.shape[-1]].reshape(audio.shape)

    def encode(self, audio: mx.array) -> mx.array:
        """audio float32 [samples] or [B,samples] at 32 kHz -> codes int32 [B,4,T], T = ceil(samples/640)."""
        return self.codec.encode(audio.reshape(-1, audio.shape[-1]).astype(mx.float32))

    def decode(self, codes: mx.array) -> mx.array:
        """codes int32 [B,4,T] -> audio float32 [B,640·T]."""
        return self.codec.decode(codes)

    def edit_codes(
        self,
        codes: mx.array,
        text: str | Sequence[str],
        *,
        greedy: bool = False,
        guidance: float = 3.0,
        temperature: float = 1.0,
        top_k: int = 250,
        top_p: float = 0.0,
        seed: int | Sequence[int] = 0,
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
        codes = _checked_codes(codes, self.lm.config.codebooks, self.lm.config.card)
        texts = [text] * codes.shape[0] if isinstance(text, str) else list(text)
        if len(texts) != codes.shape[0]:
            raise ValueError(f"{len(texts)} texts for {codes.shape[0]} clips; give one text, or one for each clip")
        if not -1e6 < guidance < 1e6:
            raise ValueError(f"guidance={guidance} must be a finite number; upstream uses 3.0")
        if plan is None:
            plan = self._plan(codes.shape[2], window_frames, stride_frames)
        sampling = Sampling(temperature, top_k, top_p, greedy)
        run = self.edit_steps(codes, texts, plan, sampling, guidance, seed, pad_texts)
        while True:
            try:
                step = next(run)
            except StopIteration as finished:
                edited: mx.array = finished.value
                return edited
            if progress is not None:
                progress(step.done, step.total)

    def edit_steps(
        self,
        codes: mx.array,
        texts: Sequence[str],
        plan: Sequence[windows.Window],
        sampling: Sampling,
        guidance: float,
        seed: int | Sequence[int],
        pad_texts: bool = True,
    ) -> Generator[Step, None, mx.array]:
        """Run what `edit_codes` runs: yield after every position, return the edited codes [B,4,T].

        Close it to cancel; read `Step.tokens` to stream (they are in the delay pattern). Rows that cannot run together
        are edited in batches, one after the other: `Step.rows` says which one a step belongs to.
        """
        seeds = checked_seeds(seed, len(texts))
        conditions = self.conditions(texts)
        if pad_texts:
            conditions = padded(conditions)
        batches = together([c.shape[1] for c in conditions], ROWS_TOGETHER if guidance == 1 else ROWS_TOGETHER // 2)
        total, done = len(batches) * sum(positions(w.frames) - w.prompt - 1 for w in plan), 0
        special = mx.full((*codes.shape[:2], 1), self.lm.config.special, dtype=mx.int32)
        clips = mx.concatenate([codes, special], axis=2)
        edited: dict[int, mx.array] = {}
        for rows in batches:
            text = self._text_kv([texts[row] for row in rows], [conditions[row] for row in rows])
            job = Job(self.lm, self.adapter, text, guidance, sampling)
            clip = mx.concatenate([clips[row : row + 1] for row in rows])
            parts: list[mx.array] = []
            window = clip[:, :, :0]
            for number, (offset, frames, prompt) in enumerate(plan):
                given = window[:, :, window.shape[2] - prompt :]
                chunks = []
                own = [seeds[row] for row in rows]
                for tokens in steps(job, clip[:, :, offset : offset + frames + 1], given, frames, own, number):
                    chunks.append(tokens)
                    if len(chunks) > 1:
                        done += 1
                        yield Step(done, total, tokens, rows)
                window = undelayed(mx.concatenate(chunks, axis=2), frames)
                mx.eval(window)
                parts.append(window[:, :, prompt:])
            edited |= zip(rows, mx.split(mx.concatenate(parts, axis=2), len(rows)))
        return mx.concatenate([edited[row] for row in range(len(texts))])

    def condition(self, texts: Sequence[str]) -> mx.array:
        """Encode texts, padded to the longest: float32 [B,L,dim]."""
        return mx.concatenate(padded(self.conditions(texts)))

    def conditions(self, texts: Sequence[str]) -> list[mx.array]:
        """Encode each text for itself: float32 [1,L,dim], L its number of tokens. The last texts are remembered."""
        known = {text: self._conditions[text] for text in texts if text in self._conditions}
        if missing := [text for text in dict.fromkeys(texts) if text not in known]:
            encoder = T5Encoder(self.bundle.t5_path, self.ops)
            known |= {text: self.conditioner([text], self.tokenizer, encoder) for text in missing}
            mx.eval(known)
        self._conditions = known
        return [known[text] for text in texts]

    def _text_kv(self, texts: list[str], conditions: list[mx.array]) -> list[Pair]:
        """Compute every layer's keys and values of a batch's texts, of equal texts once."""
        distinct = dict(zip(texts, conditions))
        pairs = self.lm.text_kv(mx.concatenate(list(distinct.values())))
        if len(distinct) == len(texts):
            return pairs
        place = {text: i for i, text in enumerate(distinct)}
        rows = mx.array([place[text] for text in texts])
        return [(k[rows], v[rows]) for k, v in pairs]

    def _plan(self, total: int, window: int | None, stride: int | None) -> list[windows.Window]:
        adapter = self.adapter.config
        longest = adapter.max_n_frames
        if window is not None and not 1 <= window <= longest:
            raise ValueError(f"window_frames={window} must lie between 1 and the adapter's {longest} frames")
        window = window or adapter.window_frames
        if stride is not None and not 1 <= stride <= window:
            raise ValueError(f"stride_frames={stride} must lie between 1 and the window's {window} frames")
        return windows.plan(total, window, stride or max(window // 2, 1))


def _checked_audio(audio: mx.array) -> mx.array:
    if audio.ndim not in (1, 2):
        raise ValueError(f"audio has shape {audio.shape}; it must be [samples] or [batch, samples]")
    if audio.size == 0 or audio.shape[-1] < HOP:
        raise ValueError(
            f"audio has {audio.shape[-1]} samples, less than one frame ({HOP} samples, 1/{FRAME_RATE} s); "
            "give a longer clip"
        )
    audio = audio.astype(mx.float32)
    if not mx.isfinite(audio).all().item():
        raise ValueError("audio holds NaN or infinite samples; repair the clip first")
    return audio


def _checked_codes(codes: mx.array, codebooks: int, card: int) -> mx.array:
    if codes.ndim != 3 or codes.shape[1] != codebooks or codes.size == 0:
        raise ValueError(f"codes have shape {codes.shape}; they must be a non-empty [batch, {codebooks}, frames]")
    if not mx.issubdtype(codes.dtype, mx.integer):
        raise ValueError(f"codes are {codes.dtype}; they must be integers")
    low, high = (int(str(extreme.item())) for extreme in (codes.min(), codes.max()))
    if low < 0 or high >= card:
        raise ValueError(f"codes lie between {low} and {high}; they must lie between 0 and {card - 1}")
    return codes.astype(mx.int32)
