"""From a number back to the raw reply of a teacher: the chain of a prompt, on the terminal and on the page."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import fake_run
import pytest

from zephyr import api
from zephyr.artifacts import Artifact, draft
from zephyr.errors import UsageError
from zephyr.records import ASPECTS, Completion, RatedPrompt, Rating
from zephyr.report import telling
from zephyr.stages import report as module
from zephyr.teachers import kept
from zephyr.teachers.journal import NAME, Journal, Sending, Settled

PROMPT = fake_run.rated()[1]  # of the test split


def said(rating: Rating) -> dict[str, Any]:
    """A rating as a teacher writes it."""
    annotations = {name: {"rationale": rating.rationales[name], "rating": rating.aspects[name]} for name in ASPECTS}
    return {"annotations": annotations, "critique": rating.critique, "overall_score": int(rating.overall_score or 0)}


def record(journal: Journal, stage: str, teacher: str, prompt_id: str, text: str, number: int = 0) -> None:
    key = hashlib.sha256(f"{stage}{teacher}{prompt_id}{text}{number}".encode()).digest()
    journal.record(Settled(Sending(key, stage, teacher, f"{teacher}-1", prompt_id, 0), "answered", text, "stop", 31, 17))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose journal holds every reply; the first rating came at the second attempt."""
    folder = tmp_path_factory.mktemp("runs") / "live"
    fake_run.make(folder, fake_run.WITH_JUDGE, replayed=False)
    with Journal(folder / NAME) as journal:
        for prompt in fake_run.rated():
            for c in prompt.completions:
                record(journal, "complete", c.model, prompt.prompt_id, c.response)
                assert c.rating is not None
                record(journal, "rate", "judge", prompt.prompt_id, f"```json\n{json.dumps(said(c.rating))}\n```")
        record(journal, "rate", "judge", PROMPT.prompt_id, "I would say four out of five.")
    return folder


def test_a_number_is_followed_to_the_reply(run: Path) -> None:
    found = api.trace(run, PROMPT.prompt_id[:10])
    assert found["prompt"] == PROMPT.prompt and found["split"] == "test"
    right = next(m for m in found["measured"] if (m["measure"], m["model"]) == ("reward_accuracy", "ddpo"))
    pairs = [(a, b) for a in range(4) for b in range(4) if right["scores"][a] > right["scores"][b]]
    assert right["value"] == sum(right["values"][a] > right["values"][b] for a, b in pairs) and right["n"] == 6
    for answer, c, value in zip(found["answers"], PROMPT.completions, right["values"], strict=True):
        assert answer["replies"]["answer"]["text"] == c.response == answer["response"]
        assert answer["replies"]["answer"]["teacher"] == c.model
        assert json.loads(answer["replies"]["rating"]["text"].strip("`json\n")) == said(c.rating)  # type: ignore[arg-type]
        assert answer["rewards"]["ddpo"] == value and answer["aspects"]["honesty"] == c.rating.aspects["honesty"]  # type: ignore[union-attr]
    assert [a["part"] for a in found["answers"]] == ["chosen", "", "", "rejected"]
    assert [reply["text"] for reply in found["unread"]] == ["I would say four out of five."]
    assert found["pairs"][0]["chosen_model"] == "atlas" and found["journal"].endswith(NAME)
    assert found["made_by"]["rate"] == Artifact.open(run / "rate").manifest.digest
    json.dumps(found, allow_nan=False)


def test_it_is_told_in_words(run: Path) -> None:
    text = telling.describe(api.trace(run, "opened by mistake" if "opened by mistake" in PROMPT.prompt else PROMPT.prompt[:30]))
    for expected in (
        f"prompt {PROMPT.prompt_id} (test, ",
        "pair (binarize ",
        "atlas over delta, scores 5 and 2; the rejected one is number 4 of 4",
        "answer 1 by atlas, chosen",
        "raw reply, rating:\n    judge (judge-1), stop, 31 + 17 tokens, request ",
        "of its 6 pairs in the order of the ratings",
        "replies of the teacher that no rating was read from:",
        "| I would say four out of five.",
    ):
        assert expected in text, expected


