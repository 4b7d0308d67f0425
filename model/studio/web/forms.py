"""Forms with an uploaded file: read as they come, onto the disk, within bounds of bytes, parts and time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from ..errors import Refused
from ..limits import Limits

FIELDS, FIELD_BYTES, HEAD_BYTES = 24, 16 << 10, 64 << 10
OVERHEAD = 64 << 10
"""Bytes that a body may have beyond the file that it holds."""
DRAINED = 4 << 20
"""Bytes of a refused body that are still read, so that a client that first sends all of it hears why."""


class _Parser(MultiPartParser):
    """Starlette's parser, with two differences.

    A part's headers are bounded, which older parsers below it lack; and files go to a folder of the studio's own, not
    to the system's, which may be small, or memory.
    """

    folder: Path

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._bound(end - start)
        super().on_header_field(data, start, end)

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._bound(end - start)
        super().on_header_value(data, start, end)

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        if upload := self._current_part.file:
            upload.file.close()
            file = SpooledTemporaryFile(self.spool_max_size, dir=str(self.folder))  # noqa: SIM115 - `form` closes it
            upload.file = cast(BinaryIO, file)
            self._files_to_close_on_error.append(file)

    def _bound(self, more: int) -> None:
        self._head_bytes = getattr(self, "_head_bytes", 0) + more
        if self._head_bytes > HEAD_BYTES:
            raise MultiPartException("Its parts' headers are too large.")


@dataclass
class Form:
    """The fields, and the file if there is one."""

    fields: dict[str, str]
    file: UploadFile | None


@asynccontextmanager
async def form(request: Request, limits: Limits, folder: Path) -> AsyncIterator[Form]:
    """Read a multipart form; its file, kept in `folder`, is closed and gone when the block ends. Raises Refused."""
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "multipart/form-data":
        raise Refused(f"send multipart/form-data, not {kind[:60] or 'a body without a type'}", status=415)
    if parse_options_header(kind)[1].get(b"charset", b"utf-8").lower() not in (b"utf-8", b"utf8"):
        raise Refused("the form must be in UTF-8; omit charset from its type", status=415)
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limits.upload_bytes + OVERHEAD:
        raise too_large(limits)
    parser = _Parser(
        request.headers, body(request, limits.upload_bytes + OVERHEAD, limits), max_files=1, max_fields=FIELDS,
        max_part_size=FIELD_BYTES,
    )  # fmt: skip
    parser.folder = folder
    try:
        data = await parser.parse()
    except MultiPartException as e:
        raise Refused(f"the form cannot be read: {e.message}") from e
    except ClientDisconnect:
        raise
    except OSError as e:
        message = f"the upload cannot be kept ({e.strerror or e}); free some room on the disk"
        raise Refused(message, "file", "server_error", 507) from e
    try:
        yield _form(data, limits)
    finally:
        await data.close()


def _form(data: FormData, limits: Limits) -> Form:
    found = Form({}, None)
    for name, value in data.multi_items():
        if isinstance(value, UploadFile):
            if name != "file":
                raise Refused(f"the file must be in the field file, not {name!r:.60}", name[:60])
            if (value.size or 0) > limits.upload_bytes:
                raise too_large(limits)
            found.file = value
        elif name == "file":
            raise Refused("file: has no file name; send it as a file", "file")
        elif name in found.fields:
            raise Refused(f"{name!r:.60} is given twice; send it once", name[:60])
        else:
            found.fields[name] = value
    return found


async def body(request: Request, most: int, limits: Limits) -> AsyncGenerator[bytes, None]:
    """Yield a request's body. Raises Refused where it is longer than `most` bytes, or does not come."""
    end = time.monotonic() + limits.upload_seconds
    total = 0
    while True:
        wait = min(limits.silent_seconds, end - time.monotonic())
        try:
            message = await asyncio.wait_for(request.receive(), max(wait, 0))
        except asyncio.TimeoutError:
            raise Refused(
                f"the upload took {limits.upload_seconds:g} s, or stopped for {limits.silent_seconds:g} s; send it "
                "again over a faster connection, or a shorter clip", "file", status=408,
            ) from None  # fmt: skip
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        request.state.body_is_over = not message.get("more_body", False)
        part = message.get("body", b"")
        total += len(part)
        if total > most:
            raise too_large(limits)
        if part:
            yield part
        if request.state.body_is_over:
            return


async def drain(request: Request, limits: Limits) -> None:
    """Read what is left of a body that nobody wants, if it is little."""

    if getattr(request.state, "body_is_over", False):
        return

    async def rest() -> None:
        async for _ in body(request, DRAINED, limits):
            pass

    with suppress(Refused, ClientDisconnect, asyncio.TimeoutError):
        await asyncio.wait_for(rest(), 2)


def too_large(limits: Limits) -> Refused:
    """Return what says that an upload has too many bytes."""
    return Refused(
        f"file: has more than {limits.upload_bytes >> 20} MB; cut it, or convert it to FLAC", "file", status=413
    )
