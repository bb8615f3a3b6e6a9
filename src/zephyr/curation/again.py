"""Rows read a second time, when it is known what becomes of them: nothing is looked for in them again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from zephyr.curation import inputs
from zephyr.curation.hashing import Ints
from zephyr.curation.rows import Kept
from zephyr.curation.work import Work
from zephyr.files import Unread
from zephyr.records import Row, parse_dialogue


def dialogues(work: Work, number: int, rows: Ints) -> Iterator[Kept]:
    """Rows of a piece that the index kept, by their numbers in it, which must be in order."""
    piece, about, reader = work.pieces[number], work.rows(number), work.reader()
    changed = np.asarray(about["words"])[rows]
    mended = work.mended(number) if changed.any() else {}
    read = inputs.read(piece, set(np.asarray(about["place"])[rows].tolist()))
    for (_, row), i, words in zip(read, rows.tolist(), changed.tolist(), strict=True):
        kept = reader.judge(piece.source, piece.split, reader.shape(piece.source, row)[1])
        assert isinstance(kept, Kept), "a row was judged otherwise the second time"
        yield replace(kept, record=parse_dialogue(mended[i]), words=words) if words else kept


def as_they_came(work: Work, number: int, rows: Ints) -> Iterator[Row]:
    """Rows of a piece, by their numbers in it, which must be in order; with `messages`, where they are dialogues."""
    piece, reader = work.pieces[number], work.reader()
    places = np.asarray(work.rows(number)["place"])[rows]
    for _, row in inputs.read(piece, set(places.tolist())) if len(rows) else ():
        _, shaped = reader.shape(piece.source, row)
        yield shaped.row if isinstance(shaped, Unread) else shaped
