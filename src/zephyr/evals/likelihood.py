"""How likely dialogues are under a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zephyr.artifacts import Draft
from zephyr.evals.statistics import ratio
from zephyr.recipe import TrainConfig
from zephyr.records import Dialogue
from zephyr.text.chat import ChatFormat
from zephyr.train import score
from zephyr.train.batches import Example


def of_dialogues(
    model: Any, chat: ChatFormat, dialogues: Sequence[Dialogue], config: TrainConfig, label: str, out: Draft
) -> dict[str, Any]:
    """Negative log-likelihood per learnt token, in nats, with an interval over dialogues; `each`: (nats, tokens) of every dialogue."""
    examples = [Example(t.ids, t.learnt) for t in (chat.encode(d.messages) for d in dialogues)]
    names = [f"prompt {d.prompt_id[:16]}" for d in dialogues]
    sums = score.log_probabilities(model, examples, config, label, out, names=names)
    each = [(-value, e.targets[0]) for value, e in zip(sums, examples, strict=True)]
    estimate = ratio(each)
    assert estimate is not None
    found = {"nll_per_token": estimate.value, "ci95": estimate.ci95, "tokens": estimate.items, "dialogues": estimate.groups}
    return {**found, "each": each}
