"""Errors that a user can fix: shown as one line, without a traceback."""

from __future__ import annotations

import errno

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors of a disk that takes nothing more: every further file would meet them too."""


class UserError(Exception):
    """A file, name or value is wrong; the message names it and the fix. The command line exits with 1.

    The message is one line and printable whatever a file's names hold: line breaks become spaces, control characters
    (which a terminal would execute) question marks.
    """

    def __init__(self, message: object) -> None:
        lines = " ".join(str(message).splitlines())
        super().__init__("".join(c if c.isprintable() else "?" for c in lines))


class UsageError(UserError):
    """An argument is out of range or does not fit the others. The command line exits with 2."""
