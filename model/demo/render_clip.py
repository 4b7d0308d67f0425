"""Compose and render the shipped clip: two bars of drums, bass and piano, written here note by note.

    python render_clip.py [--soundfont FluidR3_GM.sf2] [--stems DIR]

Writes clip.mid and clip.flac (44.1 kHz stereo) beside this file; with --stems also drums.flac, bass.flac and
piano.flac, whose sum is the clip but for its dither. Needs fluidsynth and a General MIDI soundfont (Debian:
`fluidsynth`, `fluid-soundfont-gm`) and the Python package mido. Only needed to make the clip again: nothing imports
this file.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import mido  # type: ignore[import-not-found,import-untyped,unused-ignore]
import numpy as np
import soundfile as sf

HERE = Path(__file__).parent
RATE = 44_100
BPM = 96
TICKS = 480
BEATS = 8
SWING = 0.58
"""Where the off-beat eighth falls within its beat: 0.5 is straight, 0.67 a triplet."""
PEAK = 0.5
BITS = 14
"""Resolution kept, with triangular dither: the noise stays inaudible and the file a quarter smaller."""
WIDTH = 0.4
"""Stereo width kept of the soundfont's very wide piano: sits better in the mix, and packs smaller."""


class Note(NamedTuple):
    """A note: start and length in beats, MIDI key, velocity."""

    start: float
    length: float
    key: int
    velocity: int


class Part(NamedTuple):
    """One instrument; channel 9 is General MIDI's drum kit."""

    name: str
    channel: int
    program: int
    volume: int
    pan: int
    notes: list[Note]


def drums() -> list[Note]:
    """Return a swung backbeat with ghost notes."""
    kick, snare, hat, open_hat, crash = 36, 38, 42, 46, 49
    notes = [Note(0, 1, crash, 84)]
    for bar in range(2):
        at = 4.0 * bar
        kicks = (0, 1.5, 2.5) if bar % 2 == 0 else (0, 0.5, 2.5, 3.5)
        notes += [Note(at + b, 0.2, kick, 100) for b in kicks]
        notes += [Note(at + b, 0.2, snare, 104) for b in (1, 3)]
        notes += [Note(at + b, 0.1, snare, 38) for b in (1.75, 2.25)]
        for half in range(8):
            b = half / 2
            last = bar == 1 and half == 7
            notes.append(Note(at + b, 0.2, open_hat if last else hat, 108 if half % 2 == 0 else 86))
    return notes


def bass() -> list[Note]:
    """Write the bass: Am7, D9, with roots on one, and fifths and approach notes between."""
    line = (
        (0, 0.9, 33), (1, 0.4, 40), (1.5, 0.9, 43), (2.5, 0.4, 45), (3, 0.45, 40), (3.5, 0.45, 37),
        (4, 0.9, 38), (5, 0.4, 45), (5.5, 0.9, 48), (6.5, 0.4, 50), (7, 0.45, 45), (7.5, 0.45, 44),
    )  # fmt: skip
    return [Note(b, n, key, 104 if b % 4 == 0 else 92) for b, n, key in line]


def piano() -> list[Note]:
    """Write the piano: rootless voicings on a syncopated comping rhythm, with short answers between."""
    chords = ((55, 60, 64, 71), (54, 60, 64, 69))
    notes = []
    for bar, chord in enumerate(chords):
        at = 4.0 * bar
        for b, length, velocity in ((0, 0.9, 84), (1.5, 0.35, 76), (2.5, 0.7, 80)):
            notes += [Note(at + b, length, key, velocity) for key in chord]
    answer = ((3.5, 0.4, 76), (7.0, 0.4, 74), (7.5, 0.4, 72))
    return notes + [Note(b, n, key, 94) for b, n, key in answer]


def swung(beat: float) -> float:
    """Move off-beat eighths late; sixteenths follow in proportion."""
    whole, part = divmod(beat, 1.0)
    return whole + (part * 2 * SWING if part <= 0.5 else SWING + (part - 0.5) * 2 * (1 - SWING))


