"""Columns of a table, each in a process of its own, measured in turn: peak memory is each one's own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Generic, Protocol, TypeVar

from model.errors import UserError

from .. import result_files
from .child import Child


class Column(Protocol):
    """A record of a column, with the rounds that it measured."""

    label: str
    rounds: list[Any]


Record = TypeVar("Record", bound=Column)


class Turns(ExitStack, Generic[Record]):
    """The columns of a run, each in a child process that ends with the `with` block."""

    def __init__(self, column: type[Record], round_: Any) -> None:
        """Take the types of the records: `column` of the answer to "load", `round_` of a round."""
        super().__init__()
        self._column, self._round = column, round_
        self._children: list[Child] = []
        self.columns: list[Record] = []

    def start(self, child: Child, make: str, settings: dict[str, Any], left_out: dict[str, str] | None = None) -> None:
        """Load a column.

        With `left_out` also run a round to warm up; a column after the first that fails then is left out, and
        `left_out` gets the reason under its name. Raises UserError if any other fails.
        """
        self.enter_context(child)
        try:
            record = child.ask("load", make=make, settings=settings)
            if left_out is not None:
                child.ask("round")
        except UserError as e:
            if left_out is None or not self.columns:
                raise
            left_out[child.label] = str(e)
            return
        self.columns.append(result_files.convert({**record, "label": child.label}, self._column))
        self._children.append(child)

    def round(self, number: int, advance: Callable[[], object] = lambda: None) -> None:
        """Ask each column for a round, in the opposite order of the round before, so that a drift affects all alike."""
        for child, column in list(zip(self._children, self.columns))[:: 1 if number % 2 == 0 else -1]:
            column.rounds.append(result_files.convert(child.ask("round"), self._round))
            advance()
