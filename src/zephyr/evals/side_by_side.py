"""How far two evaluations are apart on the rows that both measured: paired differences, of models and of runs.

What makes a row hard for both cancels, so that a paired interval is often much shorter than the two intervals would have it. Rows are one
and the same where their texts are (`items.content`). A number per token is compared only where every text has as many tokens in both: those
of another tokenizer are another unit, also where a text happens to have as many.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from zephyr.artifacts import Artifact
from zephyr.evals import items
from zephyr.evals.statistics import Difference, Group, paired

MODELS = ("base", "dsft", "ddpo")
# what is compared from one model to the next within a run
BETWEEN_MODELS = ("nll", "entropy", "top1", "top10", "length")
# the n must be equal in every row, for the number is over them: tokens of one text
OVER_TOKENS = ("nll", "entropy", "top1", "top10")
# how far apart two numbers can be, of those that have a scale
SPANS = {"reward_accuracy": 1.0, "top1": 1.0, "top10": 1.0, "mt_bench": 9.0, "alpaca_eval": 100.0}
OTHER_UNIT = "the two models have other tokenizers or chat formats: the same text is another number of tokens"
Rows = Mapping[str, Mapping[str, Any]]  # of one measure and model, by prompt


def between_models(artifact: Artifact) -> list[dict[str, Any]]:
    """From each model of a run to the next: the later one minus the earlier, on the rows of the evaluation; [] where it keeps none."""
    by = items.grouped(artifact.rows(items.SPLIT))
    found = []
    for measure in BETWEEN_MODELS:
        there = [name for name in MODELS if (measure, name) in by]
        for before, after in itertools.pairwise(there):
            found.append(
                {"measure": measure, "before": before, "after": after, **_difference(measure, by[measure, after], by[measure, before])}
            )
    for other in ("dsft", "length"):
        if ("reward_accuracy", "ddpo") in by and ("reward_accuracy", other) in by:
            accuracy = _difference("reward_accuracy", by["reward_accuracy", "ddpo"], by["reward_accuracy", other])
            found.append({"measure": "reward_accuracy", "before": other, "after": "ddpo", **accuracy})
    return found


def between_runs(first: Mapping[str, Artifact], other: Mapping[str, Artifact]) -> list[dict[str, Any]]:
    """For every measure and model that two runs have: the other run's number minus the first one's.

    Args:
        first: the artifacts of a run, by stage.
        other: those of another.

    Returns:
        One object each: `measure`, `model`, then what `Difference.json` has with `paired: true`, or `paired: false` and `why`.
    """
    found = []
    if "evaluate" in first and "evaluate" in other:
        by, theirs = (items.grouped(run["evaluate"].rows(items.SPLIT)) for run in (first, other))
        for key in [key for key in theirs if key in by]:
            found.append({"measure": key[0], "model": key[1], **_difference(key[0], theirs[key], by[key])})
    if "judge" in first and "judge" in other:
        found += _judged(first["judge"], other["judge"])
    return found


def _difference(measure: str, after: Rows, before: Rows) -> dict[str, Any]:
    """The later minus the earlier, on what is the same in both."""
    same = [name for name in after if name in before and after[name]["contents"] == before[name]["contents"]]
    if measure in OVER_TOKENS and any(after[name]["n"] != before[name]["n"] for name in same):
        return {"paired": False, "why": OTHER_UNIT}
    two = paired(_sums(after, same), _sums(before, same))
    if two is None:
        return {"paired": False, "why": "fewer than two rows are the same in both"}
    return {"paired": True, **_inside(measure, two).json(), "left_out": len({*after, *before}) - len(same)}


def _inside(measure: str, gap: Difference) -> Difference:
    return gap.within(SPANS[measure]) if measure in SPANS else gap


def _sums(rows: Rows, names: Sequence[str]) -> dict[str, Group]:
    return {name: (rows[name]["value"], rows[name]["n"]) for name in names}


# --- chat benchmarks ---------------------------------------------------------------------------------------------


def _judged(first: Artifact, other: Artifact) -> list[dict[str, Any]]:
    """MT-Bench by question and AlpacaEval by instruction, where one judge judged the same files in the same way; of pairs, only why not."""
    found: list[dict[str, Any]] = [
        {"measure": "mt_bench_pairs", "model": model, "paired": False, "why": why}
        for model in other.manifest.results.get("mt_bench_pairs") or {}
        if model in (first.manifest.results.get("mt_bench_pairs") or {})
        and (why := _unlike(first, other, ("questions", "references", "prompts", "against"), ("compatible",)))
    ]
    for measure, read, files, ways in (
        ("mt_bench", _mt_bench, ("questions", "references", "prompts"), ("compatible",)),
        ("alpaca_eval", _alpaca_eval, ("baseline",), ("order", "preference")),
    ):
        scores, theirs = read(first), read(other)
        for model in [model for model in theirs if model in scores]:
            if why := _unlike(first, other, files, ways):
                found.append({"measure": measure, "model": model, "paired": False, "why": why})
                continue
            two = paired(theirs[model], scores[model])
            gap: dict[str, Any] = {"paired": False, "why": "fewer than two questions are judged in both"}
            if two is not None:
                left = len({*theirs[model], *scores[model]}) - two.groups
                gap = {"paired": True, **_inside(measure, two).json(), "left_out": left}
            found.append({"measure": measure, "model": model, **gap})
    return found


def _unlike(first: Artifact, other: Artifact, files: Sequence[str], ways: Sequence[str]) -> str:
    """Why two judgings cannot be compared row by row; "" where they can.

    Args:
        first: of the stage `judge`.
        other: likewise.
        files: the inputs that must be the same.
        ways: the settings that must be.
    """
    ours, theirs = first.manifest, other.manifest
    if ours.results.get("judge") != theirs.results.get("judge") or _digests(first, ("teacher",)) != _digests(other, ("teacher",)):
        return "they were judged by different judges"  # local ones may be called alike
    if _digests(first, files) != _digests(other, files):
        return "they were judged on different files"
    differ = [name for name in ways if ours.config.get(name) != theirs.config.get(name)]
    return f"they were judged in other ways ({', '.join(differ)})" if differ else ""


def _digests(artifact: Artifact, inputs: Sequence[str]) -> list[str | None]:
    return [artifact.manifest.parents.get(name, {}).get("digest") for name in inputs]


def _mt_bench(artifact: Artifact) -> dict[str, dict[Any, Group]]:
    """By model and question: the sum of the scores of its turns, and how many could be read."""
    path = artifact.path / "data" / "mt_bench_judgments.jsonl"
    found: dict[str, dict[Any, Group]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        row = json.loads(line)
        if row["score"] >= 0:
            total, n = found.setdefault(row["model"], {}).get(row["question_id"], (0.0, 0))
            found[row["model"]][row["question_id"]] = (total + row["score"], n + 1)
    return found


def _alpaca_eval(artifact: Artifact) -> dict[str, dict[Any, Group]]:
    """By model and instruction: the wins in percent; a preference is from 1, the baseline's, to 2, the model's."""
    found: dict[str, dict[Any, Group]] = {}
    for path in sorted((artifact.path / "data").glob("alpaca_eval.*.annotations.json")):
        for row in json.loads(path.read_text(encoding="utf-8")):
            if row["preference"] is not None:
                found.setdefault(row["generator_2"], {})[row["instruction"]] = (100.0 * (row["preference"] - 1), 1)
    return found
