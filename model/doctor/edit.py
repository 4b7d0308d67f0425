"""A short greedy edit of the shipped clip with the demo bundle, on a backend and on the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import cast

import mlx.core as mx
import numpy as np
import numpy.typing as npt

import kernels
from reference.contract import Ops

from .. import audio
from ..bundle.bundle import demo_path, open_bundle
from ..config import HOP
from ..decoding.delay_pattern import positions
from ..decoding.windows import Window
from ..instructions import sentence
from ..pipeline import InstructMusicGen
from .judge import Finding, Watched, explain

FRAMES = 16
PROMPT = 4
GUIDANCE = 3.0
TEXT = sentence("Only", "Drums")
TIE = {mx.float32: 1e-3, mx.float16: 0.03, mx.bfloat16: 0.2}
"""How much worse, in spreads of a position's logits, another backend's token may be for the reference: a near tie."""
SOUND = 1e-3
"""Largest difference of decoded samples, as a share of the peak; the codec computes in float32 everywhere."""


@dataclass(frozen=True)
class EditRun:
    """An edit's codes, edited codes, samples and logits.

    Each part starts from the reference's result of the part before, so that one fault does not spread.
    """

    codes: npt.NDArray[np.int32]
    edited: npt.NDArray[np.int32]
    samples: npt.NDArray[np.float32]
    logits: Sequence[mx.array]


@dataclass(frozen=True)
class EditCheck:
    """A backend's edit compared with the reference's.

    `tie`: the position from which on its tokens are others because rounding decided a near tie; None: all are equal.
    `sound`: largest difference of the decoded samples, as a share of the peak. `calls`: operations held against it.
    """

    backend: str
    frames: int
    tie: int | None
    sound: float
    calls: int
    problems: Sequence[Finding]


def plan() -> list[Window]:
    """Return two windows; the second starts with the first's last frames as prompt: a prefill, then single steps."""
    return [Window(0, FRAMES, 0), Window(FRAMES - PROMPT, FRAMES, PROMPT)]


def compare(ops: Ops) -> EditCheck:
    """Edit on `ops`; where the result is not the reference's, or an operation is off on the way, say which.

    The edit runs twice: freely, as users run it, then with every call held against the reference's result for the same
    arguments, which names the operation. Whatever it raises is a finding.
    """
    clip, right = _reference()
    problems: list[Finding] = []
    watched, tie, sound = Watched(ops), None, 0.0
    try:
        model = InstructMusicGen(open_bundle(demo_path()), ops)
        got = _run(model, clip, right)
        tie, problem = _differences(right, got, model.lm.dtype)
        sound = float(np.abs(got.samples - right.samples).max() / np.abs(right.samples).max())
        if not sound <= SOUND:  # NaN too
            problem = problem or f"the decoded audio differs from the reference's by {sound:.1e} of its peak"
        _run(InstructMusicGen(open_bundle(demo_path()), cast(Ops, watched)), clip, right)
        problems += watched.problems.values()
        if problem and not problems:
            problem += "; no single call of an operation differs when each is waited for"
        if problem:
            problems.append(Finding(ops.name, "edit", f"{TEXT} {right.edited.shape[2]} frames", problem, 0))
    except Exception as e:  # whatever a compiler, a driver or a kernel raises is what the report is for
        problems += watched.problems.values()
        problems.append(Finding(ops.name, "edit", f"after {watched.calls} watched calls", explain(e), 0))
    return EditCheck(ops.name, right.edited.shape[2], tie, sound, watched.calls, problems)


@cache
def _reference() -> tuple[mx.array, EditRun]:
    """Return the beginning of the shipped clip and the reference's edit of it, which serve every backend."""
    reference = InstructMusicGen(open_bundle(demo_path()), kernels.load("reference"))
    clip = mx.array(audio.load(demo_path().parent / "clip.flac").samples[: (2 * FRAMES - PROMPT) * HOP])
    return clip, _run(reference, clip)


def _run(model: InstructMusicGen, clip: mx.array, given: EditRun | None = None) -> EditRun:
    """Return an edit; its parts take the codes and tokens of `given`, so that one part's fault is not another's."""
    codes = model.encode(clip)
    logits: list[mx.array] = []
    plain = model.lm.logits

    def recorded(x: mx.array) -> mx.array:
        logits.append(plain(x))
        return logits[-1]

    if given is None:
        model.lm.logits = recorded  # type: ignore[method-assign]
    asked = mx.array(given.codes) if given else codes
    edited = model.edit_codes(asked, TEXT, greedy=True, guidance=GUIDANCE, plan=plan())
    samples = model.decode(mx.array(given.edited) if given else edited)
    mx.eval(codes, edited, samples, logits)
    return EditRun(np.array(codes), np.array(edited), np.array(samples), logits)


def _differences(right: EditRun, got: EditRun, dtype: mx.Dtype) -> tuple[int | None, str]:
    """Return the first position where rounding chose another token of a near tie, and what differs beyond rounding."""
    encoded = got.codes != right.codes
    if encoded.mean() > 0.02:  # a nearest codeword may be a near tie too, and drags its frame's later codebooks along
        return None, f"{encoded.sum()} of {encoded.size} codes of the clip differ from the reference's"
    others = np.argwhere(got.edited[0] != right.edited[0])
    if not len(others):
        return None, ""
    calls = [_call(int(frame), int(codebook)) for codebook, frame in others]
    first = min(calls)
    conditional, unconditional = np.array(right.logits[first][:, :, -1], dtype=np.float64)
    chances = unconditional + GUIDANCE * (conditional - unconditional)
    for (codebook, frame), call in zip(others, calls):
        row = chances[codebook]
        worse = (row[right.edited[0, codebook, frame]] - row[got.edited[0, codebook, frame]]) / row.std()
        if call == first and not worse <= TIE[dtype]:
            return None, (
                f"{len(others)} of {right.edited.size} tokens differ from the reference's, first at position {first} "
                f"(frame {frame}, codebook {codebook}), where the other token is worse by {worse:.1e} spreads"
            )
    return first, ""


def _call(frame: int, codebook: int) -> int:
    """Return which prediction, counted over both windows, chose the token of a frame.

    Codebook k lags k positions behind.
    """
    first, second = plan()
    if frame < first.frames:
        return frame + codebook
    return positions(first.frames) - 1 + frame - second.offset - second.prompt + codebook
