"""The tables of a journal, and the connection to them."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zephyr.errors import ZephyrError

NAME = "journal.sqlite"

# append only: a journal of an older version gets the steps it lacks, one of a newer version is refused
MIGRATIONS = (
    """
    CREATE TABLE requests (
        key BLOB NOT NULL PRIMARY KEY,       -- sha256 of teacher, model, messages, sampling and sample index
        stage TEXT NOT NULL,
        teacher TEXT NOT NULL,               -- its name in the recipe
        model TEXT NOT NULL,
        prompt_id TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('sent', 'answered', 'failed', 'unknown')),
        owner TEXT,                          -- the process that it was sent by
        sends INTEGER NOT NULL,              -- how often it was sent
        cut INTEGER NOT NULL DEFAULT 0,      -- how often no answer to it is known
        reserved INTEGER NOT NULL DEFAULT 0, -- the most that it may cost, while it is sent; billionths of a dollar, as all money
        spent INTEGER NOT NULL DEFAULT 0,
        maybe INTEGER NOT NULL DEFAULT 0,    -- the most that the sendings without a known answer may have cost
        text TEXT,
        finish_reason TEXT,
        prompt_tokens INTEGER,
        completion_tokens INTEGER,
        usage_known INTEGER,                 -- 0: the server's figures could not be believed, and the most it can be is counted
        error TEXT,
        sent_at REAL NOT NULL,               -- seconds since 1970
        settled_at REAL
    );
    CREATE INDEX requests_by_state ON requests (state) WHERE state = 'sent';
    CREATE TABLE totals (calls INTEGER NOT NULL, reserved INTEGER NOT NULL, spent INTEGER NOT NULL, maybe INTEGER NOT NULL);
    INSERT INTO totals VALUES (0, 0, 0, 0);
    """,
    """
    -- the model that answered, as its server calls it: an alias may move
    ALTER TABLE requests ADD COLUMN served TEXT
    """,
)


class NewerJournalError(ZephyrError):
    """A journal that a newer version of zephyr has written: what its columns mean is not known here."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path}: was written by a newer version of zephyr; update zephyr")


def connected(path: Path) -> sqlite3.Connection:
    """A connection that many threads may use in turn, in WAL, every commit durable."""
    # isolation_level None: transactions are where we say, not where the module guesses
    db = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
    try:
        _into_wal(db)
        db.execute("PRAGMA synchronous=FULL")
    except BaseException:
        db.close()
        raise
    return db


def _into_wal(db: sqlite3.Connection) -> None:
    """Set once for the file; SQLite does not wait for another process that does the same just now."""
    for _ in range(600):
        try:
            db.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            time.sleep(0.1)
    db.execute("PRAGMA journal_mode=WAL")


def bring_up(db: sqlite3.Connection, path: Path) -> None:
    """The steps that the journal of an older version lacks, in a transaction.

    Raises:
        NewerJournalError: it was written by a newer version.
    """
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise NewerJournalError(path)
    for step in MIGRATIONS[version:]:
        for statement in step.split(";\n"):
            db.execute(statement)
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


@contextmanager
def said(path: Path) -> Iterator[None]:
    """What SQLite says of a journal, with what to do about it, as a `ZephyrError`."""
    try:
        yield
    except sqlite3.Error as error:
        if "full" in str(error) or "disk I/O" in str(error):
            raise ZephyrError(f"{path}: no space left, or the disk fails ({error}); what it holds is kept, run again to go on") from None
        if "malformed" in str(error) or "not a database" in str(error):
            raise ZephyrError(
                f"{path}: damaged ({error}); it holds answers that were paid for: restore it from a copy, or move it away"
            ) from None
        raise ZephyrError(f"{path}: {error}") from None
