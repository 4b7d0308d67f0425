"""Tell the modules of one layer apart: which attention is which, which norm, which half of the feed-forward.

Words decide; where they don't, numbers in their usual order do (`norm1`, `norm2`, `norm3`), then shapes; what is still
open takes the one place that is left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from .roles import Claim

Key = TypeVar("Key")
Tokens = tuple[str | int, ...]
Grid = tuple[int, int]
"""Rows and columns of a stored matrix."""

CROSS = {"cross", "encoder", "context", "text", "cond"}
PROJECTING = ("q", "k", "v", "out", "in", "proj", "linear")


def modules(claims: Mapping[str, Claim], grids: Mapping[str, Grid], dim: int | None) -> dict[str, list[str]]:
    """Return the modules, by name within the layer, that each stored tensor of one layer holds.

    Several where it is fused.

    `grids`: rows and columns of stored matrices. `dim`: features of the model, if known. What can't be told apart is
    left out.
    """
    found: dict[str, list[str]] = {}
    for role, tell in {"attention": _attention, "ffn": _ffn, "norm": _norms}.items():
        of = {name: each for name, each in claims.items() if each.role == role}
        found |= tell(of, grids, dim)
    return found


def _attention(claims: Mapping[str, Claim], grids: Mapping[str, Grid], dim: int | None) -> dict[str, list[str]]:
    sides = {name: _side(each.local) for name, each in claims.items()}
    places = _place(set(sides.values()), ("self_attn", "cross_attn"), _which_attention, lambda numbers: None)
    found: dict[str, list[str]] = {}
    for name, side in sides.items():
        letters = _letters(claims[name].local) or _letters_by_shape(grids.get(name), dim)
        if side in places and letters:
            found[name] = [f"{places[side]}.{letter}_proj" for letter in letters]
    return found


def _side(local: Tokens) -> Tokens:
    """Return what stands before the projection: the attention's own spelling.

    `in`, `out` may also name a fused matrix.
    """
    end = next((i for i, token in enumerate(local) if token in PROJECTING), len(local))
    return tuple(token for token in local[:end] if token not in ("attn", "layer", "head"))


def _which_attention(side: Tokens) -> str | None:
    words = {token for token in side if isinstance(token, str)}
    if "self" in words and "cross" not in words:
        return "self_attn"
    return "cross_attn" if words & CROSS else None


def _letters(local: Tokens) -> list[str]:
    """Return the projections that a matrix holds, in the order of its rows."""
    letters = [str(token) for token in local if token in ("q", "k", "v")]
    if letters:
        return letters if len(set(letters)) == len(letters) else []
    if "in" in local:
        return ["q", "k", "v"]
    return ["out"] if {"out", "proj", "linear"} & set(local) else []


def _letters_by_shape(grid: Grid | None, dim: int | None) -> list[str]:
    """Tell by its shape what GPT-2's `c_attn` holds, whose name says only that it is of the attention."""
    if grid is None or dim is None:
        return []
    return {3 * dim: ["q", "k", "v"], dim: ["out"]}.get(grid[0], [])


def _ffn(claims: Mapping[str, Claim], grids: Mapping[str, Grid], dim: int | None) -> dict[str, list[str]]:
    spellings = {name: tuple(t for t in each.local if t != "layer") for name, each in claims.items()}
    by_shape: dict[Tokens, str] = {}
    for name, spelling in spellings.items():
        if name in grids and dim is not None and claims[name].part != "bias":
            by_shape[spelling] = "linear2" if grids[name][0] == dim else "linear1"
    if len(set(by_shape.values())) < len(by_shape):
        by_shape = {}

    def word(spelling: Tokens) -> str | None:
        words = set(spelling)
        if words & {"up", "in", "first"}:
            return "linear1"
        if words & {"down", "out", "second"}:
            return "linear2"
        return {1: "linear1", 2: "linear2"}.get(_last_number(spelling)) if ({1, 2} & words) else None

    distinct = set(spellings.values())
    told = {spelling: word(spelling) for spelling in distinct}
    if len(distinct) == 2 and {_last_number(s) for s in distinct} == {0, 1}:  # counted from 0
        told = {s: ("linear1", "linear2")[_last_number(s)] for s in distinct}
    if len(distinct) == 2 and {_last_number(s) for s in distinct} == {0, 2}:  # nn.Sequential: the second is the GELU
        told = {s: "linear2" if _last_number(s) else "linear1" for s in distinct}
    places = _place(distinct, ("linear1", "linear2"), lambda s: told[s] or by_shape.get(s), lambda numbers: None)
    return {name: [places[s]] for name, s in spellings.items() if s in places}


def _last_number(spelling: Tokens) -> int:
    return next((token for token in reversed(spelling) if isinstance(token, int)), -1)


NORMS = ("norm1", "norm_cross", "norm2")


def _norms(claims: Mapping[str, Claim], grids: Mapping[str, Grid], dim: int | None) -> dict[str, list[str]]:
    spellings = {name: tuple(t for t in each.local if t not in ("norm", "layer")) for name, each in claims.items()}
    distinct = set(spellings.values())
    crossing = any(_which_norm(s) == "norm_cross" for s in distinct)

    def numbered(numbers: set[int]) -> Mapping[int, str] | None:
        """Name the numbered norms: two if another one says that it is the cross-attention's, else three."""
        if crossing:
            return {0: "norm1", 1: "norm2"} if 0 in numbers else {1: "norm1", 2: "norm2", 3: "norm2"}
        if 0 in numbers:
            return {0: "norm1", 1: "norm_cross", 2: "norm2"}
        return {1: "norm1", 2: "norm_cross", 3: "norm2"} if 3 in numbers else {1: "norm1", 2: "norm2"}

    places = _place(distinct, NORMS, _which_norm, numbered)
    return {name: [places[s]] for name, s in spellings.items() if s in places}


def _which_norm(spelling: Tokens) -> str | None:
    words = {token for token in spelling if isinstance(token, str)}
    if "post" in words:  # behind the self-attention is before whichever comes next: what the other norms leave
        return "norm2" if words & CROSS or not words & {"self", "attn"} else None
    if words & CROSS:
        return "norm_cross"
    if words & {"ffn", "final", "linear", "out", "third"}:
        return "norm2"
    if "second" in words:
        return "norm_cross"
    return "norm1" if words & {"self", "attn", "in", "first"} else None


def _place(
    spellings: set[Tokens],
    places: Sequence[str],
    word: Callable[[Tokens], str | None],
    numbered: Callable[[set[int]], Mapping[int, str] | None],
) -> dict[Tokens, str]:
    """Return a place for each spelling: by its words, by its number, or the one that is left.

    None for those still open.
    """
    found = {s: place for s in spellings if (place := word(s))}
    rest = sorted((s for s in spellings if s not in found), key=lambda s: (_last_number(s), str(s)))
    order = numbered({_last_number(s) for s in rest} - {-1}) or {}
    for s in list(rest):
        if (place := order.get(_last_number(s))) and place not in found.values():
            found[s] = place
            rest.remove(s)
    free = [place for place in places if place not in found.values()]
    numbers = [_last_number(s) for s in rest]
    if len(rest) == 1 and free:
        found[rest[0]] = free[0]
    elif len(rest) == len(free) and len(set(numbers)) == len(numbers) and -1 not in numbers[1:]:
        found |= dict(zip(rest, free))
    return found
