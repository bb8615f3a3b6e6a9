"""What was asked of teachers, what came back, and what it cost: one SQLite file a run, a row a request.

A request is written down as `sent` before it leaves, and an answer is durable before anybody sees it. Whatever moment a
process dies at, the journal says which requests are `answered` (never sent again), `failed` (no answer, and none was paid
for) or `unknown` (sent, no answer known: it may have been paid for). Several processes may share it.
"""

from __future__ import annotations

import contextlib
import fcntl
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from zephyr.errors import BudgetError, ZephyrError
from zephyr.guards import is_still
from zephyr.recipe import BudgetConfig

NAME = "journal.sqlite"
NANO = 1_000_000_000  # money is counted in whole billionths of a dollar, so that sums are exact

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
)


@dataclass(frozen=True)
class Sending:
    """A request about to be sent; `reserve` is the most it may cost."""

    key: bytes
    stage: str
    teacher: str
    model: str
    prompt_id: str
    reserve: int


@dataclass(frozen=True)
class Settled:
    """What became of a request that was sent: an answer with its cost, or why there is none.

    Costs in billionths of a dollar; what an `unknown` one may have cost is what was reserved for it.
    """

    sending: Sending
    state: Literal["answered", "failed", "unknown"]
    text: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    usage_known: bool = True
    spent: int = 0
    error: str | None = None


@dataclass(frozen=True)
class Kept:
    """What the journal has of a request."""

    state: str
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    error: str


@dataclass
class Totals:
    """Of all requests: sendings, and money in billionths of a dollar."""

    calls: int = 0
    reserved: int = 0
    spent: int = 0
    maybe: int = 0


# what may happen to a request that is to be sent: it is, another process has it in hand or has settled it, or the budget ends
SENT, TAKEN, OVER_BUDGET = "sent", "taken", "over budget"


