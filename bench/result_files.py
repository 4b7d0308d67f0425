"""Results as `bench/results/<machine>-<commit>-<what>.json`: saving them, and reading only what is whole."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from model import whole_file
from model.errors import UserError

from .machine import environment
from .results import KINDS, SCHEMA, PytestResult, Result

Record = TypeVar("Record")


def folder() -> Path:
    """Return `bench/results` of the checkout, or of the working directory where there is no checkout."""
    inside = environment.ROOT / "pyproject.toml"
    return (environment.ROOT if inside.exists() else Path.cwd()) / "bench" / "results"


def origin() -> dict[str, Any]:
    """Return the fields of a new result that say where and when it was measured."""
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return {"created": now, "environment": environment.collect()}


def default_path(result: Result) -> Path:
    """Return the path that `--save` without a name writes: a file for each machine, commit, kind and model."""
    settings = getattr(result, "settings", None)
    name, bits = getattr(settings, "name", None), getattr(settings, "bits", None)
    what = "-".join(str(part) for part in (result.kind, name, bits and f"{bits}bit") if part).replace(" ", "-")
    return folder() / f"{result.environment.slug}-{result.environment.commit}-{what}.json"


def check_writable(path: str | Path | None = None) -> None:
    """Raise UserError if no file can be made where `save` would put one."""
    whole_file.check_writable(Path(path) if path else folder() / "result.json")


def save(result: Result, path: str | Path | None = None) -> Path:
    """Write a result whole or not at all, and return the file. Raises UserError if that fails."""
    target = Path(path) if path else default_path(result)
    whole_file.write_whole({target: dumps(result, indent=1) + "\n"})
    return target


def dumps(node: Any, indent: int | None = None) -> str:
    """Return JSON that every reader takes: NaN and infinities are text, "nan" or "inf"."""

    def plain(node: Any) -> Any:
        if isinstance(node, dict):
            return {name: plain(value) for name, value in node.items()}
        if isinstance(node, (list, tuple)):
            return [plain(value) for value in node]
        return str(node) if isinstance(node, float) and not math.isfinite(node) else node

    return json.dumps(plain(msgspec.to_builtins(node)), indent=indent)


def load(path: str | Path) -> Result | PytestResult:
    """Read a result of `bench` or of pytest-benchmark. Raises UserError if it is neither, or not complete."""
    try:
        found = msgspec.json.decode(Path(path).read_bytes())
    except OSError as e:
        raise UserError(f"cannot read {path}: {e.strerror or e}; check the path") from e
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise UserError(f"{path} is not JSON: {e}; give a file that `bench --save` wrote") from e
    if not isinstance(found, dict) or ("kind" not in found and "benchmarks" not in found):
        raise UserError(f"{path} is not a result of bench or pytest-benchmark; give a file that `bench --save` wrote")
    if "kind" in found and found.get("schema") != SCHEMA:
        raise UserError(f"{path} has schema {found.get('schema')!r}, this bench reads {SCHEMA}; measure again")
    with reports_damaged_files(path):
        return parse(found)


def parse(found: dict[str, Any]) -> Result | PytestResult:
    """Build the record of a decoded result. Raises msgspec.ValidationError, with the place, if a part does not fit."""
    if "kind" not in found:
        return convert(found, PytestResult)
    return convert(found, KINDS.get(found["kind"], Result) if isinstance(found["kind"], str) else Result)


def convert(found: Any, record: type[Record]) -> Record:
    """Build a record from decoded JSON. Raises msgspec.ValidationError, with the place, if a part does not fit."""
    return msgspec.convert(found, record)


@contextmanager
def reports_damaged_files(*files: str | Path) -> Iterator[None]:
    """Raise UserError if the block fails on a loaded result that was cut short, edited or made by other code."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ZeroDivisionError) as e:
        names = " or ".join(map(str, files))
        raise UserError(f"{names} is incomplete or damaged ({type(e).__name__}: {e}); measure again") from e
