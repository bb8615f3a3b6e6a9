"""What a run will ask of paid teachers, before it does: against what it then asked, call by call."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from misbehaving import judge_or_answer, serving
from zephyr import api, recipe
from zephyr.artifacts import Artifact
from zephyr.cli import main
from zephyr.errors import UsageError
from zephyr.spending import describe, feedback
from zephyr.spending.lines import Line
from zephyr.teachers import Request
from zephyr.teachers.journal import NAME, Journal


def write(folder: Path, url: str, count: int = 40, **changes: Any) -> recipe.Recipe:
    rows = "".join(json.dumps({"prompt": f"What is the use of number {i}?"}) + "\n" for i in range(count))
    (folder / "p.jsonl").write_text(rows)
    teacher = {"kind": "api", "base_url": url, "model": "m", "max_new_tokens": 200, "prices": {"prompt": 1.0, "completion": 4.0}}
    pool = dict.fromkeys(("amber", "birch", "cedar"), teacher)
    values = {
        "name": "plan",
        "model": {"path": "nowhere"},
        "complete": {"prompts": [str(folder / "p.jsonl")], "models_per_prompt": 2, "pool": pool},
        "rate": {"teacher": {**teacher, "model": "judge", "max_new_tokens": 900}},
        "binarize": {},
        **changes,
    }
    (folder / "r.yaml").write_text(json.dumps(values))
    return recipe.load(folder / "r.yaml")


def test_it_counts_the_calls_that_the_run_then_makes(tmp_path: Path) -> None:
    with serving(answer=judge_or_answer) as running:
        made = write(tmp_path, running.url)
        before = api.plan(made, out=tmp_path / "run")
        assert not (tmp_path / "run").exists() and running.book.sent.total() == 0, "a plan leaves nothing behind and asks nothing"
        assert before["calls"] == 80 + 80 and {line["stage"] for line in before["lines"]} == {"complete", "rate"}
        api.run(made, out=tmp_path / "run", until="complete")
        asked = running.book.sent.total()
        assert asked == sum(line["calls"] for line in before["lines"] if line["stage"] == "complete") == 80
        spent = running.book.tokens[0] * 1e-6 + running.book.tokens[1] * 4e-6
        most = sum(line["usd_most"] for line in before["lines"] if line["stage"] == "complete")
        assert spent <= most
        between = api.plan(made, out=tmp_path / "run")
        (rating,) = between["lines"]  # two models that give one answer to a prompt are asked about in one call
        assert rating["stage"] == "rate" and 60 <= rating["calls"] <= 80 and rating["guess"] == ""
        assert between["spent_calls"] == 80 and between["spent_usd"] == pytest.approx(spent)
        api.run(made, out=tmp_path / "run", until="binarize")
        assert running.book.sent.total() == 80 + rating["calls"]
        after = api.plan(made, out=tmp_path / "run")
        assert after["lines"] == [] and after["spent_calls"] == 80 + rating["calls"]
        assert describe(after) == "no teacher behind a server will be asked: nothing is spent"


def test_more_of_the_same_is_estimated_from_what_came_before(tmp_path: Path) -> None:
    with serving(answer=judge_or_answer) as running:
        made = write(tmp_path, running.url)
        assert all(line["completion_tokens"] is None for line in api.plan(made, out=tmp_path / "run")["lines"])
        api.run(made, out=tmp_path / "run", until="complete")
        more = write(tmp_path, running.url, count=100)
        found = api.plan(more, out=tmp_path / "run")
        lines = [line for line in found["lines"] if line["stage"] == "complete"]
        assert sum(line["calls"] for line in lines) == 120 and sum(line["kept"] for line in lines) == 80
        assert all(line["completion_tokens"] == 3 * line["calls"] for line in lines)  # the server bills three tokens each
        (rating,) = [line for line in found["lines"] if line["stage"] == "rate"]
        assert rating["guess"] == "the answers are not written yet; each is taken to have 3 tokens, 200 at most"


def test_recorded_answers_are_as_long_as_they_are(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"What is {i}?", "completions": [{"model": m, "response": "x" * 400} for m in ("amber", "birch")]} for i in range(10)
    ]
    (tmp_path / "recorded.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pool = {name: {"kind": "replay", "path": str(tmp_path / "recorded.jsonl")} for name in ("amber", "birch")}
    complete = {"prompts": [str(tmp_path / "p.jsonl")], "models_per_prompt": 2, "pool": pool}
    (line,) = api.plan(write(tmp_path, "http://localhost:1/v1", complete=complete), out=tmp_path / "run")["lines"]
    assert line["guess"] == "the answers are not written yet; each is taken to have 100 tokens, 100 at most"
    assert line["prompt_tokens"] > line["calls"] * 100


def test_requests_for_ratings_are_made_as_they_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each holds every answer as long as it may be: all at once do not fit in memory. The figures are those of a list of them."""
    made, counted = write(tmp_path, "http://localhost:1/v1"), feedback.line_of
    plan = api.plan(made, out=tmp_path / "run")
    at_once: list[int] = []

    def watched(stage: str, name: str, config: Any, asked: Iterable[Request], run_dir: Path, guess: str = "") -> Line:
        held: weakref.WeakSet[Request] = weakref.WeakSet()

        def seen() -> Iterator[Request]:
            for request in asked:
                held.add(request)
                at_once.append(len(held))
                yield request

        return counted(stage, name, config, seen() if stage == "rate" else asked, run_dir, guess)

    monkeypatch.setattr(feedback, "line_of", watched)
    assert api.plan(made, out=tmp_path / "run") == plan
    assert len(at_once) == 2 * 80 and max(at_once) <= 4
    monkeypatch.setattr(feedback, "line_of", lambda *given: counted(*given[:3], list(given[3]), *given[4:]))
    assert api.plan(made, out=tmp_path / "run") == plan


