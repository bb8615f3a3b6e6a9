"""Does the model prefer the better answer? Accuracy of the implicit reward over all ordered pairs of a prompt's answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

from zephyr.evals.statistics import Estimate, ratio, share
from zephyr.records import Message


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


def _over_pairs(
    groups: Sequence[Group], values: Sequence[Sequence[float]], compare: Callable[[float, float], float]
) -> list[tuple[float, int]]:
    """(sum over the ordered pairs, number of pairs) of each prompt."""
    sums: dict[str, tuple[float, int]] = {}
    for group, vs in zip(groups, values, strict=True):
        pairs = ordered_pairs([score for _, score in group.answers])
        total, count = sums.get(group.prompt_id, (0.0, 0))
        sums[group.prompt_id] = total + sum(compare(vs[a], vs[b]) for a, b in pairs), count + len(pairs)
    return list(sums.values())
