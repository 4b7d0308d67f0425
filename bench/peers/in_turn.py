"""The columns of the products' table, each in a process of its own, in turn."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from model.errors import UserError

from .. import results
from ..processes.child import Child
from ..records import ProductColumn
from . import products

CALLS = 5
"""Calls of a round, each over all copies of the matrix."""


def measured_products(
    matrix: tuple[int, int], rows: list[int], backend: str, repeat: int, left_out: dict[str, str]
) -> list[ProductColumn]:
    """Measure a matrix [n, k] by each number of rows; `left_out` is told which columns are missing and why."""
    n, k = matrix
    if k % products.GROUP:
        left_out["the product"] = f"the matrix has {k} columns, no multiple of {products.GROUP}"
        return []
    asked = {"n": n, "k": k, "rows": rows, "calls": CALLS}
    wanted: list[tuple[str, str, dict[str, Any]]] = [("ours", "ours", {"backend": backend})]
    if reason := products.unavailable():
        left_out["onnxruntime"] = reason
    else:
        wanted += [(f"onnxruntime, {kind}", "onnxruntime", {"activations": kind}) for kind in products.LEVELS]
    columns, children = [], []
    with ExitStack() as stack:
        for label, make, own in wanted:
            child = stack.enter_context(Child(label))
            try:
                record = child.ask("load", make=f"bench.peers.products:{make}", settings=asked | own)
                child.ask("round")  # warm-up
            except UserError as e:
                if make == "ours":
                    raise
                left_out[label] = str(e)
                continue
            columns.append(results.convert({"label": label, **record}, ProductColumn))
            children.append(child)
        for turn in range(repeat):
            for child, column in list(zip(children, columns))[:: 1 if turn % 2 == 0 else -1]:
                column.rounds.append(child.ask("round"))
    return columns
