"""What is in both splits, and what is there twice: any number of rows are curated as `sources.collect` collects them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from curating import WORDS, contents, dropped, lines, run, turned
from zephyr import sources
from zephyr.artifacts import draft
from zephyr.errors import DataError
from zephyr.recipe import DataSource
from zephyr.records import parse_dialogue, prompt_id_of


def test_a_row_that_is_given_for_train_and_for_test_leaves_train(tmp_path: Path) -> None:
    rows = [turned([f"Question {i}?", "Yes."]) for i in range(5)]
    data = [
        DataSource(path=str(lines(tmp_path / f"{split}.jsonl", its)), split=split)  # type: ignore[arg-type]
        for split, its in (("train", [*rows, rows[4]]), ("test", rows[2:4]))
    ]
    with pytest.raises(DataError, match=r"^2 prompts are in both train and test, .*first: .*/train\.jsonl:3 and .*/test\.jsonl:1\)"):
        run(tmp_path / "refused", data)
    artifact = run(tmp_path / "out", data, {"invalid": "drop"})
    assert artifact.manifest.rows_out == {"train": 3, "test": 2}
    assert artifact.manifest.dropped == {"duplicate of an earlier row": 1, "the prompt is in the test split, too": 2}
    drawn = run(tmp_path / "drawn", [data[0].model_copy(update={"split": None}), data[1]], {"test_fraction": 0.0})
    assert contents(drawn) == contents(artifact), "a row whose split was drawn gives way without being asked"


@pytest.mark.parametrize("seed", range(12))
def test_any_rows_are_divided_as_they_are_collected(tmp_path: Path, seed: int) -> None:
    """Few texts and ids, so that rows meet in every way: in one split or two, drawn or given, with the same words or an id of their own."""
    rng = random.Random(seed)
    data = []
    for i in range(4):
        path = lines(tmp_path / f"{i}.jsonl", [_row(rng) for _ in range(rng.randint(1, 12))])
        data.append(DataSource(path=str(path), split=rng.choice([None, "train", "test"])))
    data.append(rng.choice(data).model_copy(update={"split": rng.choice([None, "train", "test"])}))
    with draft(tmp_path / "plain", stage="s", key="k", config={}, parents={}) as out:
        found = sources.collect(data, parse_dialogue, out, invalid="drop", test_fraction=0.4)
    artifact = run(tmp_path / "out", data, {"invalid": "drop", "test_fraction": 0.4})
    for split, items in found.items():
        assert list(artifact.each_row(split)) == [item.record.row() for item in items]
    assert artifact.manifest.dropped == out.manifest.dropped and len(dropped(artifact)) == sum(out.manifest.dropped.values())
    tested = {item.record.identity for item in found["test"]}
    refused = {row["where"] for row in dropped(artifact) if row["reason"].startswith("invalid:")}
    for where, _, row in (entry for source in data if source.split == "test" for entry in sources.rows(source)):
        assert where in refused or parse_dialogue(row).identity in tested, "the test stays what it was"


def _row(rng: random.Random) -> dict[str, Any]:
    question = rng.choice(["One?", "one ?", "Two?", "Three?"])
    given: dict[str, Any] = {"prompt_id": rng.choice("ab")} if rng.random() < 0.2 else {}
    given |= {"prompt": rng.choice(["One?", "Two?"])} if rng.random() < 0.2 else {}
    return turned([question, rng.choice(["Yes.", "No."])], **given)


def test_a_test_row_that_was_drawn_for_the_test_before_stays(tmp_path: Path) -> None:
    """Through near-duplicates before it, and through a selection."""
    asked = [f"Say in some words of your own and as well as you can what a child of ten should know about {w}" for w in WORDS[:9]]
    rows = [turned([question, "Yes."]) for question in asked]
    test = DataSource(path=str(lines(tmp_path / "test.jsonl", rows[-1:])), split="test")
    data: list[Path | DataSource] = [lines(tmp_path / "mix.jsonl", rows), test]

    def kept(**settings: Any) -> list[str]:
        artifact = run(tmp_path / "out", data, {"test_fraction": 1.0, "select": {"target": 1}, **settings})
        return [row["prompt"] for row in artifact.each_row("test")]

    assert kept(near_prompts={}) == asked[-1:], "it comes first, and the others are near it"
    assert len(found := kept()) == 2 and found[1] == asked[-1]


def test_of_rows_that_were_drawn_apart_and_read_the_same_the_first_stays(tmp_path: Path) -> None:
    """The split is drawn by the prompt as it came; once their case is mended, two may be one."""
    texts = [{"text": f"In Paris we met Anna. The river Oder is long, said Anna in Paris. I like {w}."} for w in ("it", "tea") * 40]
    settings = {"truecase": [str(lines(tmp_path / "texts.jsonl", texts))], "test_fraction": 0.5}
    asked = [
        f"where did we meet {anna}? {i} think it was in {paris}." for anna in ("anna", "Anna") for i in "iI" for paris in ("paris", "Paris")
    ]
    of = {split: next(q for q in asked if sources.split_of(prompt_id_of(q), 0.5) == split) for split in ("train", "test")}
    for first, second in (("train", "test"), ("test", "train")):
        rows = [turned([of[split], "you met anna in paris. the river oder is long, said anna."]) for split in (first, second)]
        artifact = run(tmp_path / "out", [lines(tmp_path / "rows.jsonl", rows)], settings)
        assert artifact.manifest.rows_out == {first: 1, second: 0}
        assert artifact.manifest.dropped == {"duplicate of an earlier row": 1}


@pytest.mark.parametrize(("fraction", "given", "noted"), [(0.001, None, True), (0.0, None, False), (0.001, "train", False)])
def test_a_share_that_comes_to_no_test_row_is_noted(tmp_path: Path, fraction: float, given: Any, noted: bool) -> None:
    path = lines(tmp_path / "rows.jsonl", [turned([f"Question {i}?", "Yes."]) for i in range(3)])
    artifact = run(tmp_path / "out", [DataSource(path=str(path), split=given)], {"test_fraction": fraction})
    assert artifact.manifest.rows_out == {"train": 3, "test": 0}
    assert [note.startswith("No test rows: test_fraction is 0.001, the split of 3 rows was drawn") for note in artifact.manifest.notes] == [
        True
    ] * noted


def test_test_rows_that_are_to_be_answered_are_test_rows(tmp_path: Path) -> None:
    path = lines(tmp_path / "rows.jsonl", [turned([f"Question {i}?", "Yes."]) for i in range(20)])
    artifact = run(tmp_path / "out", [path], {"test_fraction": 0.5, "gen_fraction": 1.0})
    assert artifact.manifest.rows_out["test"] == 0 < artifact.manifest.rows_out["test_gen"] and artifact.manifest.notes == []
