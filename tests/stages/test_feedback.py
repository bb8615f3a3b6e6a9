"""Completions and ratings: which models are drawn, what is asked again, what is counted and what stops a stage."""

from __future__ import annotations

import contextlib
import gc
import json
import shutil
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import small
from zephyr.api import stage
from zephyr.artifacts import Artifact
from zephyr.errors import DataError
from zephyr.recipe import load
from zephyr.records import ASPECTS
from zephyr.report import trust
from zephyr.report.facts import Run
from zephyr.stages import Needs, complete, rate
from zephyr.teachers import Reply, Request, ask


@pytest.fixture(autouse=True)
def _cache(own_cache: Path) -> None:
    """Hashes of inputs go to a cache of the test's own."""


def recipe(folder: Path, **changes: dict[str, Any]) -> Path:
    values = small.recipe(folder / "data", Path("nowhere/model"))
    for section, settings in changes.items():
        values[section] |= settings
    return small.write_recipe(folder / "recipe.yaml", values)


def completions(folder: Path, rows: list[dict[str, Any]]) -> Path:
    bare = [{**r, "completions": [{"model": c["model"], "response": c["response"]} for c in r["completions"]]} for r in rows]
    return small.write_lines(folder / "completions.jsonl", bare)


# --- complete ----------------------------------------------------------------------------------------------------


def test_models_are_drawn_by_hash_of_seed_prompt_and_model() -> None:
    pool = list("abcdefgh")
    drawn = {f"p{i}": complete.draw(pool, 4, 0, f"p{i}") for i in range(2000)}
    assert all(len(set(names)) == 4 and names == sorted(names) for names in drawn.values())
    counts = Counter(name for names in drawn.values() for name in names)
    assert all(abs(n - 1000) < 4 * 500**0.5 for n in counts.values()), counts  # each in half of the prompts
    assert drawn["p7"] == complete.draw(pool, 4, 0, "p7")
    assert set(complete.draw(pool[::-1], 4, 0, "p7")) == set(drawn["p7"])
    assert sum(complete.draw(pool, 4, 1, p) != names for p, names in drawn.items()) > 1500


def test_every_prompt_has_the_answers_of_its_models(tmp_path: Path) -> None:
    values = recipe(tmp_path, complete={"models_per_prompt": 3})
    prompts = tmp_path / "data" / "feedback"
    stage("complete", "complete", {"prompts": [str(prompts)]}, tmp_path / "out", recipe=values)
    artifact = Artifact.open(tmp_path / "out")
    rows = artifact.rows("train") + artifact.rows("test")
    recorded = {(r["prompt_id"], c["model"]): c["response"] for r in small.feedback() for c in r["completions"]}
    assert len(rows) == 10
    for row in rows:
        assert {c["model"] for c in row["completions"]} == set(complete.draw(sorted(small.POOL), 3, 3, row["prompt_id"]))
        assert all(recorded[row["prompt_id"], c["model"]] == c["response"] for c in row["completions"])
    assert len({tuple(c["model"] for c in r["completions"]) for r in rows}) > 4, "the answers stand in the same order everywhere"
    assert artifact.manifest.results["replayed"] is True


def test_a_missing_recording_stops_the_stage(tmp_path: Path) -> None:
    values = recipe(tmp_path)
    prompts = small.write_lines(tmp_path / "p.jsonl", [{"prompt": "Never asked?"}])
    with pytest.raises(DataError, match=r"complete: .*feedback: no answer of 'amber' to 'Never asked\?' was recorded"):
        stage("complete", "complete", {"prompts": [str(prompts)]}, tmp_path / "out", recipe=values)
    assert not (tmp_path / "out").exists()


# --- rate --------------------------------------------------------------------------------------------------------


class Fickle:
    """Writes nonsense for some answers: the first time, or always."""

    def __init__(self, once: set[str], always: set[str]) -> None:
        self.once, self.always = once, always
        self.asked: list[Request] = []

    def answer(self, requests: Sequence[Request]) -> Iterator[Reply]:
        annotations = {name: {"rationale": "so", "rating": 3} for name in ASPECTS}
        text = json.dumps({"annotations": annotations, "critique": "c", "overall_score": 5})
        for request in reversed(requests):  # in whatever order they get done
            first = all(request.subject != r.subject or request.prompt_id != r.prompt_id for r in self.asked)
            self.asked.append(request)
            bad = request.author in self.always or (request.author in self.once and first)
            yield Reply(request, "Well, 3 of 5." if bad else text, "stop", 7)


