"""Encode songs: the codes of a song's mixtures, which are not the sum of its stems' codes."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import torch

from ....errors import UserError
from ..music.library import chunks
from ..workspace import Workspace
from .codes import Encoded, check_codec, heard, mixtures, relevel, save_codes, seed_of
from .network import HOP, Codec
from .train import load_codec

SONGS_A_PIECE = 50
"""Songs a file of codes: training can begin with the first ones."""

ROWS = {"cpu": 6, "gpu": 96}
"""Mixtures that are encoded at once."""


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
            for first in range(0, len(songs), SONGS_A_PIECE):
                seeds = [
                    seed_of(path.stem, number, row) for row in range(first, min(first + SONGS_A_PIECE, len(songs)))
                ]
                target = work.codes / f"{name}-{number}-{path.stem.rpartition('-')[2]}-{first:04d}.npz"
                if target.is_file():
                    check_codec(target, digest)
                    continue
                save_codes(
                    target,
                    _encode(codec, songs[first : first + SONGS_A_PIECE], seeds, number > 0, name, device),
                    digest,
                )


def _encode(
    codec: Codec, songs: npt.NDArray[np.float16], seeds: list[int], moved: bool, name: str, device: str
) -> Encoded:
    frames = -(-songs.shape[2] // HOP)
    codes = np.zeros((len(songs), 15, codec.quantizer.codebooks, frames), np.uint8)
    known = np.zeros((len(songs), 15), bool)
    stems = [song.astype(np.float32) for song in songs]
    if moved:
        stems = [relevel(song, seed) for song, seed in zip(stems, seeds)]
    rows = ROWS["cpu" if device == "cpu" else "gpu"]
    sounds = torch.tensor(np.stack(stems), device=device)
    pairs = [(row, mask) for row, seed in enumerate(seeds) for mask in mixtures(seed, everything=name != "train")]
    for start in range(0, len(pairs), rows):
        part = np.array(pairs[start : start + rows])
        levels = torch.tensor(heard(part[:, 1]), dtype=torch.float32, device=device)
        audio = (sounds[torch.tensor(part[:, 0], device=device)] * levels[..., None]).sum(1, keepdim=True)
        codes[part[:, 0], part[:, 1] - 1] = codec.encode(audio).to(torch.uint8).cpu().numpy()
        known[part[:, 0], part[:, 1] - 1] = True
    return Encoded(codes, known)
