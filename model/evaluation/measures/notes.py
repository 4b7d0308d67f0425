"""Which notes sound: basic-pitch's network (Bittner and others, ICASSP 2022) run by onnxruntime."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import UserError
from ...spectra import RATE

NETWORK = Path(__file__).with_name("basic_pitch.onnx")
"""230 KB, from the package basic-pitch 0.4.0, Apache-2.0; its notice lies beside it."""

ITS_RATE, HOP, SAMPLES = 22_050, 256, 43_844
OVERLAP = 30
"""Frames that two windows share; half of them are cut off each side."""
THRESHOLD = 0.3

Roll = npt.NDArray[np.bool_]


def missing() -> str:
    """Return why notes cannot be told here; empty where they can."""
    if importlib.util.find_spec("onnxruntime") is None:
        return "onnxruntime is not installed (pip install onnxruntime)"
    return ""


@lru_cache(maxsize=1)
def _session() -> Any:
    if reason := missing():
        raise UserError(reason)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(NETWORK), options, providers=["CPUExecutionProvider"])


def piano_roll(audio: npt.ArrayLike) -> Roll:
    """Transcribe audio [n] at 32 kHz: the notes that sound, bool [frames,88 keys], 86 frames a second.

    Raises UserError if onnxruntime is not installed.
    """
    session = _session()
    import soxr

    x = soxr.resample(np.asarray(audio, np.float32), RATE, ITS_RATE)
    half = OVERLAP // 2
    step = SAMPLES - OVERLAP * HOP
    padded = np.concatenate([np.zeros(half * HOP, np.float32), x])
    pieces = [padded[start : start + SAMPLES] for start in range(0, max(1, len(x)), step)]
    windows = np.stack([np.pad(piece, (0, SAMPLES - len(piece))) for piece in pieces])[..., None]
    (notes,) = session.run(["StatefulPartitionedCall:1"], {session.get_inputs()[0].name: windows.astype(np.float32)})
    joined = notes[:, half : notes.shape[1] - half].reshape(-1, notes.shape[2])
    return np.asarray(joined[: len(x) // HOP] > THRESHOLD)


def f1(found: Roll, true: Roll) -> float:
    """Return the F1 of cells that sound; 1 where both are silent."""
    n = min(len(found), len(true))
    both = int((found[:n] & true[:n]).sum())
    total = int(found[:n].sum()) + int(true[:n].sum())
    return 2 * both / total if total else 1.0
