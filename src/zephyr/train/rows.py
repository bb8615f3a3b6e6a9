"""Which dialogues are learnt, found without holding any: what is remembered of a row is a byte, and a few hashes in a database.

The rules are those of `sources.collect`, for rows that a stage has checked before and that need not be drawn apart: a bad row is an
error, one that is there twice in a split is kept once, and no prompt is in both splits.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any

from zephyr import sources
from zephyr.artifacts import Draft
from zephyr.errors import DataError
from zephyr.files import Unread
from zephyr.hashes import canonical
from zephyr.recipe import DataSource
from zephyr.records import Dialogue, Row, content_id, parse_dialogue
from zephyr.sources import Located

SKIPPED, TRAIN, TEST, IN_TEST_TOO = range(4)  # what becomes of a row
SPLITS = {TRAIN: "train", TEST: "test"}

_TABLE = """
PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -4000; PRAGMA temp_store = FILE;
CREATE TABLE kept (
    number INTEGER PRIMARY KEY, split INT, drawn INT, place TEXT, identity BLOB, prompt_id BLOB, words BLOB, prompt BLOB, whole BLOB
);
CREATE INDEX by_identity ON kept (identity);
CREATE INDEX by_prompt_id ON kept (prompt_id);
"""
# a train row and the first test row of the same prompt: the same by its id, or in the same words
_TWINS = """
CREATE TEMP TABLE tested AS
    SELECT prompt_id AS name, place, number FROM kept WHERE split = 2 UNION ALL SELECT words, place, number FROM kept WHERE split = 2;
CREATE INDEX by_name ON tested (name, number);
CREATE TEMP TABLE twins AS
    SELECT number, drawn, place, words, coalesce(
        (SELECT place FROM tested WHERE name = prompt_id ORDER BY number LIMIT 1),
        (SELECT place FROM tested WHERE name = words ORDER BY number LIMIT 1)
    ) AS twin FROM kept WHERE split = 1 AND twin IS NOT NULL;
"""


def survey(data: Sequence[DataSource], out: Draft) -> bytes:
    """What becomes of each row of the sources, a byte each: `SKIPPED`, `TRAIN`, `TEST`, `IN_TEST_TOO`.

    Args:
        data: the sources, in order.
        out: the artifact being made; it counts the rows and keeps those that are there twice.

    Raises:
        DataError: naming the first bad row and how many there are.
    """
    found = _Survey(out)
    try:
        sources.gather(data, parse_dialogue, out, found, test_fraction=0.0)
        return found.checked(sources.names_of(data))
    finally:
        found.close()


def each(data: Sequence[DataSource], fates: bytes) -> Iterator[tuple[int, Located[Dialogue]]]:
    """The rows that are not skipped, in order, and what becomes of each."""
    number = 0
    for source in data:
        for where, _, row in sources.rows(source):
            if number < len(fates) and (fate := fates[number]) != SKIPPED:
                yield fate, Located(where, parse_dialogue(row))
            number += 1
    if number != len(fates):
        raise DataError(f"{sources.names_of(data)}: had {len(fates)} rows at first and {number} now; start again when nobody writes there")


class _Survey:
    """Rows as they come. The database has no name, and sqlite keeps on disk what is more than a few megabytes of it."""

    def __init__(self, out: Draft) -> None:
        self._out = out
        self._fates = bytearray()
        self._bad: list[tuple[str, str]] = []  # the first
        self._bad_rows = 0
        self._kept = sqlite3.connect("", isolation_level=None)
        self._kept.executescript(_TABLE)
        self._kept.execute("BEGIN")

    def close(self) -> None:
        """Forget them."""
        self._kept.close()

    def refuse(self, where: str, unread: Unread) -> None:
        """A row that cannot be used."""
        self._bad = self._bad or [(where, unread.problem)]
        self._bad_rows += 1

    def add(self, split: str, where: str, record: Dialogue, row: Row, *, drawn: bool) -> None:
        """A dialogue, unless it was there before. What is in the other split, `_draw_apart` settles."""
        fate = TEST if split == "test" else TRAIN
        identity, prompt_id, prompt, whole = map(_hash, (record.identity, record.prompt_id, record.prompt, canonical(_own(record))))
        first = self._one("place, prompt, whole FROM kept WHERE identity = ? AND split = ?", identity, fate)
        for name, value in (("identity", identity), ("prompt_id", prompt_id)):
            earlier = self._one(f"place, prompt, whole FROM kept WHERE {name} = ? ORDER BY number LIMIT 1", value)
            if earlier and earlier[1] != prompt:
                first = earlier  # one id, two prompts
        if first is None:
            number = self._out.manifest.rows_in - 1
            words = _hash(content_id(record.prompt))
            values = (number, fate, drawn, where, identity, prompt_id, words, prompt, whole)
            self._kept.execute("INSERT INTO kept VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
            self._settle(number, fate)
        elif first[2] != whole and (row.get("prompt_id") or first[1] != prompt):
            self.refuse(where, Unread(f"the id {record.prompt_id[:16]} repeats with different content (first at {first[0]})", row))
        else:
            if not drawn:  # the first was given, too
                self._kept.execute("UPDATE kept SET drawn = 0 WHERE identity = ? AND split = ?", (identity, fate))
            what = "prompt" if record.identity == record.prompt_id else "texts"
            self._out.drop("duplicate of an earlier row" if first[2] == whole else f"same {what} as an earlier row", where, row)

    def checked(self, names: str) -> bytes:
        """What becomes of each row, once it is sure that none is missing without having been asked for."""
        rows_in = self._out.manifest.rows_in
        if self._bad:
            raise sources.unusable(self._bad[0], self._bad_rows, f"{rows_in} rows", may_drop=False)
        self._draw_apart()
        self._settle(rows_in - 1, None)
        if not any(split in self._fates for split in SPLITS):
            raise DataError(f"no usable rows in {names}{self._out.why_dropped()}")
        return bytes(self._fates)

    def _draw_apart(self) -> None:
        """What was measured on a prompt that was learnt says nothing: a train row gives way, unless it was given as one."""
        if TEST not in self._fates:
            return
        self._kept.executescript(_TWINS)
        if first := self._one("place, twin FROM twins WHERE NOT drawn ORDER BY number LIMIT 1"):
            count = self._one("count(DISTINCT words) FROM twins WHERE NOT drawn")[0]
            raise sources.in_both(count, *first, may_drop=False)
        for (number,) in self._kept.execute("SELECT number FROM twins"):
            self._fates[number] = IN_TEST_TOO

    def _one(self, query: str, *values: bytes | int) -> Any:
        """The first row found, or None."""
        return self._kept.execute(f"SELECT {query}", values).fetchone()

    def _settle(self, number: int, fate: int | None) -> None:
        self._fates += bytes(number + 1 - len(self._fates))
        if fate is not None:
            self._fates[number] = fate


def _own(record: Dialogue) -> list[object]:
    """What makes two of them equal."""
    return [record.prompt, record.prompt_id, list(record.messages)]


def _hash(text: str) -> bytes:
    return sha256(text.encode("utf-8")).digest()[:16]