def midi(parts: list[Part]) -> mido.MidiFile:
    """Return a type-1 MIDI file with slightly uneven velocities and timing, the same at every call."""
    rng = random.Random(7)
    file = mido.MidiFile(type=1, ticks_per_beat=TICKS)
    head = file.add_track("tempo")
    head.append(mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(BPM), time=0))
    head.append(mido.MetaMessage("time_signature", numerator=4, denominator=4, time=0))
    for part in parts:
        events: list[tuple[int, int, mido.Message]] = []
        for note in part.notes:
            start = max(0, round(swung(note.start) * TICKS) + rng.randint(-3, 3))
            velocity = min(127, note.velocity + rng.randint(-4, 4))
            end = start + round(note.length * TICKS)
            events.append((start, 1, mido.Message("note_on", channel=part.channel, note=note.key, velocity=velocity)))
            events.append((end, 0, mido.Message("note_off", channel=part.channel, note=note.key, velocity=0)))
        track = file.add_track(part.name)
        if part.channel != 9:
            track.append(mido.Message("program_change", channel=part.channel, program=part.program, time=0))
        for control, value in ((7, part.volume), (10, part.pan)):
            track.append(mido.Message("control_change", channel=part.channel, control=control, value=value, time=0))
        now = 0
        for tick, _, message in sorted(events, key=lambda e: e[:2]):
            track.append(message.copy(time=tick - now))
            now = tick
    return file


def render(parts: list[Part], soundfont: Path) -> np.ndarray:
    """Render the parts with fluidsynth: float64 [frames,2], cut where bar three would begin, with a 50 ms fade."""
    with tempfile.TemporaryDirectory() as scratch:
        song, wav = Path(scratch, "song.mid"), Path(scratch, "song.wav")
        midi(parts).save(song)
        effects = ["-C", "no", "-R", "yes", "-o", "synth.reverb.level=0.2", "-o", "synth.reverb.width=0.3"]
        subprocess.run(
            ["fluidsynth", "-ni", "-q", "-g", "0.5", "-r", str(RATE), *effects, "-T", "wav", "-O", "float",
             "-F", str(wav), str(soundfont), str(song)],
            check=True,
        )  # fmt: skip
        raw, _ = sf.read(wav, always_2d=True)
    frames = round(BEATS * 60 / BPM * RATE)
    raw = np.pad(raw, ((0, max(0, frames - len(raw))), (0, 0)))[:frames]
    middle: np.ndarray = raw.mean(axis=1, keepdims=True)
    audio: np.ndarray = middle + WIDTH * (raw - middle)
    fade = round(0.05 * RATE)
    audio[-fade:] *= np.linspace(1, 0, fade)[:, None]
    return audio


def main() -> None:
    """Write the clip, its MIDI file and, if asked, the stems."""
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--soundfont", type=Path, default=Path("/usr/share/sounds/sf2/FluidR3_GM.sf2"))
    cli.add_argument("--stems", type=Path, metavar="DIR")
    arguments = cli.parse_args()
    parts = [
        Part("drums", 9, 0, 116, 64, drums()),
        Part("bass", 1, 33, 80, 64, bass()),
        Part("piano", 0, 0, 127, 66, piano()),
    ]
    midi(parts).save(HERE / "clip.mid")
    # The clip is the sum of the stems, so that they are its true parts.
    stems = {part.name: render([part], arguments.soundfont) for part in parts}
    mix = sum(stems.values(), np.zeros_like(stems["drums"]))
    gain = PEAK / np.abs(mix).max()
    dither = np.random.default_rng(7).random((2, *mix.shape)).sum(axis=0) - 1
    coarse = np.round(mix * gain * 2 ** (BITS - 1) + dither) / 2 ** (BITS - 1)
    sf.write(HERE / "clip.flac", coarse, RATE, subtype="PCM_16", compression_level=1.0)
    if arguments.stems:
        arguments.stems.mkdir(parents=True, exist_ok=True)
        for name, audio in stems.items():
            sf.write(arguments.stems / f"{name}.flac", audio * gain, RATE, subtype="PCM_24")


if __name__ == "__main__":
    main()
