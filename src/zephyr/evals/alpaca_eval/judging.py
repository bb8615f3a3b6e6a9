"""AlpacaEval as a judge is asked it: each answer beside the baseline's; and the annotations and scores that come of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from zephyr.evals.alpaca_eval import asking, preferences, scores
from zephyr.evals.alpaca_eval.files import Annotation, Output
from zephyr.evals.asks import Ask, Heard, said
from zephyr.records import Row

Order = Literal["both", "seeded"]


@dataclass(frozen=True, eq=False)
class Pair(Ask):
    """An answer beside the baseline's, in one of the two orders; by_choice: the judge's log-probabilities are read, not its words."""

    output: Output
    baseline: Output
    model_first: bool
    by_choice: bool

    def shown(self, reply: Heard) -> float | None:
        """The preference of a reply, in the order shown."""
        return asking.preference_of_choice(reply.text) if self.by_choice else asking.preference(said(reply.text, reply.finish_reason))


def pairs(
    outputs: Mapping[str, Mapping[str, Output]], baseline: Sequence[Output], order: Order, *, by_choice: bool, seed: int
) -> Iterator[Pair]:
    """Questions to the judge for each answer, by model and instruction: one in the order that the original draws, or one in either."""
    write = asking.choice_messages if by_choice else asking.messages
    for model, given in outputs.items():
        for b in baseline:
            for first in (True, False) if order == "both" else (preferences.model_shown_first(b.instruction),):
                texts = given[b.instruction].output, b.output
                messages = write(b.instruction, *(texts if first else texts[::-1]), seed=seed)
                subject = "first" if first else "second"
                yield Pair(f"alpaca-eval {b.instruction[:40]}", subject, model, messages, given[b.instruction], b, first, by_choice)


def annotated(replies: Mapping[Pair, Heard], judge: str) -> dict[str, list[Annotation]]:
    """By model: AlpacaEval's rows. With both orders the preference is their mean, and null where one of them has no verdict.

    Args:
        replies: to each question.
        judge: its name.
    """
    asked: dict[tuple[str, str], list[Pair]] = {}
    for pair in replies:
        asked.setdefault((pair.model, pair.baseline.instruction), []).append(pair)
    found: dict[str, list[Annotation]] = {}
    for (model, instruction), theirs in asked.items():
        pair = theirs[0]
        verdicts = [_verdict(p, replies[p]) for p in theirs]
        known = [preferences.unswitched(v["preference"], model_first=v["model_first"]) for v in verdicts if v["preference"] is not None]
        preference = sum(known) / len(known) if len(known) == len(theirs) else None
        row: Row = {
            "dataset": pair.baseline.dataset,
            "instruction": instruction,
            "output_1": pair.baseline.output,
            "generator_1": pair.baseline.generator,
            "output_2": pair.output.output,
            "generator_2": model,
            "annotator": f"{judge}/{asking.NAME_OF_CHOICE if pair.by_choice else asking.NAME}",
            "preference": preference,
            "verdicts": verdicts,
        }
        if pair.by_choice and len(theirs) == 1:  # the order is the original's, by which a raw completion is read again
            row["raw_completion"] = {"logprobs": {"content": [{"top_logprobs": json.loads(verdicts[0]["reply"] or "[]")}]}}
        texts = (instruction, pair.baseline.output, pair.output.output, pair.baseline.generator, model, row["annotator"])
        found.setdefault(model, []).append(Annotation(f"{model}: {instruction[:40]!r}", *texts, preference, row))
    return found


def _verdict(pair: Pair, reply: Heard) -> Row:
    """One verdict with its preference in the order shown, and the model that gave it, where its server says which."""
    text = reply.text if pair.by_choice else said(reply.text, reply.finish_reason)
    served = {"served": reply.served} if reply.served else {}
    return {"model_first": pair.model_first, "reply": text, "preference": pair.shown(reply), **served}


def score(given: Sequence[Annotation], *, seed: int) -> Row:
    """The win rate and what it rests on; without a verdict there is none."""
    if all(a.preference is None for a in given):
        return {"win_rate": None, "ci95": None, "n_total": 0, "n_null": len(given)}
    return scores.score(given, seed=seed)
