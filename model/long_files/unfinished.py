"""What is kept of an unfinished edit, so that it can go on: the codes edited so far, and what they were made with."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ..decoding.windows import Window
from ..errors import UsageError, UserError
from ..system.cache import cache

FORMAT = 1
DAYS = 30
"""Unfinished edits that are older are forgotten when another one begins."""
HEADER = 1 << 16
"""Bytes of the first line, at most."""


def seed_of(output: Path) -> int | None:
    """Return the seed of the unfinished edit of an output; None where there is none."""
    try:
        with open(_place(output), "rb") as file:
            seed = json.loads(file.readline(HEADER))["settings"]["seed"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return seed if isinstance(seed, int) else None


def _place(output: Path) -> Path:
    name = hashlib.sha256(os.fsencode(os.path.realpath(output))).hexdigest()[:32]
    return cache() / "unfinished" / f"{name}.codes"


class UnfinishedEdit:
    """The unfinished edit of one output: a file in the cache, a line of JSON and then int32 [frames,K].

    The codes are a few KB a minute; the audio is decoded again from them. A crash in the middle of a write costs the
    frames of that write.
    """

    def __init__(
        self, output: Path, settings: Mapping[str, Any], plan: Sequence[Window], codebooks: int, card: int
    ) -> None:
        self.output, self.settings, self.plan = output, dict(settings), plan
        self.codebooks, self.card = codebooks, card
        self.path = _place(output)
        self.frames = 0
        self._skip = 0
        self._file: Any = None

    def there(self) -> bool:
        """Tell whether an edit of this output is unfinished."""
        return self.path.is_file()

    def resume(self) -> mx.array | None:
        """Return the codes int32 [1,K,n] that are known, up to a window's end; None where there are none.

        Raises UsageError if they were made with other settings, naming which.
        """
        try:
            with open(self.path, "rb") as file:
                head = json.loads(file.readline(HEADER))
                data = file.read(4 * self.codebooks * self.plan[-1].stop)
            made, kind = dict(head["settings"]), head["format"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise UserError(
                f"{self.path}: what was kept of {self.output} cannot be read; begin without --resume"
            ) from e
        if kind != FORMAT or (differ := [key for key in self.settings | made if made.get(key) != self._plain(key)]):
            told = ", ".join(f"{key} {made.get(key)!r}, not {self._plain(key)!r}" for key in differ[:3])
            raise UsageError(
                f"--resume: the unfinished edit of {self.output} has {told}; give the same options, or begin anew "
                "without --resume"
            )
        frames = len(data) // (4 * self.codebooks)  # a crash may have cut off the last one
        whole = np.frombuffer(data[: 4 * self.codebooks * frames], "<i4").reshape(-1, self.codebooks)
        known = max((window.stop for window in self.plan if window.stop <= len(whole)), default=0)
        if not known:
            return None
        if whole.min() < 0 or whole.max() >= self.card:
            raise UserError(f"{self.path}: what was kept of {self.output} is damaged; begin without --resume")
        return mx.array(whole[:known].T[None].astype(np.int32))

    def begin(self, known: mx.array | None) -> str | None:
        """Begin to keep codes, `known` ones first. Return why nothing can be kept, if so: the edit goes on."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._forget_old()
            head = {"format": FORMAT, "output": os.path.realpath(self.output), "settings": self.settings}
            fresh = self.path.with_suffix(f".{os.getpid()}")
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            self._file = open(descriptor, "wb", buffering=0)  # noqa: SIM115 - until `end`
            self._file.write(json.dumps(head).encode() + b"\n")
            if known is not None:
                self._append(known)
                self._skip = known.shape[2]
            fresh.replace(self.path)
        except OSError as e:
            self._file = None
            return e.strerror or str(e)
        return None

    def add(self, codes: mx.array) -> None:
        """Keep edited codes int32 [1,K,n], which come in order from the clip's beginning."""
        skipped = min(self._skip, codes.shape[2])
        self._skip -= skipped
        if self._file is not None and skipped < codes.shape[2]:
            try:
                self._append(codes[:, :, skipped:])
            except OSError:  # a full disk: what is kept so far still serves
                self._file.close()
                self._file = None

    def end(self) -> None:
        """Forget it: the output is whole."""
        if self._file is not None:
            self._file.close()
        with contextlib.suppress(OSError):
            self.path.unlink()

    def windows(self) -> int:
        """Return how many windows are kept."""
        return sum(window.stop <= self.frames for window in self.plan)

    def _append(self, codes: mx.array) -> None:
        rest = memoryview(np.array(codes[0].T).astype("<i4").tobytes())
        while rest:
            rest = rest[self._file.write(rest) :]
        self.frames += codes.shape[2]

    def _plain(self, key: str) -> Any:
        """Return a setting as JSON gives it back."""
        return json.loads(json.dumps(self.settings.get(key)))

    def _forget_old(self) -> None:
        for path in self.path.parent.iterdir():
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < time.time() - DAYS * 86400:
                    path.unlink()