class Journal:
    """One process's hold on the journal in a folder."""

    def __init__(self, path: Path, budget: BudgetConfig | None = None) -> None:
        """Opens the journal, or begins it; what processes left behind that have died becomes `unknown`.

        Raises:
            ZephyrError: it cannot be read, is damaged, or was written by a newer version.
        """
        self.path = path
        self._budget = budget or BudgetConfig()
        path.parent.mkdir(parents=True, exist_ok=True)
        self.owner = uuid.uuid4().hex
        self.seen = Totals()  # as of the last writing
        self._lock = contextlib.ExitStack()
        self._alone = threading.RLock()  # one thread uses it at a time, but for one that closes it when interrupted twice
        with self._said():
            # isolation_level None: transactions are where we say, not where the module guesses
            self._db = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
            self._lock.callback(self._db.close)
            try:
                self._into_wal()
                self._db.execute("PRAGMA synchronous=FULL")
                self._migrate()
                self._own()
                self._bury()
            except BaseException:
                self._lock.close()
                raise

    def close(self) -> None:
        """What this process had in hand and did not settle becomes `unknown`."""
        with self._said(), self._alone:
            try:
                with self._transaction():
                    self._orphan(self.owner)
            finally:
                self._lock.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _into_wal(self) -> None:
        """Set once for the file; SQLite does not wait for another process that does the same just now."""
        for _ in range(600):
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    raise
                time.sleep(0.1)
        self._db.execute("PRAGMA journal_mode=WAL")

    def _migrate(self) -> None:
        with self._transaction():
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version > len(MIGRATIONS):
                raise ZephyrError(f"{self.path}: was written by a newer version of zephyr; update zephyr")
            for step in MIGRATIONS[version:]:
                for statement in step.split(";\n"):
                    self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    # --- who is alive ---

    def _own(self) -> None:
        """Lock a file of this process's own for as long as it lives, so that others can tell."""
        path = self._owner_file(self.owner)
        while True:
            file = path.open("w")
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if is_still(path, file.fileno()):
                    break
            file.close()  # somebody who looked for the dead held or removed it between our making and locking it
        self._lock.enter_context(file)
        self._lock.callback(path.unlink, missing_ok=True)

    def _owner_file(self, owner: str) -> Path:
        return self.path.with_name(f".{self.path.name}.{owner}.lock")

    def _bury(self) -> None:
        """What processes had in hand that are no more is `unknown` now: it was sent, and nobody waits for the answer."""
        owners = [owner for (owner,) in self._db.execute("SELECT DISTINCT owner FROM requests WHERE state = 'sent'")]
        for owner in owners:
            if owner != self.owner and not self._is_alive(owner):
                with self._transaction():
                    self._orphan(owner)
        for file in self.path.parent.glob(f".{self.path.name}.*.lock"):
            self._is_alive(file.name.split(".")[-2])

    def _is_alive(self, owner: str) -> bool:
        path = self._owner_file(owner)
        if owner == self.owner:
            return True
        try:
            with path.open("r") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if is_still(path, file.fileno()):
                    path.unlink(missing_ok=True)
                return False
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True

    def _orphan(self, owner: str) -> None:
        (reserved,) = self._db.execute(
            "SELECT coalesce(sum(reserved), 0) FROM requests WHERE state = 'sent' AND owner = ?", (owner,)
        ).fetchone()
        self._db.execute(
            "UPDATE requests SET state = 'unknown', cut = cut + 1, maybe = maybe + reserved, reserved = 0, settled_at = ?, "
            "error = 'the process ended before an answer came' WHERE state = 'sent' AND owner = ?",
            (time.time(), owner),
        )
        self._db.execute("UPDATE totals SET reserved = reserved - ?, maybe = maybe + ?", (reserved, reserved))

    # --- requests ---

    def kept(self, keys: Sequence[bytes]) -> dict[bytes, Kept]:
        """What there is of each request; those that were never sent are absent."""
        query = """
            SELECT state, coalesce(text, ''), coalesce(finish_reason, ''), coalesce(prompt_tokens, 0), coalesce(completion_tokens, 0),
                   coalesce(error, '')
            FROM requests WHERE key = ?
        """
        with self._said():
            rows = ((key, self._db.execute(query, (key,)).fetchone()) for key in keys)
            return {key: Kept(*row) for key, row in rows if row is not None}

    def write(self, sendings: Sequence[Sending], settled: Sequence[Settled]) -> list[str]:
        """In one durable transaction: what became of requests, and which others are sent now.

        Returns:
            For each of `sendings`: SENT, TAKEN (another process has it, or it is answered), OVER_BUDGET.
        """
        now = time.time()
        with self._said(), self._transaction():
            totals = Totals(*self._db.execute("SELECT calls, reserved, spent, maybe FROM totals").fetchone())
            for item in settled:
                self._settle(item, now, totals)
            fates = [self._send(item, now, totals) for item in sendings]
            self._db.execute(
                "UPDATE totals SET calls = ?, reserved = ?, spent = ?, maybe = ?",
                (totals.calls, totals.reserved, totals.spent, totals.maybe),
            )
        self.seen = totals
        return fates

    def _settle(self, item: Settled, now: float, totals: Totals) -> None:
        cut, reserved = item.state == "unknown", item.sending.reserve
        maybe = reserved if cut else 0
        done = self._db.execute(
            "UPDATE requests SET state = CASE WHEN ? = 'failed' AND cut > 0 THEN 'unknown' ELSE ? END, "  # an earlier sending may be paid
            "owner = NULL, cut = cut + ?, reserved = 0, spent = spent + ?, maybe = maybe + ?, text = ?, "
            "finish_reason = ?, prompt_tokens = ?, completion_tokens = ?, usage_known = ?, error = ?, settled_at = ? "
            "WHERE key = ? AND state = 'sent' AND owner = ?",
            (
                item.state,
                item.state,
                int(cut),
                item.spent,
                maybe,
                item.text,
                item.finish_reason,
                item.prompt_tokens,
                item.completion_tokens,
                int(item.usage_known),
                item.error,
                now,
                item.sending.key,
                self.owner,
            ),
        )
        if done.rowcount == 0:
            self._settle_taken(item, now, totals)
            return
        totals.reserved -= reserved
        totals.spent += item.spent
        totals.maybe += maybe

    def _settle_taken(self, item: Settled, now: float, totals: Totals) -> None:
        """Another process believed this one dead, and may have sent the request again: an answer is taken in all the same, and paid for."""
        (cut,) = self._db.execute("SELECT cut FROM requests WHERE key = ?", (item.sending.key,)).fetchone() or (0,)
        if item.state != "answered" or not cut:  # of which nobody gave up: it is in already, its COMMIT only seemed to fail
            return
        self._db.execute(
            "UPDATE requests SET state = 'answered', owner = NULL, text = ?, finish_reason = ?, prompt_tokens = ?, completion_tokens = ?, "
            "usage_known = ?, error = NULL, settled_at = ? WHERE key = ? AND state IN ('failed', 'unknown')",
            (item.text, item.finish_reason, item.prompt_tokens, item.completion_tokens, int(item.usage_known), now, item.sending.key),
        )
        self._db.execute("UPDATE requests SET spent = spent + ? WHERE key = ?", (item.spent, item.sending.key))
        totals.spent += item.spent

    def _send(self, item: Sending, now: float, totals: Totals) -> str:
        committed = totals.reserved + totals.spent + totals.maybe + item.reserve
        if self._budget.calls is not None and totals.calls + 1 > self._budget.calls:
            return OVER_BUDGET
        if self._budget.usd is not None and committed > self._budget.usd * NANO:
            return OVER_BUDGET
        done = self._db.execute(
            "INSERT INTO requests (key, stage, teacher, model, prompt_id, state, owner, sends, reserved, sent_at) "
            "VALUES (?, ?, ?, ?, ?, 'sent', ?, 1, ?, ?) ON CONFLICT (key) DO UPDATE SET "
            "state = 'sent', owner = excluded.owner, sends = sends + 1, reserved = excluded.reserved, sent_at = excluded.sent_at, "
            "error = NULL WHERE state NOT IN ('sent', 'answered')",
            (item.key, item.stage, item.teacher, item.model, item.prompt_id, self.owner, item.reserve, now),
        )
        if done.rowcount == 0:
            return TAKEN
        totals.calls += 1
        totals.reserved += item.reserve
        return SENT

    def record(self, item: Settled) -> None:
        """Keep an answer that was made in this process: nothing was sent, nothing is paid, no budget counts it."""
        sending, now = item.sending, time.time()
        with self._said(), self._transaction():
            self._db.execute(
                "INSERT INTO requests (key, stage, teacher, model, prompt_id, state, sends, text, finish_reason, prompt_tokens, "
                "completion_tokens, usage_known, sent_at, settled_at) VALUES (?, ?, ?, ?, ?, 'answered', 1, ?, ?, ?, ?, 1, ?, ?) "
                "ON CONFLICT (key) DO NOTHING",
                (sending.key, sending.stage, sending.teacher, sending.model, sending.prompt_id, item.text, item.finish_reason,
                 item.prompt_tokens, item.completion_tokens, now, now),
            )  # fmt: skip

    def bury(self) -> None:
        """Look again which processes have died."""
        with self._said():
            self._bury()

    # --- what it came to ---

    def bill(self, stage: str | None = None) -> dict[str, dict[str, Any]]:
        """By teacher, of one stage (of all: as `STAGE TEACHER`): calls, answers, tokens, dollars, and what is not known for sure."""
        query = """
            SELECT CASE WHEN :stage IS NULL THEN stage || ' ' || teacher ELSE teacher END AS name,
                   sum(sends), sum(state = 'answered'), sum(state = 'failed'), sum(state = 'unknown'),
                   sum(CASE WHEN state = 'answered' THEN cut ELSE max(cut - 1, 0) END),
                   coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0), coalesce(sum(usage_known = 0), 0),
                   sum(spent), sum(maybe)
            FROM requests WHERE :stage IS NULL OR stage = :stage GROUP BY name ORDER BY name
        """
        names = (
            "calls", "answered", "failed", "unknown", "possibly_paid_twice", "prompt_tokens", "completion_tokens",
            "usage_not_believed", "spent_usd", "possibly_spent_usd",
        )  # fmt: skip
        with self._said():
            rows = self._db.execute(query, {"stage": stage}).fetchall()
        return {
            name: {key: (value / NANO if key.endswith("usd") else value) for key, value in zip(names, values, strict=True)}
            for name, *values in rows
        }

    def totals(self) -> Totals:
        """Of all requests, of all stages."""
        with self._said():
            return Totals(*self._db.execute("SELECT calls, reserved, spent, maybe FROM totals").fetchone())

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._alone:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # a full disk has ended it already
                    self._db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if "full" in str(error) or "disk I/O" in str(error):
                raise ZephyrError(
                    f"{self.path}: no space left, or the disk fails ({error}); what it holds is kept, run again to go on"
                ) from None
            if "malformed" in str(error) or "not a database" in str(error):
                raise ZephyrError(
                    f"{self.path}: damaged ({error}); it holds answers that were paid for: restore it from a copy, or move it away"
                ) from None
            raise ZephyrError(f"{self.path}: {error}") from None


