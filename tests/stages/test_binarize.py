"""Scores to pairs: who is chosen, who is rejected, and what becomes of the rest."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import small
import zephyr
from zephyr.api import stage
from zephyr.artifacts import Artifact
from zephyr.errors import DataError
from zephyr.records import prompt_id_of

if TYPE_CHECKING:
    from conftest import SmallRun


@pytest.fixture(autouse=True)
def _cache(own_cache: Path) -> None:
    """Hashes of inputs go to a cache of the test's own."""


def rated(prompt: str, *answers: tuple[str, str, int | None]) -> dict[str, Any]:
    """A prompt with (model, text, overall score) answers; each aspect is half the score, rounded down."""
    completions: list[dict[str, Any]] = []
    for model, text, score in answers:
        completions.append({"model": model, "response": text, "overall_score": score, "critique": "", "annotations": None})
        if score is not None:
            completions[-1]["annotations"] = {"helpfulness": {"rating": max(1, score // 2), "rationale": "so"}}
    return {"prompt": prompt, "prompt_id": prompt_id_of(prompt), "completions": completions}


def binarize(folder: Path, rows: list[dict[str, Any]], *settings: str, seed: int = 0) -> tuple[Artifact, dict[str, dict[str, Any]]]:
    """The artifact, and its pairs by prompt."""
    file = small.write_lines(folder / "rows.jsonl", rows)
    out = folder / "out"
    stage("binarize", "binarize", {"ratings": [str(file)]}, out, settings=["test_fraction=0.0", *settings], seed=seed)
    artifact = Artifact.open(out)
    return artifact, {row["prompt"]: row for row in artifact.rows("train")}


def four(n: int) -> list[dict[str, Any]]:
    """`n` prompts, each with a best answer and three lower ones of ranks 2 to 4, in an order of their own."""
    rows = []
    for i in range(n):
        answers = [("a", f"best {i}", 10), ("b", f"good {i}", 8), ("c", f"fair {i}", 5), ("d", f"poor {i}", 2)]
        rows.append(rated(f"prompt {i}", *answers[i % 4 :], *answers[: i % 4]))
    return rows


# --- chosen and rejected -----------------------------------------------------------------------------------------


def test_the_best_is_chosen_and_each_other_rank_rejected_about_equally(tmp_path: Path) -> None:
    n = 1200
    _, pairs = binarize(tmp_path, four(n), "score=overall")
    assert len(pairs) == n
    assert {p["chosen_model"] for p in pairs.values()} == {"a"}
    assert all(p["chosen"][-1]["content"].startswith("best") and p["score_chosen"] == 10 for p in pairs.values())
    drawn = Counter(p["rejected_model"] for p in pairs.values())
    assert set(drawn) == {"b", "c", "d"}
    # three equal chances: 400 expected, standard deviation 16.3; four of them
    assert all(abs(count - n / 3) < 4 * (n * 2 / 9) ** 0.5 for count in drawn.values()), drawn


def test_the_order_of_rows_and_answers_does_not_matter(tmp_path: Path) -> None:
    rows = four(60)
    turned = [{**row, "completions": row["completions"][::-1]} for row in rows[::-1]]
    _, one = binarize(tmp_path / "1", rows)
    _, two = binarize(tmp_path / "2", turned)
    places = ("chosen_position", "rejected_position")
    assert all(one[p][place] == 3 - two[p][place] for p in one for place in places)
    assert [{**pair, **dict.fromkeys(places)} for _, pair in sorted(one.items())] == [
        {**pair, **dict.fromkeys(places)} for _, pair in sorted(two.items())
    ]
    _, alone = binarize(tmp_path / "3", rows[7:8])
    assert alone["prompt 7"] == one["prompt 7"]


def test_the_position_of_an_answer_says_nothing_about_its_being_rejected(tmp_path: Path) -> None:
    rows = four(900)
    _, pairs = binarize(tmp_path, rows)
    at = Counter()
    for row in rows:
        others = [c["model"] for c in row["completions"] if c["model"] != "a"]
        at[others.index(pairs[row["prompt"]]["rejected_model"])] += 1
    assert all(abs(count - 300) < 4 * (900 * 2 / 9) ** 0.5 for count in at.values()), at


def test_another_seed_draws_others(tmp_path: Path) -> None:
    _, one = binarize(tmp_path / "1", four(60), seed=1)
    _, two = binarize(tmp_path / "2", four(60), seed=2)
    changed = sum(one[p]["rejected_model"] != two[p]["rejected_model"] for p in one)
    assert 20 < changed < 60  # two thirds of 60 expected
    assert all(one[p]["chosen"] == two[p]["chosen"] for p in one)


def test_lowest_takes_the_worst(tmp_path: Path) -> None:
    _, pairs = binarize(tmp_path, four(20), "rejected=lowest")
    assert {p["rejected_model"] for p in pairs.values()} == {"d"}


def test_the_score_is_the_mean_of_the_aspects_or_the_overall_one(tmp_path: Path) -> None:
    def row(model: str, aspects: tuple[int, int], overall: int) -> dict[str, Any]:
        names = ("honesty", "helpfulness")
        annotations = {n: {"rating": r, "rationale": ""} for n, r in zip(names, aspects, strict=True)}
        return {"model": model, "response": model, "annotations": annotations, "overall_score": overall, "critique": ""}

    rows = [{"prompt": "p", "completions": [row("x", (5, 4), 6), row("y", (3, 3), 9)]}]
    _, mean = binarize(tmp_path / "mean", rows)
    assert (mean["p"]["chosen_model"], mean["p"]["score_chosen"], mean["p"]["score_rejected"]) == ("x", 4.5, 3.0)
    _, overall = binarize(tmp_path / "overall", rows, "score=overall")
    assert (overall["p"]["chosen_model"], overall["p"]["score_chosen"], overall["p"]["score_rejected"]) == ("y", 9.0, 6.0)


def test_among_several_best_one_is_drawn_and_no_equal_is_rejected(tmp_path: Path) -> None:
    rows = [rated(f"p{i}", ("a", "one", 9), ("b", "two", 9), ("c", "three", 4)) for i in range(200)]
    _, pairs = binarize(tmp_path, rows)
    chosen = Counter(p["chosen_model"] for p in pairs.values())
    assert set(chosen) == {"a", "b"} and abs(chosen["a"] - 100) < 4 * 50**0.5
    assert {p["rejected_model"] for p in pairs.values()} == {"c"}


def test_what_makes_no_pair_is_dropped_with_its_reason(tmp_path: Path) -> None:
    rows = [
        rated("fine", ("a", "good", 9), ("b", "bad", 2)),
        rated("tie", ("a", "one", 6), ("b", "two", 6)),
        rated("same text", ("a", "Yes.", 9), ("b", " Yes.\n", 4)),
        rated("empty answers", ("a", "good", 9), ("b", "  ", 2)),
        rated("one answer", ("a", "good", 9)),
    ]
    artifact, pairs = binarize(tmp_path, rows, "score=overall")
    assert set(pairs) == {"fine"}
    assert artifact.manifest.dropped == {
        "all answers tie": 1,
        "every answer that may be rejected says the same as the best": 1,
        "fewer than two rated answers": 2,
    }
    assert artifact.manifest.rows_in == 5 == sum(artifact.manifest.rows_out.values()) + sum(artifact.manifest.dropped.values())
    kept = [json.loads(line) for line in (artifact.path / "dropped" / "dropped.jsonl").read_text().splitlines()]
    assert {(d["reason"], d["row"]["prompt"]) for d in kept} >= {("all answers tie", "tie"), ("fewer than two rated answers", "one answer")}


def test_an_equal_text_with_a_lower_score_is_passed_over(tmp_path: Path) -> None:
    rows = [rated(f"p{i}", ("a", "Yes.", 9), ("b", "Yes.", 4), ("c", "No.", 2)) for i in range(20)]
    _, pairs = binarize(tmp_path, rows)
    assert {p["rejected_model"] for p in pairs.values()} == {"c"}


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    with no_pair_is_left():
        binarize(tmp_path, [rated("tie", ("a", "one", 6), ("b", "two", 6))])
    assert not (tmp_path / "out").exists()


@contextmanager
def no_pair_is_left() -> Iterator[None]:
    with pytest.raises(
        DataError, match=r"binarize: no pair is left; dropped were 1 \((all answers tie|the scores tie|fewer than two rated answers)\)"
    ):
        yield


# --- ready-made pairs --------------------------------------------------------------------------------------------


def pair(prompt: str, chosen: str, rejected: str, *scores: float) -> dict[str, Any]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **dict(zip(("score_chosen", "score_rejected"), scores, strict=False))}


def test_ties_and_contradictions_of_ready_made_pairs_are_dropped(tmp_path: Path) -> None:
    rows = [
        pair("p1", "A", "B", 8, 3),
        pair("p2", "A", "B", 5, 5),
        pair("p3", "A", "B", 3, 8),
        pair("p4", "A", "B"),
        pair("p1", "A", "B", 8, 3),
        pair("p1", "A", "C", 8, 1),
        pair("p5", "A", " A ", 8, 3),
    ]
    artifact, _ = binarize(tmp_path, rows, "invalid=drop")
    assert [(r["prompt"], r["rejected"][-1]["content"]) for r in artifact.rows("train")] == [("p1", "B"), ("p4", "B"), ("p1", "C")]
    assert artifact.manifest.dropped == {
        "the scores tie": 1,
        "the rejected answer has the higher score": 1,
        "duplicate of an earlier row": 1,
        "invalid: `chosen` and `rejected` are the same answer: a preference needs two": 1,
    }


def test_pairs_of_several_turns_keep_them(tmp_path: Path) -> None:
    before = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}, {"role": "user", "content": "And?"}]
    row = {k: [*before, {"role": "assistant", "content": text}] for k, text in (("chosen", "good"), ("rejected", "bad"))}
    other = {k: [{"role": "user", "content": "Q"}, v[-1]] for k, v in row.items()}  # the same prompt and answers, without the turns between
    artifact, _ = binarize(tmp_path, [row, other])
    assert [len(r["chosen"]) for r in artifact.rows("train")] == [4, 2]


