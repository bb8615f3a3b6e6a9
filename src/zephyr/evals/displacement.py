"""How far training moved the probability of good and bad answers: likelihood displacement, on prompts that were not trained on.

A preference loss asks only that the better answer gain on the worse one. Both may lose, and often do: the probability then goes to answers
that are neither (Razin et al. 2024, "Unintentional Unalignment: Likelihood Displacement in Direct Preference Optimization").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from zephyr.evals.preference import Group
from zephyr.evals.statistics import ratio

Values = Sequence[Sequence[float]]  # for each answer of each group


def displacement(groups: Sequence[Group], after: Values, before: Values, tokens: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Change of the log-probability of the best rated and of the worst rated answer of each prompt.

    Args:
        groups: prompts with scored answers; those whose answers all have one score say nothing, and are left out.
        after: log-probabilities under the model, in nats, summed over an answer.
        before: the same under the model before.
        tokens: of each answer.

    Returns:
        `better` and `worse`: `mean` of the change in nats an answer, `ci95` in which prompts, not their pairs, are independent,
        `per_token` in nats; `share_down`, how many of the `answers` lost probability; `prompts`.
    """
    found: dict[str, Any] = {}
    for name, pick in (("better", max), ("worse", min)):
        moves = [(row[0].prompt_id, *move) for row in zip(groups, after, before, tokens, strict=True) for move in _moves(*row, pick)]
        by_prompt: dict[str, tuple[float, int]] = {}  # pairs of one prompt are not independent
        for prompt_id, change, _ in moves:
            total, answers = by_prompt.get(prompt_id, (0.0, 0))
            by_prompt[prompt_id] = total + change, answers + 1
        mean, per_token = ratio(list(by_prompt.values())), ratio([(change, n) for _, change, n in moves])
        if mean is None or per_token is None:
            return {}
        found[name] = {
            "mean": mean.value,
            "ci95": mean.ci95,
            "per_token": per_token.value,
            "share_down": sum(change < 0 for _, change, _ in moves) / len(moves),
            "answers": len(moves),
            "prompts": len(by_prompt),
        }
    return found


def _moves(
    group: Group, after: Sequence[float], before: Sequence[float], tokens: Sequence[int], pick: Callable[[Sequence[float]], float]
) -> list[tuple[float, int]]:
    """(change, tokens) of the answer with the score that is picked: of the first of several; nothing where no answer is the better."""
    scores = [score for _, score in group.answers]
    if min(scores) == max(scores):
        return []
    i = scores.index(pick(scores))
    return [(after[i] - before[i], tokens[i])]
