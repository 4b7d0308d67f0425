"""Songs in chunks on disk: the sets, their seeds, and the record of what is held out, made before any is rendered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ....errors import UserError
from ..workspace import Workspace, replace
from . import held_out_styles, training_styles
from .render import render
from .song import Song, compose
from .style import Presets, Style

SONGS_A_FILE = 200
"""Songs a file: 256 MB in float16."""


@dataclass(frozen=True, slots=True)
class SongSet:
    """A set of songs: its name, styles, presets and first seed. The seeds of two sets never meet."""

    name: str
    styles: tuple[Style, ...]
    presets: Presets
    first_seed: int

    def song(self, index: int) -> Song:
        """Compose one song of the set."""
        return compose(self.first_seed + index, self.styles, self.presets)


SETS = {
    "train": SongSet("train", training_styles.STYLES, training_styles.PRESETS, 0),
    "own": SongSet("own", training_styles.STYLES, training_styles.PRESETS, 10_000_000),
    "held-out": SongSet("held-out", held_out_styles.STYLES, training_styles.PRESETS, 20_000_000),
    "presets": SongSet("presets", held_out_styles.STYLES, held_out_styles.PRESETS, 30_000_000),
}
"""`train`, and three sets that no training step sees: new songs of the same styles (`own`), of held-out styles, and of
held-out styles played by held-out presets."""


def held_out_record() -> dict[str, Any]:
    """Return what is held out, with a hash over the full definitions. Raises UserError if training overlaps it."""
    trained = {style.name for style in training_styles.STYLES}
    names = [style.name for style in held_out_styles.STYLES]
    if shared := trained.intersection(names):
        raise UserError(f"the style {sorted(shared)[0]!r} is both trained and held out; rename or remove one")
    own, other = asdict(training_styles.PRESETS), asdict(held_out_styles.PRESETS)
    for stem in own:
        if both := set(own[stem]).intersection(other[stem]):
            raise UserError(f"the {stem} preset {min(both)} is both trained and held out; remove one")
    seeds = {name: chosen.first_seed for name, chosen in SETS.items() if name != "train"}
    full = {"styles": [asdict(style) for style in held_out_styles.STYLES], "presets": other, "seeds": seeds}
    text = json.dumps(full, sort_keys=True)
    record = {"styles": names, "presets": other, "seeds": seeds, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    as_logged: dict[str, Any] = json.loads(json.dumps(record))
    return as_logged


def write_songs(work: Workspace, name: str, count: int, first: int = 0, jobs: int = 1) -> None:
    """Compose and render songs `first` to `first + count` of a set into chunks; chunks that are there stay.

    `first` is a multiple of `SONGS_A_FILE`; `jobs` is how many fluidsynths run at once. Raises UserError if it is not,
    if fluidsynth or a soundfont is missing, or if the log holds another record of what is held out.
    """
    record, log = held_out_record(), work.log()
    if log.get("held_out", record) != record:
        raise UserError(f"{work.log_path} records other held-out styles; use another --work folder")
    if "held_out" not in log:
        work.write_log(held_out=record)
    if first % SONGS_A_FILE:
        raise UserError(f"--first {first} is not a multiple of {SONGS_A_FILE}, the songs of a file")
    for start in range(first, first + count, SONGS_A_FILE):
        size = min(SONGS_A_FILE, first + count - start)
        path = chunk_path(work, name, start // SONGS_A_FILE)
        if path.is_file() and len(np.load(path, mmap_mode="r")) >= size:
            continue
        songs = [SETS[name].song(index) for index in range(start, start + size)]
        audio = render(songs, jobs=jobs).astype(np.float16)
        replace(path, lambda aside, audio=audio: _save(aside, audio))  # type: ignore[misc]
        silent = [round(float(share), 3) for share in (np.abs(audio).max(axis=2) < 1e-3).mean(axis=0)]
        work.append_log("songs", {"set": name, "chunk": start // SONGS_A_FILE, "songs": size, "silent": silent})


def chunk_path(work: Workspace, name: str, chunk: int) -> Path:
    """Return the path of a chunk of rendered songs."""
    return work.songs / f"{name}-{chunk:04d}.npy"


def chunks(folder: Path, name: str) -> Iterator[Path]:
    """Yield the chunks of a set in a folder, in their order."""
    yield from sorted(folder.glob(f"{name}-[0-9][0-9][0-9][0-9].npy"))


def load_songs(work: Workspace, name: str) -> Sequence[npt.NDArray[np.float16]]:
    """Map the chunks of a set into memory, each float16 [songs, 4, samples]. Raises UserError if there are none."""
    found = [np.load(path, mmap_mode="r") for path in chunks(work.songs, name)]
    if not found:
        raise UserError(f"no songs of the set {name!r} in {work.songs}; run the stage 'compose' first")
    return found


def _save(path: Path, array: npt.NDArray[np.float16]) -> None:
    with path.open("wb") as file:
        np.save(file, array)
