"""The rows of one file: JSONL, a JSON list, Parquet; the first two also under gzip and Zstandard.

Each comes with the place where it stood. What is wrong with one row is said of that row; what is wrong with the file, damage
in it or another encoding, is an error.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr.errors import DataError, UsageError
from zephyr.records import Row

JSONL, JSON_LIST = (".jsonl", ".jsonl.gz", ".jsonl.zst"), (".json", ".json.gz", ".json.zst")
SUFFIXES = (*JSONL, *JSON_LIST, ".parquet")
DAMAGED_GZIP = (gzip.BadGzipFile, EOFError, zlib.error)
READ_ROWS, READ_BYTES = 256, 1 << 20  # of Parquet at a time


@dataclass(frozen=True)
class Unread:
    """A row that cannot be read as one: what is wrong with it, and what there is of it."""

    problem: str
    row: Row


# the place and the content of every row
Read = Iterator[tuple[str, "Row | Unread"]]


def read(path: Path) -> Read:
    """Every row of a file, by its kind.

    Raises:
        DataError: the file is damaged, or not of the kind that its name says.
        UsageError: it is of no known kind.
    """
    name = path.name
    if name.endswith(JSONL):
        yield from _read_jsonl(path)
    elif name.endswith(JSON_LIST):
        yield from _read_json(path)
    elif name.endswith(".parquet"):
        yield from _read_parquet(path)
    else:
        raise UsageError(f"{path}: unknown kind of file; known are {', '.join(SUFFIXES)}")


def read_object(path: Path, *, other: str, unreadable: str = "") -> dict[str, Any]:
    """The one object that a JSON file is.

    Args:
        path: of the file.
        other: what to say where it holds something else.
        unreadable: what to do where it is not there, or is no JSON.

    Raises:
        DataError: it cannot be read, or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise DataError(f"{path}: not a readable JSON file ({error}){f'; {unreadable}' if unreadable else ''}") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: {other}")
    return value


def count(path: Path) -> int:
    """How many rows a file has; what they hold is not read where that is not needed for it.

    Raises:
        DataError: the file is damaged, or not of the kind that its name says.
        UsageError: it is of no known kind.
    """
    if path.name.endswith(JSONL):
        return sum(1 for _ in _lines(path))
    if path.name.endswith(".parquet"):
        return _in_parquet(path)
    return sum(1 for _ in read(path))


def _read_json(path: Path) -> Read:
    try:
        with open_text(path) as file:
            value = json.load(file, object_pairs_hook=_pairs)
    except (ValueError, RecursionError) as error:
        lines = "; one row a line belongs in a .jsonl file" if str(error).startswith("Extra data") else ""
        raise DataError(f"{path}: not valid JSON ({error}){lines}") from None
    except (*DAMAGED_GZIP, OSError) as error:
        raise damaged(path, error, "") from None
    if not isinstance(value, list):
        raise DataError(f"{path}: a JSON list of rows was expected, found {type(value).__name__}; one row a line belongs in a .jsonl file")
    for i, row in enumerate(value):
        yield f"{path}[{i}]", _object(row)


def _read_parquet(path: Path) -> Read:
    import pyarrow as pa
    import pyarrow.parquet as pq

    i = 0
    try:
        with pq.ParquetFile(path, buffer_size=READ_BYTES) as file:
            for batch in file.iter_batches(READ_ROWS):
                for row in batch.to_pylist():
                    yield f"{path}[{i}]", row
                    i += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # pyarrow says OSError of a damaged header
        raise DataError(f"{path}: not a readable Parquet file, after row {i} ({first_line(error)})") from None


def _in_parquet(path: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({first_line(error)})") from None


def first_line(error: Exception) -> str:
    """What an error of a library says, in one line."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def open_text(path: Path) -> Any:
    """A text file, as it is or under gzip or Zstandard, by its name."""
    encoding = "utf-8-sig"  # UTF-8, with or without the mark that some editors put in front
    if path.name.endswith(".gz"):
        return gzip.open(path, "rt", encoding=encoding)
    if path.name.endswith(".zst"):
        import pyarrow as pa

        return io.TextIOWrapper(pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"), encoding=encoding)
    return path.open(encoding=encoding)


def damaged(path: Path, error: Exception, after: str) -> Exception:
    """What to say of an error in unpacking; a file that the system does not give us is another matter, and is left as it is."""
    if isinstance(error, DAMAGED_GZIP):
        return DataError(f"{path}: a damaged gzip file{after} ({error})")
    if isinstance(error, OSError) and error.errno is None and path.name.endswith(".zst"):  # pyarrow's
        return DataError(f"{path}: a damaged Zstandard file{after} ({first_line(error)})")
    return error


def _read_jsonl(path: Path) -> Read:
    for number, line in _lines(path):
        yield f"{path}:{number}", parse_line(line)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of a file that are not empty, each with its number."""
    number = 0
    try:
        with open_text(path) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line
    except UnicodeDecodeError as error:
        raise DataError(f"{path}:{number + 1}: not UTF-8 text ({error.reason})") from None
    except (*DAMAGED_GZIP, OSError) as error:
        raise damaged(path, error, f" after line {number}") from None


def parse_line(line: str) -> Row | Unread:
    """The row that a line of JSONL is."""
    try:
        return _object(json.loads(line, object_pairs_hook=_pairs))
    except (ValueError, RecursionError) as error:
        return Unread(f"not valid JSON ({error})", {"line": line})


class _Repeating(dict[str, Any]):
    """An object of JSON in which a key is given twice: of the two, the last would win unseen."""


def _pairs(pairs: list[tuple[str, Any]]) -> Row:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _Repeating(found)


def _object(value: object) -> Row | Unread:
    if not isinstance(value, dict):
        return Unread(f"an object with named columns was expected, found {type(value).__name__}", {"value": value})
    waiting: list[object] = [value]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, _Repeating):
            return Unread(f"a key is given twice in an object with the keys {', '.join(map(repr, inner))}", value)
        waiting += inner.values() if isinstance(inner, dict) else inner if isinstance(inner, list) else ()
    return value
