"""Tables 1 and 2 and the radar: scores that were measured elsewhere, beside the paper's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zephyr import api, artifacts
from zephyr.errors import DataError
from zephyr.reproduce import figures, paper, tables

MT_BENCH = {
    "score": 5.5,
    "ci95": [5.0, 6.0],
    "by_category": {
        name: 1.0 + i for i, name in enumerate(["writing", "roleplay", "reasoning", "math", "coding", "extraction", "STEM", "humanities"])
    },
}
ALPACA = {"win_rate": 40.0, "ci95": [36.5, 43.5], "baseline": "text_davinci_003", "standard_error": 1.75}
CANARY = {"score": 1.5, "ci95": None, "by_category": {}}


def artifact(folder: Path, stage: str, results: dict[str, Any]) -> None:
    with artifacts.draft(folder, stage=stage, key="k", config={}, parents={}) as out:
        out.manifest.results = results


@pytest.fixture
def evaluated(tmp_path: Path) -> Path:
    """What `zephyr evaluate MODEL --on mt-bench,alpaca-eval,open-llm` writes."""
    judged = {"judge": "some-judge", "mt_bench": {"base": MT_BENCH, "canary": CANARY}, "alpaca_eval": {"base": ALPACA}}
    artifact(tmp_path / "evaluated" / "judge", "judge", judged)
    benchmarks = {"arc_challenge": {"base": {"value": 0.5, "ci95": [0.4, 0.6]}}, "mmlu": {"base": {"value": 0.25, "ci95": None}}}
    artifact(tmp_path / "evaluated" / "evaluate", "evaluate", {"benchmarks": benchmarks})
    return tmp_path / "evaluated"


def test_scores_of_an_evaluation_fill_the_rows_and_the_rest_says_what_would(evaluated: Path, tmp_path: Path) -> None:
    found = api.reproduce("tables", out=tmp_path / "out", scores=[f"mine={evaluated}"])
    (row,) = found["results"]["tables"]["rows"]
    assert row["scores"] == {
        "mt_bench": {"value": 5.5, "ci95": [5.0, 6.0]}, "alpaca_eval": {"value": 40.0, "ci95": [36.5, 43.5]},
        "arc": {"value": 50.0, "ci95": [40.0, 60.0]}, "mmlu": {"value": 25.0, "ci95": None},
    }  # fmt: skip
    assert found["results"]["tables"]["to_fill"] == {}
    page = (tmp_path / "out" / "reproduction.html").read_text(encoding="utf-8")
    assert "mine (yours)" in page and "5.50 [5.00, 6.00]" in page and "50.00 [40.00, 60.00]" in page
    assert "judged by some-judge; the paper" in page and "not on one scale" in page
    assert "not measured" in page  # HellaSwag, TruthfulQA
    assert (tmp_path / "out" / "figure1.png").exists() and "humanities 8.00" in page
    assert "prints no numbers" in page and "6.19*" in page and "90.60 (1.03)" in page


def test_a_picture_sets_what_was_measured_beside_the_papers_models(evaluated: Path, tmp_path: Path) -> None:
    found = api.reproduce("tables", out=tmp_path / "out", scores=[f"mine={evaluated}", f"none={evaluated / 'judge'}"])
    chat, academic, *_ = figures.pictures(found["results"])["tables"]
    assert {(tmp_path / "out" / f"{picture.name}.png").exists() for picture in (chat, academic)} == {True}
    mt_bench, alpaca = chat.words.split("; ")
    assert "Zephyr 7B 7.340" in mt_bench and mt_bench.endswith("mine (yours) 5.500, none (yours) 5.500")
    assert "GPT-4 95.280" in alpaca and "MPT-Chat" not in alpaca and "mine (yours) 40.000" in alpaca
    arc, hellaswag, mmlu, _ = academic.words.split("; ")
    assert arc.endswith("Xwin-LM v0.1 70B 70.220, mine (yours) 50.000") and mmlu.endswith("mine (yours) 25.000")
    assert "yours" not in hellaswag and "GPT-4" not in academic.words and "none" not in academic.words


def test_without_scores_the_papers_rows_stand_beside_an_empty_one(tmp_path: Path) -> None:
    found = api.reproduce("table1", out=tmp_path / "out")
    assert set(found["results"]["tables"]["to_fill"]) == {"mt_bench", "alpaca_eval", "academic"}
    page = (tmp_path / "out" / "reproduction.html").read_text(encoding="utf-8")
    assert "your model (yours)" in page and "zephyr evaluate MODEL --on open-llm" in page
    assert not list((tmp_path / "out").glob("*.png"))


def test_files_of_zephyr_score_are_read_and_what_is_none_is_refused(tmp_path: Path) -> None:
    def written(value: object) -> Path:
        path = tmp_path / "scores.json"
        path.write_text(json.dumps(value))
        return path

    assert tables.read(written({"mine": MT_BENCH, "other": MT_BENCH | {"score": 9.0}}), "mine")["scores"]["mt_bench"]["value"] == 5.5
    assert tables.read(written({"some": ALPACA}), "mine")["scores"] == {"alpaca_eval": {"value": 40.0, "ci95": [36.5, 43.5]}}
    with pytest.raises(DataError, match="holds a, b; give one of these names"):
        tables.read(written({"a": ALPACA, "b": ALPACA}), "mine")
    with pytest.raises(DataError, match="no scores of MT-Bench, AlpacaEval or an academic task"):
        tables.read(written({"something": {"score": 1}}), "mine")
    with pytest.raises(DataError, match="one JSON object was expected"):
        tables.read(written([]), "mine")


def test_the_papers_numbers_are_whole() -> None:
    assert len(paper.ROWS) == 14
    assert sum(row.mt_bench is not None for row in paper.ROWS) == 13
    assert sum(row.alpaca_eval is not None for row in paper.ROWS) == 10
    assert sum(row.academic is not None for row in paper.ROWS) == 11
    zephyr = next(row for row in paper.ROWS if row.model == "Zephyr")
    assert (zephyr.mt_bench, zephyr.alpaca_eval, zephyr.academic) == (7.34, (90.60, 1.03), (62.03, 84.52, 61.44, 57.44))
    # what the text says of its own table: the best of 7B, and better than the 70B chat model on MT-Bench
    assert max(row.mt_bench or 0 for row in paper.ROWS if row.size == "7B") == zephyr.mt_bench
