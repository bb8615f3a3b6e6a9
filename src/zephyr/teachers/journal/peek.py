"""Looking into a journal without a hold on it: nothing is changed, nobody is kept waiting."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from zephyr.errors import ZephyrError
from zephyr.teachers.journal.entries import Totals
from zephyr.teachers.journal.tables import MIGRATIONS, NewerJournalError


@dataclass(frozen=True)
class Lengths:
    """How many answers of a teacher there are, and how many tokens they have on average."""

    answers: int = 0
    mean: float = 0.0


@contextlib.contextmanager
def looking(path: Path) -> Iterator[sqlite3.Connection | None]:
    """A connection that changes nothing; None where there is no journal, or one that is just being begun.

    One of an older version lacks the columns that came later (`tables.MIGRATIONS`): only those of the first are read here.

    Raises:
        NewerJournalError: it was written by a newer version, so that what is kept in it cannot be told from nothing.
        ZephyrError: it cannot be read.
    """
    if not path.exists():
        yield None
        return
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=60)
        with contextlib.closing(db):
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version > len(MIGRATIONS):
                raise NewerJournalError(path)
            yield db if version >= 1 else None
    except sqlite3.Error as error:
        raise ZephyrError(f"{path}: {error}") from None


def totals(path: Path) -> Totals:
    """The totals of a journal; zeros where there is none."""
    with looking(path) as db:
        return Totals(*db.execute("SELECT calls, reserved, spent, maybe FROM totals").fetchone()) if db else Totals()


def answered(path: Path, keys: Sequence[bytes]) -> set[bytes]:
    """Which of the requests have an answer."""
    with looking(path) as db:
        query = "SELECT 1 FROM requests WHERE key = ? AND state = 'answered'"
        return {key for key in keys if db.execute(query, (key,)).fetchone()} if db else set()


def lengths(path: Path, stage: str, teacher: str) -> Lengths:
    """How long a teacher's answers were so far, where their token counts could be believed."""
    query = """
        SELECT count(*), coalesce(avg(completion_tokens), 0) FROM requests
        WHERE state = 'answered' AND usage_known AND stage = ? AND teacher = ?
    """
    with looking(path) as db:
        return Lengths(*db.execute(query, (stage, teacher)).fetchone()) if db else Lengths()
