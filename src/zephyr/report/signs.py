"""Signs of preference training that went too far: likelihood displacement, entropy, mass on the likeliest tokens, length.

None of them is a fault by itself; together, and beside the scores, they say whether a model became better or only narrower.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zephyr.records import Row
from zephyr.report.facts import LABELS, Run, dig
from zephyr.report.numbers import count, finite, fixed, percent
from zephyr.report.table import Column, Measured, Table, interval_table, text

SMALL = 0.5  # nats an answer: less than this is said to be as good as nothing
SHARE = 0.1  # of the steps, the last ones, that a mean is taken over where only batches were logged


@dataclass(frozen=True)
class Moved:
    """How far the log-probability of the chosen and of the rejected answers moved, in nats, summed over an answer.

    Attributes:
        chosen: change; below nought, the answers became less likely.
        rejected: the same.
        of: of which rows, in words.
        steps: over so many steps.
    """

    chosen: float
    rejected: float
    of: str
    steps: int


def moved(log: Sequence[Row], beta: object = None, objective: str = "dpo") -> Moved | None:
    """Displacement over dDPO's steps, from its log.

    It is that of the test rows, from before the first step to after the last. Without test rows it is the mean reward over beta (the change
    against the frozen reference, on the batch's own rows) of the last tenth of the steps. None where neither was logged, and of the rewards
    of an objective without a reference (SimPO), which are no changes.
    """
    keys = ("chosen_logp", "rejected_logp")
    test = sorted(
        (s, *v) for row in log if row.get("kind") == "test" and (s := finite(row.get("step"))) is not None and (v := _both(row, keys))
    )
    if len(test) > 1:
        (first, *before), (last, *after) = test[0], test[-1]
        return Moved(after[0] - before[0], after[1] - before[1], "the test pairs", int(last - first))
    scale = finite(beta)
    rewards = sorted(
        (s, *v)
        for row in log
        if row.get("kind") == "train"
        and (s := finite(row.get("step"))) is not None
        and (v := _both(row, ("chosen_reward", "rejected_reward")))
    )
    if objective == "simpo" or not rewards or not scale:
        return None
    late = rewards[-max(1, round(SHARE * len(rewards))) :]
    chosen, rejected = (sum(row[i] for row in late) / len(late) / scale for i in (1, 2))
    return Moved(chosen, rejected, f"the pairs of the last {len(late)} steps", int(rewards[-1][0]))


def _both(row: Mapping[str, Any], keys: tuple[str, str]) -> tuple[float, float] | None:
    one, other = (finite(row.get(key)) for key in keys)
    return None if one is None or other is None else (one, other)


def displacement_words(found: Moved | None) -> str:
    """What happened to the log-probabilities, and what it means; "" where it is not known."""
    if found is None:
        return ""
    chosen, rejected = found.chosen, found.rejected
    what = f"On {found.of}, over {count(found.steps)} steps, the chosen answers {_went(chosen)} and the rejected ones {_went(rejected)}"
    if max(abs(chosen), abs(rejected)) < SMALL:
        return f"{what}: the model has hardly moved from where it started."
    if chosen < -SMALL and rejected < chosen:
        return (
            f"{what}. Both fell, the rejected ones {fixed(rejected / chosen, 1)} times as far: the pairs are told apart better, and still "
            "the model says the chosen answers less often than before. What both lost went to answers that are in neither; the samples "
            "show which."
        )
    if chosen < -SMALL and rejected < -SMALL:
        return f"{what}. Both fell, the chosen ones further: the model now likes the rejected answers better than it did at the start."
    if chosen < -SMALL:
        return f"{what}. Only the chosen ones fell, which is the wrong way round; look at the pairs, and at the learning rate."
    return f"{what}. There is no displacement: the chosen answers were not pushed down."


def _went(change: float) -> str:
    if abs(change) < 0.05:
        return "stayed where they were"
    return f"{'gained' if change > 0 else 'lost'} {fixed(abs(change), 1)} nats"


def displacement(run: Run) -> Table | None:
    """Change of the log-probability of the best and the worst rated answers of the test prompts, by training stage."""
    found = run.result("evaluate", "displacement") or {}
    before = {"dsft": "base", "ddpo": "dSFT" if "dsft" in run.models else "base"}
    rows, measured = [], []
    for name in ("dsft", "ddpo"):
        for which, words in (("better", "best rated"), ("worse", "worst rated")):
            one = dig(found, name, which)
            if one:
                measured.append(Measured("", "chosen" if which == "better" else "rejected", dig(one, "mean"), dig(one, "ci95")))
                more = fixed(dig(one, "per_token"), 3), percent(dig(one, "share_down"), 0), count(dig(one, "prompts"))
                rows.append((f"{before[name]} → {LABELS[name]}", words, more))
    if not rows:
        return None
    columns, cells = interval_table(measured, "change, nats", lambda v: fixed(v, 2), None, 0.0)
    heads = (
        text("from, to"),
        text("answer"),
        *columns,
        Column("per token"),
        Column("became less likely", minor=True),
        Column("prompts", minor=True),
    )
    return Table(
        "Likelihood displacement on the test prompts",
        heads,
        tuple((label, words, *c, *more) for (label, words, more), c in zip(rows, cells, strict=True)),
        "How much likelier, in nats summed over the answer, training made the best and the worst rated answer of each prompt. "
        "A loss over pairs is content when the worst falls faster than the best, even if both fall.",
    )


def sharpness(run: Run) -> Table | None:
    """Entropy, mass of the likeliest tokens and length, by model."""
    found, lengths = run.result("evaluate", "sharpness") or {}, run.result("evaluate", "lengths") or {}
    names = [name for name in LABELS if name in found]
    if not names:
        return None
    measured = [Measured("", n, dig(found[n], "entropy", "mean"), dig(found[n], "entropy", "ci95")) for n in names]
    columns, cells = interval_table(measured, "entropy, nats", fixed, None, None)
    heads = (
        text("model"),
        *columns,
        Column("likeliest token"),
        Column("likeliest ten"),
        Column("tokens an answer"),
        Column("ended", minor=True),
    )
    rows = tuple(
        (
            LABELS[n],
            *c,
            *(percent(dig(found[n], key, "mean")) for key in ("top1", "top10")),
            fixed(dig(lengths, n, "mean_tokens"), 1),
            percent(dig(lengths, n, "ended"), 0),
        )
        for n, c in zip(names, cells, strict=True)
    )
    first = found[names[0]]
    return Table(
        "How sharp the models are",
        heads,
        rows,
        "Entropy of the next token, and the probability on the likeliest one and ten, at each of the "
        f"{count(dig(first, 'tokens'))} tokens of the rated answers of {count(dig(first, 'prompts'))} test prompts, the same texts for "
        "every model; the intervals are over prompts. "
        "Length is of the answers the model samples itself.",
    )


def sharpness_words(run: Run) -> str:
    """Whether dDPO made the model narrower or longer-winded, in a sentence; "" where it was not measured."""
    found, lengths = run.result("evaluate", "sharpness") or {}, run.result("evaluate", "lengths") or {}
    before = "dsft" if "dsft" in found else "base"
    was, now = (finite(dig(found, n, "entropy", "mean")) for n in (before, "ddpo"))
    if was is None or now is None:
        return ""
    change = (now - was) / was if was else 0.0
    if abs(change) < 0.02:
        said = f"dDPO left the entropy where it was ({fixed(was)} nats before, {fixed(now)} after)"
    else:
        said = (
            f"dDPO {'lowered' if change < 0 else 'raised'} the entropy from {fixed(was)} to {fixed(now)} nats, by {percent(abs(change), 0)}"
        )
    long = [finite(dig(lengths, n, "mean_tokens")) for n in (before, "ddpo")]
    if long[0] and long[1] is not None:
        ratio = long[1] / long[0]
        said += f"; its sampled answers are {fixed(ratio, 2)} times as long as those of {LABELS[before]}"
    return (
        f"{said}. Entropy that falls far while the scores stand still, nearly all of the mass on one token, and answers that grow are "
        "signs of training that went too far; the samples show whether it did."
    )
