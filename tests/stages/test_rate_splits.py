"""Answers from outside: of sources that name no split, a share of the prompts is kept for the test."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_feedback import Fickle, rated

import small
from zephyr.estimate import volume
from zephyr.recipe import Recipe, build
from zephyr.recipes.volume import volumes
from zephyr.sources import split_of


def test_a_share_of_the_prompts_is_for_the_test(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = rated(tmp_path, Fickle(set(), set()), monkeypatch, test_fraction=0.5)
    found = {row["prompt_id"]: split for split in artifact.splits() for row in artifact.rows(split)}
    assert found == {row["prompt_id"]: split_of(row["prompt_id"], 0.5) for row in small.feedback()}
    assert set(found.values()) == {"train", "test"}


def test_it_is_counted_so_before_they_are_rated(tmp_path: Path) -> None:
    file = small.write_lines(tmp_path / "rated.jsonl", small.feedback())
    teacher = {"kind": "replay", "path": str(file)}
    values = {
        "name": "r",
        "model": {"path": "m"},
        "rate": {"teacher": teacher, "data": [{"path": str(file), "rows": 10}], "test_fraction": 0.2},
        "binarize": {"test_fraction": 0.0},
        "dpo": {"epochs": 2},
    }
    recipe = build(Recipe, values, {}, "test")
    found = volume.pairs(recipe, {}, None)
    assert (found.train, found.test) == (8, 2)
    assert volumes(recipe)["dpo"].rows == 2 * 8
