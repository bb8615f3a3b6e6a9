"""The data in pieces that can be read by themselves: stretches of a JSONL file, row groups of a Parquet file.

What cannot be read from the middle (a compressed file, a data set of the hub) is written out as plain JSONL first.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zephyr import files, sources
from zephyr.curation.keep import keep
from zephyr.errors import DataError
from zephyr.files import DAMAGED_GZIP, READ_BYTES, READ_ROWS, Unread, first_line
from zephyr.recipe import DataSource
from zephyr.records import Row
from zephyr.sources import Part

PIECE_BYTES = 8 << 20


@dataclass(frozen=True)
class Piece:
    """Some of the rows of a part of a source.

    Attributes:
        part: the number of the part, over all sources; rows are in the order of the parts.
        source: the number of the source.
        kind: `lines` of JSONL; `groups`, row groups of Parquet; `rows`, all of a JSON list.
        path: the file.
        begin, end: bytes of a JSONL file (the lines that begin there), or row groups.
        first: for groups, the number of the first row.
        label: what the place of a row begins with.
        numbered: lines are counted from 1 as `file:7`, rows from 0 as `file[6]`.
        split: train, test, or None where a hash decides.
        size: bytes, about.
    """

    part: int
    source: int
    kind: str
    path: str
    begin: int
    end: int
    first: int
    label: str
    numbered: bool
    split: str | None
    size: int

    def json(self) -> dict[str, Any]:
        """As it is handed to a process."""
        return asdict(self)


def pieces(data: Sequence[DataSource], scratch: Path, piece_bytes: int = PIECE_BYTES) -> list[Piece]:
    """All of the data, in order.

    Args:
        data: the sources.
        scratch: a folder for what has to be written out first.
        piece_bytes: how large a piece is, about; it changes nothing in what comes out.

    Raises:
        DataError: a source is damaged, or does not say which of its splits is meant.
    """
    found: list[Piece] = []
    number = itertools.count()
    for i, source in enumerate(data):
        for part, split in sources.divided(source):
            found += _of_part(part, next(number), i, split, scratch, piece_bytes)
    return found


def _of_part(part: Part, number: int, source: int, split: str | None, scratch: Path, piece_bytes: int) -> Iterator[Piece]:
    common: dict[str, Any] = {"part": number, "source": source, "split": split}
    first = 0
    for path in part.files:
        label = part.label or str(path)
        if path.name.endswith(".parquet"):
            for begin, end, rows, size in _row_groups(path, piece_bytes):
                yield Piece(
                    kind="groups", path=str(path), begin=begin, end=end, first=first, label=label, numbered=False, size=size, **common
                )
                first += rows
        elif path.name.endswith(files.JSON_LIST):
            yield Piece(
                kind="rows", path=str(path), begin=0, end=0, first=0, label=label, numbered=False, size=path.stat().st_size, **common
            )
        elif path.name.endswith(".jsonl"):
            yield from _stretches(path, label, True, piece_bytes, common)
        else:
            yield from _stretches(_unpacked(path, scratch / f"{number}.jsonl"), label, True, piece_bytes, common)
    if not part.files:
        yield from _stretches(_written_out(part, scratch / f"{number}.jsonl"), part.label, False, piece_bytes, common)


def _stretches(path: Path, label: str, numbered: bool, piece_bytes: int, common: dict[str, Any]) -> Iterator[Piece]:
    size = path.stat().st_size
    for begin in range(0, size, piece_bytes):
        end = min(begin + piece_bytes, size)
        yield Piece(kind="lines", path=str(path), begin=begin, end=end, first=0, label=label, numbered=numbered, size=end - begin, **common)


def _row_groups(path: Path, piece_bytes: int) -> Iterator[tuple[int, int, int, int]]:
    """(first, last + 1, rows, bytes) of row groups that are read together."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        about = pq.read_metadata(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file, after row 0 ({first_line(error)})") from None
    begin = rows = size = 0
    for i in range(about.num_row_groups):
        group = about.row_group(i)
        rows, size = rows + group.num_rows, size + group.total_byte_size
        if size >= piece_bytes or i + 1 == about.num_row_groups:
            yield begin, i + 1, rows, size
            begin, rows, size = i + 1, 0, 0