# --- looking in, without a hold on it ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lengths:
    """How many answers of a teacher there are, and how many tokens they have on average."""

    answers: int = 0
    mean: float = 0.0


@contextlib.contextmanager
def _looking(path: Path) -> Iterator[sqlite3.Connection | None]:
    """A connection that changes nothing; None where there is no journal, or none of this version."""
    if not path.exists():
        yield None
        return
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=60)
        with contextlib.closing(db):
            yield db if db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),) else None
    except sqlite3.Error as error:
        raise ZephyrError(f"{path}: {error}") from None


def peek_totals(path: Path) -> Totals:
    """The totals of a journal; zeros where there is none."""
    with _looking(path) as db:
        return Totals(*db.execute("SELECT calls, reserved, spent, maybe FROM totals").fetchone()) if db else Totals()


def peek_answered(path: Path, keys: Sequence[bytes]) -> set[bytes]:
    """Which of the requests have an answer."""
    with _looking(path) as db:
        query = "SELECT 1 FROM requests WHERE key = ? AND state = 'answered'"
        return {key for key in keys if db.execute(query, (key,)).fetchone()} if db else set()


def peek_lengths(path: Path, stage: str, teacher: str) -> Lengths:
    """How long a teacher's answers were so far, where their token counts could be believed."""
    query = """
        SELECT count(*), coalesce(avg(completion_tokens), 0) FROM requests
        WHERE state = 'answered' AND usage_known AND stage = ? AND teacher = ?
    """
    with _looking(path) as db:
        return Lengths(*db.execute(query, (stage, teacher)).fetchone()) if db else Lengths()


