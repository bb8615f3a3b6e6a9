"""The tables of what the models are worth on the test rows. A table of which nothing was measured is None."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zephyr.report.facts import LABELS, Run, dig
from zephyr.report.numbers import MISSING, bounds, count, finite, fixed, interval, percent
from zephyr.report.table import Column, Measured, Table, interval_table, text


def nll(run: Run) -> Table | None:
    """Negative log-likelihood of the test dialogues, by model."""
    found = run.result("evaluate", "nll")
    if not found:
        return None
    names = [name for name in LABELS if name in found]
    measured = [Measured(LABELS[n], n, dig(found[n], "nll_per_token"), dig(found[n], "ci95")) for n in names]
    columns, cells = interval_table(measured, "nats per token", fixed, None, None)
    rows = [
        (m.label, *c, count(dig(found[n], "tokens")), count(dig(found[n], "dialogues")), _chat_format(found[n]))
        for n, m, c in zip(names, measured, cells, strict=True)
    ]
    return Table(
        "Negative log-likelihood of the test dialogues",
        (text("model"), *columns, Column("tokens"), Column("dialogues"), text("chat format")),
        tuple(rows),
        "Lower is better; only what the assistant says counts. The base is given the chat format that suits it better, "
        "its own or the run's. The intervals are over dialogues.",
    )


def _chat_format(found: Any) -> str:
    names = {"zephyr": "Zephyr", "tokenizer": "its own", None: MISSING}
    name = dig(found, "template")
    said = str(names.get(name, name))
    if other := dig(found, "other_template"):
        other_name = dig(other, "template")
        said += f" (in {names.get(other_name, other_name)}: {fixed(dig(other, 'nll_per_token'))})"
    return said


def reward_accuracy(run: Run) -> Table | None:
    """Accuracy of the implicit reward over the ordered pairs of the test prompts' answers."""
    scorers = run.scorers()
    if not scorers:
        return None
    found = run.result("evaluate", "reward_accuracy")
    measured = [Measured(label, "muted" if k == "length" else k, dig(found[k], "accuracy"), dig(found[k], "ci95")) for k, label in scorers]
    columns, cells = interval_table(measured, "accuracy", percent, (0.0, 1.0), 0.5)
    rows = [
        (m.label, *c, count(dig(found[k], "pairs")), count(dig(found[k], "prompts")))
        for (k, _), m, c in zip(scorers, measured, cells, strict=True)
    ]
    return Table(
        "Accuracy of the implicit reward on the test prompts",
        (text("scorer"), *columns, Column("pairs"), Column("prompts")),
        tuple(rows),
        "Over all pairs of a prompt's answers whose ratings differ: how often the better rated answer has the higher reward, "
        "β × the log-probability it gained from one model to the next. One half is chance. The intervals are over prompts, not pairs.",
    )


def reward_margin(run: Run) -> Table | None:
    """How far apart the reward sets better and worse answers."""
    found = run.result("evaluate", "reward_margin")
    if not found:
        return None
    names = [name for name in LABELS if name in found]
    measured = [Measured(run.scorer(n), n, dig(found[n], "mean"), dig(found[n], "ci95")) for n in names]
    columns, cells = interval_table(measured, "mean margin", fixed, None, 0.0)
    rows = tuple((m.label, *c) for m, c in zip(measured, cells, strict=True))
    note = "Reward of the better rated answer minus that of the other; above nought, the reward agrees with the ratings."
    return Table("Reward margin on the test prompts", (text("reward"), *columns), rows, note)


def lengths(run: Run) -> Table | None:
    """How long the sampled answers are, and whether they come to an end."""
    found = run.result("evaluate", "lengths")
    if not found:
        return None
    rows = tuple(
        (
            LABELS[n],
            f"{fixed(dig(found[n], 'mean_tokens'), 1)} {_ends(dig(found[n], 'ci95'), lambda v: fixed(v, 1))}",
            f"{percent(dig(found[n], 'ended'), 0)} {_ends(dig(found[n], 'ended_ci95'), lambda v: percent(v, 0))}",
            count(dig(found[n], "answers")),
        )
        for n in LABELS
        if n in found
    )
    limit = run.setting("evaluate", "evaluate", "max_new_tokens")
    note = "The rest were cut off" + (f" at {count(limit)} tokens" if finite(limit) else "") + " before the model ended its turn. "
    note += "In brackets the 95% intervals over answers."
    return Table("Length of the sampled answers", (text("model"), Column("mean tokens"), Column("ended"), Column("answers")), rows, note)


