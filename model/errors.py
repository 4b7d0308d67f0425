"""What a user can do something about: shown as one line, without a traceback."""

from __future__ import annotations


class UserError(Exception):
    """A file, name or value is wrong; the message names it and the fix. The command line exits with 1."""


class UsageError(UserError):
    """An argument is out of range or does not fit the others. The command line exits with 2."""