def describe(bill: Mapping[str, Mapping[str, Any]]) -> str:
    """The bill in words, a line a teacher."""
    lines = []
    for name, b in bill.items():
        line = f"{name}: {b['answered']:,} answers in {b['calls']:,} calls, {b['prompt_tokens']:,} + {b['completion_tokens']:,} tokens"
        line += f", ${b['spent_usd']:.4f}" if b["spent_usd"] else ""
        line += f"; {b['possibly_paid_twice']:,} may have been paid twice" if b["possibly_paid_twice"] else ""
        line += f"; the token figures of {b['usage_not_believed']:,} could not be believed" if b["usage_not_believed"] else ""
        lines.append(line)
    return "\n".join(lines)


def over_budget(budget: BudgetConfig, totals: Totals) -> BudgetError:
    """What to say when the next request might cost more than there is."""
    spent, maybe = totals.spent / NANO, totals.maybe / NANO
    most = " and ".join(
        filter(None, (f"${budget.usd:g}" if budget.usd is not None else "", f"{budget.calls:,} calls" if budget.calls is not None else ""))
    )
    perhaps = f", and perhaps ${maybe:.4f} more" if maybe else ""
    return BudgetError(
        f"the budget of {most} is reached: {totals.calls:,} calls and ${spent:.4f} are spent{perhaps}, and the next request might pass it; "
        "all answers are kept: raise budget and run the same command again to go on"
    )