def test_a_budget_that_will_not_do_is_said(tmp_path: Path) -> None:
    made = write(tmp_path, "http://localhost:1/v1", budget={"usd": 0.01, "calls": 100})
    text = describe(api.plan(made, out=tmp_path / "run"))
    assert "the budget of $0.0100 may be reached" in text and "the budget of 100 calls will be reached" in text
    assert "complete  amber" in text and "in all" in text


def test_a_journal_of_a_newer_version_stops_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What it keeps would be counted, and paid for in the budget, once more."""
    write(tmp_path, "http://localhost:1/v1")
    journal = tmp_path / "run" / NAME
    with Journal(journal):
        pass
    with contextlib.closing(sqlite3.connect(journal)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(SystemExit) as end:
        main(["plan", str(tmp_path / "r.yaml"), "--out", str(tmp_path / "run")])
    assert end.value.code == 1
    assert capsys.readouterr().err.strip() == f"zephyr: {journal}: was written by a newer version of zephyr; update zephyr"


def test_a_budget_in_money_needs_prices(tmp_path: Path) -> None:
    made = write(tmp_path, "http://localhost:1/v1")
    values = made.model_dump(exclude_unset=True)
    values["budget"] = {"usd": 1.0}
    values["complete"]["pool"]["birch"] = {"kind": "api", "base_url": "http://localhost:1/v1", "model": "m"}
    with pytest.raises(UsageError, match=r"budget: usd is set, and complete.pool.\w+ has no prices"):
        recipe.build(recipe.Recipe, values, {}, "r.yaml")


def test_the_run_says_what_was_spent_and_the_budget_has_its_own_exit_code(tmp_path: Path) -> None:
    with serving(answer=judge_or_answer) as running:
        write(tmp_path, running.url, budget={"calls": 100})
        with pytest.raises(SystemExit) as end:
            main(["run", str(tmp_path / "r.yaml"), "--out", str(tmp_path / "run"), "--until", "binarize"])
        assert end.value.code == 3 and running.book.sent.total() == 100
        with pytest.raises(SystemExit) as end:
            main(["run", str(tmp_path / "r.yaml"), "--out", str(tmp_path / "run"), "--until", "binarize", "budget.calls=160"])
        assert end.value.code == 0
        asked = running.book.sent.total()
        assert 140 <= asked <= 160
    bill = Artifact.open(tmp_path / "run" / "rate").manifest.results["bill"]
    assert bill["judge"]["answered"] == asked - 80 and bill["judge"]["spent_usd"] > 0