def _unpacked(path: Path, to: Path) -> Path:
    """A compressed file as it is inside."""
    if not to.exists():
        with keep(to) as aside, aside.open("w", encoding="utf-8", newline="") as out:
            number = 0
            try:
                with files.open_text(path) as file:
                    for line in file:
                        out.write(line)
                        number += 1
            except UnicodeDecodeError as error:
                raise DataError(f"{path}:{number + 1}: not UTF-8 text ({error.reason})") from None
            except (*DAMAGED_GZIP, OSError) as error:
                raise files.damaged(path, error, f" after line {number}") from None
    return to


def _written_out(part: Part, to: Path) -> Path:
    """Rows that are in no file that we read, a line each."""
    if not to.exists():
        with keep(to) as aside, aside.open("w", encoding="ascii") as out:
            for _, row in part.read():
                # what a data set may hold beside texts and numbers is no matter of dialogues
                out.write(json.dumps(row.row if isinstance(row, Unread) else row, default=repr) + "\n")
    return to


# --- reading ---------------------------------------------------------------------------------------------------


def read(piece: Piece, wanted: Collection[int] | None = None) -> Iterator[tuple[int, Row | Unread]]:
    """The rows of a piece, each with its place in it: the number of its line, or of the row, from 0.

    Args:
        piece: what to read.
        wanted: the places to read alone; the others are passed over, unparsed.

    Raises:
        DataError: the file is damaged.
    """
    return {"lines": _read_lines, "groups": _read_groups, "rows": _read_rows}[piece.kind](piece, wanted)


def count_lines(piece: Piece) -> int:
    """How many places a piece has: by so many the places of the next one are ahead of its own. 0 where they are counted otherwise."""
    if piece.kind != "lines":
        return 0
    return sum(1 for _ in _raw_lines(piece))


def _raw_lines(piece: Piece) -> Iterator[bytes]:
    with Path(piece.path).open("rb", buffering=1 << 20) as file:
        at = piece.begin
        if at:
            file.seek(at - 1)
            at += len(file.readline()) - 1
        while at < piece.end:
            line = file.readline()
            if not line:
                return
            at += len(line)
            yield line


def _read_lines(piece: Piece, wanted: Collection[int] | None) -> Iterator[tuple[int, Row | Unread]]:
    for place, raw in enumerate(_raw_lines(piece)):
        if wanted is not None and place not in wanted:
            continue
        try:
            line = raw.decode("utf-8-sig" if place == 0 and not piece.begin else "utf-8")
        except UnicodeDecodeError as error:
            number = place + 1 + _lines_before(piece)
            raise DataError(f"{piece.label}:{number}: not UTF-8 text ({error.reason})") from None
        if line.strip():
            yield place, files.parse_line(line)


def _lines_before(piece: Piece) -> int:
    """How many lines of the file begin before the piece does."""
    with Path(piece.path).open("rb") as file:
        lines, left = 0, piece.begin
        while left > 0 and (block := file.read(min(left, 1 << 20))):
            lines, left = lines + block.count(b"\n"), left - len(block)
            ended = block.endswith(b"\n")
    return lines + (0 if not piece.begin or ended else 1)


def _read_groups(piece: Piece, wanted: Collection[int] | None) -> Iterator[tuple[int, Row | Unread]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    place = 0
    try:
        with pq.ParquetFile(piece.path, buffer_size=READ_BYTES) as file:
            for batch in file.iter_batches(READ_ROWS, row_groups=list(range(piece.begin, piece.end)), use_threads=False):
                taken = [i for i in range(batch.num_rows) if wanted is None or place + i in wanted]
                rows = (batch if len(taken) == batch.num_rows else batch.take(pa.array(taken, pa.int64()))).to_pylist()
                yield from ((place + i, row) for i, row in zip(taken, rows, strict=True))
                place += batch.num_rows
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{piece.path}: not a readable Parquet file, after row {piece.first + place} ({first_line(error)})") from None


def _read_rows(piece: Piece, wanted: Collection[int] | None) -> Iterator[tuple[int, Row | Unread]]:
    for place, (_, row) in enumerate(files.read(Path(piece.path))):
        if wanted is None or place in wanted:
            yield place, row


def where(piece: Piece, place: int, before: int) -> str:
    """The place of a row, as a user looks for it.

    Args:
        piece: where it is.
        place: its place there.
        before: the lines of the same part in earlier pieces.
    """
    if piece.numbered:
        return f"{piece.label}:{place + before + 1}"
    return f"{piece.label}[{place + before + piece.first}]"
