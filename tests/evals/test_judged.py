"""What comes of verdicts on chat benchmarks, whoever gave them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from zephyr.evals import judged
from zephyr.evals.mt_bench.judging import Turn
from zephyr.evals.mt_bench.records import Question


@dataclass(frozen=True)
class Said:
    """A verdict."""

    text: str = "[[7]]"
    finish_reason: str = "stop"
    served: str = ""


@pytest.mark.parametrize(
    ("category", "turns", "missing"), [("writing", 2, 156), ("legal", 2, 0), ("writing", 1, 0)], ids=["its own", "others", "of one turn"]
)
def test_questions_are_mt_benchs_own_by_more_than_their_numbers(category: str, turns: int, missing: int, tmp_path: Path) -> None:
    questions = {key: Question(key, category, tuple(f"Is it {i}?" for i in range(turns))) for key in (81, 82)}
    replies = {
        Turn(f"question {q.question_id}", "turn", "m", ({"role": "user", "content": "Judge."},), q, turn + 1, "single"): Said()
        for q in questions.values()
        for turn in range(turns)
    }
    scored = judged.mt_bench(replies, "judge", questions, tmp_path, compatible=False, seed=0)["m"]
    assert (list(scored["by_category"]), scored["n_missing"]) == ([category], missing)
