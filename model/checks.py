"""Arguments of the public functions: other libraries' arrays and numbers are taken, everything else is named."""

from __future__ import annotations

import logging
import math
import numbers
import secrets
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from .config import FRAME_RATE, HOP

SEEDS = 2**64
FULL_SCALE = {"int16": 2.0**15, "int32": 2.0**31, "int8": 2.0**7, "uint8": 2.0**7}
"""Full scale of integer samples, by dtype; uint8 has its zero at 128."""


def whole(name: str, value: Any, low: int, high: int | None = None) -> int:
    """Return `value` as an int. Raises ValueError unless it is a whole number, of any library, from `low` to `high`."""
    value = _plain(value)
    limit = f"at least {low}" if high is None else f"from {low} to {high}"
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral):
        raise ValueError(f"{name}={_shown(value)} must be a whole number, {limit}")
    found = int(value)
    if found < low or (high is not None and found > high):
        raise ValueError(f"{name}={found} must be a whole number, {limit}")
    return found


def number(name: str, value: Any, low: float, high: float = math.inf, *, note: str = "") -> float:
    """Return `value` as a float. Raises ValueError unless it is a finite number of any library from `low` to `high`."""
    value = _plain(value)
    limit = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
    found = float(value) if isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_) else math.nan
    if not math.isfinite(found) or not low <= found <= high:
        raise ValueError(f"{name}={_shown(value)} must be a finite number, {limit}{note}")
    return found


def seeds(value: Any, rows: int) -> list[int]:
    """Return a seed for each of `rows` rows: `value` for all of them, or one each; None draws one for all.

    A seed that is drawn is told in the log ("instruct_musicgen"), which Python prints unless told otherwise. Raises
    ValueError if there are more or fewer than rows, or one is no whole number from 0 to 2^64 - 1.
    """
    value = _plain(value)
    if value is None:
        value = secrets.randbelow(SEEDS)
        logging.getLogger("instruct_musicgen").warning("seed=%d was drawn; give it to get this result again", value)
    several = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    found = list(value) if several or getattr(value, "ndim", 0) == 1 else [value] * rows
    if len(found) != rows:
        raise ValueError(f"{len(found)} seeds for {rows} clips; give one seed, or one for each clip")
    for each in map(_plain, found):
        integral = isinstance(each, numbers.Integral) and not isinstance(each, bool | np.bool_)
        if not integral or not 0 <= int(each) < SEEDS:
            raise ValueError(f"seed={_shown(each)} must be a whole number from 0 to 2^64 - 1, or None to draw one")
    return [int(_plain(each)) for each in found]


def texts(text: Any, rows: int) -> list[str]:
    """Return a sentence for each of `rows` rows. Raises ValueError unless `text` is one, or one for each."""
    if isinstance(text, str):
        return [text] * rows
    if not isinstance(text, Sequence | np.ndarray) or isinstance(text, bytes):
        raise ValueError(f"text={_shown(text)} must be a sentence, or a list with one for each clip")
    found = list(text)
    if wrong := [each for each in found if not isinstance(each, str)]:
        raise ValueError(f"text holds {_shown(wrong[0])}; it must be a sentence, or a list with one for each clip")
    if len(found) != rows:
        raise ValueError(f"{len(found)} texts for {rows} clips; give one text, or one for each clip")
    return [str(each) for each in found]


def samples(value: Any, *, name: str = "audio", least: int = HOP) -> mx.array:
    """Return sound as float32 [samples] or [batch, samples], from an array of any library or a list.

    Floats are taken as they are, int8, int16, int32 and uint8 scaled to full scale 1. Raises ValueError for another
    shape, naming the fix for [samples, channels], another dtype, less than `least` samples, NaN or infinity.
    """
    array = _array(value, name)
    if array.ndim not in (1, 2):
        raise ValueError(f"{name} has shape {tuple(array.shape)}; it must be [samples] or [batch, samples]")
    if array.ndim == 2 and array.shape[1] < HOP <= array.shape[0]:
        raise ValueError(channels_first(name, tuple(array.shape)))
    if array.size == 0 or array.shape[-1] < least:
        raise ValueError(
            f"{name} has {array.shape[-1]} samples, less than one frame ({HOP} samples, 1/{FRAME_RATE} s); "
            "give a longer clip"
        )
    array = _scaled(array, name)
    if not mx.isfinite(array).all().item():
        raise ValueError(f"{name} holds NaN or infinite samples; repair the clip first")
    return array


def mono(value: Any, name: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return one clip's samples float32 [n], from [n] or [1, n] of any library, integers scaled.

    NaN and infinity stay. Raises ValueError for another shape.
    """
    if value is not None and not isinstance(value, mx.array) and np.size(value) == 0:
        value = np.zeros(0, np.float32)
    array = _scaled(_array(value, name), name)
    if array.ndim == 2 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 1:
        shape = tuple(array.shape)
        if array.ndim == 2 and shape[0] > shape[1]:
            raise ValueError(channels_first(name, shape))
        raise ValueError(f"{name} has shape {shape}; a file takes one clip in mono, [samples] or [1, samples]")
    return np.array(array, dtype=np.float32)


def channels_first(name: str, shape: tuple[int, ...]) -> str:
    """Return what to say of [samples, channels]."""
    return (
        f"{name} has shape {shape}, which looks like [samples, channels]; mix it to mono with .mean(axis=1), or give "
        "the channels as clips of a batch with .T"
    )


def codes(value: Any, codebooks: int, card: int) -> mx.array:
    """Return an array or a list as int32 tokens [batch, codebooks, frames]. Raises ValueError for others."""
    array = _array(value, "codes")
    if array.ndim != 3 or array.shape[1] != codebooks or array.size == 0:
        raise ValueError(
            f"codes have shape {tuple(array.shape)}; they must be a non-empty [batch, {codebooks}, frames]"
        )
    if not mx.issubdtype(array.dtype, mx.integer):
        raise ValueError(f"codes are {array.dtype}; they must be integers")
    low, high = (int(str(extreme.item())) for extreme in (array.min(), array.max()))
    if low < 0 or high >= card:
        raise ValueError(f"codes lie between {low} and {high}; they must lie between 0 and {card - 1}")
    return array.astype(mx.int32)


def _array(value: Any, name: str) -> mx.array:
    if isinstance(value, mx.array):
        return value
    try:
        array = np.asarray(value)
    except Exception as e:  # each library has its own way to refuse
        raise ValueError(f"{name} cannot be read as an array ({str(e).strip()[:200]}); give numbers") from e
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name} is {array.dtype}; give floats from -1 to 1, or int16")
    if array.dtype.kind == "f" and array.dtype.itemsize != 2:
        array = array.astype(np.float32)
    return mx.array(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


def _scaled(array: mx.array, name: str) -> mx.array:
    if mx.issubdtype(array.dtype, mx.floating):
        return array.astype(mx.float32)
    kind = str(array.dtype).rpartition(".")[2]
    if kind not in FULL_SCALE:
        raise ValueError(f"{name} is {kind}; give floats from -1 to 1, or int16")
    zero = 128.0 if kind == "uint8" else 0.0
    return (array.astype(mx.float32) - zero) / FULL_SCALE[kind]


def _plain(value: Any) -> Any:
    """Return the number in an array without axes."""
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