def test_a_thousand_real_pairs_are_all_accounted_for(tmp_path: Path, shared: Path) -> None:
    """111 of them tie (one of these has equal texts as well), four have equal texts, and two an empty answer."""
    source = shared / "data" / "feedback" / "ultrafeedback_binarized_1k.jsonl.gz"
    stage("binarize", "binarize", {"ratings": [str(source)]}, tmp_path / "out", settings=["invalid=drop"])
    artifact = Artifact.open(tmp_path / "out")
    assert artifact.manifest.rows_in == 1000
    assert artifact.manifest.dropped == {
        "the scores tie": 110,
        "invalid: `chosen` and `rejected` are the same answer: a preference needs two": 4,
        "invalid: `chosen` is empty": 1,
        "invalid: `rejected` is empty": 1,
    }
    assert sum(artifact.manifest.rows_out.values()) == 1000 - 116
    kept = [row for split in artifact.splits() for row in artifact.rows(split)]
    assert all(row["score_chosen"] > row["score_rejected"] for row in kept)
    aside = [json.loads(line) for line in (artifact.path / "dropped" / "dropped.jsonl").read_text(encoding="utf-8").splitlines()]
    with gzip.open(source, "rt", encoding="utf-8") as file:
        given = [json.loads(line)["prompt"] for line in file]
    assert sorted([row["prompt"] for row in kept] + [line["row"]["prompt"] for line in aside]) == sorted(given)


