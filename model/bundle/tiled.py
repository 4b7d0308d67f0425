"""Packed matrices that a bundle stores in the order in which CPUs read them (`convert --layout native`).

config.json names the order and its version. A matrix is one tensor `MODULE.tiles` in place of `.weight`, `.scales` and
`.biases`; every reader but the native backend's sees those three, made of it bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from reference import tiles
from reference.tiles import Tiles

from ..config import Config, Quantization
from ..errors import UserError
from ..formats.tensor_writer import Layout
from .config_keys import StatedConfig
from .source import Source

SUFFIX = ".tiles"
NATIVE = {"name": "native", "version": 1}
"""The entry `layout` of config.json."""
PARTS = ("weight", "scales", "biases")


@dataclass(frozen=True)
class TilesPart(Source):
    """The words, scales or biases of a matrix that is stored as tiles."""

    packing: Quantization | None = None
    part: int = 0

    @property
    def stored(self) -> str:
        """The name of the tensor that it is made of."""
        return self.name.rpartition(".")[0] + SUFFIX

    def tiles(self, file: Mapping[str, mx.array]) -> Tiles:
        """Return the whole matrix, from the lazy tensors of its file; lazy."""
        assert self.packing is not None
        return Tiles((file[self.stored],), self.packing.group_size, self.packing.bits)

    def whole(self, file: Mapping[str, mx.array]) -> mx.array:
        """Return all rows, lazy."""
        return self.tiles(file).part(self.part)


def expanded(stored: Iterable[Source], stated: StatedConfig) -> list[Source]:
    """Return the stored tensors, three in place of each matrix of tiles.

    Raises UserError for a layout or a version that this program doesn't read, for tiles without one, and for tiles
    whose shape is not that of whole pieces.
    """
    stored, layout = list(stored), stated.raw.get("layout")
    if layout not in (None, NATIVE):
        raise UserError(
            f"{stated.path}: layout is {layout!r:.60}; this program reads {NATIVE}: update it, or convert again"
        )
    found: list[Source] = []
    for source in stored:
        if not source.name.endswith(SUFFIX):
            found.append(source)
        elif layout is None:
            raise UserError(
                f"{source.file}: {source.name} is of the native layout, which {stated.path} does not name; "
                "convert it again"
            )
        else:
            found += _parts(source, stated)
    return found


def _parts(source: Source, stated: StatedConfig) -> Iterator[TilesPart]:
    module = source.name.removesuffix(SUFFIX)
    default, modules = stated.quantization()
    packing = modules.get(module, default)
    if packing is None:
        raise UserError(
            f"{stated.path} states no quantization, and {source.name} of {source.file} needs it; convert it again"
        )
    n, k = (source.shape[0] * tiles.OUTPUTS, source.shape[1] * packing.group_size) if len(source.shape) == 3 else (0, 0)
    if source.dtype != mx.uint8 or not n or source.shape != tiles.shape(n, k, packing.group_size, packing.bits):
        piece = tiles.shape(0, 0, packing.group_size, packing.bits)[2]
        raise UserError(
            f"{source.file}: {source.name} is {str(source.dtype).rpartition('.')[2]} {list(source.shape)}; "
            f"{packing.bits} bits in groups of {packing.group_size} need uint8 [N/{tiles.OUTPUTS}, "
            f"K/{packing.group_size}, {piece}]; convert the bundle again"
        )
    groups = (n, k // packing.group_size)
    shapes = ((mx.uint32, (n, k * packing.bits // 32)), (tiles.DTYPE, groups), (tiles.DTYPE, groups))
    for number, (part, (dtype, shape)) in enumerate(zip(PARTS, shapes)):
        yield TilesPart(source.file, f"{module}.{part}", dtype, shape, None, packing, number)


def stored_so(
    plain: Layout, config: Config, wanted: Callable[[str], bool]
) -> dict[str, tuple[mx.Dtype, tuple[int, ...]]]:
    """Return a file's layout with the packed matrices that are `wanted` as tiles, where their outputs allow it."""
    made: dict[str, tuple[mx.Dtype, tuple[int, ...]]] = {}
    for name, (dtype, shape) in plain.items():
        module, _, part = name.rpartition(".")
        packing = config.packing(module) if f"{module}.scales" in plain and wanted(module) else None
        if packing is None or not tiles.fits(shape[0]):
            made[name] = (dtype, shape)
        elif part == "weight":
            k = shape[1] * 32 // packing.bits
            made[module + SUFFIX] = (mx.uint8, tiles.shape(shape[0], k, packing.group_size, packing.bits))
    return made


def describe(raw: Mapping[str, Any], sources: Mapping[str, Source]) -> dict[str, Any] | None:
    """Return the layout and how many matrices have it; None for a bundle as `mx.quantize` makes it."""
    matrices = sum(isinstance(source, TilesPart) and source.part == 0 for source in sources.values())
    return {**raw["layout"], "matrices": matrices} if raw.get("layout") else None
