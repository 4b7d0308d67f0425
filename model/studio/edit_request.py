"""What a request asks for, checked before any work is done, in the command line's words."""

from __future__ import annotations

import argparse
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .. import instructions, parse_values
from ..errors import UserError
from ..from_input.guides import asked_for
from ..instructions import Asked, Vocabulary
from .errors import Refused, not_found
from .job_queue import JobQueue
from .jobs import Settings, Source
from .limits import Limits
from .loaded_models import DEFAULTS, LoadedModels, ServedModel

FIELDS = (
    "model", "prompt", "seed", "n", "guidance", "temperature", "top_k", "from_input", "start", "end", "source",
)  # fmt: skip
SECONDS = parse_values.number(0, 1e9)


class StudioRequest(NamedTuple):
    """A checked request: what to do, with which part of the clip, and the earlier edit it is of, if so."""

    model: ServedModel
    prompt: str
    sentence: str
    note: str | None
    settings: Settings
    start: float
    end: float | None
    source: Source | None


def read(fields: Mapping[str, str], models: LoadedModels, limits: Limits) -> StudioRequest:
    """Check a form's fields. Raises Refused, naming the field, the value and the fix."""
    if unknown := [name for name in fields if name not in FIELDS]:
        raise Refused(f"{unknown[0]!r:.60} is not a field; the fields are file, {', '.join(FIELDS)}", unknown[0][:60])
    model = models.get(fields.get("model") or models.first)
    vocabulary = model.bundle.config.instructions
    prompt = fields.get("prompt", "")
    said = asked(prompt, vocabulary, limits)
    seed = value(fields, "seed", parse_values.seed, DEFAULTS["seed"])
    settings = Settings(
        secrets.randbelow(2**53) if seed is None else seed,  # a number that a page can hold
        value(fields, "n", parse_values.integer(1, limits.candidates), 1),
        value(fields, "guidance", parse_values.guidance, DEFAULTS["guidance"]),
        value(fields, "temperature", parse_values.temperature, DEFAULTS["temperature"]),
        value(fields, "top_k", parse_values.top_k, DEFAULTS["top_k"]),
        value(fields, "from_input", parse_values.flag, False),
    )
    if settings.from_input:
        try:
            asked_for(said.text, vocabulary, option="from_input")
        except UserError as e:
            raise Refused(str(e), "from_input") from e
    start, end = value(fields, "start", SECONDS, 0.0), value(fields, "end", SECONDS, None)
    if end is not None and end <= start:
        raise Refused(f"end: {end:g} must be after start ({start:g}); give a later end", "end")
    return StudioRequest(
        model, prompt, said.text, said.note or None, settings, start, end, _source(fields.get("source"))
    )


def asked(prompt: str, vocabulary: Vocabulary, limits: Limits) -> Asked:
    """Return what goes to the model for a prompt. Raises Refused for one that is empty or too long."""
    try:
        prompt = parse_values.instruction(prompt)
    except argparse.ArgumentTypeError as e:
        raise Refused(f"prompt: {e}", "prompt") from e
    if wrong := next((c for c in prompt if not c.isprintable() and c not in "\t\n\r"), None):
        raise Refused(f"prompt: holds the control character {wrong!r}; write text", "prompt")
    if len(prompt) > limits.prompt:
        raise Refused(f"prompt: has {len(prompt)} characters; shorten it to at most {limits.prompt}", "prompt")
    return instructions.asked(prompt, vocabulary)


def value(fields: Mapping[str, str], name: str, parsed: Callable[[str], Any], otherwise: Any) -> Any:
    """Return a field's value; `otherwise` where it is empty. Raises Refused, in the command line's words."""
    text = fields.get(name, "")
    if not text:
        return otherwise
    try:
        return parsed(text)
    except (argparse.ArgumentTypeError, ValueError, OverflowError) as e:
        raise Refused(f"{name}: {' '.join(str(e).split()):.300}", name) from e


def _source(text: str | None) -> Source | None:
    if not text:
        return None
    found = re.fullmatch(r"([0-9a-f]{16})/(input|[1-9][0-9]{0,2})", text)
    if found is None:
        raise Refused(f"source: {text!r:.60} must be JOB/NUMBER, or JOB/input", "source")
    return Source(found[1], 0 if found[2] == "input" else int(found[2]))


def source_file(queue: JobQueue, source: Source) -> tuple[str, str]:
    """Return the name and the path of an earlier edit or input. Raises Refused where there is none."""
    job = queue.get(source.job)
    folder = queue.store.path(job)
    if source.candidate == 0:
        return job.input.name, str(folder / "input.wav")
    if job.state != "done" or job.candidate(source.candidate) is None:
        raise not_found(f"source: job {job.id} has no edit {source.candidate}")
    stem = job.input.name.rpartition(".")[0] or job.input.name
    return f"{stem}-{source.candidate}.wav", str(folder / f"{source.candidate}.wav")
