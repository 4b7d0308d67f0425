"""How a file was made: the record in its tags, read back, and the command that makes it again."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import soundfile

from ..audio_files import writing
from ..errors import UserError
from ..system.installation import PROGRAM, program_version

if TYPE_CHECKING:
    from ..bundle.bundle import Bundle

KEY = "instruct-musicgen"
"""The one key of the JSON object in a file's comment."""
UNRESTRICTED = "none; made by random weights"
FINGERPRINT_PIECES, PIECE_BYTES = 64, 1 << 16
"""Places of a weight file, from its first bytes to its last, that its fingerprint reads, and bytes of each: files of up
to 4 MB are read whole."""
OPTIONS = {
    "temperature": 1.0, "top_k": 250, "top_p": 0.0, "guidance": 3.0, "greedy": False, "max_steps": None,
    "window": None, "keep_rate": False, "normalize": False, "from_input": False, "guides": None,
    "activations": "default", "caches": "default",
}  # fmt: skip
"""Options of `edit` that change a file, with their defaults; only others are recorded."""


@dataclass(frozen=True)
class EditRecord:
    """The record of how a file was made.

    Two files with equal records hold the same bytes on the same kind of processor.
    """

    sentence: str
    """What went to the model."""
    seed: int
    model: str
    """The repo, "demo" for the bundle that comes with the package, or the folder's name."""
    weights: str
    """The bundle's `fingerprint`."""
    backend: str
    license: str
    version: str = ""
    input: str = ""
    """The input's name, without folders."""
    input_sha256: str | None = None
    """SHA-256 of the input's bytes; None where they came through a pipe."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Those of `OPTIONS` that were not left at their defaults."""
    frames: int = 0
    """Samples of each channel that the file holds: fewer were lost."""
    part: str = "edit"
    """"edit", or "residual": what `--residual` wrote."""

    def tags(self) -> dict[str, str]:
        """Return them as tags of an audio file: the sentence is the title, the whole record the comment."""
        record = {
            KEY: {key: value for key, value in asdict(self).items() if value not in (None, "", {}, 0) or key == "seed"}
        }
        return {
            "title": self.sentence if self.part == "edit" else f"{self.sentence} (the rest)",
            "software": f"{PROGRAM} {self.version}",
            "copyright": self.license,
            "license": self.license,
            "comment": json.dumps(record, separators=(",", ":"), sort_keys=True),
        }

    def command(self, out: str = "edited.wav") -> str:
        """Return the command line that makes the file again, out of the input under its name."""
        source = self.input or "IN"
        words = ["instruct-musicgen", "edit", f"./{source}" if source.startswith("-") else source]
        words += [*_option("-i", self.sentence, "--instruction"), "--seed", str(self.seed)]
        for name, value in sorted(self.options.items()):
            flag = f"--{name.replace('_', '-')}"
            words += [flag] if value is True else _option(flag, str(value))
        words += [*_option("--model", self.model), *_option("--backend", self.backend)]
        if self.part == "edit":
            words += _option("-o", out, "--output")
        else:
            words += ["-o", "edit.wav", *_option("--residual", out)]
        return shlex.join(words)

    def sized(self, frames: int) -> EditRecord:
        """Return the record of a file that holds so many samples of each channel."""
        return replace(self, frames=frames)


def _option(flag: str, value: str, long: str | None = None) -> list[str]:
    """Return the words that give an option its value: one word where the value would be taken for another option."""
    return [f"{long or flag}={value}"] if value.startswith("-") else [flag, value]


class Maker(Protocol):
    """A model, or what is known of one before it is loaded."""

    @property
    def bundle(self) -> Bundle:
        """Its files."""

    @property
    def backend(self) -> str:
        """The name of the operations that it runs on."""


