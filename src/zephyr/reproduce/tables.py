"""Tables 1 and 2 and Figure 1: rows of models whose scores somebody has measured, beside the paper's.

MT-Bench and AlpacaEval take a judge, the academic tasks their items: `zephyr evaluate MODEL --on …` measures a model, and what it wrote is
read here. Where nothing was measured the row stays empty and says which command fills it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zephyr.artifacts import Manifest
from zephyr.errors import DataError, UsageError
from zephyr.files import read_object

TASKS = {"arc_challenge": "arc", "hellaswag": "hellaswag", "mmlu": "mmlu", "truthfulqa": "truthfulqa"}
MARKS = {"mt_bench": "by_category", "alpaca_eval": "baseline"}  # what only a result of that benchmark has
CANARY = "canary"  # what a judge gives answers that say nothing; it stands among the models
HOW = {
    "mt_bench": "`zephyr evaluate MODEL --on mt-bench --recipe RECIPE --out FOLDER`",
    "alpaca_eval": "`zephyr evaluate MODEL --on alpaca-eval --recipe RECIPE --out FOLDER`",
    "academic": "`zephyr evaluate MODEL --on open-llm --recipe RECIPE --out FOLDER`",
}


def write(given: Sequence[str]) -> dict[str, Any]:
    """The rows of models.

    Args:
        given: `NAME=PATH`; a folder that `zephyr evaluate --on` or a run wrote, one of its artifacts, or a file of `zephyr score --json`.
            One model may be given several times.

    Returns:
        `rows` (`model`, `scores` with value and `ci95`, `by_category`, `judge`, `from`), and `to_fill`: what would measure the rest.
    """
    rows: dict[str, dict[str, Any]] = {}
    for text in given:
        name, _, path = text.partition("=")
        if not name or not path:
            raise UsageError(f"--scores {text}: a name and a path are needed, as NAME=FOLDER or NAME=FILE")
        row = rows.setdefault(name, {"model": name, "scores": {}, "by_category": {}, "judge": None, "from": ""})
        found = read(Path(path).expanduser(), name)
        row["scores"] |= found["scores"]
        row["by_category"] |= found["by_category"]
        row["judge"] = found["judge"] or row["judge"]
        row["from"] = ", ".join(filter(None, (row["from"], path)))
    there = {key for row in rows.values() for key in row["scores"]}
    missing = [key for key in ("mt_bench", "alpaca_eval") if key not in there]
    missing += [] if there & set(TASKS.values()) else ["academic"]
    return {"experiment": "tables", "rows": list(rows.values()), "to_fill": {key: HOW[key] for key in missing}}


def read(path: Path, name: str) -> dict[str, Any]:
    """The scores of one model: value and interval of each; MT-Bench from 1 to 10, the rest in percent.

    Raises:
        DataError: nothing there is of a benchmark, or is of several models and none has the name.
    """
    if path.is_dir():
        places = [path, path / "judge", path / "evaluate"]
        found = [manifest.results for place in places if (manifest := Manifest.read(place))]
    elif path.is_file():
        found = [read_object(path, other="one JSON object was expected, as `zephyr score --json` prints it")]
    else:
        raise UsageError(f"--scores {name}={path}: no such file or folder")
    scores: dict[str, Any] = {}
    by_category: dict[str, float] = {}
    judge = None
    for results in found:
        mt_bench, alpaca = _of(results, "mt_bench", "score", name, path), _of(results, "alpaca_eval", "win_rate", name, path)
        if mt_bench:
            scores["mt_bench"] = {"value": mt_bench["score"], "ci95": mt_bench["ci95"]}
            by_category = {key.lower(): value for key, value in mt_bench["by_category"].items() if value is not None}
        if alpaca:
            scores["alpaca_eval"] = {"value": alpaca["win_rate"], "ci95": alpaca["ci95"]}
        judge = results.get("judge") or judge
        for task, by_model in (results.get("benchmarks") or {}).items():
            one = _pick(by_model, name, path)
            ends = one.get("ci95")
            scores[TASKS[task]] = {"value": 100 * one["value"], "ci95": [100 * end for end in ends] if ends else None}
    if not scores:
        raise DataError(
            f"--scores {name}={path}: no scores of MT-Bench, AlpacaEval or an academic task are there; {HOW['mt_bench']} writes them"
        )
    return {"scores": scores, "by_category": by_category, "judge": judge}


def _of(results: Mapping[str, Any], key: str, field: str, name: str, path: Path) -> Mapping[str, Any] | None:
    """A model's result of a benchmark: under its key, or, as `zephyr score` prints it, a result a model at the top."""
    at_top = {model: v for model, v in results.items() if isinstance(v, dict) and {field, "ci95", MARKS[key]} <= v.keys()}
    by_model = results.get(key) or at_top
    if not by_model:
        return None
    found = _pick(by_model, name, path)
    return found if found.get(field) is not None else None


def _pick(by_model: Mapping[str, Any], name: str, path: Path) -> Mapping[str, Any]:
    models = [model for model in by_model if model != CANARY]
    if name in models:
        chosen = name
    elif len(models) == 1:
        chosen = models[0]
    else:
        raise DataError(f"--scores {name}={path}: holds {', '.join(models)}; give one of these names")
    found: Mapping[str, Any] = by_model[chosen]
    return found
