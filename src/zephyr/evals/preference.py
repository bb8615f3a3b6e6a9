"""Does the model prefer the better answer? Accuracy of the implicit reward over all ordered pairs of a prompt's answers.

Equal values count half in `accuracy`, the probability that a better answer is found the better one. RewardBench's way, in `compared`,
a pair is right only where the better answer has the higher value (Lambert et al. 2024, "RewardBench", section 3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from zephyr.errors import NonFiniteError
from zephyr.evals.statistics import Estimate, paired, ratio, share
from zephyr.records import Message

Values = Sequence[Sequence[float]]  # for each answer of each group


@dataclass(frozen=True)
class Group:
    """A prompt's turns and its answers with their scores."""

    prompt_id: str
    prompt: str
    category: str
    context: tuple[Message, ...]
    answers: tuple[tuple[str, float], ...]


def ordered_pairs(scores: Sequence[float]) -> list[tuple[int, int]]:
    """(better, worse) indices of every pair whose scores differ."""
    return [(i, j) if scores[i] > scores[j] else (j, i) for i, j in combinations(range(len(scores)), 2) if scores[i] != scores[j]]


def accuracy(groups: Sequence[Group], values: Sequence[Sequence[float]]) -> Estimate | None:
    """Share of ordered pairs in which the better answer has the higher value; equal values count half.

    Args:
        groups: prompts with scored answers; those of one prompt count as one where its interval is concerned.
        values: for each answer of each group, what is to be judged: an implicit reward, or a length.
    """
    return share(_over_pairs(groups, values, lambda better, worse: 1.0 if better > worse else 0.5 if better == worse else 0.0))


def margin(groups: Sequence[Group], values: Sequence[Sequence[float]]) -> Estimate | None:
    """Mean difference of the values between the better and the worse answer."""
    return ratio(_over_pairs(groups, values, lambda better, worse: better - worse))


def compared(groups: Sequence[Group], values: Mapping[str, Values], *, baseline: str = "length") -> dict[str, Any]:
    """What several measures of an answer are worth as judges: one result a measure, beside that of the baseline.

    Args:
        groups: prompts with scored answers; the category of a group is the subset it belongs to.
        values: by measure; that of the baseline among them.
        baseline: the measure that the others are set against, on the same pairs.

    Returns:
        By measure: `accuracy` (the share of pairs in which the better answer has the higher value, ties being wrong) with `ci95`,
        `ties`, `accuracy_ties_half`, `margin`, `by_subset`, `mean_of_subsets` (each subset counting alike), and `above_baseline`.

    Raises:
        NonFiniteError: a value is not a finite number.
    """
    for name, rows in values.items():
        if bad := next((g for g, row in zip(groups, rows, strict=True) if not all(map(math.isfinite, row))), None):
            raise NonFiniteError(f"{name}: the value of an answer to prompt {bad.prompt_id[:16]} is not a finite number")
    found = {name: _measured(groups, rows) for name, rows in values.items()}
    reference = _by_prompt(groups, values[baseline], _is_higher)
    for name, rows in values.items():
        if name != baseline and (gap := paired(_by_prompt(groups, rows, _is_higher), reference)):
            found[name][f"above_{baseline}"] = gap.within(1.0).json()
    return found


def _measured(groups: Sequence[Group], values: Values) -> dict[str, Any]:
    won, half, gap = share(_over_pairs(groups, values, _is_higher)), accuracy(groups, values), margin(groups, values)
    assert won is not None and half is not None and gap is not None, "there are pairs to compare"
    subsets = {name: share(_over_pairs(*_of(name, groups, values), _is_higher)) for name in sorted({g.category for g in groups})}
    known = {name: estimate for name, estimate in subsets.items() if estimate is not None}
    return {
        "accuracy": won.value,
        "ci95": won.ci95,
        "pairs": won.items,
        "prompts": won.groups,
        "ties": round(2 * (half.value - won.value) * won.items),
        "accuracy_ties_half": half.value,
        "margin": {"mean": gap.value, "ci95": gap.ci95},
        "by_subset": {name: {"accuracy": e.value, "ci95": e.ci95, "pairs": e.items} for name, e in known.items()},
        "mean_of_subsets": _mean_of(list(known.values())),
    }


def _is_higher(better: float, worse: float) -> float:
    return float(better > worse)


def _of(name: str, groups: Sequence[Group], values: Values) -> tuple[list[Group], list[Sequence[float]]]:
    kept = [(group, row) for group, row in zip(groups, values, strict=True) if group.category == name]
    return [group for group, _ in kept], [row for _, row in kept]


def _mean_of(subsets: Sequence[Estimate]) -> dict[str, Any]:
    """The mean over subsets, with an interval from theirs: the distances to their ends, squared, summed and divided by their number.

    Source: Zou & Donner 2008, "Construction of confidence limits about effect measures: a general approach" (the MOVER method).
    """
    mean, count = sum(e.value for e in subsets) / len(subsets), len(subsets)
    ends = None
    if all(e.ci95 for e in subsets):
        below, above = (math.dist([e.value for e in subsets], end) / count for end in ([e.low for e in subsets], [e.high for e in subsets]))
        ends = [mean - below, mean + above]
    return {"value": mean, "ci95": ends, "subsets": count}


def _over_pairs(groups: Sequence[Group], values: Values, compare: Callable[[float, float], float]) -> list[tuple[float, int]]:
    return list(_by_prompt(groups, values, compare).values())


def _by_prompt(groups: Sequence[Group], values: Values, compare: Callable[[float, float], float]) -> dict[str, tuple[float, int]]:
    """(sum over the ordered pairs, number of pairs) of each prompt."""
    sums: dict[str, tuple[float, int]] = {}
    for group, vs in zip(groups, values, strict=True):
        pairs = ordered_pairs([score for _, score in group.answers])
        total, count = sums.get(group.prompt_id, (0.0, 0))
        sums[group.prompt_id] = total + sum(compare(vs[a], vs[b]) for a, b in pairs), count + len(pairs)
    return sums