class Desk:
    """Stands where the teachers of a stage stand."""

    def __init__(self, teacher: Any) -> None:
        self.teacher = teacher

    def replies(self, requests: Mapping[str, Sequence[Request]]) -> Iterator[tuple[str, Reply]]:
        for name, theirs in requests.items():
            yield from ((name, reply) for reply in self.teacher.answer(theirs))

    def status(self, left: int) -> str:
        return ""

    def bill(self) -> dict[str, Any]:
        return {}


def rated(
    tmp_path: Path, teacher: Any, monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]] | None = None, **settings: Any
) -> Artifact:
    monkeypatch.setattr(ask, "opened", lambda *_, **__: contextlib.nullcontext(Desk(teacher)))
    values = recipe(tmp_path, rate=settings)
    file = completions(tmp_path, rows or small.feedback())
    stage("rate", "rate", {"completions": [str(file)]}, tmp_path / "out", recipe=values)
    return Artifact.open(tmp_path / "out")


def test_what_cannot_be_read_is_asked_for_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = Fickle({"amber", "birch"}, set())
    artifact = rated(tmp_path, teacher, monkeypatch)
    assert len(teacher.asked) == 40 + 20
    again = teacher.asked[40:]
    assert {r.author for r in again} == {"amber", "birch"} and all(len(r.messages) == 4 for r in again)
    assert artifact.manifest.dropped == {} and artifact.manifest.results["unparsed"] == 0
    assert artifact.manifest.tokens == 60 * 7
    assert all(c["overall_score"] == 5 for split in artifact.splits() for r in artifact.rows(split) for c in r["completions"])


def test_which_model_rated_is_kept_beside_each_rating(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the server called it; an alias that moved meanwhile is said. What no server names leaves the rows as they were."""

    class Moved(Fickle):
        def answer(self, requests: Sequence[Request]) -> Iterator[Reply]:
            for reply in super().answer(requests):
                yield replace(reply, served="gpt-4-1106" if reply.request.author == "amber" else "gpt-4-0613")

    artifact = rated(tmp_path, Moved(set(), set()), monkeypatch)
    answers = [c for split in artifact.splits() for r in artifact.rows(split) for c in r["completions"]]
    assert all(c["rated_by"] == ("gpt-4-1106" if c["model"] == "amber" else "gpt-4-0613") for c in answers)
    assert artifact.manifest.results["served"] == {"gpt-4-0613": 30, "gpt-4-1106": 10}
    assert any("several models" in n and "(ratings of each: gpt-4-0613 30, gpt-4-1106 10)" in n for n in artifact.manifest.notes)
    (tmp_path / "silent").mkdir()
    silent = rated(tmp_path / "silent", Fickle(set(), set()), monkeypatch)
    answers = [c for split in silent.splits() for r in silent.rows(split) for c in r["completions"]]
    assert {c["rated_by"] for c in answers} == {None} and "served" not in silent.manifest.results
    assert not any("several models" in n for n in silent.manifest.notes)


def test_a_server_of_many_names_makes_no_long_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows keep the name that came with each reply."""

    class Renamed(Fickle):
        def answer(self, requests: Sequence[Request]) -> Iterator[Reply]:
            for i, reply in enumerate(super().answer(requests)):
                yield replace(reply, served=f"build {i:02}")

    artifact = rated(tmp_path, Renamed(set(), set()), monkeypatch)
    names = {c["rated_by"] for split in artifact.splits() for r in artifact.rows(split) for c in r["completions"]}
    assert names == {f"build {i:02}" for i in range(40)}
    counts = {**{f"build {i:02}": 1 for i in range(5)}, "… and 35 more names": 35}
    assert artifact.manifest.results["served"] == counts
    table = trust.hygiene(Run({"rate": artifact}))
    assert table is not None
    (found,) = (row[1] for row in table.rows if row[0].endswith("as its server calls it"))
    assert found.endswith("build 04 in 1 ratings, … and 35 more names in 35 ratings") and found.count(",") == 5


def test_what_cannot_be_read_twice_is_set_aside_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = rated(tmp_path, Fickle(set(), {"cedar"}), monkeypatch, max_unparsed=0.25)
    assert artifact.manifest.dropped == {"the teacher's reply could not be read": 10}
    assert artifact.manifest.results["unparsed"] == 10
    rows = [r for split in artifact.splits() for r in artifact.rows(split)]
    assert {len(r["completions"]) for r in rows} == {3} and len(rows) == 10
    assert "Well, 3 of 5." in (artifact.path / "dropped" / "dropped.jsonl").read_text()


def test_too_much_of_it_stops_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"rate: 10 of 40 ratings could not be read \(the first: not one JSON object.*max_unparsed \(24%\)"):
        rated(tmp_path, Fickle(set(), {"cedar"}), monkeypatch, max_unparsed=0.24)


