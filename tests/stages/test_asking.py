"""What stages make of odd teachers: a template that is edited, a server whose words are ours, a reply that cannot be quoted."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from misbehaving import ASPECTS, serving
from zephyr.api import stage
from zephyr.artifacts import Artifact, draft
from zephyr.recipe import APIConfig, BudgetConfig, LocalConfig
from zephyr.stages import Inputs, answer, judge
from zephyr.synthesis import steps
from zephyr.teachers import Reply, Request, ask, local, wire
from zephyr.teachers.journal import NAME

PROMPTS = [{"prompt": f"What is {i}?"} for i in range(3)]
RATING = {"annotations": {name: {"rationale": "so", "rating": 3} for name in ASPECTS}, "critique": "c", "overall_score": 5}


@pytest.fixture(autouse=True)
def _cache(own_cache: Path) -> None:
    """Hashes of inputs go to a cache of the test's own."""


def write_lines(path: Path, rows: Sequence[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def write_recipe(folder: Path, **sections: Any) -> Path:
    (folder / "r.yaml").write_text(json.dumps({"name": "r", "model": {"path": "nowhere"}, **sections}))
    return folder / "r.yaml"


def rows_of(folder: Path) -> list[dict[str, Any]]:
    artifact = Artifact.open(folder)
    return [row for split in artifact.splits() for row in artifact.rows(split)]


# --- a model that answers in this process ----------------------------------------------------------------------------


@pytest.fixture
def thinking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of this process say `So.`, whatever they are."""

    def answer(self: local.LocalTeacher, requests: Sequence[Request]) -> Iterator[Reply]:
        yield from (Reply(request, "So.", "stop", 9, prompt_tokens=8) for request in requests)

    monkeypatch.setattr(local.LocalModel, "load", lambda config: local.LocalModel((), None, None))  # type: ignore[arg-type]
    monkeypatch.setattr(local.LocalTeacher, "answer", answer)


def keys(folder: Path) -> set[bytes]:
    """What the journal of a run knows its requests by."""
    with contextlib.closing(sqlite3.connect(folder / NAME)) as db:
        return {key for (key,) in db.execute("SELECT key FROM requests")}


@pytest.mark.usefixtures("thinking")
def test_answers_in_a_template_that_was_edited_are_not_those_in_the_new_one(tmp_path: Path) -> None:
    template, model = tmp_path / "own.jinja", tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    teacher = {"kind": "local", "path": str(model), "chat_template": str(template)}
    prompts = write_lines(tmp_path / "p.jsonl", PROMPTS)
    complete = {"prompts": [prompts], "pool": {"one": teacher, "two": teacher}, "models_per_prompt": 2}
    recipe = write_recipe(tmp_path, complete=complete)
    for i, text in enumerate(("{{ messages }}", "{{ messages }}", "{{ messages | list }}")):
        template.write_text(text)
        stage("complete", "complete", {"prompts": [prompts]}, tmp_path / "run" / str(i), recipe=recipe)
        assert len(keys(tmp_path / "run")) == (6, 6, 12)[i]


@pytest.mark.usefixtures("thinking")
def test_without_a_file_the_template_is_in_the_key_by_its_name(tmp_path: Path) -> None:
    """What was answered under such a key stays answered."""
    request = Request("complete", "p", ({"role": "user", "content": "Hi!"},))
    for number, template in enumerate((None, "tokenizer", "zephyr")):
        config, run = LocalConfig(kind="local", path="m", chat_template=template), tmp_path / str(number)
        with ask.opened("complete", {"one": config}, folder=run, budget=BudgetConfig(), seed=5, digests={"one": "abc"}) as teachers:
            assert len(list(teachers.replies({"one": [request]}))) == 1
        assert keys(run) == {wire.key_of("one", f"abc {template or 'tokenizer'} seed 5 of ", config, request)}


# --- a server whose words are ours -----------------------------------------------------------------------------------


def saying(text: str, reason: str = "stop") -> Callable[[Any], tuple[int, dict[str, str], bytes]]:
    """A server that says this to everything."""
    choice = {"message": {"content": text}, "finish_reason": reason}
    body = json.dumps({"choices": [choice], "usage": {"prompt_tokens": 20, "completion_tokens": 9}}).encode()
    return lambda _: (200, {}, body)


def completed(folder: Path, always: Callable[[Any], Any]) -> Artifact:
    with serving() as running:
        running.book.always = always
        teacher = {"kind": "api", "base_url": running.url, "model": "m"}
        prompts = write_lines(folder / "p.jsonl", PROMPTS)
        complete = {"prompts": [prompts], "pool": dict.fromkeys(("one", "two"), teacher), "models_per_prompt": 2}
        recipe = write_recipe(folder, complete=complete)
        stage("complete", "complete", {"prompts": [prompts]}, folder / "complete", recipe=recipe)
    return Artifact.open(folder / "complete")


def rated(folder: Path, always: Callable[[Any], Any], answers: Sequence[str] = ("A.", "B."), **settings: Any) -> Artifact:
    rows = [{**p, "completions": [{"model": f"m{i}", "response": a} for i, a in enumerate(answers)]} for p in PROMPTS]
    with serving() as running:
        running.book.always = always
        judge = {"kind": "api", "base_url": running.url, "model": "judge"}
        file = write_lines(folder / "c.jsonl", rows)
        recipe = write_recipe(folder, rate={"data": [file], "teacher": judge, **settings})
        stage("rate", "rate", {"completions": [file]}, folder / "rate", recipe=recipe)
    return Artifact.open(folder / "rate")


@pytest.mark.parametrize("reason", ["unknown", "refused"])
def test_an_answer_that_a_server_ends_with_a_word_of_ours_is_an_answer(tmp_path: Path, reason: str) -> None:
    """It was paid for; `unknown` without an answer, and `refused`, are what we write of what did not come."""
    made = completed(tmp_path, saying("A whole answer.", reason))
    answers = [c for row in rows_of(made.path) for c in row["completions"]]
    assert [(c["response"], c["finish_reason"]) for c in answers] == [("A whole answer.", reason)] * 6
    assert made.manifest.dropped == {} and made.manifest.results["finish_reasons"] == {reason: 6}
    judged = rated(tmp_path, saying(json.dumps(RATING), reason))
    assert [c["overall_score"] for row in rows_of(judged.path) for c in row["completions"]] == [5] * 6
    assert judged.manifest.dropped == {}


@pytest.mark.parametrize("reason", ["unknown", "refused"])
def test_neither_the_benchmarks_nor_a_conversation_take_it_for_none(tmp_path: Path, reason: str) -> None:
    request = Request("rate", "p", ({"role": "user", "content": "A or B?"},))
    reply = Reply(request, "[[A]]", reason, 29)
    with draft(tmp_path / "answer", stage="s", key="k", config={}, parents={}) as out:
        assert answer._counted([reply], out, "m") == {"answers": 1, "empty": 0, "cut_off": 0}
    assert out.manifest.notes == []
    with serving() as running, draft(tmp_path / "judge", stage="s", key="k", config={}, parents={}) as out:
        running.book.always = saying("[[A]]", reason)
        teacher = APIConfig(kind="api", base_url=running.url, model="judge")
        config = judge.Config.model_construct(teacher=teacher, budget=BudgetConfig(), seed=0)
        found = judge._asked(config, Inputs({}, {}), {request: cast("Any", None)}, out)
    assert [r.text for r in found.values()] == ["[[A]]"] and out.manifest.notes == []
    question = steps.Ask("assistant", request.messages, lambda text, cut: text, "turn")
    assert steps._read(question, reply) == "[[A]]"


# --- a reply that cannot be quoted -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("protocol", "odd"),
    [
        ("each", {"\ud83d": 1}),
        ("each", {**RATING, "annotations": {"\ud83d": {"x": 1}}}),
        ("together", {"answers": {"\ud83d": {}}}),
    ],
)
def test_half_a_character_as_a_key_is_asked_about_once_more(tmp_path: Path, protocol: str, odd: dict[str, Any]) -> None:
    """A JSON escape makes it; the judge is told of it as of any other key."""
    good = {"answers": {"1": RATING, "2": RATING}} if protocol == "together" else RATING
    made = rated(tmp_path, lambda body: saying(json.dumps(odd if len(body["messages"]) == 2 else good))(body), protocol=protocol)
    assert [c["overall_score"] for row in rows_of(made.path) for c in row["completions"]] == [5] * 6
    assert made.manifest.results["asked_twice"] == (3 if protocol == "together" else 6) and made.manifest.dropped == {}
