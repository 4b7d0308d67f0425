"""Options and choices that several commands share."""

from __future__ import annotations

DEFAULT_REPO = "aufklarer/Instruct-MusicGen-MLX-4bit"
BACKENDS = ("auto", "metal", "native", "reference", "interpreter")

KEYS_HELP = (
    "MAP.json is for a bundle whose tensors' names tell too little: an object of stored names to names that the model "
    "knows, or to null for tensors that it doesn't need; * stands for a number. A bundle's own keys.json is read "
    "without it"
)