def _ends(ends: object, form: Callable[[object], str]) -> str:
    return interval(ends, form) if bounds(ends) else "(no interval)"


# IFEval's measures, as its results call them
IFEVAL = {
    f"{level}_level_{way}_acc": f"IFEval, {of}, {way}"
    for level, of in (("prompt", "prompts"), ("inst", "instructions"))
    for way in ("strict", "loose")
}
PREFERENCES = "preferences "  # a preference set's measure is this and its name
# how each measure is called and shown, and whether more of it is better (None: neither)
MEASURES: dict[str, tuple[str, Callable[[object], str], bool | None]] = {
    "nll": ("test loss, nats per token", fixed, False),
    "reward_accuracy": ("reward accuracy", percent, True),
    "reward_margin": ("reward margin", fixed, True),
    "entropy": ("entropy, nats", fixed, None),
    "top1": ("mass on the likeliest token", percent, None),
    "top10": ("mass on the likeliest ten", percent, None),
    "length": ("tokens a sampled answer", lambda v: fixed(v, 1), None),
    "mt_bench": ("MT-Bench, 1 to 10", lambda v: fixed(v, 2), True),
    "mt_bench_pairs": ("MT-Bench pairs, wins in %", lambda v: fixed(v, 1), True),
    "alpaca_eval": ("AlpacaEval, wins in %", lambda v: fixed(v, 1), True),
    **{measure: (label, percent, True) for measure, label in IFEVAL.items()},
}


def differences(found: Sequence[Mapping[str, Any]]) -> Table | None:
    """How far each model is from the one before it on the same rows, as `evals.side_by_side.between_models` has it."""
    rows, whys = [], []
    for gap in (gap for gap in found if gap["measure"] in MEASURES):
        label, form, _ = MEASURES[gap["measure"]]
        before = "length alone" if gap["before"] == "length" else LABELS.get(gap["before"], gap["before"])
        models = f"{before} → {LABELS.get(gap['after'], gap['after'])}"
        if gap["paired"]:
            rows.append((label, models, *gap_cells(gap, gap_form(form))))
        else:
            whys.append(f"{label}, {models}: {gap['why']}")
    if not rows:
        return None
    heads = (
        text("measure"),
        text("from, to"),
        Column("difference"),
        Column("95% interval"),
        text("told apart"),
        Column("prompts", minor=True),
    )
    return Table(
        "From one model to the next, on the same rows",
        heads,
        tuple(rows),
        "Paired: each row is measured by both models, and what makes it hard for both cancels, so these intervals are often shorter than "
        "the two models' own would have it. Not told apart: nought lies inside; in brackets the smallest difference that so many rows show "
        "four times in five." + (f" Not paired: {'; '.join(whys)}." if whys else ""),
    )


def gap_cells(gap: Mapping[str, Any], form: Callable[[object], str]) -> tuple[str, str, str, str]:
    """(difference with its sign, its interval, whether the two are told apart, number of rows and of those left out)."""
    if gap["ci95"] is None:
        return signed(gap["difference"], form), "no interval", "no: all differences are equal", f"{count(gap['n'])}{left_out(gap)}"
    said = "yes" if gap["told_apart"] else f"no ({form(gap['smallest_that_could_be_shown'])})"
    return signed(gap["difference"], form), gap_interval(gap["ci95"], form), said, f"{count(gap['n'])}{left_out(gap)}"


def left_out(gap: Mapping[str, Any]) -> str:
    """` (3 left out)`: the rows that are not the same in both; "" where all are."""
    return f" ({count(gap['left_out'])} left out)" if gap.get("left_out") else ""


def points(value: object) -> str:
    """`3.1 points`: a difference of two shares, in hundredths."""
    number = finite(value)
    return MISSING if number is None else f"{fixed(100 * number, 1)} points"


def gap_form(form: Callable[[object], str]) -> Callable[[object], str]:
    """How the difference of two numbers is shown: that of two percentages is in points."""
    return points if form is percent else form


def gap_interval(ends: object, form: Callable[[object], str]) -> str:
    """The interval of a difference; its unit stands beside the difference already."""
    return interval(ends, (lambda v: fixed(100 * (finite(v) or 0.0), 1)) if form is points else form)


def signed(value: object, form: Callable[[object], str]) -> str:
    """A difference, with a plus where it is one."""
    number = finite(value)
    return f"+{form(value)}" if number is not None and number > 0 and any(digit in form(value) for digit in "123456789") else form(value)
