"""From a chat benchmark's score back to the judge's replies that it was read from, and to what the judge read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zephyr.artifacts import Artifact
from zephyr.errors import UsageError
from zephyr.records import Row


def judged(artifacts: Mapping[str, Artifact], question: str) -> dict[str, Any]:
    """What a judge read of a benchmark's question, and what it said: from a score back to the reply it was read from.

    Args:
        artifacts: of a run; those of judge are read.
        question: `mt-bench 81`, or `alpaca-eval 3`, the third instruction.

    Returns:
        `question`, `judge`, and `verdicts`: `model`, `turn` (of MT-Bench), `reply`, and `shown`, which is the judge's prompt as it was sent
        (`shown_is` "prompt") or the two answers in the order shown ("answers"). Of two answers `order` names whose stood first and second,
        and `score` is this verdict's own preference in that order, from 1 (the first) to 2 (the second); of one, its points. `score` is
        None where no verdict could be read.

    Raises:
        UsageError: nothing was judged, or not that.
    """
    if "judge" not in artifacts:
        raise UsageError(f"{question}: nothing was judged in this run")
    benchmark, _, which = question.partition(" ")
    data = artifacts["judge"].path / "data"
    if benchmark == "mt-bench":
        verdicts = [_rated(row) for row in _about(data / "mt_bench_judgments.jsonl", which)]
        verdicts += [verdict for row in _about(data / "mt_bench_pair_judgments.jsonl", which) for verdict in _played(row)]
    else:
        verdicts = [v for path in sorted(data.glob("alpaca_eval.*.annotations.json")) for v in _compared(path, which)]
    if not verdicts:
        raise UsageError(f"{question}: no verdict on that is here; questions are numbered as in the benchmark's own file")
    return {"question": question, "judge": artifacts["judge"].manifest.results.get("judge"), "verdicts": verdicts}


def _about(path: Path, which: str) -> list[Row]:
    """The rows of a file that are about a question."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [row for line in lines if str((row := json.loads(line)).get("question_id")) == which]


def _rated(row: Row) -> Row:
    """A verdict on one answer; -1 is the file's for one that could not be read."""
    keys = {"model": "model", "turn": "turn", "shown": "user_prompt", "reply": "judgment"}
    score = row.get("score")
    return {
        **{name: row.get(key) for name, key in keys.items()},
        "shown_is": "prompt",
        "order": None,
        "score": None if score == -1 else score,
    }


def _played(row: Row) -> Iterator[Row]:
    """The two verdicts on a pair; in the second game model_2 stood first, while the file names the winner by its own number."""
    models = [row["model_1"], row["model_2"]]
    for game, order in (("g1", models), ("g2", models[::-1])):
        winner = row.get(f"{game}_winner")
        score = 1.5 if winner == "tie" else 1.0 + order.index(row[winner]) if winner in ("model_1", "model_2") else None
        texts = {"shown": row.get(f"{game}_user_prompt"), "reply": row.get(f"{game}_judgment")}
        yield {"model": row["model_1"], "turn": row.get("turn"), **texts, "shown_is": "prompt", "order": order, "score": score}


def _compared(path: Path, which: str) -> Iterator[Row]:
    """The verdicts on one instruction, each with the answers in the order in which they stood before the judge."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    if which.isdecimal() and 0 < int(which) <= len(rows):
        row = rows[int(which) - 1]
        answers = [(row[f"generator_{i}"], row[f"output_{i}"]) for i in (1, 2)]  # the baseline's, the model's
        for verdict in row["verdicts"]:
            ordered = answers[::-1] if verdict["model_first"] else answers
            parts = [f"[{place}, {name}]\n{text}" for place, (name, text) in zip(("first", "second"), ordered, strict=True)]
            yield {
                "model": row["generator_2"],
                "turn": None,
                "shown": "\n\n".join([row["instruction"], *parts]),
                "reply": verdict["reply"],
                "shown_is": "answers",
                "order": [name for name, _ in ordered],
                "score": verdict["preference"],
            }
