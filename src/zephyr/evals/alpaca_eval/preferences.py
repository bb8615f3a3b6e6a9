"""From a judge's reply to a preference: in which order the two outputs were shown, and what the reply says of them.

The judge sees the outputs as model_1 and model_2 (or `m` and `M`), in an order drawn from the instruction alone; so it can be derived again
for any annotation, and one can see what the order did.
"""

from __future__ import annotations

import ast
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

MODEL_TOKENS = ("m", "M")  # of the output shown first, of the one shown second


def model_shown_first(instruction: str, seed: int = 0) -> bool:
    """Whether the model's output (output_2) was shown before the baseline's.

    Source: alpaca_eval, `PairwiseAnnotator._preprocess`: `random_seeded_choice(seed=f"is_switched_outputs{instruction}{seed}")`.
    """
    return random.Random(f"is_switched_outputs{instruction}{seed}").choices([False, True], k=1)[0]


def of_ranking(reply: str) -> float | None:
    """Preference in the order shown (1: the first is better, 2: the second), of a reply that ranks both; None without one.

    The reply is a list as AlpacaEval's template asks for it: [{'model': 'model_1', 'rank': 1}, {'model': 'model_2', 'rank': 2}].
    Both models have to stand in it once, on different ranks.
    """
    ranks = _ranking(reply) or []
    if sorted(model for model, _ in ranks) != ["model_1", "model_2"] or sorted(rank for _, rank in ranks) != [1, 2]:
        return None
    return float(dict(ranks)["model_1"])


def of_ranking_compatible(reply: str) -> float | None:
    """The same as the original reads it: the first rank given to model_1, if it is 1 or 2; what is said of model_2 counts for nothing."""
    for model, rank in _ranking(reply) or []:
        if model == "model_1":
            return float(rank) if rank in (1, 2) else None
    return None


def of_log_probabilities(top: Sequence[Mapping[str, Any]]) -> float | None:
    """Preference in the order shown, from the first token's most probable continuations; None if neither token is among them.

    2 - P(m), P(m) = e^lp(m) / (e^lp(m) + e^lp(M)); one that is not among them has the probability 0.

    Args:
        top: `token` and `logprob` (nats) of each.
    """
    found = {str(entry["token"]): float(entry["logprob"]) for entry in top}
    first, second = (found.get(token, -math.inf) for token in MODEL_TOKENS)
    if max(first, second) == -math.inf:
        return None
    # e^a / (e^a + e^b), from the larger of the two, so that nothing underflows
    share = 1 / (1 + math.exp(second - first)) if first >= second else math.exp(first - second) / (1 + math.exp(first - second))
    return 2 - share


def of_completion(raw: Any) -> float | None:
    """Preference in the order shown, of an annotation's `raw_completion`: log-probabilities where it has them, else a ranking."""
    if isinstance(raw, Mapping):
        try:
            return of_log_probabilities(raw["logprobs"]["content"][0]["top_logprobs"])
        except (KeyError, IndexError, TypeError, ValueError):
            return None
    return of_ranking(raw) if isinstance(raw, str) else None


def unswitched(shown: float, *, model_first: bool) -> float:
    """A preference in the order shown as one of baseline (1) and model (2)."""
    return 3 - shown if model_first else shown


def _ranking(reply: str) -> list[tuple[str, int]] | None:
    try:
        value = ast.literal_eval(reply)  # literals alone: nothing in a reply is run
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    if not isinstance(value, list):
        return None
    pairs = [(entry.get("model"), entry.get("rank")) for entry in value if isinstance(entry, dict)]
    fit = [(m, r) for m, r in pairs if isinstance(m, str) and isinstance(r, int) and not isinstance(r, bool)]
    return fit if len(fit) == len(value) else None
