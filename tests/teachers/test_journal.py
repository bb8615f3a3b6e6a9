"""The journal: what it says after every kind of end, what it adds up to, and who may take what."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sqlite3
from pathlib import Path

import pytest

from zephyr.errors import BudgetError, ZephyrError
from zephyr.recipe import BudgetConfig
from zephyr.teachers.journal import (
    NANO,
    OVER_BUDGET,
    SENT,
    TAKEN,
    Journal,
    NewerJournalError,
    Sending,
    Settled,
    over_budget,
    peek,
    tables,
)


def sending(n: int, reserve: int = 5) -> Sending:
    return Sending(n.to_bytes(32, "big"), "complete", "a", "m", f"p{n}", reserve)


def answered(n: int, spent: int = 2, **rest: object) -> Settled:
    return Settled(sending(n), "answered", f"text {n}", "stop", 7, 3, True, spent, **rest)  # type: ignore[arg-type]


def test_an_answer_is_kept_and_not_asked_for_again(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        assert journal.write([sending(1), sending(2)], []) == [SENT, SENT]
        journal.write([], [answered(1)])
    with Journal(tmp_path / "j") as journal:
        kept = journal.kept([sending(n).key for n in (1, 2, 3)])
        assert {k: v.state for k, v in kept.items()} == {sending(1).key: "answered", sending(2).key: "unknown"}
        assert (kept[sending(1).key].text, kept[sending(1).key].finish_reason) == ("text 1", "stop")
        assert journal.write([sending(1), sending(2)], []) == [TAKEN, SENT]
        journal.write([], [answered(2)])
        bill = journal.bill()["complete a"]
        assert bill["calls"] == 3 and bill["answered"] == 2 and bill["possibly_paid_twice"] == 1
        assert bill["spent_usd"] == 4 / NANO and bill["possibly_spent_usd"] == 5 / NANO
        assert (bill["prompt_tokens"], bill["completion_tokens"]) == (14, 6)
        assert journal.bill("complete") == {"a": bill} and journal.bill("rate") == {}


def test_a_failure_after_a_cut_is_still_perhaps_paid(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.write([sending(1)], [])
        journal.write([sending(1)], [Settled(sending(1), "unknown", error="cut")])
        journal.write([], [Settled(sending(1), "failed", error="HTTP 400")])
        assert journal.kept([sending(1).key])[sending(1).key].state == "unknown"
        assert journal.bill()["complete a"]["possibly_spent_usd"] == 5 / NANO


def test_an_answer_is_taken_in_though_its_process_was_believed_dead(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.write([sending(1)], [])
        journal._orphan(journal.owner)
        journal.write([], [answered(1, served="gpt-4-0613")])
        kept = journal.kept([sending(1).key])[sending(1).key]
        assert (kept.state, kept.served) == ("answered", "gpt-4-0613")
        assert (journal.totals().spent, journal.totals().maybe, journal.totals().reserved) == (2, 5, 0)
        journal.write([], [answered(1)])  # the other process's, of the same request
        assert journal.totals().spent == 4 and journal.bill()["complete a"]["spent_usd"] == 4 / NANO


def test_an_answer_whose_commit_only_seemed_to_fail_is_booked_once(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.write([sending(1)], [])
        journal.write([], [answered(1)])
        journal.write([], [answered(1)])  # again, as after an error of which nobody knows what it left
        assert (journal.totals().spent, journal.bill()["complete a"]["spent_usd"]) == (2, 2 / NANO)


def test_an_answer_made_here_is_kept_once_and_no_budget_counts_it(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", BudgetConfig(calls=1)) as journal:
        for _ in range(3):
            journal.record(answered(1))
        journal.record(answered(2))
        assert journal.totals().calls == 0 and journal.bill()["complete a"]["answered"] == 2
        assert journal.write([sending(3)], []) == [SENT]


def test_totals_are_the_sums_of_the_rows(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.write([sending(n) for n in range(10)], [])
        journal.write([sending(20, 9)], [answered(0), Settled(sending(1), "failed", error="x"), Settled(sending(2), "unknown", error="y")])
        journal.write([sending(1), sending(2)], [])
        totals = journal.totals()
    db = sqlite3.connect(tmp_path / "j")
    assert db.execute("SELECT sum(sends), sum(spent) FROM requests").fetchone() == (13, 2)
    assert (totals.calls, totals.spent, totals.maybe) == (13, 2, 5)
    assert totals.reserved == 9 * 5 + 9 == 10 * 5 + 9 - 5 - 5 - 5 + 10
    after = db.execute("SELECT calls, reserved, spent, maybe FROM totals").fetchone()
    assert after == (13, 0, 2, 5 + 9 * 5 + 9), "what was under way when the process ended may have been paid for"
    assert db.execute("SELECT sum(maybe) FROM requests").fetchone() == (after[3],)


def test_a_budget_is_never_passed_by_what_is_under_way(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", BudgetConfig(usd=22 / NANO)) as journal:
        assert journal.write([sending(n) for n in range(6)], []) == [SENT] * 4 + [OVER_BUDGET] * 2
        assert journal.write([sending(5)], [answered(0), answered(1)]) == [SENT]  # 2 + 2 spent, 10 reserved
        assert journal.write([sending(6), sending(7)], []) == [OVER_BUDGET] * 2
        error = over_budget(BudgetConfig(usd=22 / NANO), journal.totals())
    assert isinstance(error, BudgetError) and error.exit_code == 3
    with Journal(tmp_path / "j", BudgetConfig(calls=6)) as journal:
        assert journal.write([sending(8), sending(9)], []) == [SENT, OVER_BUDGET], "earlier runs count"


def hold(path: Path, ready: multiprocessing.synchronize.Event) -> None:
    journal = Journal(path)
    journal.write([sending(1)], [])
    ready.set()
    signal.pause()


def test_what_a_living_process_has_in_hand_is_left_to_it_and_what_a_dead_one_had_is_unknown(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    other = context.Process(target=hold, args=(tmp_path / "j", ready))
    other.start()
    assert ready.wait(20) and other.pid
    with Journal(tmp_path / "j") as journal:
        assert journal.kept([sending(1).key])[sending(1).key].state == "sent"
        assert journal.write([sending(1)], []) == [TAKEN]
        os.kill(other.pid, signal.SIGKILL)
        other.join()
        journal.bury()
        kept = journal.kept([sending(1).key])[sending(1).key]
        assert kept.state == "unknown" and "process ended" in kept.error
        assert journal.write([sending(1)], []) == [SENT]
    assert sorted(p.name for p in tmp_path.iterdir() if "lock" in p.name) == []


def open_and_write(path: Path, first: int, count: int) -> None:
    with Journal(path) as journal:
        for n in range(first, first + count):
            if journal.write([sending(n)], []) == [SENT]:
                journal.write([], [answered(n)])


def test_many_processes_begin_and_share_one_journal(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=open_and_write, args=(tmp_path / "j", 5 * i, 20)) for i in range(5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    with Journal(tmp_path / "j") as journal:
        bill = journal.bill()["complete a"]
    assert bill["calls"] == bill["answered"] == 40, "every request once, whoever sent it"


def open_often(path: Path, count: int) -> None:
    for _ in range(count):
        with Journal(path) as journal:
            assert journal._owners.file_of(journal.owner).exists(), "another process took this one's lock for that of a dead one"


def test_nobody_is_taken_for_dead_while_beginning(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=open_often, args=(tmp_path / "j", 60)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0


def test_it_is_durable_and_in_wal(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        assert journal._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert journal._db.execute("PRAGMA synchronous").fetchone() == (2,)


def test_an_older_journal_is_brought_up_and_a_newer_one_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.write([sending(1)], [])
        journal.write([], [answered(1)])
    monkeypatch.setattr(tables, "MIGRATIONS", (*tables.MIGRATIONS, "ALTER TABLE requests ADD COLUMN note TEXT"))
    with Journal(tmp_path / "j") as journal:
        assert journal.kept([sending(1).key])[sending(1).key].text == "text 1"
        assert journal._db.execute("SELECT note FROM requests").fetchone() == (None,)
    monkeypatch.setattr(tables, "MIGRATIONS", tables.MIGRATIONS[:1])
    with pytest.raises(ZephyrError, match="newer version of zephyr"):
        Journal(tmp_path / "j")


def test_a_journal_from_before_the_served_name_is_read_and_brought_up(tmp_path: Path) -> None:
    """Written as the first version did: whoever only looks in reads it as it is, whoever works on it brings it up."""
    with contextlib.closing(sqlite3.connect(tmp_path / "j", isolation_level=None)) as db:
        for statement in tables.MIGRATIONS[0].split(";\n"):
            db.execute(statement)
        db.execute(
            "INSERT INTO requests (key, stage, teacher, model, prompt_id, state, sends, text, finish_reason, prompt_tokens, "
            "completion_tokens, usage_known, sent_at) VALUES (?, 'rate', 'judge', 'gpt', 'p', 'answered', 1, 'Well.', 'stop', 7, 3, 1, 0)",
            (sending(1).key,),
        )
        db.execute("UPDATE totals SET calls = 1, spent = 9")
        db.execute("PRAGMA user_version = 1")
    assert peek.totals(tmp_path / "j").spent == 9 and peek.lengths(tmp_path / "j", "rate", "judge").answers == 1
    assert peek.answered(tmp_path / "j", [sending(1).key, sending(2).key]) == {sending(1).key}
    with Journal(tmp_path / "j") as journal:
        journal.write([sending(2)], [])
        journal.write([], [answered(2, served="gpt-4-0613")])
        kept = journal.kept([sending(1).key, sending(2).key])
    assert [(kept[sending(n).key].text, kept[sending(n).key].served) for n in (1, 2)] == [("Well.", ""), ("text 2", "gpt-4-0613")]
    assert peek.totals(tmp_path / "j").calls == 2
    with Journal(tmp_path / "j") as journal:
        assert journal.kept([sending(2).key])[sending(2).key].served == "gpt-4-0613"


def test_a_journal_of_a_newer_version_is_not_taken_for_an_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.write([sending(1)], [])
    monkeypatch.setattr(peek, "MIGRATIONS", tables.MIGRATIONS[:1])
    for look in (
        lambda path: peek.totals(path),
        lambda path: peek.answered(path, [sending(1).key]),
        lambda path: peek.lengths(path, "rate", "judge"),
    ):
        with pytest.raises(NewerJournalError, match=r"/j: was written by a newer version of zephyr; update zephyr"):
            look(tmp_path / "j")


def test_a_journal_that_is_just_being_begun_holds_nothing(tmp_path: Path) -> None:
    with contextlib.closing(tables.connected(tmp_path / "j")):
        assert peek.totals(tmp_path / "j").calls == 0


def test_a_damaged_journal_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b"not a database, but it may have been one" * 100)
    before = (tmp_path / "j").read_bytes()
    with pytest.raises(ZephyrError, match=r"j: damaged .*answers that were paid for"):
        Journal(tmp_path / "j")
    assert (tmp_path / "j").read_bytes() == before


def test_a_full_disk_is_said_and_costs_nothing_that_was_kept(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.write([sending(1)], [])
        journal.write([], [answered(1)])
        pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
        journal._db.execute(f"PRAGMA max_page_count = {pages}")
        journal.write([sending(2)], [])
        with pytest.raises(ZephyrError, match="no space left"):
            journal.write([], [Settled(sending(2), "answered", "x" * 100_000, "stop", 1, 1)])
        journal._db.execute("PRAGMA max_page_count = 100000")
        assert journal.kept([sending(1).key])[sending(1).key].text == "text 1"
        assert journal.kept([sending(2).key])[sending(2).key].state == "sent"
