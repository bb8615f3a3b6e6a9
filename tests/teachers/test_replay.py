"""Recorded answers and ratings: given back as they were, or named where they are missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import small
from zephyr.errors import DataError
from zephyr.recipe import DataSource
from zephyr.records import prompt_id_of
from zephyr.teachers import Request
from zephyr.teachers.replay import ReplayTeacher
from zephyr.teachers.rubric import parse_reply


def teacher(path: Path, rows: list[dict[str, Any]], name: str = "amber") -> ReplayTeacher:
    return ReplayTeacher(name, DataSource(path=str(small.write_lines(path / "r.jsonl", rows))))


def question(text: str) -> Request:
    return Request("complete", prompt_id_of(text), ({"role": "user", "content": text},))


def test_answers_come_back_by_model_and_prompt(tmp_path: Path) -> None:
    rows = small.feedback()
    for name in small.POOL:
        requests = [question(row["prompt"]) for row in reversed(rows)]
        replies = list(teacher(tmp_path, rows, name).answer(requests))
        expected = [next(c["response"] for c in row["completions"] if c["model"] == name) for row in reversed(rows)]
        assert [r.text for r in replies] == expected
        assert [r.request for r in replies] == requests
        assert {r.tokens for r in replies} == {0}


def test_ratings_come_back_through_the_parser_as_they_were(tmp_path: Path) -> None:
    rows = small.feedback()
    for row in rows:
        for c in row["completions"]:
            (reply,) = teacher(tmp_path, rows).answer([Request("rate", row["prompt_id"], (), c["response"], c["model"])])
            rating = parse_reply(reply.text)
            assert (*rating.aspects.values(), rating.overall_score) == small.GRADES[c["model"]]


def test_who_rated_comes_back_where_it_was_recorded(tmp_path: Path) -> None:
    row = small.feedback()[0]
    row["completions"] = [{**c, "rated_by": "gpt-4-0613"} if i == 0 else c for i, c in enumerate(row["completions"])]
    asked = [Request("rate", row["prompt_id"], (), c["response"], c["model"]) for c in row["completions"]]
    assert [reply.served for reply in teacher(tmp_path, [row]).answer(asked)] == ["gpt-4-0613", "", "", ""]


def test_what_was_not_recorded_is_named(tmp_path: Path) -> None:
    rows = small.feedback()
    with pytest.raises(DataError, match=r"r.jsonl: no answer of 'amber' to 'What now\?' was recorded"):
        list(teacher(tmp_path, rows).answer([question("What now?")]))
    with pytest.raises(DataError, match=r"no answer of 'elm' to 'Why is the sky blue\? Be brief.' was recorded"):
        list(teacher(tmp_path, rows, "elm").answer([question(rows[0]["prompt"])]))
    with pytest.raises(DataError, match=r"no rating of the answer 'Never said.' of 'amber' was recorded"):
        list(teacher(tmp_path, rows).answer([Request("rate", rows[0]["prompt_id"], (), "Never said.", "amber")]))


def test_a_recording_of_answers_alone_has_no_ratings(tmp_path: Path, small_run: Any) -> None:
    row = small.feedback()[0]
    bare = {**row, "completions": [{"model": c["model"], "response": c["response"]} for c in row["completions"]]}
    first = row["completions"][0]
    (reply,) = teacher(tmp_path, [bare], first["model"]).answer([question(row["prompt"])])
    assert reply.text == first["response"]
    with pytest.raises(DataError, match="no rating"):
        list(teacher(tmp_path, [bare]).answer([Request("rate", row["prompt_id"], (), first["response"], first["model"])]))
    made = ReplayTeacher("amber", DataSource(path=str(small_run.out / "complete")))  # what an earlier run's stage wrote
    (reply,) = made.answer([question(row["prompt"])])
    assert reply.text == next(c["response"] for c in row["completions"] if c["model"] == "amber")


def test_recordings_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    first, second = small.feedback()[0], small.feedback()[0]
    answer = next(c for c in second["completions"] if c["model"] == "amber")
    answer["overall_score"] = 1
    with pytest.raises(DataError, match=r"r.jsonl:2: a second, different rating of the same answer of 'amber'"):
        teacher(tmp_path, [first, second])
    answer["response"] = "Another."
    with pytest.raises(DataError, match=r"r.jsonl:2: a second, different answer of 'amber' to the same prompt"):
        teacher(tmp_path, [first, second])
    assert list(teacher(tmp_path, [first, first]).answer([question(first["prompt"])]))


def test_two_models_with_one_answer_keep_their_own_ratings(tmp_path: Path) -> None:
    row = small.feedback()[0]
    for c in row["completions"]:
        c["response"] = "The same."
    replies = teacher(tmp_path, [row]).answer([Request("rate", row["prompt_id"], (), "The same.", m) for m in small.POOL])
    assert [parse_reply(r.text).overall_score for r in replies] == [small.GRADES[m][-1] for m in small.POOL]


def test_a_bad_row_is_named(tmp_path: Path) -> None:
    row = small.feedback()[1]
    row["completions"][2]["annotations"]["honesty"]["rating"] = 7
    with pytest.raises(DataError, match=r"r.jsonl:2: `completions\[2\]`: `annotations.honesty.rating` is 7, outside 1 to 5"):
        teacher(tmp_path, [small.feedback()[0], row])