def test_answers_that_were_rated_together_have_one_reply(tmp_path: Path) -> None:
    shown = [2, 0, 3, 1]
    completions = tuple(
        Completion(c.model, c.response, rating=c.rating, position=k) for c, k in zip(PROMPT.completions, shown, strict=True)
    )
    prompt = RatedPrompt(PROMPT.prompt, PROMPT.prompt_id, completions)
    by_place = sorted(completions, key=lambda c: c.position or 0)
    answers = {str(i + 1): said(c.rating) for i, c in enumerate(by_place)}  # type: ignore[arg-type]
    swapped = {**answers, "1": answers["2"], "2": answers["1"]}
    with Journal(tmp_path / NAME) as journal:
        for number, value in enumerate((swapped, answers)):  # of another sampling: it does not say what was rated
            record(journal, "rate", "judge", PROMPT.prompt_id, json.dumps({"answers": value}), number)
    found, unread = kept.of_ratings(tmp_path / NAME, prompt)
    assert {json.dumps(json.loads(raw.text)["answers"]) for raw in found if raw} == {json.dumps(answers)} and None not in found
    assert [json.loads(raw.text)["answers"] for raw in unread] == [swapped]
    assert kept.of_ratings(tmp_path / "none.sqlite", prompt) == ([None] * 4, [])


def test_equal_answers_have_the_one_reply_that_was_asked_for(tmp_path: Path) -> None:
    """Two models that say the same are rated in one request; an answer that was rated otherwise has no part in it."""
    first, second = PROMPT.completions[0].rating, PROMPT.completions[1].rating
    assert first and second and first != second
    given = [("Paris.", first), ("Lyon.", second), ("Paris.", first), ("Paris.", second)]
    prompt = RatedPrompt(PROMPT.prompt, PROMPT.prompt_id, tuple(Completion(f"m{i}", a, rating=r) for i, (a, r) in enumerate(given)))
    with Journal(tmp_path / NAME) as journal:
        for rating in (first, second):
            record(journal, "rate", "judge", PROMPT.prompt_id, json.dumps(said(rating)))
    found, unread = kept.of_ratings(tmp_path / NAME, prompt)
    texts = [json.loads(raw.text) if raw else None for raw in found]
    assert texts == [said(first), said(second), said(first), None] and unread == []


