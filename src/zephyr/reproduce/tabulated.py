"""The tables of the page: what was found beside what the paper prints."""

from __future__ import annotations

from collections.abc import Sequence

from zephyr.report.numbers import MISSING, count, finite, fixed, percent
from zephyr.report.table import Column, Table
from zephyr.reproduce import paper
from zephyr.reproduce.data import MAIN
from zephyr.reproduce.evidence import ANSWERS, MEASURES, PRIMARY
from zephyr.reproduce.results import Result
from zephyr.reproduce.words import ALIKE, NO_INTERVAL

NOT_PUBLIC = "\N{EN DASH}"


def _shown(found: Result, measure: str) -> str:
    """A value with its interval."""
    form = percent if MEASURES[measure].share else (lambda v: fixed(v, 1)) if measure == "length" else fixed
    ends = f"[{form(found['ci95'][0])}, {form(found['ci95'][1])}]" if found["ci95"] else f"({NO_INTERVAL.format(found['prompts'])})"
    return f"{form(found['value'])} {ends}"


def of_table3(table: Result | None) -> list[Table]:
    """The arms beside the paper's, how their answers end, and which of them differ; nothing where they were not made."""
    if table is None:
        return []
    answers = (*ANSWERS, "length")
    names = [name for name in table["arms"][0]["measures"] if name not in answers]
    columns = (
        Column("Arm", "text"), Column("Paper: MT-Bench"), Column("Paper: AlpacaEval (SE)"),
        *(Column(f"Ours: {MEASURES[name].label}") for name in names),
    )  # fmt: skip
    rows = []
    for arm in table["arms"]:
        p = arm["paper"]
        ours = [_shown(arm["measures"][name], name) for name in names]
        rows.append((arm["arm"], fixed(p["mt_bench"], 2), f"{fixed(p['alpaca_eval'], 2)} ({fixed(p['alpaca_eval_se'], 2)})", *ours))
    of_base = table["base_measures"]
    rows.append(("the base", NOT_PUBLIC, NOT_PUBLIC, *(_shown(of_base[n], n) if n in of_base else NOT_PUBLIC for n in names)))
    longer = "; ".join(f"{'held-out' if n == MAIN else 'AlpacaEval'} pairs {_shown(f, PRIMARY)}" for n, f in table["longer_answer"].items())
    so_far = ", as far as both were read" if any(table["read"]["measured"].get(n, {}).get("cut") for n in table["longer_answer"]) else ""
    note = (
        "In brackets 95% intervals over prompts and trainings. Accuracy: the share of pairs in which log π − log π_base is higher for "
        f"the better answer; 50% is a coin. A judge that takes the longer answer{so_far} gets: {longer}."
    )
    return [Table("Table 3: the paper's four arms, and ours", columns, tuple(rows), note), _answers(table, answers), _comparisons(table)]


def _answers(table: Result, names: Sequence[str]) -> Table:
    """How sampled answers end."""
    every = [*((arm["arm"], arm["measures"]) for arm in table["arms"]), ("the base", table["base_measures"])]
    rows = tuple((arm, *(_shown(of[name], name) for name in names)) for arm, of in every)
    limit = table["settings"]["sampling"]["max_new_tokens"]
    own = table["own_answers_would_end"]
    note = (
        f"An answer keeps to the template, or writes a role token, or is cut off at the limit of {limit} tokens before either: these three "
        "make up all answers. One that writes a role token may end all the same."
    )
    if own is not None:
        note += f" The dialogues' own answers to the same prompts would have ended within the limit in {percent(own)}."
    return Table("Sampled answers: how they end", (Column("Arm", "text"), *(Column(MEASURES[n].label) for n in names)), rows, note)


