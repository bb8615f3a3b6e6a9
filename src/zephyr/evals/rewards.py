"""The implicit reward beta (log pi - log ref) on rated answers: each model of a run against the one before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from zephyr.evals import items, sharpness
from zephyr.evals.displacement import displacement
from zephyr.evals.preference import Group, accuracy, margin
from zephyr.records import Row


def of_models(
    groups: Sequence[Group], given: Mapping[str, Sequence[Sequence[sharpness.Answer]]], beta: float
) -> tuple[dict[str, Any], list[Row]]:
    """Accuracy and margin of the reward, how far the answers moved, and how sharp each model is on them; and what each prompt gave.

    Args:
        groups: prompts with scored answers, of which some differ in score.
        given: by model, in the order in which they were trained: every answer of every group.
        beta: scales the reward and its margin.
    """
    tokens = [[answer.tokens for answer in row] for row in next(iter(given.values()))]
    logps = {name: [[answer.logp for answer in row] for row in answers] for name, answers in given.items()}
    values: dict[str, list[list[float]]] = {"length": [[float(n) for n in row] for row in tokens]}
    moved: dict[str, Any] = {}
    for before, name in pairwise(given):
        values[name] = [
            [beta * (a - b) for a, b in zip(policy, reference, strict=True)]
            for policy, reference in zip(logps[name], logps[before], strict=True)
        ]
        moved[name] = displacement(groups, logps[name], logps[before], tokens)
    each: list[Row] = []
    accuracies: dict[str, Any] = {}
    margins: dict[str, Any] = {}
    for name, rows in values.items():
        won = accuracy(groups, rows)
        assert won is not None  # there are answers that differ in score
        accuracies[name] = {"accuracy": won.value, "ci95": won.ci95, "pairs": won.items, "prompts": won.groups}
        if name != "length" and (gap := margin(groups, rows)):
            margins[name] = {"mean": gap.value, "ci95": gap.ci95}
        each += items.of_rewards(name, groups, rows)
    for name, answers in given.items():
        for measure in sharpness.MEASURES:
            each += items.of_tokens(measure, name, groups, sharpness.sums(answers, measure))
    sharp = {name: sharpness.summary(groups, answers) for name, answers in given.items()}
    return {"reward_accuracy": accuracies, "reward_margin": margins, "displacement": moved, "sharpness": sharp}, each
