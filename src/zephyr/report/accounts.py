"""The tables of what it took: time, tokens and money, and what was left out. A table of nothing is None."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zephyr.report.facts import Run, dig, rows_out
from zephyr.report.numbers import count, duration, finite
from zephyr.report.table import DASH, Column, Table, bar, text

ASKING = ("synthesize", "complete", "rate", "answer", "judge")  # the stages that ask models and may pay for it
# what the rows of a stage are
_ROWS = {
    "synthesize": "dialogues",
    "curate": "dialogues",
    "sft": "dialogues",
    "complete": "prompts",
    "rate": "prompts",
    "binarize": "prompts or pairs",
    "reference": "pairs",
    "dpo": "pairs",
    "evaluate": "test rows",
}
# how the reasons begin that are counted by answers, not by rows
_OF_ANSWERS = ("the answer", "the teacher", "the rating", "the request")


def _counted(stage: str, reason: str) -> str:
    """What a stage counts under a reason: its rows, or single answers of them, as the reason says."""
    return "answers" if reason.startswith(_OF_ANSWERS) and stage != "synthesize" else _ROWS.get(stage, "rows")


def dropped(run: Run, order: Sequence[str]) -> Table | None:
    """What was left out and why, by stage; None where nothing was. No sum: one pair may be left out by several stages."""
    rows = [
        (stage, reason, count(n), _counted(stage, reason))
        for stage in order
        if (m := run.manifest(stage))
        for reason, n in sorted(m.dropped.items(), key=lambda i: (-i[1], i[0]))
    ]
    clean = [stage for stage in order if (m := run.manifest(stage)) and not m.dropped]
    note = "Each stage counts what it leaves out itself; a row that two stages leave out is counted by both."
    if clean:
        note += f" Nothing was dropped by {', '.join(clean)}."
    heads = (text("stage"), text("reason"), Column("how many"), text("of what"))
    return Table("By stage and reason", heads, tuple(rows), note) if rows else None


def cost(run: Run, order: Sequence[str]) -> Table | None:
    """Rows, time, tokens, calls and money of every stage and in all."""
    manifests = [m for stage in order if (m := run.manifest(stage))]
    if not manifests:
        return None
    seconds, tokens = sum(finite(m.seconds) or 0.0 for m in manifests), sum(m.tokens for m in manifests)
    bills = {m.stage: bill(run, m.stage) for m in manifests}
    calls, dollars = sum(b[0] for b in bills.values()), sum(b[1] for b in bills.values())
    asked = any(b[0] for b in bills.values())

    def paid(of_calls: int, of_dollars: float) -> tuple[str, ...]:
        return (count(of_calls) if of_calls else DASH, money(of_dollars) if of_dollars else DASH) if asked else ()

    rows = tuple(
        (
            m.stage,
            count(m.rows_in) if m.rows_in else DASH,
            rows_out(m) or DASH,
            count(m.tokens) if m.tokens else DASH,
            *paid(*bills[m.stage]),
            duration(m.seconds),
            bar((finite(m.seconds) or 0.0) / seconds if seconds > 0 else 0.0),
        )
        for m in manifests
    )
    heads = (
        text("stage"),
        Column("rows in", minor=True),
        Column("rows out", "text", minor=True),
        Column("tokens"),
        *((Column("calls", minor=True), Column("spent")) if asked else ()),
        Column("time"),
        Column("", "plot"),
    )
    foot = ("in all", "", "", count(tokens), *paid(calls, dollars), duration(seconds), "")
    return Table("Stages in the order in which they run", heads, rows, _about_cost(run, asked=asked), foot)


def _about_cost(run: Run, *, asked: bool) -> str:
    note = (
        "Tokens are those that models read in training and scoring, and those that they read and wrote where they answered or judged: "
        "as teachers that run here, and for the samples. Those of the academic tasks are not counted."
    )
    if asked:
        note += " Calls and money are of the whole journal of the run's folder, lost and repeated requests included."
    if run.setting("sft", "sft", "packing") is True:
        note += " The rows out of sft are packed sequences."
    if replaying := [stage for stage in ("complete", "rate") if run.result(stage, "replayed") is True]:
        note += f" The time of {' and '.join(replaying)} is that of reading recorded texts; asking a teacher would take longer."
    return note


def bill(run: Run, stage: str) -> tuple[int, float]:
    """(calls, dollars spent for sure) of a stage."""
    by_teacher = run.result(stage, "bill") if stage in ASKING else None
    ones = list(by_teacher.values()) if isinstance(by_teacher, dict) else []
    return int(sum(finite(dig(b, "calls")) or 0 for b in ones)), sum(finite(dig(b, "spent_usd")) or 0.0 for b in ones)


def money(dollars: float) -> str:
    """`$12.35`; less than a cent in as many digits as it takes."""
    return f"${dollars:,.2f}" if dollars >= 0.005 else f"${f'{dollars:.7f}'.rstrip('0').rstrip('.')}"


def teachers(run: Run) -> Table | None:
    """What was asked of models behind servers and of local ones, and what it cost, retries and lost answers included."""
    rows, doubtful = [], []
    for stage in ASKING:
        by_teacher = run.result(stage, "bill")
        for name, b in (by_teacher if isinstance(by_teacher, dict) else {}).items():
            tokens = [count(dig(b, key)) for key in ("calls", "answered", "prompt_tokens", "completion_tokens")]
            rows.append((f"{stage}, {name}", *tokens, _spent(b)))
            doubtful += [
                f"{stage}, {name}: {count(dig(b, key))} {words}"
                for key, words in (
                    ("failed", "requests failed and were not paid for"),
                    ("unknown", "answers were lost, and may have been paid for"),
                    ("possibly_paid_twice", "answers may have been paid for twice, for an earlier sending was cut off"),
                    ("usage_not_believed", "token counts could not be believed, and the most that they can be is counted"),
                )
                if dig(b, key)
            ]
    if not rows:
        return None
    columns = (text("stage and model"), Column("calls"), Column("answers"), Column("tokens sent"), Column("tokens back"), Column("spent"))
    said = [*doubtful, "a dash: a model that runs here, or prices that the recipe does not name"]
    note = "; ".join(said if any(row[-1] == DASH for row in rows) else doubtful)
    return Table("What the models were asked", columns, tuple(rows), note[:1].upper() + note[1:] + "." if note else "")


def _spent(one: Any) -> str:
    spent, maybe = (finite(dig(one, key)) or 0.0 for key in ("spent_usd", "possibly_spent_usd"))
    said = money(spent) if spent else DASH
    return f"{said}, perhaps {money(maybe)} more" if maybe else said
