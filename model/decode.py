"""One window's generation as a Python generator: progress, streaming and cancelling fall out of `yield`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import mlx.core as mx

from .adapter import Adapter
from .delay_pattern import delayed, positions
from .sampling import Sampling, row_keys
from .transformer import LanguageModel, Pair, Stream


class NotFinite(ArithmeticError):
    """The model's predictions are no numbers."""


@dataclass(frozen=True)
class Job:
    """What stays the same for all windows of a clip: the models, the text's keys and values, and how to choose."""

    lm: LanguageModel
    adapter: Adapter
    text: list[Pair]
    guidance: float
    sampling: Sampling

    @property
    def guided(self) -> bool:
        """Whether unconditional rows run beside the conditional ones; at guidance 1 they would cancel out."""
        return self.guidance != 1

    def start(self, condition: mx.array, frames: int) -> Stream:
        """Encode the window's clip, int32 [B,K,frames+1], and allocate its caches."""
        rows = condition.shape[0] * (2 if self.guided else 1)
        return Stream(
            self.lm, self.text, self.adapter(condition), start_layer=self.adapter.config.start_layer, rows=rows,
            slots=positions(frames, condition.shape[1]) - 1, query_rows=frames,
        )

    def predict(self, stream: Stream, tokens: mx.array) -> mx.array:
        """tokens int32 [B,K,T] -> guided logits of the position after them, float32 [B,K,card].

        Classifier-free guidance on raw logits: unconditional + guidance · (conditional - unconditional).
        """
        if not self.guided:
            return self.lm.logits(stream(tokens)[:, -1:])[:, :, 0]
        out = self.lm.logits(stream(mx.concatenate([tokens, tokens]))[:, -1:])[:, :, 0]
        conditional, unconditional = mx.split(out, 2)
        return unconditional + (conditional - unconditional) * self.guidance


def steps(
    job: Job, condition: mx.array, prompt: mx.array, frames: int, seeds: Sequence[int], window: int = 0
) -> Iterator[mx.array]:
    """The delayed sequence of a window, chunk by chunk: int32 [B,K,T'], all positions in order.

    condition int32 [B,K,frames+1]; prompt int32 [B,K,P], P < frames, the tokens already known; seeds: one for each
    row, from which `window` (its number in the clip) derives what is drawn. The first chunk is what the prompt makes
    known (positions 0..P), each later one a single position. Tokens stay on the device. Raises NotFinite at the end if
    logits were NaN or infinite, which no token shows.
    """
    sequence, known = delayed(prompt, frames, job.lm.config.special)
    given, total = prompt.shape[2], sequence.shape[2]
    stream = job.start(condition, frames)
    keys = row_keys(seeds, window, total)
    tokens, sum_of_logits = sequence[:, :, : given + 1], mx.array(0.0)
    yield tokens
    for position in range(given + 1, total):
        before, column = tokens, known[:, position]
        logits = job.predict(stream, tokens)
        sum_of_logits = sum_of_logits + logits.sum()
        chosen = job.sampling(logits, keys[position])
        if column.any():
            chosen = mx.where(mx.array(column), sequence[:, :, position], chosen)
        tokens = chosen[..., None]
        # This step's graph is built while the one before runs; it is enqueued once that one has let go of the caches,
        # which then are written in place. Enqueued earlier, every layer's cache would be copied.
        mx.eval(before)
        mx.async_eval(tokens, sum_of_logits)  # type: ignore[no-untyped-call]
        yield tokens
    if not mx.isfinite(sum_of_logits).item():
        raise NotFinite
