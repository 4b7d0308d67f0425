"""InstructMusicGen: a clip and a sentence in, the edited clip out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn, SupportsIndex

import mlx.core as mx

import kernels
from reference.contract import Ops

from . import checks, memory, streaming
from .bundle.bundle import Bundle, open_bundle
from .bundle.codec_weights import load_codec
from .bundle.names.keys import Keys
from .config import HOP
from .decoding.clip_codes import ClipCodes
from .decoding.editor import ROWS_TOGETHER, Array, CodeEditor, Step
from .decoding.request import clip as checked_clip
from .decoding.request import edit_request
from .decoding.sampling import Sampling
from .errors import UserError
from .network.encodec import Decoding, EnCodec
from .progress import Progress, finished
from .stages import Announce, unheard
from .streaming import Chunk
from .system import threads
from .system.threads import evaluated

__all__ = ["ROWS_TOGETHER", "Array", "Chunk", "InstructMusicGen", "Step"]


class InstructMusicGen(CodeEditor):
    """The whole pipeline on one backend's operations. The codec is loaded when first used."""

    def __init__(self, bundle: Bundle, ops: Ops, announce: Announce = unheard) -> None:
        """Load the LM and the adapter's gates; `announce` is told of the stages of each edit (see `model.stages`)."""
        super().__init__(bundle, ops, announce)
        self._codec: EnCodec | None = None

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
    def codec(self) -> EnCodec:
        """EnCodec, loaded when first used."""
        with self._loading:
            if self._codec is None:
                self._codec = EnCodec(*load_codec(self.bundle.codec_path), self.ops)
            return self._codec

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
        look_ahead_frames: int | None = None,
        progress: Progress | None = None,
    ) -> mx.array:
        """Edit `audio` as `text` says.

        text: a sentence as upstream was trained on ("Music piece. Instruct: Only Drums."), or one for each row.
        audio: [samples] or [batch, samples], 32 kHz mono, of any library; integers (int16) are scaled. max_steps: edit
        only the first `max_steps` frames (50 a second); the result then is that long. seed: same seed, build and
        backend give the same samples; one for every row, or one each; None draws one and logs it. top_p, if above 0,
        takes precedence over top_k; temperature 0 is greedy. guidance 1 turns guidance off. window_frames,
        stride_frames, look_ahead_frames: see `edit_codes`.

        A row of a batch comes out as it would alone, with its text and its seed (to the bit on native, and on the
        reference on a CPU): rows whose texts have unequal numbers of tokens are edited one after the other.

        Returns float32 of audio's shape, evaluated, so that any thread can use it; several threads can use one model.
        Raises ValueError, naming the value and the fix, for unusable input, UserError where the weights hold NaN or
        infinity, and RuntimeError in a forked child of a process that has used MLX.
        """
        threads.check(self._made_in)
        clip = checked_clip(audio, max_steps)
        frames, rows = -(-clip.shape[-1] // HOP), clip.size // clip.shape[-1]
        plan = self.plan(frames, window_frames, stride_frames, look_ahead_frames)
        asked = edit_request(text, rows, plan, seed, Sampling(temperature, top_k, top_p, greedy), guidance)
        # All of it is checked before the clip is encoded, which takes a while.
        run = self.edit_steps(self.encode(clip), *asked, pad_texts=False)
        return evaluated(self.decode(finished(run, progress))[:, : clip.shape[-1]].reshape(clip.shape))

    def stream(
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
        chunk_seconds: float = 1.0,
        window_frames: int | None = None,
        stride_frames: int | None = None,
        look_ahead_frames: int | None = None,
        progress: Progress | None = None,
    ) -> Iterator[Chunk]:
        """Edit `audio` as `generate` does, and yield the samples while they are made, each as soon as it is final.

        Takes what `generate` takes. chunk_seconds: how much a chunk holds at least, in steps of 0.5 s; the first one
        lacks the 75 ms that the codec can still change, the last one has them more. Joined along their last axis, the
        chunks are what `generate` returns: to the bit on every backend that gives the same bits twice.

        The clip is encoded as far as its windows need it. Rows whose texts have unequal numbers of tokens take turns,
        so that each chunk has every row. Close the iterator to cancel. Raises what `generate` raises, for unusable
        input at once.
        """
        threads.check(self._made_in)
        clip = checked_clip(audio, max_steps)
        flat = clip.reshape(-1, clip.shape[-1])
        plan = self.plan(-(-flat.shape[1] // HOP), window_frames, stride_frames, look_ahead_frames)
        asked = edit_request(text, flat.shape[0], plan, seed, Sampling(temperature, top_k, top_p, greedy), guidance)
        least = streaming.chunk_frames(chunk_seconds)
        parts = streaming.chunks(self, self.decoding(), self.heard([flat], *flat.shape), asked, flat.shape[1], least,
                                 progress=progress)  # fmt: skip
        return (chunk._replace(samples=chunk.samples.reshape(*clip.shape[:-1], -1)) for chunk in parts)

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
            memory.release()
            return self._checked(evaluated(codec.decode(tokens)))

    def decoding(self) -> Decoding:
        """Return a decoder for codes that come block by block; it refuses what `decode` refuses."""
        return Decoding(self.codec, self._checked)

    def _checked(self, audio: mx.array) -> mx.array:
        if not mx.isfinite(audio).all().item():
            raise UserError(f"{self.bundle.codec_path}: the codec's samples are NaN or infinite; get a whole copy")
        return audio

    def heard(self, parts: Iterable[mx.array], rows: int, samples: int, copies: int = 1) -> ClipCodes:
        """Return the codes of a batch whose audio comes in parts float32 [rows,n], encoded when a window needs them.

        copies: how many times each row stands in the batch; it is encoded once.
        """
        codes = self._announced(self.codec.encoded(parts))
        if copies > 1:
            codes = (mx.repeat(part, copies, axis=0) for part in codes)
        return ClipCodes(codes, rows * copies, -(-samples // HOP), self.lm.config.special)

    def _announced(self, codes: Iterator[mx.array]) -> Iterator[mx.array]:
        while True:
            with self.announce("codec encode"):
                part = next(codes, None)
            if part is None:
                return
            yield part