def _comparisons(table: Result) -> Table:
    columns = (
        Column("Comparison", "text"), Column("On", "text"), Column("Difference"), Column("95% interval"),
        Column("Smallest that could be shown"), Column("Prompts"), Column("Told apart?", "text"),
    )  # fmt: skip
    rows = []
    for c in table["comparisons"]:
        share = MEASURES[c["measure"]].share
        what = MEASURES[c["measure"]].label + (", points" if share else "")
        if c["ci95"] is None:  # the same on every prompt: their spread says nothing
            value, ends, least, apart = _number(c["value"], share), NO_INTERVAL.format(c["prompts"]), NOT_PUBLIC, "no"
        else:
            value, low, high = (_number(v, share) for v in (c["value"], *c["ci95"]))
            least = c["smallest_that_could_be_shown"]
            least = NOT_PUBLIC if least is None else _number(least, share)
            ends = f"[{low}, {high}]" + (f" ({ALIKE.format(c['prompts'])})" if c["se"] is None else "")
            apart = "yes" if c["ci95"][0] > 0 or c["ci95"][1] < 0 else "no"
        rows.append((f"{c['first']} less {c['second']}", what, value, ends, least, count(c["prompts"]), apart))
    note = (
        "The smallest true difference that so many prompts and trainings show four times in five (two-sided 5% level); "
        f"where a few trainings spread widely, less often. Of {len(rows)} such intervals one in twenty misses: look for what several say."
    )
    return Table("Differences from dSFT-1, on the same rows", columns, tuple(rows), note)


def _number(value: float, share: bool) -> str:
    """In points where it is of shares."""
    return fixed(100 * value, 1) if share else fixed(value, 3)


def of_figure3(figure: Result | None) -> list[Table]:
    """Score by epochs."""
    if figure is None:
        return []
    columns = (Column("dSFT epochs", "text"), *(Column("dSFT alone" if d == 0 else f"{d} of dDPO") for d in range(4)))
    rows = []
    for sft in sorted({cell["sft"] for cell in figure["grid"]}):
        cells = {cell["dpo"]: cell["measures"][PRIMARY] for cell in figure["grid"] if cell["sft"] == sft}
        rows.append((str(sft), *(_shown(cells[dpo], PRIMARY) for dpo in sorted(cells))))
    note = f"{MEASURES[PRIMARY].on[0].upper()}{MEASURES[PRIMARY].on[1:]}. Each cell is a run of its own, with a schedule of its own."
    return [Table("Figure 3, right: score by epochs", columns, tuple(rows), note)]


def of_paper(tables: Result | None) -> list[Table]:
    """Tables 1 and 2 as the paper prints them, and below its rows the models whose scores were given."""
    if tables is None:
        return []
    ours = [(row["model"], row["scores"], row["judge"]) for row in tables["rows"]] or [("your model", {}, None)]
    chat = [Column("Model", "text"), Column("Size", "text"), Column("Align", "text"), Column("MT-Bench"), Column("AlpacaEval (SE or 95%)")]
    work = [Column("Model", "text"), *map(Column, paper.ACADEMIC_LABELS)]
    chat_rows: list[tuple[str, ...]] = []
    work_rows: list[tuple[str, ...]] = []
    for row in paper.ROWS:
        score = NOT_PUBLIC if row.mt_bench is None else fixed(row.mt_bench, 2) + ("*" if row.own else "")
        won = NOT_PUBLIC if row.alpaca_eval is None else f"{row.alpaca_eval[0]:.2f} ({row.alpaca_eval[1]:.2f})"
        chat_rows.append((row.model, row.size or NOT_PUBLIC, row.align, score, won))
        if row.academic:
            work_rows.append((row.model, *(fixed(v, 2) for v in row.academic)))
    judges = sorted({judge for _, _, judge in ours if judge})
    for model, scores, _ in ours:
        chat_rows.append((f"{model} (yours)", "", "", _given(scores, "mt_bench"), _given(scores, "alpaca_eval")))
        work_rows.append((f"{model} (yours)", *(_given(scores, task) for task in paper.ACADEMIC)))
    judged = (
        f" Yours were judged by {', '.join(judges)}; the paper's by GPT-4 of 2023, so that the two are not on one scale." if judges else ""
    )
    note = "The paper's numbers, as it prints them; * is its authors' own evaluation, – was not public." + judged
    return [
        Table("Table 1: chat", tuple(chat), tuple(chat_rows), note),
        Table("Table 2: academic tasks, percent", tuple(work), tuple(work_rows), "The paper's numbers, as it prints them."),
    ]


def _given(scores: Result, key: str) -> str:
    found = scores.get(key)
    if found is None or finite(found["value"]) is None:
        return MISSING
    ends = f" [{found['ci95'][0]:.2f}, {found['ci95'][1]:.2f}]" if found["ci95"] else ""
    return f"{found['value']:.2f}{ends}"