def test_one_prompt_must_be_meant(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'a': \d+ prompts fit; give the id of one: [0-9a-f]{12} \('"):
        api.trace(run, "a")
    with pytest.raises(UsageError, match="no prompt of this run has that id, or these words"):
        api.trace(run, "nobody asked this")
    with pytest.raises(UsageError, match="no artifact of a run"):
        api.trace(tmp_path, "a")


def test_a_journal_of_a_newer_version_is_said_and_the_rest_is_shown(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    journal = tmp_path / "run" / NAME
    with contextlib.closing(sqlite3.connect(journal)) as db:
        db.execute("PRAGMA user_version = 99")
    found = api.trace(tmp_path / "run", PROMPT.prompt_id)
    assert found["journal"] is None and all(a["replies"] == {"answer": None, "rating": None} for a in found["answers"])
    said = " ".join(telling.describe(found).split())
    assert f"{journal}: was written by a newer version of zephyr; update zephyr." in said and PROMPT.prompt in said


def test_what_was_replayed_or_left_out_is_said(tmp_path: Path) -> None:
    fake_run.make(tmp_path, ("complete", "rate", "binarize"))
    found = api.trace(tmp_path, PROMPT.prompt_id)
    assert found["journal"] is None and all(a["replies"] == {"answer": None, "rating": None} for a in found["answers"])
    assert "complete and rate read recorded texts" in telling.describe(found)
    with draft(tmp_path / "dpo", stage="dpo", key="0" * 64, config={}, parents={}) as out:
        out.drop("an answer does not fit into dpo.max_length", f"prompt {PROMPT.prompt_id[:16]}", {"prompt": "…"})
    assert "left out by dpo: an answer does not fit" in telling.describe(api.trace(tmp_path, PROMPT.prompt_id))


def test_rows_that_are_gone_are_said(tmp_path: Path) -> None:
    fake_run.make(tmp_path, ("rate", "evaluate"))
    assert "are gone" not in telling.describe(api.trace(tmp_path, PROMPT.prompt_id))
    shutil.rmtree(tmp_path / "evaluate" / "data")
    assert "evaluate: its rows (the folder evaluate/data) are gone" in telling.describe(api.trace(tmp_path, PROMPT.prompt_id))


def test_a_verdict_is_followed_to_what_the_judge_said(run: Path) -> None:
    data = run / "judge" / "data"
    data.mkdir(exist_ok=True)
    rows = [
        {
            "question_id": 81,
            "model": "ddpo",
            "turn": turn,
            "user_prompt": "[question]\nWrite.",
            "judgment": f"Fine. [[{turn}]]",
            "score": turn,
        }
        for turn in (1, 2)
    ]
    (data / "mt_bench_judgments.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    games = {"g1_winner": "model_1", "g2_winner": "error", "g1_judgment": "The first. [[A]]", "g2_judgment": "Hm."}
    prompts = {"g1_user_prompt": "[question 82]", "g2_user_prompt": "[question 82, turned round]"}
    pair = {"question_id": 82, "turn": 2, "model_1": "ddpo", "model_2": "davinci", **games, **prompts}
    won = {**pair, "question_id": 83, "g2_winner": "model_1"}
    (data / "mt_bench_pair_judgments.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (pair, won)))
    verdict = {
        "instruction": "Do it.",
        "output_1": "no",
        "generator_1": "davinci",
        "output_2": "yes",
        "generator_2": "ddpo",
        "preference": 1.5,
    }
    both = [{"model_first": True, "reply": "[[A]]", "preference": 1.0}, {"model_first": False, "reply": "[[A]]", "preference": 1.0}]
    (data / "alpaca_eval.ddpo.annotations.json").write_text(json.dumps([{**verdict, "verdicts": both}]))
    text = telling.describe_judged(api.trace(run, "mt-bench 81"))
    assert "mt-bench 81, judged by gpt-4-0613" in text and "dDPO, turn 2: 2" in text and "| Fine. [[2]]" in text and "| Write." in text
    found = api.trace(run, "alpaca-eval 1")  # a judge that always likes the first: each verdict is its own, the mean says neither
    assert [(v["order"], v["score"]) for v in found["verdicts"]] == [(["ddpo", "davinci"], 1.0), (["davinci", "ddpo"], 1.0)]
    text = telling.describe_judged(found)
    first, second = text.split("\ndDPO: ")[1:]
    assert first.startswith("dDPO shown first, davinci second; the first, dDPO, is preferred\n  the two answers in the order shown:\n")
    assert second.startswith("davinci shown first, dDPO second; the first, davinci, is preferred\n")
    assert first.index("| yes") < first.index("| no") and second.index("| no") < second.index("| yes")
    text = telling.describe_judged(api.trace(run, "mt-bench 82"))  # judged in pairs alone
    assert "dDPO, turn 2: dDPO shown first, davinci second; the first, dDPO, is preferred\n" in text and "| The first. [[A]]" in text
    assert "dDPO, turn 2: davinci shown first, dDPO second; no verdict could be read\n" in text and "| [question 82, turned round]" in text
    assert [v["score"] for v in api.trace(run, "mt-bench 83")["verdicts"]] == [1.0, 2.0], "in the order shown"
    for wrong in ("mt-bench 84", "alpaca-eval 2", "alpaca-eval x"):
        with pytest.raises(UsageError, match="no verdict on that is here"):
            api.trace(run, wrong)


def test_the_page_follows_some_prompts_of_its_own_choice(run: Path) -> None:
    from zephyr.report import page, trace

    artifacts = {stage: Artifact.open(run / stage) for stage in fake_run.WITH_JUDGE if stage not in ("sft", "dpo")}  # no curves to draw
    ids = trace.worked(artifacts)
    assert ids == trace.worked(dict(reversed(artifacts.items()))) and 1 < len(ids) <= 3
    assert set(ids) <= {p.prompt_id for p in fake_run.rated()}
    text = page.render("live", "live", artifacts, order=module.ORDER, chains=[module.chain(artifacts, i) for i in ids])
    for i in range(1, len(ids) + 1):
        assert f'href="#chain-{i}"' in text and f'id="chain-{i}"' in text
    assert "judge (judge-1), stop, 31 + 17 tokens" in text and "The rating, as it came" in text
    assert "<script" not in text and "<img" not in text
