"""Synthetic bundles of the published sizes, made once and kept in the user's cache."""

from __future__ import annotations

from pathlib import Path

from model.config import PACKED_BITS
from model.errors import UsageError, UserError
from model.system.cache import cache

BITS = (*PACKED_BITS, 16)


def path(size: str, bits: int) -> Path:
    """Return the folder of a size's bundle."""
    return cache() / "sizes" / f"{size}-{bits}bit"


def bundle(size: str, bits: int) -> Path:
    """Return the bundle of a size ("tiny" too) at 4, 8 or 16 bits, made first if it is not there yet.

    Making it takes a minute for "large". Raises UsageError for another size or number of bits.
    """
    if bits not in BITS:
        raise UsageError(f"--bits {bits} is not supported; use one of {', '.join(map(str, BITS))}")
    target = path(size, bits)
    if not (target / "config.json").exists():
        from model import synthetic
        from model.progress import byte_progress

        from ..output import console

        if size not in synthetic.PRESETS:
            raise UsageError(f"--size {size} is not known; use one of {', '.join(synthetic.PRESETS)}")
        console.say(f"making the {size} bundle at {bits} bits in {target} (once)")
        with byte_progress(size) as progress:
            try:
                synthetic.write_preset(size, target, bits=bits, progress=progress)
            except UserError as e:  # a full disk, a cache that cannot be written
                place = "set INSTRUCT_MUSICGEN_CACHE to a folder elsewhere"
                raise UserError(str(e).replace("choose another --out", place)) from e
    return target


def stored() -> dict[str, int]:
    """Return name and bytes of each bundle in the cache."""
    folder = cache() / "sizes"
    if not folder.is_dir():
        return {}
    found = [entry for entry in sorted(folder.iterdir()) if entry.is_dir()]
    return {entry.name: sum(f.stat().st_size for f in entry.rglob("*") if f.is_file()) for entry in found}
