"""Encode songs: the codes of a song's mixtures, which are not the sum of its stems' codes."""

from __future__ import annotations

import numpy as np
import torch

from ....errors import UserError
from ..music.library import chunks
from ..workspace import Workspace
from .codes import Encoded, mixtures, relevel, save_codes, seed_of
from .data import SUBSETS
from .network import HOP
from .train import load_codec


def encode_songs(work: Workspace, name: str, device: str, passes: int = 1, limit: int | None = None) -> None:
    """Encode the rendered chunks of a set with the frozen codec; chunks that are there stay.

    Pass 0 takes the songs as they were rendered; later ones move every stem's level. `limit` is the most songs of
    validation sets, which are encoded as all fifteen mixtures. Raises UserError if there is no frozen codec.
    """
    frozen = work.root / "codec" / "frozen.pt"
    if not frozen.is_file():
        raise UserError(f"{frozen} is missing; run the stage 'codec' until its first phase ends")
    codec, settings = load_codec(frozen, device)
    everything = name != "train"
    for number in range(passes):
        for path in chunks(work.songs, name):
            target = work.codes / f"{name}-{number}-{path.stem.rpartition('-')[2]}.npz"
            if target.is_file():
                continue
            songs = np.load(path, mmap_mode="r")[:limit]
            frames = -(-songs.shape[2] // HOP)
            codes = np.zeros((len(songs), 15, settings.codebooks, frames), np.uint8)
            known = np.zeros((len(songs), 15), bool)
            for row, song in enumerate(songs):
                stems = song.astype(np.float32)
                seed = seed_of(path.stem, number, row)
                if number:
                    stems = relevel(stems, seed)
                masks = mixtures(seed, everything)
                audio = np.stack([stems[list(SUBSETS[mask - 1])].sum(axis=0) for mask in masks])
                for start in range(0, len(masks), 6):
                    part = torch.tensor(audio[start : start + 6, None], device=device)
                    found = codec.encode(part).cpu().numpy()
                    codes[row, [mask - 1 for mask in masks[start : start + 6]]] = found
                known[row, [mask - 1 for mask in masks]] = True
            save_codes(target, Encoded(codes, known))
