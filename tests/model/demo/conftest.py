"""What the recipe's tests share; those that need torch or fluidsynth are deselected without it, which the end says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from model.demo.training.music.library import SETS, chunk_path
from model.demo.training.music.song import SECONDS, Song
from model.demo.training.workspace import Workspace

from .recipe import missing

RATE = 32_000


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "train: needs torch (pip install -e '.[test,train]')")
    config.addinivalue_line("markers", "render: needs fluidsynth and both soundfonts")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    absent = missing()
    out = [item for item in items if any(item.get_closest_marker(mark) for mark in absent)]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]


def sketch(song: Song) -> npt.NDArray[np.float32]:
    """A song's stems as decaying sines and noise bursts, float32 [4, n]: quick, and no soundfont is needed."""
    time = np.arange(round(SECONDS * RATE)) / RATE
    stems = np.zeros((4, len(time)), np.float32)
    noise = np.random.default_rng(song.seed).standard_normal(len(time)).astype(np.float32)
    for stem, part in enumerate(song.parts):
        for note in part.notes:
            at, until = int(note.start * RATE), min(len(time), int((note.start + max(note.length, 0.1)) * RATE))
            t = time[: until - at]
            wave = noise[: until - at] if stem == 0 else np.sin(2 * np.pi * 440 * 2 ** ((note.pitch - 69) / 12) * t)
            stems[stem, at:until] += (note.velocity / 2000 * wave * np.exp(-t * (20 if stem == 0 else 3))).astype(
                np.float32
            )
    return stems


@pytest.fixture(scope="session")
def sketched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder with three training songs and one of each validation set, sketched."""
    work = Workspace(tmp_path_factory.mktemp("work"))
    for name, chosen in SETS.items():
        songs = [sketch(chosen.song(index)) for index in range(3 if name == "train" else 1)]
        np.save(chunk_path(work, name, 0), np.stack(songs).astype(np.float16))
    return work.root
