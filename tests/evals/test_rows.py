"""What is measured is on prompts that no training saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import small
from zephyr.artifacts import draft
from zephyr.errors import DataError
from zephyr.evals import rows
from zephyr.evals.preference import ordered_pairs
from zephyr.recipe import DataSource


@pytest.mark.parametrize("kind", ["dialogues", "pairs"])
def test_a_test_prompt_in_the_words_of_a_train_prompt_of_other_data_is_dropped(tmp_path: Path, kind: str) -> None:
    """The dialogues of one set and the pairs of another, which have ids of their own."""
    dialogues = [
        {"prompt_id": f"{split}-{i}", "messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "Yes."}]}
        for split in ("train", "test")
        for i, text in enumerate([f"Is {i} a number?" for i in range(4)] if split == "train" else ["Is it?", "Was it?"])
    ]
    pairs = [{"prompt_id": f"p{i}", "prompt": f"is  {i} a NUMBER?", "chosen": "Yes.", "rejected": "No."} for i in range(2, 6)]
    with draft(tmp_path / "curate", stage="curate", key="k", config={}, parents={}) as made:
        for split, part in (("train", dialogues[:4]), ("test", dialogues[4:])):
            made.write_rows(split, part)
    file = small.write_lines(tmp_path / "pairs.jsonl", pairs)
    with draft(tmp_path / "out", stage="evaluate", key="k", config={}, parents={}) as out:
        talks = rows.dialogues_of([DataSource(path=str(tmp_path / "curate"))], out)
        groups = rows.groups_of([DataSource(path=str(file), split="test")], "mean", out)
        kept = rows.unseen(talks.test if kind == "dialogues" else groups.test, talks.train, out)
    assert [record.prompt for record in kept] == (["Is it?", "Was it?"] if kind == "dialogues" else ["is  4 a NUMBER?", "is  5 a NUMBER?"])
    assert out.manifest.dropped == ({} if kind == "dialogues" else {"the prompt is in a train split, too": 2})


def test_a_pair_whose_scores_tie_or_speak_against_it_is_answered_and_not_compared(tmp_path: Path) -> None:
    scores = [(8, 5), (7, 7), (5, 8), (None, None), (7, 7)]
    pairs: list[dict[str, Any]] = [
        {"prompt": f"Is {i} odd?", "chosen": "Yes.", "rejected": "No.", "score_chosen": high, "score_rejected": low}
        for i, (high, low) in enumerate(scores)
    ]
    # as `binarize.ties: second` keeps it: the means are one, the other score is not
    pairs[4] |= {f"{which}_ratings": {"overall_score": score} for which, score in (("chosen", 9.0), ("rejected", 4.0))}
    file = small.write_lines(tmp_path / "pairs.jsonl", pairs)
    with draft(tmp_path / "out", stage="evaluate", key="k", config={}, parents={}) as out:
        found = rows.groups_of([DataSource(path=str(file), split="test")], "mean", out).test
    assert len(found) == 5, "all are there to be answered"
    assert [i for i, g in enumerate(found) if ordered_pairs([score for _, score in g.answers])] == [0, 3, 4]
    assert out.manifest.dropped == {rows.NO_ORDER + why: 1 for why in ("the scores tie", "the rejected answer has the higher score")}


def test_what_is_wrong_with_a_row_is_said_without_a_setting_that_is_not_there(tmp_path: Path) -> None:
    for read, row in (
        (rows.dialogues_of, {"messages": []}),
        (lambda data, out: rows.groups_of(data, "mean", out), {"prompt": "", "chosen": "a"}),
    ):
        file = small.write_lines(tmp_path / "bad.jsonl", [row])
        with (
            draft(tmp_path / "out", stage="evaluate", key="k", config={}, parents={}) as out,
            pytest.raises(DataError, match=r"bad\.jsonl:1: ") as caught,
        ):
            read([DataSource(path=str(file), split="test")], out)
        assert "invalid: drop" not in str(caught.value)
