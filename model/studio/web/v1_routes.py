"""Routes in the shape of OpenAI's images/edits and of mlx-audio's separations, and the list of models."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ... import instructions, instruments
from ...audio_files import wav
from ...config import SAMPLE_RATE
from ...parse_values import flag
from ..edit_request import asked, value
from ..edits import record
from ..errors import Refused
from ..jobs import Job
from . import sound
from .encoded import Encoded
from .requests import Studio, studio_of, submitted
from .streams import Gone, Stream, unless_gone
from .watchers import changed

FORMATS = ("wav", "flac", "f32", "json", "zip")
PUBLIC_LIMITS = ("upload_bytes", "clip_seconds", "clip_samples", "candidates", "queue")
"""Limits that /v1/models tells."""


async def models(request: Request) -> Response:
    """List the models, and the limits that a page should know."""
    studio = studio_of(request)
    limits = {name: getattr(studio.limits, name) for name in PUBLIC_LIMITS}
    return JSONResponse({"object": "list", "data": studio.models.shown(studio.queue.work), "limits": limits})


async def sentence(request: Request) -> Response:
    """Say what a prompt becomes: what goes to the model, and one line where it was not trained on that."""
    models, prompt = studio_of(request).models, request.query_params.get("prompt", "")
    model = models.get(request.query_params.get("model") or models.first)
    vocabulary = model.bundle.config.instructions
    found = await to_thread.run_sync(asked, prompt, vocabulary, studio_of(request).limits)
    meant = await to_thread.run_sync(instructions.meaning, found.text, vocabulary)
    return JSONResponse({"sentence": found.text, "note": found.note or None, "verb": meant[0] if meant else None})


async def edits(request: Request) -> Response:
    """Edit a clip, and answer with the sound: of one edit, or with all of them as JSON or zip."""
    studio = studio_of(request)
    kind, streamed = "wav", False

    def translated(fields: dict[str, str]) -> dict[str, str]:
        nonlocal kind, streamed
        kind = fields.pop("response_format", "") or "wav"
        streamed = value(fields, "stream", flag, False)
        _check(kind, streamed, fields)
        return {name: text for name, text in fields.items() if name not in ("stream", "user")}

    job = await submitted(request, translated)
    try:
        answer = _streamed if streamed else _whole
        return await unless_gone(answer(studio, job, kind), request.receive)
    except Gone:
        await _cancel(studio, job)
        return Response(status_code=499)


def _check(kind: str, streamed: bool, fields: dict[str, str]) -> None:
    if kind not in FORMATS:
        raise Refused(f"response_format: {kind!r:.60} must be one of {', '.join(FORMATS)}", "response_format")
    if kind not in ("json", "zip") and fields.get("n", "1").strip() not in ("", "1"):
        raise Refused(f"response_format: {kind} holds one edit; ask for json or zip, or for n=1", "response_format")
    if streamed and kind not in ("wav", "f32"):
        raise Refused(f"stream: {kind} can't be sent while it is made; ask for wav or f32", "stream")
    if streamed and value(fields, "from_input", flag, False):
        raise Refused("stream: from_input has no samples before its end; omit one of them", "stream")


async def _cancel(studio: Studio, job: Job) -> None:
    """Cancel the job of a client that left; not if the studio stops, which ends all connections itself."""
    if studio.watchers.closing:
        return
    await to_thread.run_sync(studio.queue.cancel, job)


async def _over(studio: Studio, job: Job, *, or_heard: bool = False) -> None:
    """Wait until a job is done, or until some of it can be heard. Raises Refused where it will not be."""
    with studio.watchers.watching(job.id) as event:
        while not job.final and not studio.watchers.closing and not (or_heard and job.ready):
            await changed(event, 5)
    if not job.final and not (or_heard and job.ready):
        raise Refused(f"the studio stops; job {job.id} goes on at its next start", kind="busy", status=503)
    if job.error is not None:
        status = 500 if job.error.type == "server_error" else 400
        raise Refused(job.error.message, job.error.param, job.error.type, status)
    if job.state == "canceled":
        raise Refused(f"job {job.id} was canceled", status=409)


async def _streamed(studio: Studio, job: Job, kind: str) -> Response:
    await _over(studio, job, or_heard=True)
    samples, head = job.input.samples, b""
    if kind == "wav":
        made = await to_thread.run_sync(record, studio.models.of(job), job, job.settings.seed)
        head = wav.header(samples, SAMPLE_RATE, tags=made.sized(samples).tags())

    async def parts() -> AsyncGenerator[bytes, None]:
        yield head
        async for part in sound.samples(studio.queue, studio.watchers, job, 1):
            yield part

    length = {"Content-Length": str(len(head) + 4 * samples)}
    return Stream(parts(), sound.MEDIA[kind], _headers(job) | length, left=lambda: _cancel(studio, job))


async def _whole(studio: Studio, job: Job, kind: str) -> Response:
    await _over(studio, job)
    if kind == "json":
        return await to_thread.run_sync(_as_json, studio, job)
    if kind == "f32":
        length = {"Content-Length": str(4 * job.input.samples)}
        return Stream(sound.samples(studio.queue, studio.watchers, job, 1), sound.MEDIA[kind], _headers(job) | length)
    if kind == "zip":
        found: Response = await to_thread.run_sync(sound.archive, studio.queue, job)
    else:
        found = await to_thread.run_sync(sound.finished, studio.queue, job, f"1.{kind}")
    found.headers.update(_headers(job))
    return found


def _headers(job: Job) -> dict[str, str]:
    return {"X-Job-Id": job.id, "X-Seed": str(job.settings.seed), "X-Sample-Rate": str(SAMPLE_RATE)}


def _as_json(studio: Studio, job: Job) -> Response:
    encoded, folder = Encoded(), studio.queue.store.path(job)
    with sound.files_of(studio.queue, job):
        data = [
            {
                "b64_audio": encoded.token(folder / f"{each.number}.wav"),
                "seed": each.seed,
                "score": each.score,
                "rank": each.rank,
            }
            for each in job.candidates
        ]
        return encoded.answer({"created": int(job.finished or time.time()), "data": data}, {"X-Job-Id": job.id})


async def separations(request: Request) -> Response:
    """Split a clip in what a description names and the rest, which add up to it."""
    studio = studio_of(request)

    def translated(fields: dict[str, str]) -> dict[str, str]:
        said = fields.pop("description", "") or fields.pop("prompt", "")
        if "prompt" in fields or not said.strip():
            raise Refused("description: name one instrument, for example drums", "description")
        vocabulary = studio.models.get(fields.get("model") or studio.models.first).bundle.config.instructions
        if instructions.meaning(said, vocabulary) is None:
            try:
                said = instructions.chosen("Only", instruments.checked(said), vocabulary).text
            except ValueError as e:
                raise Refused(f"description: {e}", "description") from e
        return {**fields, "prompt": said, "from_input": "true", "n": "1"}

    job = await submitted(request, translated)
    try:
        await unless_gone(_over(studio, job), request.receive)
    except Gone:
        await _cancel(studio, job)
        return Response(status_code=499)
    return await to_thread.run_sync(_separated, studio, job)


def _separated(studio: Studio, job: Job) -> Response:
    encoded, folder = Encoded(), studio.queue.store.path(job)
    with sound.files_of(studio.queue, job):
        target, residual = (encoded.token(folder / name) for name in ("1.wav", "1-residual.wav"))
        content = {"target": target, "residual": residual, "sample_rate": job.input.rate}
        return encoded.answer(content, {"X-Job-Id": job.id})


ROUTES = [
    Route("/v1/models", models, methods=["GET"]),
    Route("/v1/sentence", sentence, methods=["GET"]),
    Route("/v1/audio/edits", edits, methods=["POST"]),
    Route("/v1/audio/separations", separations, methods=["POST"]),
]
