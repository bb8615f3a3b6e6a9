"""A process's hold on a journal: it writes down what is sent and what became of it, within the budget."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from zephyr.errors import BudgetError
from zephyr.recipe import BudgetConfig
from zephyr.teachers.journal import tables
from zephyr.teachers.journal.entries import NANO, Kept, Sending, Settled, Totals
from zephyr.teachers.journal.owners import Owners
from zephyr.teachers.journal.tables import said

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
        self._owners = Owners(path, self.owner)
        self.seen = Totals()  # as of the last writing
        self._lock = contextlib.ExitStack()
        self._alone = threading.RLock()  # one thread uses it at a time, but for one that closes it when interrupted twice
        with said(path):
            self._db = tables.connected(path)
            self._lock.callback(self._db.close)
            try:
                with self._transaction():
                    tables.bring_up(self._db, path)
                self._owners.live_in(self._lock)
                self._bury()
            except BaseException:
                self._lock.close()
                raise

    def close(self) -> None:
        """What this process had in hand and did not settle becomes `unknown`."""
        with said(self.path), self._alone:
            try:
                with self._transaction():
                    self._orphan(self.owner)
            finally:
                self._lock.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- who is alive ---

    def _bury(self) -> None:
        """What processes had in hand that are no more is `unknown` now: it was sent, and nobody waits for the answer."""
        owners = [owner for (owner,) in self._db.execute("SELECT DISTINCT owner FROM requests WHERE state = 'sent'")]
        for owner in owners:
            if owner != self.owner and not self._owners.is_alive(owner):
                with self._transaction():
                    self._orphan(owner)
        self._owners.sweep()

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
                   coalesce(error, ''), coalesce(served, '')
            FROM requests WHERE key = ?
        """
        with said(self.path):
            rows = ((key, self._db.execute(query, (key,)).fetchone()) for key in keys)
            return {key: Kept(*row) for key, row in rows if row is not None}

    def write(self, sendings: Sequence[Sending], settled: Sequence[Settled]) -> list[str]:
        """In one durable transaction: what became of requests, and which others are sent now.

        Returns:
            For each of `sendings`: SENT, TAKEN (another process has it, or it is answered), OVER_BUDGET.
        """
        now = time.time()
        with said(self.path), self._transaction():
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
            "finish_reason = ?, prompt_tokens = ?, completion_tokens = ?, usage_known = ?, error = ?, served = ?, settled_at = ? "
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
                item.served or None,
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
            "usage_known = ?, error = NULL, served = ?, settled_at = ? WHERE key = ? AND state IN ('failed', 'unknown')",
            (item.text, item.finish_reason, item.prompt_tokens, item.completion_tokens, int(item.usage_known), item.served or None, now,
             item.sending.key),
        )  # fmt: skip
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
        with said(self.path), self._transaction():
            self._db.execute(
                "INSERT INTO requests (key, stage, teacher, model, prompt_id, state, sends, text, finish_reason, prompt_tokens, "
                "completion_tokens, usage_known, served, sent_at, settled_at) "
                "VALUES (?, ?, ?, ?, ?, 'answered', 1, ?, ?, ?, ?, 1, ?, ?, ?) ON CONFLICT (key) DO NOTHING",
                (sending.key, sending.stage, sending.teacher, sending.model, sending.prompt_id, item.text, item.finish_reason,
                 item.prompt_tokens, item.completion_tokens, item.served or None, now, now),
            )  # fmt: skip

    def bury(self) -> None:
        """Look again which processes have died."""
        with said(self.path):
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
        with said(self.path):
            rows = self._db.execute(query, {"stage": stage}).fetchall()
        return {
            name: {key: (value / NANO if key.endswith("usd") else value) for key, value in zip(names, values, strict=True)}
            for name, *values in rows
        }

    def totals(self) -> Totals:
        """Of all requests, of all stages."""
        with said(self.path):
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
