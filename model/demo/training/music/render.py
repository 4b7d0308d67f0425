"""Render songs: one MIDI file a stem and soundfont for many songs, fluidsynth, and levels a stem."""

from __future__ import annotations

import random
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from ..failures import need_fluidsynth, need_font, need_module
from .song import SECONDS, Part, Song
from .style import STEMS

RATE = 32_000
"""Samples a second, as MusicGen's codec takes them."""

TAIL = 1.0
"""Seconds between two songs of one file, so that nothing of one rings into the next."""

TICKS = 960
"""MIDI ticks a second: 480 a quarter note at 120 a minute."""

MUSESCORE = 0.5
"""The share of stems that the second soundfont plays."""

LEVEL = 0.065
"""Root mean square of a stem at the middle of its range of levels."""


def render(songs: Sequence[Song], fonts: tuple[int, ...] = (0, 1), jobs: int = 1) -> npt.NDArray[np.float32]:
    """Render songs to float32 [songs, 4 stems, samples] at 32 kHz; silent stems stay exact zeros.

    `jobs` is how many fluidsynths run at once. Raises UserError if fluidsynth or a soundfont is missing.
    """
    length = round(SECONDS * RATE)
    audio = np.zeros((len(songs), len(STEMS), length), np.float32)
    chosen = [_fonts(song, fonts) for song in songs]

    def play(stem: int, font: int) -> None:
        rows = [row for row, choice in enumerate(chosen) if choice[stem] == font]
        if rows:
            audio[rows, stem] = synthesize([songs[row].parts[stem] for row in rows], stem == 0, font)

    with ThreadPoolExecutor(jobs) as pool:
        for played in [pool.submit(play, stem, font) for stem in range(len(STEMS)) for font in fonts]:
            played.result()
    for row, song in enumerate(songs):
        _set_levels(audio[row], song.seed)
    return audio


def synthesize(parts: Sequence[Part], drums: bool, font: int) -> npt.NDArray[np.float32]:
    """Play parts one after the other through one soundfont: float32 [parts, samples], mono, no reverb, no chorus."""
    program, path = need_fluidsynth(), need_font(font)
    length, slot = round(SECONDS * RATE), round((SECONDS + TAIL) * RATE)
    with tempfile.TemporaryDirectory() as folder:
        score, sound = Path(folder, "score.mid"), Path(folder, "sound.wav")
        score_of(parts, drums).save(score)
        command = [
            program,
            "-niq",
            "-R",
            "0",
            "-C",
            "0",
            "-g",
            "0.6",
            "-r",
            str(RATE),
            "-F",
            str(sound),
            str(path),
            str(score),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not sound.is_file():
            raise RuntimeError(f"fluidsynth failed ({done.returncode}): {done.stderr.strip()[-300:]}")
        samples, rate = soundfile.read(sound, dtype="float32")
    if rate != RATE:
        raise RuntimeError(f"fluidsynth wrote {rate} Hz where {RATE} Hz was asked for")
    mono = samples.mean(axis=1)
    out = np.zeros((len(parts), length), np.float32)
    for row in range(len(parts)):
        piece = mono[row * slot : row * slot + length]
        out[row, : len(piece)] = piece
    return out


def score_of(parts: Sequence[Part], drums: bool) -> Any:
    """Write parts into one `mido.MidiFile`, each in its own slot of `SECONDS` + `TAIL`.

    Raises UserError if mido is not installed.
    """
    need_module("mido")
    import mido

    channel = 9 if drums else 0
    events: list[tuple[float, int, Any]] = []
    for row, part in enumerate(parts):
        start = row * (SECONDS + TAIL)
        bend = round(part.detune / 2 * 8192)
        events.append((start, 0, mido.Message("program_change", channel=channel, program=part.program)))
        events.append((start, 0, mido.Message("pitchwheel", channel=channel, pitch=bend)))
        for note in part.notes:
            on = start + note.start
            off = min(on + note.length, start + SECONDS)
            events.append((on, 2, mido.Message("note_on", channel=channel, note=note.pitch, velocity=note.velocity)))
            events.append((off, 1, mido.Message("note_off", channel=channel, note=note.pitch)))
        silence = start + SECONDS + TAIL / 2
        events.append((silence, 3, mido.Message("control_change", channel=channel, control=120, value=0)))
    end = len(parts) * (SECONDS + TAIL)
    events.append((end, 4, mido.Message("control_change", channel=channel, control=120, value=0)))
    events.sort(key=lambda event: (event[0], event[1]))
    score, track, last = mido.MidiFile(ticks_per_beat=480), mido.MidiTrack(), 0
    for at, _, message in events:
        tick = round(at * TICKS)
        track.append(message.copy(time=max(0, tick - last)))
        last = max(last, tick)
    score.tracks.append(track)
    return score


def _fonts(song: Song, fonts: tuple[int, ...]) -> list[int]:
    rng = random.Random(f"{song.seed} fonts")
    if len(fonts) == 1:
        return [fonts[0]] * len(STEMS)
    return [fonts[rng.random() < MUSESCORE] for _ in STEMS]


def _set_levels(stems: npt.NDArray[np.float32], seed: int) -> None:
    """Bring each stem to a drawn level (5 dB up or down, all together 3), and the whole under full scale."""
    rng = random.Random(f"{seed} levels")
    together = rng.uniform(-4.0, 2.0)
    for stem in stems:
        level = float(np.sqrt(np.mean(stem**2)))
        gain = 10 ** ((rng.uniform(-5.0, 4.0) + together) / 20)
        stem *= gain * LEVEL / level if level > 1e-4 else 0.0
    peak = float(np.abs(stems.sum(axis=0)).max())
    if peak > 0.95:
        stems *= 0.95 / peak
