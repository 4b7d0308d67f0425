"""Encode songs: the codes of a song's mixtures, which are not the sum of its stems' codes."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import torch

from ....errors import UserError
from ..music.library import chunks
from ..workspace import Workspace
from .codes import Encoded, check_codec, mixtures, relevel, save_codes, seed_of
from .data import SUBSETS
from .network import HOP, Codec
from .train import load_codec

PIECE = 50
"""Songs a file of codes: training can begin with the first ones."""


def encode_songs(work: Workspace, name: str, device: str, passes: int = 1, limit: int | None = None) -> None:
    """Encode the rendered songs of a set with the frozen codec, some songs a file; files that are there stay.

    Pass 0 takes the songs as they were rendered; later ones move every stem's level. `limit` is the most songs of
    validation sets, which are encoded as all fifteen mixtures. Raises UserError if there is no frozen codec, or if the
    codes that are there are another's.
    """
    frozen = work.root / "codec" / "frozen.pt"
    if not frozen.is_file():
        raise UserError(f"{frozen} is missing; run the stage 'codec' until its first phase ends")
    codec, _ = load_codec(frozen, device)
    digest = hashlib.sha256(frozen.read_bytes()).hexdigest()
    for number in range(passes):
        for path in chunks(work.songs, name):
            songs = np.load(path, mmap_mode="r")[:limit]
            for first in range(0, len(songs), PIECE):
                seeds = [seed_of(path.stem, number, row) for row in range(first, min(first + PIECE, len(songs)))]
                target = work.codes / f"{name}-{number}-{path.stem.rpartition('-')[2]}-{first:04d}.npz"
                if target.is_file():
                    check_codec(target, digest)
                    continue
                save_codes(
                    target, _encode(codec, songs[first : first + PIECE], seeds, number > 0, name, device), digest
                )


def _encode(
    codec: Codec, songs: npt.NDArray[np.float16], seeds: list[int], moved: bool, name: str, device: str
) -> Encoded:
    frames = -(-songs.shape[2] // HOP)
    codes = np.zeros((len(songs), 15, codec.quantizer.codebooks, frames), np.uint8)
    known = np.zeros((len(songs), 15), bool)
    for row, (song, seed) in enumerate(zip(songs, seeds)):
        stems = song.astype(np.float32)
        if moved:
            stems = relevel(stems, seed)
        masks = mixtures(seed, everything=name != "train")
        audio = np.stack([stems[list(SUBSETS[mask - 1])].sum(axis=0) for mask in masks])
        for start in range(0, len(masks), 6):
            part = torch.tensor(audio[start : start + 6, None], device=device)
            codes[row, [mask - 1 for mask in masks[start : start + 6]]] = codec.encode(part).cpu().numpy()
        known[row, [mask - 1 for mask in masks]] = True
    return Encoded(codes, known)
