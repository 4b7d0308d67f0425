"""Decode one window: tokens position after position, as a generator, so that callers can stream or cancel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import mlx.core as mx

from ..network.adapter import Adapter
from ..network.state import KVCache, LayerPrefix, LayerState, TextKV
from ..network.transformer import LanguageModel, Layer, sinusoid
from ..stages import Announce, unheard
from ..system import mlx_buffers
from .delay_pattern import apply_delay, positions
from .guidance import guide
from .likelihood import Tally
from .sampling import Sampling, row_keys
from .step_queue import StepQueue


class NotFinite(ArithmeticError):
    """The model's predictions are no numbers."""


class DecoderState:
    """The state of one window: what every layer attends to, and the position that comes next."""

    def __init__(
        self,
        lm: LanguageModel,
        text: Sequence[TextKV],
        prefix: Sequence[LayerPrefix],
        *,
        start_layer: int,
        rows: int,
        slots: int,
        query_rows: int,
    ) -> None:
        """Allocate the caches of a window.

        `rows` count both rows of guidance pairs; `slots` the positions that will come; `query_rows` the prefix's query
        rows in use (the frames that are heard: later positions keep the last one, as upstream does).
        """
        config = lm.config
        self.lm, self.position, self.query_rows = lm, 0, query_rows
        self.prefix = [None] * start_layer + [*prefix] + [None] * (config.layers - start_layer - len(prefix))
        self.layers = [
            LayerState(KVCache(rows, config.heads, slots, config.head_dim, lm.cache_dtype), own, given)
            for own, given in zip(text, self.prefix, strict=True)
        ]
        self.positions = sinusoid(slots, config.dim).astype(lm.dtype)

    def __call__(self, tokens: mx.array) -> mx.array:
        """Run all layers over tokens int32 [B,K,T], the next T positions: [B,T,dim]."""
        return self.second_half(self.first_half(tokens))

    def first_half(self, tokens: mx.array) -> mx.array:
        """Run the first half of the layers over tokens int32 [B,K,T], the next T positions: [B,T,dim]."""
        steps = tokens.shape[2]
        x = self.lm.embed(tokens) + self.positions[self.position : self.position + steps]
        return self._through(x, slice(None, len(self.layers) // 2))

    def second_half(self, x: mx.array) -> mx.array:
        """Run the other layers over what `first_half` gave; then the positions are done."""
        x = self._through(x, slice(len(self.layers) // 2, None))
        self.position += x.shape[1]
        return x

    def _through(self, x: mx.array, part: slice) -> mx.array:
        steps, row = x.shape[1], min(self.position, self.query_rows - 1)
        if steps > 1 and row + steps > self.query_rows:
            raise ValueError(f"{steps} positions from {self.position} pass the prefix's {self.query_rows} query rows")
        for layer, state in zip(self.lm.layers[part], self.layers[part]):
            state.position, state.query_row = self.position, row
            x = layer(x, state) if steps == 1 else _clip_by_clip(layer, x, state)
        return x


def _clip_by_clip(layer: Layer, x: mx.array, state: LayerState) -> mx.array:
    """Run a layer over many positions: each clip's rows as in a batch of its own, since more are rounded otherwise."""
    clips = state.text.k.shape[0]
    out = [layer(x[clip::clips], state.of_clip(clip)) for clip in range(clips)]
    return mx.stack(out, axis=1).reshape(x.shape)


@dataclass(frozen=True)
class Decoder:
    """The parts that all windows of a clip share: the models, the text's keys and values, how to choose tokens."""

    lm: LanguageModel
    adapter: Adapter
    text: Sequence[TextKV]
    guidance: float
    sampling: Sampling
    announce: Announce = unheard
    tally: Tally | None = None
    """Collects each position's log-probabilities, where somebody wants to know them."""

    @property
    def guided(self) -> bool:
        """Whether unconditional rows run beside the conditional ones; at guidance 1 they would cancel out."""
        return self.guidance != 1

    def start(self, clip_codes: mx.array, frames: int) -> DecoderState:
        """Encode what is heard of the clip, int32 [B,K,n+1], n >= frames, and allocate the window's caches."""
        rows = clip_codes.shape[0] * (2 if self.guided else 1)
        with self.announce("adapter"):
            prefix = self.adapter(clip_codes)
            mlx_buffers.release()
        return DecoderState(
            self.lm, self.text, prefix, start_layer=self.adapter.config.start_layer, rows=rows,
            slots=positions(frames, clip_codes.shape[1]) - 1, query_rows=clip_codes.shape[2] - 1,
        )  # fmt: skip

    def predict(self, state: DecoderState, tokens: mx.array) -> mx.array:
        """Compute guided logits float32 [B,K,card] of the position after tokens int32 [B,K,T].

        Classifier-free guidance on raw logits: unconditional + guidance · (conditional - unconditional).
        """
        return self.guide(self.raw(state, tokens))

    def raw(self, state: DecoderState, tokens: mx.array) -> mx.array:
        """Compute logits float32 [2B,K,card], the conditional rows first, or [B,K,card] without guidance."""
        return self._scores(state(self._rows(tokens)))

    def guide(self, raw: mx.array) -> mx.array:
        """Combine the logits of `raw` to [B,K,card]."""
        return guide(raw, self.guidance) if self.guided else raw

    def _rows(self, tokens: mx.array) -> mx.array:
        return mx.concatenate([tokens, tokens]) if self.guided else tokens

    def _scores(self, x: mx.array) -> mx.array:
        return self.lm.logits(x[:, -1:])[:, :, 0]

    def tokens(
        self, clip_codes: mx.array, prompt: mx.array, frames: int, seeds: Sequence[int], window: int = 0
    ) -> Iterator[mx.array]:
        """Generate the delayed sequence of a window, chunk by chunk: int32 [B,K,T'], all positions in order.

        clip_codes: int32 [B,K,n+1], n >= frames, what is heard of the clip; prompt: int32 [B,K,P], P < frames, the
        tokens already known; seeds: one for each row, from which `window` (its number in the clip) derives what is
        drawn. The first chunk is what the prompt makes known (positions 0..P), each later one a single position. Where
        more is heard than generated, the last positions begin further frames, as in a window of n frames that is cut
        off. Tokens stay on the device. Raises NotFinite at the end if logits were NaN or infinite, which no token
        shows.
        """
        state = self.start(clip_codes, frames)
        sequence, known = apply_delay(prompt, clip_codes.shape[2] - 1, self.lm.config.special)
        given, total = prompt.shape[2], positions(frames, clip_codes.shape[1])
        keys = row_keys(seeds, window, total)
        tokens, sum_of_logits = sequence[:, :, : given + 1], mx.array(0.0)
        enqueue = StepQueue()
        yield tokens
        with self.announce("steps"):
            for position in range(given + 1, total):
                column = known[:, position]
                half = state.first_half(self._rows(tokens))
                raw = self._scores(state.second_half(half))
                logits = self.guide(raw)
                sum_of_logits = sum_of_logits + logits.sum()
                chosen = self.sampling(logits, keys[position])
                if column.any():
                    chosen = mx.where(mx.array(column), sequence[:, :, position], chosen)
                tokens = chosen[..., None]
                told = [] if self.tally is None else [self.tally.add(raw, logits, chosen, column)]
                enqueue(half, tokens, sum_of_logits, *told)  # its graph was built while the step before ran
                yield tokens
            if not mx.isfinite(sum_of_logits).item():
                raise NotFinite
