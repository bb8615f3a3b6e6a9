"""The rows of a source, each with the place it came from and the split that it belongs to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from zephyr.errors import DataError
from zephyr.files import Unread
from zephyr.recipe import DataSource
from zephyr.records import Row
from zephyr.sources.contents import Part, parts_of


def rows(source: DataSource, *, whole: bool = False) -> Iterator[tuple[str, str | None, Row]]:
    """Every row as (where, split or None, row), columns renamed as the source says.

    Args:
        source: where they come from.
        whole: take the rows of all its splits, where they are no matter of training and test.

    Raises:
        DataError: a row or a file cannot be read, or the source has several splits for one purpose and none was chosen.
    """
    for where, split, row in located(source, whole=whole):
        if isinstance(row, Unread):
            raise DataError(f"{where}: {row.problem}")
        yield where, split, row


def located(source: DataSource, *, whole: bool = False) -> Iterator[tuple[str, str | None, Row | Unread]]:
    """As `rows`, but a row that cannot be read is given as what is wrong with it."""
    for part, split in divided(source, whole=whole):
        for where, row in part.read():
            yield where, split, row if isinstance(row, Unread) else rename(row, source.columns)


def divided(source: DataSource, *, whole: bool = False) -> list[tuple[Part, str | None]]:
    """The parts of a source that are read, in order, each with its split; None where that is not decided yet."""
    parts = parts_of(source)
    chosen = parts if whole else _chosen(source, parts)
    # the hub calls all that nobody has divided `train`: where there is nothing else, no split was named
    undivided = source.source_split is None and all(part.split != "test" and not part.settled for part in parts)
    return [(part, source.split or (None if undivided else part.split)) for part in chosen]


def _chosen(source: DataSource, parts: Sequence[Part]) -> list[Part]:
    """The parts that a source asks for.

    Raises:
        DataError: it has none of those, or several for one purpose and says not which.
    """
    splits = {part.name: part.split for part in parts if part.name is not None}
    if source.source_split is not None:
        if source.source_split not in splits:
            there = f"it has {', '.join(sorted(splits))}" if splits else "its rows name none"
            raise DataError(f"{source.path}: no split {source.source_split!r}; {there}")
        return [part for part in parts if part.name == source.source_split]
    wanted = [part for part in parts if not part.aside and (part.name is None or source.split in (None, part.split))]
    if source.split and not wanted:
        raise DataError(f"{source.path}: has no {source.split} rows; its splits are {', '.join(sorted(splits))}")
    for purpose in ("train", "test"):
        several = sorted({part.name for part in wanted if part.name is not None and part.split == purpose})
        if len(several) > 1:
            raise DataError(
                f"{source.path}: has {len(several)} splits that would be {purpose} rows, {', '.join(several)}; "
                f"choose one: {{path: {source.path}, source_split: {several[0]}, split: {purpose}}}"
            )
    return wanted


def rename(row: Row, columns: Mapping[str, str]) -> Row | Unread:
    """A row under our names for its columns (ours -> theirs), or what is missing for that."""
    if not columns:
        return row
    missing = [theirs for theirs in columns.values() if theirs not in row]
    if missing:
        return Unread(f"no column {missing[0]!r}; the row has {', '.join(map(repr, row))}", row)
    renamed = {ours: row[theirs] for ours, theirs in columns.items()}
    return {**{k: v for k, v in row.items() if k not in columns.values()}, **renamed}
