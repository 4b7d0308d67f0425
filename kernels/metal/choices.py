"""Choices for the Metal kernels: which products stock MLX computes, and the shape of our launches."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, NamedTuple

import mlx.core as mx

NORMS = ("inside", "folded", "apart")
"""Places where the layer norm of a decode product is computed.

"inside": by each of the product's threadgroups before the product. "folded": in its epilogue, from constants of the
matrix. "apart": in a launch of stock MLX before it.
"""
MAX_SPLITS = 16
ANY_ROWS = 1 << 30
KNOWN_MLX = "0.32."
"""The MLX versions whose source the default routes were read from, by their beginning."""


class Route(NamedTuple):
    """Rows (first to last) of an operation that stock MLX computes.

    With `nax`, only where K is a multiple of 64 and x is not float32.
    """

    operation: str
    first: int
    last: int
    nax: bool = False


@dataclass(frozen=True)
class Choices:
    """The choices of one engine.

    norm: one of NORMS. outputs: of a simdgroup of a decode product. product_simdgroups, norm_simdgroups: of its
    threadgroups without and with a norm (every threadgroup of those measures the rows anew, and more share that).
    attention_simdgroups: of both attention kernels; more than 8 is for chips from M3 on. attention_splits: parts into
    which prefix attention splits the keys of a decode step, each for a threadgroup; 0 leaves it to `splits.py`, which
    wants no fewer threadgroups than the GPU has `cores` (0: not known).
    """

    norm: Literal["inside", "folded", "apart"] = "inside"
    outputs: int = 4
    product_simdgroups: int = 2
    norm_simdgroups: int = 8
    attention_simdgroups: int = 8
    attention_splits: int = 0
    cores: int = 0
    stock: tuple[Route, ...] = ()

    def by_stock(self, operation: str, rows: int, k: int = 0, dtype: mx.Dtype = mx.float16) -> bool:
        """Tell whether stock MLX computes an operation of so many rows (and, for NAX, of K features of a dtype)."""
        nax = k % 64 == 0 and dtype != mx.float32  # NAX would compute float32 as TF32
        return any(r.operation == operation and r.first <= rows <= r.last and (nax or not r.nax) for r in self.stock)

    def json(self) -> dict[str, Any]:
        """Return the choices as plain data for JSON."""
        return asdict(self) | {"stock": [list(route) for route in self.stock]}

    def changed(self, knobs: Mapping[str, Any]) -> Choices:
        """Return the choices with some replaced, given as `json` has them.

        Raises ValueError if a value cannot be chosen.
        """
        known = {**knobs}
        if "stock" in known:
            known["stock"] = _routes(known["stock"])
        try:
            made = replace(self, **known)
        except TypeError as e:
            names = ", ".join(f.name for f in fields(self))
            raise ValueError(f"{', '.join(sorted(knobs))}: {e}; use some of {names}") from None
        made._check()
        return made

    def _check(self) -> None:
        splits, cores = self.attention_splits, self.cores
        if not (type(splits) is int and 0 <= splits <= MAX_SPLITS):
            raise ValueError(f"attention_splits={splits!r} cannot be; use 1 to {MAX_SPLITS}, or 0 for the default")
        if not (type(cores) is int and cores >= 0):
            raise ValueError(f"cores={cores!r} cannot be; use the GPU's number of cores, or 0")
        if self.norm not in NORMS:
            raise ValueError(f"norm={self.norm!r} is not known; use one of {', '.join(NORMS)}")
        for name, most in (
            ("outputs", 8), ("product_simdgroups", 8), ("norm_simdgroups", 8), ("attention_simdgroups", 16),
        ):  # fmt: skip
            value = getattr(self, name)
            if value not in (1, 2, 4, 8, 16) or value > most:
                raise ValueError(f"{name}={value!r} cannot be; use a power of two up to {most}")


def _routes(given: Any) -> tuple[Route, ...]:
    if not isinstance(given, list | tuple):
        raise ValueError(f"stock={given!r} must be a list of [operation, first row, last row]")
    routes = []
    for each in given:
        match each:
            case [str(operation), int(first), int(last), *more] if [type(n) for n in more] in ([], [bool]):
                routes.append(Route(operation, first, last, *more))
            case _:
                raise ValueError(
                    f"stock={each!r} must be [operation, first row, last row] or [operation, first row, last row, nax]"
                )
    return tuple(routes)


def generation(architecture: str) -> int:
    """Return the number in "applegpu_g16s" (13: M1, 14: M2, 15: M3, 16: M4, 17: M5); 0 for another name."""
    found = re.fullmatch(r"applegpu_g(\d+)\w*", architecture)
    return int(found[1]) if found else 0


def default(architecture: str, macos: tuple[int, ...], mlx: str, cores: int = 0) -> Choices:
    """Return the choices before anything was measured, by the chip's generation and cores, macOS and MLX.

    From MLX's source and its maintainers' published measurements: on M3 and later stock's `qmv_wide` reads the weights
    once up to 13 rows and more, and a tile of 32 rows is mostly empty there; on M5, from macOS 26.2 on, stock's
    products of many 16-bit rows use the neural accelerators (NAX), with K a multiple of 64. All else is ours. Routes
    are those of MLX 0.32; with another version all is ours until `bench tune` has measured it.
    """
    routes: list[Route] = []
    if mlx.startswith(KNOWN_MLX):
        if generation(architecture) >= 15:
            routes.append(Route("int4_matmul", 9, 16))
        if generation(architecture) >= 17 and macos >= (26, 2):
            routes.append(Route("int4_matmul", 17, ANY_ROWS, nax=True))
    return Choices(stock=tuple(routes), cores=cores)