def test_without_leave_to_drop_the_first_bad_pair_is_named(tmp_path: Path, shared: Path) -> None:
    source = shared / "data" / "feedback" / "ultrafeedback_binarized_1k.jsonl.gz"
    with pytest.raises(DataError, match=r"binarize: .*1k.jsonl.gz:\d+: (?s:.*)6 of 1000 rows cannot be used.*`invalid: drop`"):
        stage("binarize", "binarize", {"ratings": [str(source)]}, tmp_path / "out")


@pytest.mark.parametrize("stage_name", ["evaluate", "sft"])
def test_an_artifact_of_another_kind_is_refused_in_one_line(small_run: SmallRun, tmp_path: Path, stage_name: str) -> None:
    path = small_run.out / stage_name
    with pytest.raises(DataError) as caught:
        stage("binarize", "binarize", {"ratings": [str(path)]}, tmp_path / "out")
    assert str(caught.value) == (
        f"binarize: {path}: holds what {stage_name} made, which has no train or test rows; "
        "give what synthesize, curate, complete, rate or binarize made, or a file of rows"
    )


def test_ratings_as_ultrafeedback_was_published_make_pairs(tmp_path: Path) -> None:
    """Texts as ratings, `N/A` among them, and names of its own for prompt and reasons."""

    def answer(model: str, *ratings: str) -> dict[str, Any]:
        annotations = {n: {"Rating": r, "Rationale": "so"} for n, r in zip(("honesty", "helpfulness"), ratings, strict=True)}
        return {"model": model, "response": model, "annotations": annotations, "overall_score": 7.0, "critique": "", "principle": "honesty"}

    rows = [
        {"source": "flan", "instruction": "p", "completions": [answer("x", "N/A", "5"), answer("y", "4", "3")]},
        {"source": "flan", "instruction": "q", "completions": [answer("x", "9", "5"), answer("y", "4", "3")]},
    ]
    file = small.write_lines(tmp_path / "rows.jsonl", rows)
    values = {"path": str(file), "split": "train", "columns": {"prompt": "instruction"}}
    recipe = {"name": "r", "model": {"path": "m"}, "binarize": {"data": [values], "invalid": "drop"}}
    zephyr.run(small.write_recipe(tmp_path / "r.yaml", recipe), out=tmp_path / "run", only="binarize")
    artifact = Artifact.open(tmp_path / "run" / "binarize")
    (pair,) = artifact.rows("train")
    assert (pair["prompt"], pair["chosen_model"], pair["score_chosen"], pair["score_rejected"]) == ("p", "x", 5.0, 3.5)
    (reason,) = artifact.manifest.dropped
    assert reason.endswith("`annotations.honesty.Rating` is '9', not one of the texts '1' to '5' or 'N/A'")


def test_a_share_of_a_source_is_another_input(tmp_path: Path) -> None:
    file = small.write_lines(tmp_path / "rows.jsonl", four(60))
    kept, keys = [], []
    for weight in (1.0, 0.5, 0.25):
        source = {"path": str(file), "split": "train", **({} if weight == 1.0 else {"weight": weight})}
        recipe = {"name": "r", "model": {"path": "m"}, "binarize": {"data": [source]}}
        zephyr.run(small.write_recipe(tmp_path / "r.yaml", recipe), out=tmp_path / "run", only="binarize")
        artifact = Artifact.open(tmp_path / "run" / "binarize")
        kept.append({row["prompt"] for row in artifact.rows("train")})
        keys.append(artifact.manifest.key)
        left = 60 - len(kept[-1])
        assert artifact.manifest.dropped == {} and artifact.manifest.rows_in == 60
        assert [note.split(" rows were")[0] for note in artifact.manifest.notes] == ([f"{file}: {left} train"] if left else [])
    assert kept[0] > kept[1] > kept[2] and len(set(keys)) == 3