def test_a_prompt_with_one_rating_left_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{**r, "completions": r["completions"][:2]} if i == 0 else r for i, r in enumerate(small.feedback())]
    lost = rows[0]["completions"][0]["model"]
    artifact = rated(tmp_path, Fickle(set(), {lost}), monkeypatch, rows, max_unparsed=1.0)
    assert artifact.manifest.dropped["fewer than two rated answers"] == 1


def test_an_empty_answer_is_not_rated_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = small.feedback()
    rows[0]["completions"][1]["response"] = " \n"
    teacher = Fickle(set(), set())
    artifact = rated(tmp_path, teacher, monkeypatch, rows)
    assert len(teacher.asked) == 39
    assert artifact.manifest.dropped == {"the answer is empty": 1}


def test_a_teacher_that_leaves_a_request_without_a_reply_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(Fickle):
        def answer(self, requests: Sequence[Request]) -> Iterator[Reply]:
            yield from super().answer(list(requests)[1:])

    with pytest.raises(DataError, match="left 1 of 40 requests without a reply"):
        rated(tmp_path, Silent(set(), set()), monkeypatch)


class Choosy(Fickle):
    """Cannot be sent what some models said; cannot have its own nonsense quoted back either."""

    def __init__(self, refused: set[str], always: set[str], quotable: bool = True) -> None:
        super().__init__(set(), always)
        self.refused, self.quotable = refused, quotable

    def answer(self, requests: Sequence[Request]) -> Iterator[Reply]:
        for request in requests:
            if request.author in self.refused or (len(request.messages) > 2 and not self.quotable):
                self.asked.append(request)
                yield Reply(request, "", "refused", 0, "turn 1 (user) contains the control token '</s>'")
            else:
                yield from super().answer([request])


def test_what_cannot_be_put_to_the_teacher_is_no_fault_of_its_replies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = Choosy({"birch"}, set())
    artifact = rated(tmp_path, teacher, monkeypatch, max_unparsed=0.0)
    assert len(teacher.asked) == 40, "asked twice"
    assert artifact.manifest.dropped == {"the request could not be put to the teacher": 10}
    assert artifact.manifest.results["unparsed"] == 0
    assert "contains the control token '</s>'" in (artifact.path / "dropped" / "dropped.jsonl").read_text()
    assert {len(r["completions"]) for split in artifact.splits() for r in artifact.rows(split)} == {3}


def test_a_reply_that_cannot_be_quoted_stays_one_that_could_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = rated(tmp_path, Choosy(set(), {"cedar"}, quotable=False), monkeypatch, max_unparsed=0.25)
    assert artifact.manifest.dropped == {"the teacher's reply could not be read": 10}
    assert "Well, 3 of 5." in (artifact.path / "dropped" / "dropped.jsonl").read_text()


def test_a_teacher_that_can_be_asked_nothing_stops_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"rate: none of 40 requests could be put to the teacher \(the first: turn 1"):
        rated(tmp_path, Choosy(set(small.POOL), set()), monkeypatch)


def test_recorded_ratings_go_through_the_parser(tmp_path: Path) -> None:
    """A recording without reasons cannot pass where a live teacher's reply could not."""
    values = recipe(tmp_path)
    rows = small.feedback()
    for row in rows:
        row["completions"][0]["annotations"]["honesty"]["rationale"] = ""
    for split, part in (("train", rows[:6]), ("test", rows[6:])):
        small.write_lines(tmp_path / "data" / "feedback" / f"{split}.jsonl", part)
    file = completions(tmp_path, rows)
    with pytest.raises(DataError, match=r"10 of 40 ratings could not be read .*a rationale is missing or empty"):
        stage("rate", "rate", {"completions": [str(file)]}, tmp_path / "out", recipe=values)


# --- a live model ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with a chat template of its own."""
    import tiny

    folder = small.model_folder(tmp_path_factory.mktemp("chatty") / "model")
    tiny.byte_tokenizer().save_pretrained(folder)
    return folder


