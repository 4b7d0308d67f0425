"""What the studio does not do, and why: an error that becomes a JSON answer."""

from __future__ import annotations

from typing import Literal

from ..errors import NO_ROOM, UserError

Kind = Literal["invalid_request_error", "not_found", "busy", "forbidden", "server_error"]


class Refused(UserError):
    """A request is not served; `param` names the field that is at fault, `status` the HTTP status."""

    def __init__(
        self, message: object, param: str | None = None, kind: Kind = "invalid_request_error", status: int = 400,
        retry_after: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.param, self.kind, self.status, self.retry_after = param, kind, status, retry_after


def no_room(error: BaseException) -> Refused | None:
    """Return what says that the disk took no more, if that is why an error was raised; the path is not for clients."""
    for each in (error, error.__cause__):
        if isinstance(each, OSError) and each.errno in NO_ROOM:
            message = f"the studio's disk takes no more ({each.strerror}); delete old edits"
            return Refused(message, kind="server_error", status=507)
    return None


def not_found(what: str) -> Refused:
    """Return what says that something is not here."""
    return Refused(what, kind="not_found", status=404)


def busy(message: str, seconds: float) -> Refused:
    """Return what says to come back in so many seconds."""
    return Refused(message, kind="busy", status=429, retry_after=max(1, min(600, round(seconds))))
