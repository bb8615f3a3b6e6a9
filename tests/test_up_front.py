"""What a later stage would fail for is refused before the first one runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import small
import zephyr
from zephyr.errors import DataError, UsageError

ROW = {"text": "Hello", "label": 1}


def recipe(folder: Path, model: Path, **sections: Any) -> Path:
    """The small run's recipe with other sections; None takes one out."""
    values = {**small.recipe(folder / "data", model), **sections}
    return small.write_recipe(folder / "r.yaml", {name: section for name, section in values.items() if section is not None})


# --- sources of other columns ------------------------------------------------------------------------------------

# by stage: the sections that make it read ROWS, and what is wrong with a row
UNUSABLE: dict[str, tuple[dict[str, Any], str]] = {
    "synthesize": (
        {
            "synthesize": {"assistant": {"kind": "replay", "path": "ROWS"}, "self_instruct": {"count": 1, "seeds": ["ROWS"]}},
            "curate": {},
        },
        "`prompt` is missing; the row has 'text', 'label'",
    ),
    "curate": ({"curate": {"data": ["ROWS"]}}, "`messages` is missing, and no other shape fits"),
    "rate": ({"complete": None, "rate": {"teacher": {"kind": "replay", "path": "ROWS"}, "data": ["ROWS"]}}, "`prompt` is missing"),
    "binarize": ({"complete": None, "rate": None, "binarize": {"data": ["ROWS"]}}, "neither `chosen` and `rejected` nor `completions`"),
}


def with_rows(value: Any, path: Path) -> Any:
    if isinstance(value, dict):
        return {name: with_rows(inner, path) for name, inner in value.items()}
    return [with_rows(inner, path) for inner in value] if isinstance(value, list) else str(path) if value == "ROWS" else value


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("stage", UNUSABLE)
def test_a_source_of_other_columns_is_refused(tiny_folder: Path, tmp_path: Path, stage: str, dry_run: bool) -> None:
    sections, problem = UNUSABLE[stage]
    rows = small.write_lines(tmp_path / "rows.jsonl", [ROW] * 120)
    with pytest.raises(DataError) as caught:
        zephyr.run(recipe(tmp_path, tiny_folder, **with_rows(sections, rows)), out=tmp_path / "run", dry_run=dry_run)
    assert str(caught.value).startswith(f"{stage}: {rows}: no row can be used, of 100 looked at (the first, {rows}:1: {problem}")
    assert "columns" in str(caught.value) and "\n" not in str(caught.value)
    assert not list((tmp_path / "run").glob("*/"))


def test_rows_that_are_wrong_among_others_are_for_the_stage(tiny_folder: Path, tmp_path: Path) -> None:
    rows = small.write_lines(tmp_path / "rows.jsonl", [ROW] * 99 + small.dialogues())
    file = recipe(tmp_path, tiny_folder, curate={"data": [str(rows)], "invalid": "drop"})
    assert zephyr.run(file, out=tmp_path / "run", until="curate")["artifacts"]["curate"]["status"] == "ran"


def test_a_stage_that_leaves_wrong_rows_out_may_have_many_of_them_first(tiny_folder: Path, tmp_path: Path) -> None:
    rows = small.write_lines(tmp_path / "rows.jsonl", [ROW] * 300 + small.dialogues())
    drops = recipe(tmp_path, tiny_folder, curate={"data": [str(rows)], "invalid": "drop"})
    assert zephyr.run(drops, out=tmp_path / "run", until="curate")["artifacts"]["curate"]["status"] == "ran"
    small.write_lines(rows, [ROW] * 300)
    with pytest.raises(DataError, match="no row can be used, of 300 looked at"):
        zephyr.run(drops, out=tmp_path / "other", dry_run=True)


def test_a_stage_that_does_not_run_looks_at_nothing(tiny_folder: Path, tmp_path: Path) -> None:
    rows = small.write_lines(tmp_path / "rows.jsonl", [ROW])
    file = recipe(tmp_path, tiny_folder, complete=None, rate=None, binarize={"data": [str(rows)]})
    assert zephyr.run(file, out=tmp_path / "run", until="curate")["artifacts"]["curate"]["status"] == "ran"


def test_a_dry_run_asks_the_hub_for_nothing(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def asked(*_: object, **__: object) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(datasets, "load_dataset", asked)
    file = recipe(tmp_path, tiny_folder, curate={"data": ["owner/name"]})
    assert zephyr.run(file, out=tmp_path / "run", dry_run=True)["artifacts"]["curate"]["status"] == "would run"


# --- nothing to measure ------------------------------------------------------------------------------------------


def without_test_rows(folder: Path, **sections: Any) -> dict[str, Any]:
    """Dialogues and prompts in plain files of which none is kept for the test."""
    values = small.recipe(folder / "data", folder)
    lines, rated = (values[name][key][0]["path"] for name, key in (("curate", "data"), ("complete", "prompts")))
    return {
        "curate": {"data": [lines], "test_fraction": 0.0},
        "complete": {**values["complete"], "prompts": [{"path": rated, "split": "train"}], "test_fraction": 0.0},
        **sections,
    }


@pytest.mark.parametrize("dry_run", [True, False])
def test_an_evaluation_of_nothing_is_refused(tiny_folder: Path, tmp_path: Path, dry_run: bool) -> None:
    file = recipe(tmp_path, tiny_folder, **without_test_rows(tmp_path))
    with pytest.raises(
        UsageError, match=r"^evaluate: there will be nothing to measure: .*; set a test_fraction, .* or take `evaluate` out$"
    ):
        zephyr.run(file, out=tmp_path / "run", dry_run=dry_run)
    assert zephyr.run(file, out=tmp_path / "run", until="dpo", dry_run=True)["artifacts"]["dpo"]["status"] == "would run"


def test_an_evaluation_that_may_have_rows_is_left_to_its_stage(tiny_folder: Path, tmp_path: Path) -> None:
    plain = without_test_rows(tmp_path)
    folder = Path(plain["complete"]["prompts"][0]["path"]).parent  # of train.jsonl and test.jsonl
    may = [
        {"curate": {**plain["curate"], "test_fraction": 0.1}},
        {"curate": {**plain["curate"], "data": [{"path": plain["curate"]["data"][0], "split": "test"}]}},
        {"complete": {**plain["complete"], "prompts": [str(folder)]}},
        {"complete": None, "rate": None, "binarize": {"data": ["owner/name"], "test_fraction": 0.0}},
        {"evaluate": {"preferences": {"sets": {"mine": str(folder / "test.jsonl")}}}},
    ]
    for sections in may:
        file = recipe(tmp_path, tiny_folder, **{**plain, **sections})
        assert zephyr.run(file, out=tmp_path / "run", dry_run=True)["artifacts"]["evaluate"]["status"] == "would run", sections
