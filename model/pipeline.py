"""InstructMusicGen: a clip and a sentence in, the edited clip out."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn, SupportsIndex

import mlx.core as mx

import kernels
from reference.contract import Ops

from . import checks, streaming
from .bundle.bundle import Bundle, open_bundle
from .bundle.codec_weights import load_codec
from .bundle.names.keys import Keys
from .config import HOP
from .decoding import steps
from .decoding.clip_codes import ClipCodes
from .decoding.editor import ROWS_TOGETHER, Array, CodeEditor
from .decoding.request import EditRequest, edit_request
from .decoding.request import clip as checked_clip
from .decoding.sampling import Sampling
from .decoding.steps import Step
from .errors import UserError
from .network.encodec import Decoding, EnCodec
from .progress import Progress
from .stages import Announce, unheard
from .streaming import Chunk
from .system import mlx_buffers, threads
from .system.threads import evaluated

__all__ = ["ROWS_TOGETHER", "Array", "Chunk", "InstructMusicGen", "Step"]


class InstructMusicGen(CodeEditor):
    """The whole pipeline on one backend's operations. The codec is loaded when first used."""

    def __init__(self, bundle: Bundle, ops: Ops, announce: Announce = unheard) -> None:
        """Load the LM and the adapter's gates; `announce` is told of the stages of each edit (see `model.stages`)."""
        super().__init__(bundle, ops, announce)
        self._codec: EnCodec | None = None
        self._loading = threading.Lock()

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
        """Refuse to be copied or pickled: raise TypeError, which says what to do instead."""
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

        Return float32 of audio's shape, evaluated, so that any thread can use it; several threads can use one model.
        Raises ValueError, naming the value and the fix, for unusable input, UserError where the weights hold NaN or
        infinity, and RuntimeError in a forked child of a process that has used MLX.
        """
        threads.check(self._made_in)
        clip = checked_clip(audio, max_steps)
        frames, rows = -(-clip.shape[-1] // HOP), clip.size // clip.shape[-1]
        plan = self.plan(frames, window_frames, stride_frames, look_ahead_frames)
        asked = edit_request(text, rows, plan, seed, Sampling(temperature, top_k, top_p, greedy), guidance)
        # All of it is checked before the clip is encoded, which takes a while. Batches run one after the other, where
        # `chunks` lets them take turns: the caches of one are held at a time, and none while the codec decodes.
        run = self.edit_steps(self.encode(clip), *asked, pad_texts=False)
        edited = self.decode(steps.edited(run, progress))
        return evaluated(edited[:, : clip.shape[-1]].reshape(clip.shape))

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
        chunks = self.chunks(asked, [flat], flat.shape[1], streaming.chunk_frames(chunk_seconds), progress=progress)
        return (chunk._replace(samples=chunk.samples.reshape(*clip.shape[:-1], -1)) for chunk in chunks)

    def chunks(
        self, request: EditRequest, parts: Iterable[mx.array], samples: int, frames: int, *, copies: int = 1,
        edited: mx.array | None = None, on_codes: streaming.OnCodes | None = None, progress: Progress | None = None,
    ) -> Generator[Chunk, None, None]:  # fmt: skip
        """Edit a batch and yield its audio [B,samples] in chunks of at least `frames` frames, the last one excepted.

        parts: the batch's audio, float32 [rows,n] one after the other, encoded when a window needs it. copies: how many
        rows of the request edit each row of audio, which is encoded once. edited: codes int32 [B,K,n] that are edited
        already, up to the end of a window. on_codes: takes the edited codes, those included, part by part.

        Rows that do not run together (see `batches`) take turns, so that every chunk has all rows; the caches of all of
        them are held. Raises what `edit_steps` and `decode` raise.
        """
        clip = self._clip_codes(parts, len(request.texts), samples, copies)
        runs = []
        for batch in self.batches(request.texts, request.guidance):
            run = self.edit_steps(clip, *request, pad_texts=False, batches=[batch], edited=edited)
            runs.append(streaming.FrameRun(run, batch.rows, request.plan, edited))
        yield from streaming.chunks(runs, self.decoding(), samples, frames, on_codes=on_codes, progress=progress)

    def encode(self, audio: Array) -> mx.array:
        """Encode audio float32 [samples] or [B,samples] at 32 kHz: codes int32 [B,4,T], T = ceil(samples/640).

        The codes are evaluated. Raises ValueError for unusable audio.
        """
        threads.check(self._made_in)
        clip = checks.samples(audio, least=1)
        codec = self.codec
        with self.announce("codec encode"):
            return evaluated(codec.encode(clip.reshape(-1, clip.shape[-1])))

    def decode(self, codes: Array) -> mx.array:
        """Decode codes int32 [B,4,T]: audio float32 [B,640·T], evaluated.

        Raises ValueError for unusable codes, and UserError if the samples hold NaN or infinity.
        """
        threads.check(self._made_in)
        codec, tokens = self.codec, checks.codes(codes, self.lm.config.codebooks, self.lm.config.card)
        with self.announce("codec decode"):
            mlx_buffers.release()
            return self._checked(evaluated(codec.decode(tokens)))

    def decoding(self) -> Decoding:
        """Return a decoder for codes that come block by block; it refuses what `decode` refuses."""
        return Decoding(self.codec, self._checked)

    def _checked(self, audio: mx.array) -> mx.array:
        if not mx.isfinite(audio).all().item():
            raise UserError(f"{self.bundle.codec_path}: the codec's samples are NaN or infinite; get a whole copy")
        return audio

    def _clip_codes(self, parts: Iterable[mx.array], rows: int, samples: int, copies: int) -> ClipCodes:
        codes = self._announced(self.codec.encoded(parts))
        if copies > 1:
            codes = (mx.repeat(part, copies, axis=0) for part in codes)
        return ClipCodes(codes, rows, -(-samples // HOP), self.lm.config.special)

    def _announced(self, codes: Iterator[mx.array]) -> Iterator[mx.array]:
        while True:
            with self.announce("codec encode"):
                part = next(codes, None)
            if part is None:
                return
            yield part
