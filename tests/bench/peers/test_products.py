"""The products of `bench peers`: every column multiplies the same matrix, and the table shows what was measured."""

from __future__ import annotations

import msgspec
import pytest

from bench import result_files
from bench.peers import products
from bench.peers.table import tables_of
from bench.results import OURS, SCHEMA
from model.errors import UserError

from ..test_printed import ratio, same


@pytest.mark.slow
def test_the_table_is_made_of_the_samples() -> None:
    def rounds(*times: float) -> list[dict[str, list[float]]]:
        return [{"1": [t, t, 9.0], "4": [2 * t, 2 * t, 9.0]} for t in times]

    columns = [
        {
            "label": "ours",
            "rounds": rounds(0.1, 0.2, 0.3),
            "errors": {"1": 2e-5, "4": 3e-5},
            "ran_on": "x",
            "copies": 7,
        },
        {"label": "other", "rounds": rounds(0.4, 0.4, 0.9), "errors": {"1": 6e-3, "4": 7e-3}, "versions": {"o": "1.2"}},
    ]
    result = {
        "kind": "peers",
        "schema": SCHEMA,
        "environment": msgspec.to_builtins(result_files.origin()["environment"]),
        "settings": {"name": "n", "rows": 2, "start": 5, "text": 3, "repeat": 3, "steps": 3, "product": [48, 32]},
        "columns": [{"label": OURS, "rounds": [{"step_seconds": [1.0]}]}],
        "products": columns,
    }
    _, table = tables_of(result_files.parse(result))
    assert [row[0] for row in table.rows] == ["1 row, ours", "1 row, other", "4 rows, ours", "4 rows, other"]
    assert [row[4] for row in table.rows] == ["2.0e-05", "6.0e-03", "3.0e-05", "7.0e-03"]
    assert table.rows[1][1] == "o 1.2" and "48 x 32" in table.title
    same(table.rows[0][2], 0.2)
    same(table.rows[3][2], 0.8)
    ratio(table.rows[1][3], [4.0, 2.0, 3.0])
    assert any("7 copies" in note for note in table.notes)


@pytest.mark.slow
@pytest.mark.parametrize("make", ["ours", "onnxruntime"])
def test_a_product_of_a_peer_is_the_matrix_times_the_rows(make: str) -> None:
    if make == "ours":
        column, about = products.ours(96, 128, [1, 3], 2, backend="reference")
    else:
        column, about = products.onnxruntime(96, 128, [1, 3], 2, activations="float32")
    assert set(about["errors"]) == {"1", "3"} and all(error < 1e-5 for error in about["errors"].values())
    assert column.copies == about["copies"] > 1  # more of them than the cache holds
    seconds = column.round()
    assert {m: len(each) for m, each in seconds.items()} == {"1": 2, "3": 2}
    assert all(s > 0 for each in seconds.values() for s in each)


@pytest.mark.parametrize("rows", ["", "1,x", "0", "1,2000"])
def test_rows_that_are_none_are_refused(rows: str) -> None:
    with pytest.raises(UserError, match="is not a list of numbers from 1 to 1024"):
        products.check_rows(rows)
