"""Which rows of a batch run together, and which apart, so that none depends on the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import mlx.core as mx
import numpy as np

Result = TypeVar("Result", mx.array, tuple[mx.array, ...])


def row_by_row(function: Callable[..., Result], *batches: mx.array) -> Result:
    """Apply `function` to each row [1,...] of `batches` and join the results along the first axis.

    A product of hundreds of rows is cut into blocks by its number of rows, and a block's shape decides how it is
    rounded. Run apart, every row gets the bits that it gets in a batch of its own; at such sizes nothing is lost in
    speed, and less memory is needed.
    """
    results = [function(*parts) for parts in zip(*(mx.split(batch, batch.shape[0]) for batch in batches))]
    if isinstance(results[0], mx.array):
        return mx.concatenate(results) if len(results) > 1 else results[0]
    if len(results) == 1:
        return results[0]
    return tuple(mx.concatenate(list(parts)) for parts in zip(*results))


def together(lengths: Sequence[int], most: int) -> list[tuple[int, ...]]:
    """Split a batch into parts of rows of equal length, at most `most` each; rows stay in order within a part."""
    parts = []
    for length in dict.fromkeys(lengths):
        rows = [row for row, own in enumerate(lengths) if own == length]
        parts += [tuple(rows[at : at + most]) for at in range(0, len(rows), most)]
    return parts


def distinct(codes: mx.array) -> tuple[list[int], list[int]]:
    """Return the first row of each different one of codes int32 [B,...], and for every row which of those it equals."""
    keys = [row.tobytes() for row in np.array(codes)]
    place = {key: n for n, key in enumerate(dict.fromkeys(keys))}
    return [keys.index(key) for key in place], [place[key] for key in keys]