def test_a_local_model_answers(tmp_path: Path, chatty: Path) -> None:
    pool = {name: {"kind": "local", "path": str(chatty), "max_new_tokens": 5} for name in ("one", "two")}
    values = recipe(tmp_path, complete={"pool": pool, "models_per_prompt": 2})
    prompts = [{"prompt": q} for q, _ in small.QUESTIONS[:3]] + [{"prompt": "An <|im_end|> inside."}]
    file = str(small.write_lines(tmp_path / "p.jsonl", prompts))

    def answers(out: str) -> dict[str, dict[str, tuple[str, str]]]:
        stage("complete", "complete", {"prompts": [file]}, tmp_path / out, recipe=values, settings=["test_fraction=0.0"])
        rows = Artifact.open(tmp_path / out).rows("train")
        return {r["prompt"]: {c["model"]: (c["response"], c["finish_reason"]) for c in r["completions"]} for r in rows}

    first = answers("a")
    assert set(first) == {p["prompt"] for p in prompts}
    assert first["An <|im_end|> inside."] == {"one": ("", "refused"), "two": ("", "refused")}
    told = [a for prompt, by_model in first.items() if "inside" not in prompt for a in by_model.values()]
    assert len({text for text, _ in told}) == 6, "two names with one model must not give the same sample"
    assert {reason for _, reason in told} <= {"stop", "length"}
    assert answers("b") == first
    manifest = Artifact.open(tmp_path / "a").manifest
    assert manifest.tokens > 0 and manifest.results["finish_reasons"]["refused"] == 2 and manifest.results["replayed"] is False
    assert manifest.parents["teacher one"]["path"] == str(chatty)


def test_one_model_of_the_pool_is_held_at_a_time(tmp_path: Path, chatty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zephyr.models import load as models

    held: list[weakref.ref[Any]] = []
    really = models.load_model

    def counted(*given: Any, **rest: Any) -> Any:
        gc.collect()
        assert [ref for ref in held if ref() is not None] == [], "the last model is still there"
        model = really(*given, **rest)
        held.append(weakref.ref(model))
        return model

    monkeypatch.setattr(models, "load_model", counted)
    pool = {
        name: {"kind": "local", "path": str(shutil.copytree(chatty, tmp_path / name)), "max_new_tokens": 2}
        for name in ("one", "two", "three")
    }
    values = recipe(tmp_path, complete={"pool": pool, "models_per_prompt": 2})
    file = str(small.write_lines(tmp_path / "p.jsonl", [{"prompt": q} for q, _ in small.QUESTIONS[:4]]))
    stage("complete", "complete", {"prompts": [file]}, tmp_path / "out", recipe=values)
    assert len(held) == 3


def test_a_judge_does_not_sample_unless_it_is_told_to(tmp_path: Path) -> None:
    def temperature(**teacher: Any) -> float:
        return float(rate.configure(load(recipe(tmp_path, rate={"teacher": {"path": "nowhere/judge", **teacher}}))).teacher.temperature)

    assert temperature(kind="local") == 0.0
    assert temperature(kind="local", temperature=1.0) == 1.0
    assert temperature(kind="local", temperature=0.3) == 0.3
    pool = {name: {"kind": "local", "path": "nowhere/model"} for name in ("one", "two")}
    answering = complete.configure(load(recipe(tmp_path, complete={"pool": pool, "models_per_prompt": 2}))).pool["one"]
    assert answering.kind == "local" and answering.temperature == 1.0


def test_a_local_model_that_cannot_judge_stops_the_stage(tmp_path: Path, chatty: Path) -> None:
    teacher = {"kind": "local", "path": str(chatty), "max_new_tokens": 8}
    values = recipe(tmp_path, rate={"teacher": teacher})
    file = completions(tmp_path, small.feedback()[:2])
    with pytest.raises(DataError, match=r"rate: 8 of 8 ratings could not be read .*use a stronger teacher"):
        stage("rate", "rate", {"completions": [str(file)]}, tmp_path / "out", recipe=values)


def test_a_judge_is_another_judge_when_its_weights_change(tmp_path: Path, chatty: Path) -> None:
    import shutil

    from zephyr import pipeline

    model = Path(shutil.copytree(chatty, tmp_path / "model"))
    values = load(recipe(tmp_path, rate={"teacher": {"kind": "local", "path": str(model)}}))
    needs = rate.needs(values)
    before = pipeline.bind("rate", rate.configure(values), Needs({}, needs.models), tmp_path, tmp_path / "out", tmp_path / "c")
    (model / "config.json").write_text((model / "config.json").read_text() + "\n")
    after = pipeline.bind("rate", rate.configure(values), Needs({}, needs.models), tmp_path, tmp_path / "out", tmp_path / "c")
    assert before.key != after.key
