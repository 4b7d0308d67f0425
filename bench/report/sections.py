"""The tables of a saved result, whatever its kind."""

from __future__ import annotations

from ..edit import tables as edit
from ..kernels import tables as kernels
from ..peers import table as peers
from ..records import EditResult, KernelsResult, PeersResult, PytestResult, Result
from ..tables import Table


def tables(result: Result | PytestResult) -> list[Table]:
    """Return a result's tables. Raises ValueError if it is of a kind that has none."""
    if isinstance(result, EditResult):
        return [edit.table(result), edit.memory_table(result)]
    if isinstance(result, PeersResult):
        return [peers.table(result)]
    if isinstance(result, KernelsResult):
        return kernels.tables_of(result)
    raise ValueError("a result of this kind has no tables")


def section(result: Result | PytestResult) -> str:
    """Return a result's tables in Markdown."""
    return "\n".join(table.markdown() for table in tables(result))