def of(
    model: Maker, sentence: str, seed: int, *, source: Path | None = None,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> EditRecord:  # fmt: skip
    """Record an edit by a model. `source`: the input's file; options: any of `OPTIONS`, defaults are left out."""
    from ..bundle.info import license_of

    bundle = model.bundle
    changed = {name: value for name, value in options.items() if value != OPTIONS[name]}
    return EditRecord(
        sentence, seed, name_of(bundle), fingerprint(bundle), model.backend, license_of(bundle) or UNRESTRICTED,
        program_version(),
        source.name if source else "", digest(source) if source else None, changed,
    )  # fmt: skip


def read(path: Path) -> EditRecord:
    """Read the record out of a file's tags. Raises UserError where there is none that can be understood."""
    text = writing.comment(path)
    try:
        record = json.loads(text)[KEY]
        known = {each.name for each in fields(EditRecord)}
        made = EditRecord(**{key: value for key, value in record.items() if key in known})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{path}: its tags don't say how it was made; only files that `edit` wrote do") from None
    kinds = {"seed": int, "frames": int, "options": dict, "input_sha256": str | None}
    for key, value in asdict(made).items():
        if not isinstance(value, kinds.get(key, str)):
            raise UserError(f"{path}: its tags hold {key}={value!r:.40}, which `edit` never writes")
    return made


def is_whole(path: Path, made: EditRecord) -> bool:
    """Tell whether a file is there, was made as `made` says, and can be read to its end."""
    try:
        found = read(path)
        with soundfile.SoundFile(path) as file:
            frames = sum(len(block) for block in file.blocks(1 << 20, dtype="float32"))
    except (UserError, soundfile.LibsndfileError, OSError):
        return False
    return found == made.sized(found.frames) and frames == found.frames


def lines(made: EditRecord, out: str) -> list[str]:
    """Return the record for people."""
    shown = {
        "sentence": made.sentence, "seed": made.seed, "model": f"{made.model} (weights {made.weights})",
        "backend": made.backend, "version": made.version, "license": made.license,
        "input": f"{made.input} (sha256 {(made.input_sha256 or 'not recorded')[:16]})" if made.input else "a pipe",
        "part": made.part,
        "options": ", ".join(f"{name} {value}" for name, value in sorted(made.options.items())) or "defaults",
        "again": made.command(out),
    }  # fmt: skip
    return [f"{name:<9} {_printable(value)}" for name, value in shown.items()]


def name_of(bundle: Bundle) -> str:
    """Return what a bundle is called: "demo", its repo where it lies in the Hub's cache, else the folder's name."""
    from ..bundle.bundle import DEMO, demo_path

    if bundle.path == demo_path():
        return DEMO
    for part in bundle.path.parts:
        if part.startswith("models--"):
            return part.removeprefix("models--").replace("--", "/")
    return bundle.path.name


def fingerprint(bundle: Bundle) -> str:
    """Tell bundles apart without reading gigabytes: sizes, config.json, and samples of every weight file; 16 digits."""
    found = hashlib.sha256((bundle.path / "config.json").read_bytes())
    files = {source.file for source in bundle.sources.values()}
    files |= {bundle.codec_path} if bundle.codec_path.is_file() else set(bundle.codec_path.rglob("*.safetensors"))
    for path in sorted(files):
        size = path.stat().st_size
        found.update(f"{path.name} {size}".encode())
        with open(path, "rb") as file:
            for piece in range(FINGERPRINT_PIECES + 1):
                file.seek(max(0, size - PIECE_BYTES) * piece // FINGERPRINT_PIECES)
                found.update(file.read(PIECE_BYTES))
    return found.hexdigest()[:16]


def digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes. Raises UserError where it cannot be read."""
    found = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                found.update(block)
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({e.strerror or e}); check the path") from e
    return found.hexdigest()


def seeded(made: EditRecord, seed: int) -> EditRecord:
    """Return the record of the same edit with another seed."""
    return replace(made, seed=seed)


def residual(made: EditRecord) -> EditRecord:
    """Return the record of the rest of a `--from-input` edit."""
    return replace(made, part="residual")


def _printable(value: object) -> str:
    return "".join(c if c.isprintable() else "?" for c in str(value))
