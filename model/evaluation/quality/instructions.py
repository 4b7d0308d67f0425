"""The instructions of a quality run: what to ask, what to score against, and what the true answer is made of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from ... import audio
from ...audio import SUFFIXES
from ...errors import UserError
from ...instructions import without_preamble

_VERB = re.compile(r"\b(only|extract|no|remove|add)\s+(.+?)\s*\.?\s*$", re.IGNORECASE)
_CALLED = {"extract": "only", "no": "remove"}
KEYS = ("instruction", "caption", "remains")


@dataclass(frozen=True)
class Instruction:
    """`text` goes to the model; `caption` is what CLAP compares with; `remains` what should be left after a removal."""

    text: str
    caption: str
    remains: str | None = None

    @property
    def verb(self) -> str | None:
        """only, remove or add (extract counts as only, no as remove); None for any other sentence."""
        found = _VERB.search(self.text)
        return _CALLED.get(found[1].lower(), found[1].lower()) if found else None

    @property
    def stem(self) -> str | None:
        """The instrument it names, in lower case."""
        found = _VERB.search(self.text)
        return found[2].lower() if found else None

    @property
    def short(self) -> str:
        """The sentence without upstream's preamble, for tables."""
        return without_preamble(self.text)


def read(path: Path) -> list[Instruction]:
    """Read instructions from a file. Raises UserError if it cannot be read or holds none.

    .yaml or .json: a list of sentences, or of objects with `instruction` and perhaps `caption` (what CLAP compares the
    result with; the instruction itself unless given) and `remains` (for removals). Any other: a sentence a line, and
    perhaps ` | ` and what should remain after it; blank lines and those that begin with # are skipped.
    """
    try:
        text = path.read_text()
        entries = yaml.safe_load(text) if path.suffix.lower() in (".yaml", ".yml", ".json") else _lines(text)
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(
            f"{path}: cannot be read ({getattr(e, 'strerror', None) or e}); give a text or YAML file"
        ) from e
    except yaml.YAMLError as e:
        raise UserError(f"{path}: is not YAML or JSON ({' '.join(str(e).split())[:200]}); correct it") from e
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path}: holds no instructions; write one sentence a line, or a YAML list")
    return [_entry(entry, path) for entry in entries]


def _lines(text: str) -> list[dict[str, str]]:
    out = []
    for line in text.splitlines():
        sentence, _, remains = (part.strip() for part in line.partition("|"))
        if sentence and not sentence.startswith("#"):
            out.append({"instruction": sentence} | ({"remains": remains} if remains else {}))
    return out


def _entry(entry: Any, path: Path) -> Instruction:
    if isinstance(entry, str):
        entry = {"instruction": entry}
    if not isinstance(entry, dict) or not entry.get("instruction") or set(entry) - set(KEYS):
        raise UserError(f"{path}: {entry!r:.80} is not an instruction; it has {', '.join(KEYS)}, the first needed")
    if not all(isinstance(value, str) and value.strip() for value in entry.values()):
        raise UserError(f"{path}: {entry!r:.80}: every value must be text, and not blank")
    text: str = entry["instruction"]
    return Instruction(text, entry.get("caption") or text, entry.get("remains"))


def of(texts: Sequence[str]) -> list[Instruction]:
    """Return sentences as instructions that are scored against themselves."""
    return [Instruction(text, text) for text in texts]


Stems = dict[str, npt.NDArray[np.float32]]


def stems(folder: Path, clip: str, samples: int) -> Stems:
    """Return the true stems of a clip, FOLDER/CLIP/NAME.wav, by lower-case name, cut or padded to `samples`.

    Raises UserError if there is no such folder, or nothing in it.
    """
    place = folder / clip
    files = sorted(p for p in place.iterdir() if p.suffix.lower() in SUFFIXES) if place.is_dir() else []
    if not files:
        raise UserError(f"{place} has no stems; --stems needs FOLDER/<clip's name>/<instrument>.wav for every clip")
    out = {}
    for file in files:
        x = audio.load(file).samples[:samples]
        out[file.stem.lower()] = np.pad(x, (0, samples - len(x)))
    return out


def truth(instruction: Instruction, found: Stems) -> npt.NDArray[np.float32] | None:
    """Return what a perfect edit would be: the stem (only), the others' sum (remove), all of them (add), or None."""
    if instruction.stem not in found:
        return None
    every = sum(found.values(), np.zeros_like(next(iter(found.values()))))
    if instruction.verb == "only":
        return found[instruction.stem]
    return np.asarray(every - found[instruction.stem] if instruction.verb == "remove" else every, dtype=np.float32)


def with_remains(instruction: Instruction, found: Stems) -> Instruction:
    """Fill in `remains` of a removal that has none: the other stems' names."""
    if instruction.verb != "remove" or instruction.remains or instruction.stem not in found:
        return instruction
    others = [name for name in found if name != instruction.stem]
    return replace(instruction, remains=" and ".join(others)) if others else instruction
