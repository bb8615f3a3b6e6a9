"""What becomes of the rows that are learnt, where they meet in ways of their own."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path

import pytest

from zephyr.artifacts import Draft, Manifest
from zephyr.errors import DataError
from zephyr.recipe import DataSource
from zephyr.train import rows

SAID = [{"role": "user", "content": "One?"}, {"role": "assistant", "content": "Yes."}]


def sources(folder: Path, *splits: str | None) -> list[DataSource]:
    """The same row for each split."""
    path = folder / "rows.jsonl"
    path.write_text(json.dumps({"messages": SAID}) + "\n")
    return [DataSource(path=str(path), split=split) for split in splits]  # type: ignore[arg-type]


def draft(folder: Path) -> Draft:
    return Draft(folder, folder / "final", Manifest("sft", "key", {}, {}))


@pytest.mark.parametrize("splits", permutations([None, "train", "test"]))
def test_a_row_that_was_drawn_before_it_was_given_is_given(tmp_path: Path, splits: tuple[str | None, ...]) -> None:
    with pytest.raises(DataError, match=r"^1 prompt is in both train and test, .*take it out of one \(`zephyr curate` or"):
        rows.survey(sources(tmp_path, *splits), draft(tmp_path))
    found = rows.survey(sources(tmp_path, None, "test", None), draft(tmp_path))
    assert list(found) == [rows.IN_TEST_TOO, rows.TEST, rows.SKIPPED], "and one that was only drawn gives way"
