"""Rows of benchmarks' own files: read with the place where each stands, refused by name where something is missing."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from zephyr import durable, files
from zephyr.errors import DataError, NonFiniteError, UsageError
from zephyr.records import Row


def rows(path: Path) -> Iterator[tuple[str, Row]]:
    """(place, row) of every row of a JSONL or JSON file, also under gzip.

    Raises:
        UsageError: there is no such file.
        DataError: a row that is not an object, or a damaged file.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    for where, row in files.read(path):
        if isinstance(row, files.Unread):
            raise DataError(f"{where}: {row.problem}")
        yield where, row


def text(where: str, row: Mapping[str, Any], key: str) -> str:
    """A column that must be a text (an empty one is one).

    Raises:
        DataError: it is not.
    """
    value = row.get(key)
    if not isinstance(value, str):
        raise DataError(f"{where}: `{key}` must be a text, found {type(value).__name__ if key in row else 'no such column'}")
    return value


def texts(where: str, value: object, what: str) -> tuple[str, ...]:
    """A list of texts, at least one.

    Raises:
        DataError: it is not.
    """
    if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
        raise DataError(f"{where}: {what} must be a list of texts")
    return tuple(value)


def is_number(value: object) -> bool:
    """Whether it is a finite number; JSON's true and false, and Python's NaN, are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def write_lines(path: Path, values: Iterable[Row]) -> None:
    """Rows as JSONL, as the originals write it (`json.dumps` of each); the whole file or none of it.

    Raises:
        NonFiniteError: a number that is NaN or infinite.
    """
    durable.write_text(path, "".join(dumped(path, value) + "\n" for value in values))


def write_list(path: Path, values: Iterable[Row]) -> None:
    """Rows as one JSON list, indented by two; the whole file or none of it.

    Raises:
        NonFiniteError: a number that is NaN or infinite.
    """
    durable.write_text(path, dumped(path, list(values), indent=2, ensure_ascii=False) + "\n")


def dumped(path: Path, value: Any, **how: Any) -> str:
    """A value as JSON, which knows neither NaN nor infinity; `how` goes to `json.dumps`.

    Raises:
        NonFiniteError: naming the file that such a number was to go into.
    """
    try:
        return json.dumps(value, allow_nan=False, **how)
    except ValueError as error:
        if "JSON compliant" not in str(error):
            raise
        raise NonFiniteError(f"{path}: not written: a number in it is NaN or infinite, which is no result") from None
