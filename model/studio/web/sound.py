"""What can be heard of a job: samples while they are made, finished files, and all of them in a zip."""

from __future__ import annotations

import json
import threading
import zipfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import BinaryIO

import soundfile
from anyio import to_thread
from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response
from starlette.types import Message, Receive, Scope, Send

from ... import audio, whole_file
from ...config import SAMPLE_RATE
from ...errors import UserError
from ...from_input import original as originals
from ...from_input.split import encoded, suffix_bits
from ...results import edit_record as records
from ..errors import Refused, no_room, not_found
from ..job_queue import LOG, JobQueue
from ..jobs import Job
from .answers import error
from .streams import Stream
from .watchers import Watchers, changed

BLOCK = 1 << 16
MEDIA = {"wav": "audio/wav", "flac": "audio/flac", "f32": "application/octet-stream"}
_making = threading.Lock()


def finished(queue: JobQueue, job: Job, name: str) -> Response:
    """Return a file of a job by its name in the job's own table. Raises Refused for other names."""
    table = {"input.wav": ("input.wav", f"{stem(job)}-input.wav")}
    if job.state == "done":
        for each in job.candidates:
            base = f"{stem(job)}-{each.number}"
            table[f"{each.number}.wav"] = (f"{each.number}.wav", f"{base}.wav")
            table[f"{each.number}.flac"] = (f"{each.number}.flac", f"{base}.flac")
            if each.residual:
                table[f"{each.number}-residual.wav"] = (f"{each.number}-residual.wav", f"{base}-residual.wav")
    if name not in table:
        raise not_found(f"job {job.id} has no {name[:60]!r}" + ("" if job.final else "; it is not done"))
    own, offered = table[name]
    path = queue.store.path(job) / own
    if path.suffix == ".flac":
        with files_of(queue, job):
            flac(path)
    return _file(path, MEDIA[path.suffix[1:]], offered, job)


class File(FileResponse):
    """A file, or a part of it; a range that can't be is refused as everything is."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        refused: Message | None = None

        async def sent(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and message["status"] >= 400:
                refused = message
            elif refused is None:
                await send(message)

        await super().__call__(scope, receive, sent)
        if refused is not None:
            found = Headers(raw=refused["headers"]).get("content-range", "")
            answer = error(refused["status"], "Range: is none of this file's", "invalid_request_error")
            answer.headers.update({"Content-Range": found} if found else {})
            await answer(scope, receive, send)


def _file(path: Path, kind: str, offered: str, job: Job) -> File:
    try:
        found = path.stat()
    except FileNotFoundError:
        raise not_found(f"job {job.id}: {path.name} is gone from the disk") from None
    return File(path, media_type=kind, filename=offered, headers={"Cache-Control": "no-cache"}, stat_result=found)


@contextmanager
def files_of(queue: JobQueue, job: Job) -> Iterator[None]:
    """Read and write a job's own files, which a client can delete meanwhile.

    Raises Refused where they are gone, where the disk refuses (the log says which file), and what the block refuses.
    """
    try:
        yield
    except Refused:
        raise
    except (UserError, OSError, soundfile.LibsndfileError) as e:
        if full := no_room(e):
            raise full from e
        queue.get(job.id)
        missing = isinstance(e, FileNotFoundError) or isinstance(e.__cause__, FileNotFoundError)
        if missing or not queue.store.whole(job):
            raise not_found(f"job {job.id}: its files are gone from the disk") from e
        LOG.error("job %s: %s", job.id, e)
        message = f"job {job.id}: its files cannot be read; the studio's terminal shows why"
        raise Refused(message, kind="server_error", status=500) from e


def flac(path: Path) -> None:
    """Make a candidate's FLAC of its WAV, once. Raises Refused where FLAC can't hold it."""
    with _making:
        if path.is_file():
            return
        wav, name = path.with_suffix(".wav"), Path(path.name)
        made = records.read(wav)
        if made.options.get("from_input"):
            _, kept = originals.load(wav)
            try:
                data = encoded(name, kept.as_bits(suffix_bits(name, kept)), made.tags())
            except UserError as e:
                raise Refused(f"{name}: {e}") from e
        else:
            samples = soundfile.read(wav, dtype="float32")[0]
            try:
                data = audio.encoded(name, samples, SAMPLE_RATE, tags=made.tags())[0]
            except UserError as e:
                raise Refused(str(e)) from e
        whole_file.write_whole({path: data}, make_folders=False)


def archive(queue: JobQueue, job: Job) -> File:
    """Return a zip of a finished job: its candidates, its input and edits.json, which says how they were made."""
    if job.state != "done":
        raise not_found(f"job {job.id} has no files.zip; it is {job.state}")
    path = queue.store.path(job) / "files.zip"
    with _making, files_of(queue, job):
        if not path.is_file() and queue.store.whole(job):
            whole_file.write_with(path, partial(_zip, queue, job))
    return _file(path, "application/zip", f"{stem(job)}.zip", job)


def _zip(queue: JobQueue, job: Job, file: BinaryIO) -> None:
    folder = queue.store.path(job)
    names = ["input.wav", *(f"{each.number}.wav" for each in job.candidates)]
    names += [f"{each.number}-residual.wav" for each in job.candidates if each.residual]
    view = queue.view(job.id)
    view["made"] = [asdict(records.read(folder / f"{each.number}.wav")) for each in job.candidates]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as packed:
        for name in names:
            packed.write(folder / name, name)
        packed.writestr("edits.json", json.dumps(view, indent=1) + "\n")


def stem(job: Job) -> str:
    """Return the input's name without its extension."""
    return job.input.name.rpartition(".")[0] or job.input.name


def live(queue: JobQueue, watchers: Watchers, job: Job, number: int) -> Response:
    """Return a candidate's samples from the start, as they are made. Raises Refused where there are none to come."""
    if job.candidate(number) is None or job.settings.from_input:
        raise not_found(f"job {job.id} has no samples of candidate {number} while it is made")
    headers = {"X-Sample-Rate": str(SAMPLE_RATE), "Cache-Control": "no-store"}
    return Stream(samples(queue, watchers, job, number), MEDIA["f32"], headers)


async def samples(queue: JobQueue, watchers: Watchers, job: Job, number: int) -> AsyncGenerator[bytes, None]:
    """Yield a candidate's samples, float32 little-endian, until the last one is made or the job ends without it."""
    growing = queue.store.path(job) / f"{number}.f32"
    whole = growing.with_suffix(".wav")
    file: BinaryIO | None = None
    try:
        with watchers.watching(job.id) as event:
            while not watchers.closing:
                over = job.final  # asked before reading, so that nothing comes after the last read
                if file is None:
                    file = await to_thread.run_sync(_opened, growing, whole, job)
                part = await to_thread.run_sync(file.read, BLOCK) if file else b""
                if part:
                    yield part
                elif over:
                    return
                else:
                    await changed(event, 5)
    finally:
        if file is not None:
            file.close()


def _opened(growing: Path, whole: Path, job: Job) -> BinaryIO | None:
    """Open what there is of a candidate's samples: the file that grows, or the finished one behind its header."""
    try:
        return open(growing, "rb")
    except FileNotFoundError:
        pass
    try:
        file = open(whole, "rb")  # noqa: SIM115 - the caller closes it
    except FileNotFoundError:
        return None
    file.seek(-4 * job.input.samples, 2)
    return file
