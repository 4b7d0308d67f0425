"""`edit --candidates N`: several edits of a clip, ranked; song-1.wav is the best, song.json says why."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UsageError
from .clips import STREAM, at_rate, drawn, progress_bar, standard_input, tell_of_clip, tell_of_level, told_sentence
from .opening import note, opened, recorded, sampling, told

if TYPE_CHECKING:
    from ...audio import Clip
    from ...candidates.clap import Clap
    from ...candidates.make import Candidates
    from ...pipeline import InstructMusicGen


def run(arguments: argparse.Namespace) -> None:
    """Check, load, edit, rank, write all files or none."""
    from ... import audio

    target: Path = arguments.output
    if target == STREAM:
        raise UsageError("--candidates: writes several files; name one with -o, not -")
    tell = told(arguments)
    clip = audio.load(standard_input() if arguments.input == STREAM else arguments.input)
    rate = clip.source_rate if arguments.keep_rate else clip.rate
    for path in names(target, arguments.candidates, arguments.keep or "all"):
        audio.check_destination(path, rate)
    tell_of_clip(clip, arguments.input, tell)
    model, window, _ = opened(arguments, tell)
    text = told_sentence(model, arguments)
    found = make(model, clip, text, drawn(arguments.seed, arguments.quiet), arguments, window)
    contents = files(found, clip, target, rate, arguments)
    audio.write(contents)
    if not arguments.quiet:
        if found.ranked_by is None:
            note("no score of these is known to tell good edits from bad ones: they are in the order of their seeds")
        for path, each in zip(names(target, len(found.edits), arguments.keep or "all"), found.edits):
            score = f", {found.ranked_by} {each.scores[found.ranked_by]:.4g}" if found.ranked_by else ""
            print(f"{path}: seed {each.made.seed}{score}")
        print(f"{target.with_suffix('.json')}: seeds and scores of all {len(found.edits)}")


def make(
    model: InstructMusicGen, clip: Clip, text: str, seed: int, arguments: argparse.Namespace, window: int | None
) -> Candidates:
    """Make the candidates of a clip as the command line says."""
    from ...candidates.make import candidates
    from ...results.edit_record import of

    by, clap = _ranking(arguments)
    source = None if arguments.input == STREAM else arguments.input
    made = of(model, text, seed, source=source, options=recorded(arguments))
    with progress_bar(model, arguments.quiet) as progress:
        return candidates(
            model, clip, text, arguments.candidates, seed=seed, rank_by=by, clap=clap, max_steps=arguments.max_steps,
            window_frames=window, progress=progress, record=made, **sampling(arguments),
        )  # fmt: skip


def _ranking(arguments: argparse.Namespace) -> tuple[str | None, Clap | None]:
    """Return what is ranked by: CLAP where it is asked for or ready, else the score that was measured to be best."""
    from ...candidates import clap
    from ...candidates.scores import RANKING

    by = arguments.rank_by
    if by == "clap" or arguments.clap or (by is None and clap.ready()):
        return by or "clap", clap.Clap(arguments.clap or clap.CHECKPOINT, "rank by another score with --rank-by")
    return {None: RANKING, "none": None}.get(by, by), None


def names(target: Path, count: int, keep: str) -> list[Path]:
    """Return the audio files that are written: song-1.wav to song-N.wav, or with `--keep best` song.wav alone."""
    if keep == "best":
        return [target]
    return [target.with_name(f"{target.stem}-{rank}{target.suffix}") for rank in range(1, count + 1)]


def files(
    found: Candidates, clip: Clip, target: Path, rate: int, arguments: argparse.Namespace
) -> dict[Path, bytes | str]:
    """Return the content of every file that is written."""
    from ...audio import encoded

    contents: dict[Path, bytes | str] = {}
    listed: list[Mapping[str, Any]] = []
    places = names(target, len(found.edits), arguments.keep or "all")
    for rank, each in enumerate(found.edits, 1):
        file = places[rank - 1] if rank <= len(places) else None
        if file is not None:
            samples = at_rate(each.samples, clip, rate)
            contents[file], saved = encoded(
                file, samples, rate, normalize=arguments.normalize, tags=each.made.sized(len(samples)).tags()
            )
            if not arguments.normalize:
                tell_of_level(saved, file, told(arguments))
        scores = {name: round(value, 6) for name, value in each.scores.items()}
        listed.append({"rank": rank, "file": file.name if file else None, "seed": each.made.seed, "scores": scores})
    contents[target.with_suffix(".json")] = json.dumps(_page(found, listed), indent=1) + "\n"
    return contents


def _page(found: Candidates, listed: list[Mapping[str, Any]]) -> dict[str, Any]:
    from dataclasses import asdict

    from ...candidates.scores import WHAT

    made = asdict(found.best.made)
    for own in ("seed", "part", "frames"):
        del made[own]
    told_of = {name: WHAT[name] for name in found.best.scores}
    return {**made, "ranked_by": found.ranked_by, "scores": told_of, "candidates": listed}
