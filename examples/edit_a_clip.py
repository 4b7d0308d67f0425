"""Edit a clip with the bundle that ships with the project, from Python.

python examples/edit_a_clip.py [CLIP] [SENTENCE] [OUT.wav]
"""

from __future__ import annotations

import sys
from pathlib import Path

import model
from model import InstructMusicGen, audio
from model.instructions import trained

DEMO = Path(model.__file__).parent / "demo"


def main(clip: str = str(DEMO / "clip.flac"), text: str = "only the drums", out: str = "edited.wav") -> None:
    """Write `out`: the first five seconds of `clip`, edited as `text` says."""
    sound = audio.load(clip)
    musicgen = InstructMusicGen.from_pretrained(DEMO / "bundle")
    edited = musicgen.generate(trained(text), sound.samples, max_steps=250, seed=0)
    audio.save(out, edited, sound.rate)
    print(f"{out}: {edited.shape[-1] / sound.rate:.1f} s, edited on {musicgen.backend}")


if __name__ == "__main__":
    main(*sys.argv[1:])
