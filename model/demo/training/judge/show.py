"""Write what a listener should hear: validation songs, some edits of each with their true answers, and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import soundfile

from model.pipeline import InstructMusicGen

from ....spectra import RATE, Array, log_mel
from ..edits.sentences import canonical
from ..failures import need_module
from ..music.style import STEMS
from ..workspace import Workspace
from .run import stems_of
from .score import Truth, mask_of

EXAMPLES = (("only", 0), ("no", 0), ("only", 1))
"""Edits of each song: action and stem."""


def show(
    work: Workspace, bundle: Path, name: str, songs: int, out: Path, backend: str = "auto", **sampling: Any
) -> None:
    """Write MP3 files, an index (README.md) and a picture of the first song's first edit into a folder.

    `sampling` goes to `edit_codes`. Raises UserError where songs, the bundle or matplotlib are missing.
    """
    need_module("matplotlib")
    model = InstructMusicGen.from_pretrained(bundle, backend)
    (out / "audio").mkdir(parents=True, exist_ok=True)
    lines = ["| song | input | instruction | edit | true answer |", "|---|---|---|---|---|"]
    for index, stems in enumerate(stems_of(work, name, songs)):
        truth = Truth(stems, {})
        for action, stem in EXAMPLES:
            source, target = (truth.mixture(mask) for mask in mask_of(action, stem))
            text = canonical(action, stem)
            codes = model.edit_codes(model.encode(mx.array(source)), text, **sampling)
            edit = np.array(model.decode(codes))[0, : len(source)]
            files = {}
            for kind, sound in (
                ("input", source),
                (f"{action}-{STEMS[stem]}", edit),
                (f"true-{action}-{STEMS[stem]}", target),
            ):
                files[kind] = f"audio/song{index + 1}-{kind}.mp3"
                soundfile.write(out / files[kind], np.clip(sound, -1, 1), RATE, format="MP3")
            links = " | ".join(f"[listen]({file})" for file in files.values()).split(" | ")
            lines.append(f"| {index + 1} | {links[0]} | {text.partition('Instruct: ')[2]} | {links[1]} | {links[2]} |")
            if index == 0 and (action, stem) == EXAMPLES[0]:
                picture({"input": source, text: edit, "true answer": target}, out / "spectrograms.png")
    (out / "README.md").write_text(
        "\n".join([*lines, "", "![Spectrograms](spectrograms.png)"]) + "\n", encoding="utf-8"
    )


def picture(sounds: dict[str, Array], path: Path) -> None:
    """Draw log-mel spectrograms below each other."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(sounds), 1, figsize=(8, 2 * len(sounds)), sharex=True, constrained_layout=True)
    for axis, (title, sound) in zip(axes, sounds.items()):
        extent = (0.0, len(sound) / RATE, 0.0, 80.0)
        axis.imshow(log_mel(sound), origin="lower", aspect="auto", vmin=-54, vmax=20, extent=extent, cmap="magma")
        axis.set_title(title, loc="left", fontsize=9)
        axis.set_ylabel("mel band")
    axes[-1].set_xlabel("seconds")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
