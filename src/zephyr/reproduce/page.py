"""`reproduction.html`: one page, complete in itself, about all that was reproduced in a folder. It loads nothing and runs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import jinja2
import yaml
from markupsafe import Markup

from zephyr._version import __version__
from zephyr.report.numbers import MISSING, count, duration, finite, fixed, percent
from zephyr.report.table import Column, Table
from zephyr.reproduce import paper, results
from zephyr.reproduce.data import MAIN, OTHER
from zephyr.reproduce.evidence import ANSWERS, MEASURES, PRIMARY
from zephyr.reproduce.pictures import Dots, Line, Picture, dots, lines, radar
from zephyr.reproduce.scores import DIALOGUES
from zephyr.reproduce.words import ALIKE, NO_INTERVAL

Result = Mapping[str, Any]
MOST_POINTS = 24  # of a train curve: each point is the mean of several batches
NOT_PUBLIC = "\N{EN DASH}"
MODELS = {"sft1": "dSFT", "sft1-dpo1": "dSFT, then dDPO", "dpo1": "dDPO without dSFT"}
LIMITS = (
    "No judge was asked: nothing here is MT-Bench or AlpacaEval, unless a table says so and names its source.",
    "Preference accuracy says which of two given answers a model finds likelier than the base does, not what the model would write.",
    "Summed log-probabilities favour longer answers where training makes every token likelier, and those per token favour neither: "
    "both are shown, and what the longer answer alone would get stands beside them.",
    "The intervals hold what other prompts and other trainings on the same rows would change, not what another base would, or other rows "
    "to learn.",
    "The paper's measures favour verbose answers, too, and models distilled from the judge, as it says. Safety was not assessed.",
)


def render(known: Mapping[str, Result], not_compared: Sequence[str] = ()) -> str:
    """The page.

    Args:
        known: results by experiment: `table3`, `figure3`, `samples`, `tables`; any may be absent.
        not_compared: what else stands in the folder and is left out, a sentence each.

    Returns:
        HTML without scripts or references to other files: the same results give the same text.
    """
    loader = jinja2.ChoiceLoader([jinja2.PackageLoader("zephyr", "reproduce"), jinja2.PackageLoader("zephyr", "report")])
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    about = next((known[name] for name in ("table3", "figure3", "samples") if name in known), None)
    drawn = {name: [(p, Markup(p.svg)) for p in found] for name, found in pictures(known).items()}  # noqa: S704 - drawn from numbers and our labels
    return environment.get_template("reproduction.html.j2").render(
        about=about,
        headline=_headline(known),
        not_compared=not_compared,
        findings=results.merged(known),
        pictures=drawn,
        table3=_table3_tables(known.get("table3")),
        figure3=_figure3_tables(known.get("figure3")),
        tables=_paper_tables(known.get("tables")),
        to_fill=known.get("tables", {}).get("to_fill", {}),
        samples=_samples(known.get("samples")),
        limits=[*([about["base"]] if about else []), *LIMITS],
        done=_done(known),
        settings=yaml.safe_dump(about["settings"], sort_keys=False, allow_unicode=True, width=100).strip() if about else "",
        left_out=_left_out(about),
        version=__version__,
        missing=MISSING,
    )


def _headline(known: Mapping[str, Result]) -> str:
    made = {name: found for name, found in known.items() if "seeds" in found}
    if not made:
        return "The paper's tables; no experiment is shown of this folder yet."
    about = next(iter(made.values()))
    by_seeds: dict[int, list[str]] = {}
    for name, found in made.items():
        by_seeds.setdefault(len(found["seeds"]), []).append(name)
    times = [
        f"{seeds} trainings of each model" if seeds > 1 else "one training of each model, so that the spread between trainings is not known"
        for seeds in by_seeds
    ]
    said = times if len(times) == 1 else [f"{', '.join(of)}: {words}" for words, of in zip(times, by_seeds.values(), strict=True)]
    return f"At the scale of “{about['preset']}”: {about['about']}. " + " ".join(f"{line[0].upper()}{line[1:]}." for line in said)


# --- pictures --------------------------------------------------------------------------------------------------


def pictures(known: Mapping[str, Result]) -> dict[str, list[Picture]]:
    """The pictures of each experiment."""
    found: dict[str, list[Picture]] = {}
    if "table3" in known:
        found["table3"] = [_arms(known["table3"])]
    if "figure3" in known:
        found["figure3"] = [_curve(known["figure3"]), _grid(known["figure3"])]
    if "tables" in known:
        rows = {row["model"]: row["by_category"] for row in known["tables"]["rows"]}
        whole = {m: [of[c] for c in paper.CATEGORIES] for m, of in rows.items() if all(c in of for c in paper.CATEGORIES)}
        found["tables"] = [radar("figure1", "MT-Bench by category", paper.CATEGORIES, whole)] if whole else []
    return found


def _ends(found: Result) -> tuple[float, float] | None:
    return (float(found["ci95"][0]), float(found["ci95"][1])) if found["ci95"] else None


def _arms(table: Result) -> Picture:
    wanted = [name for name in (f"{MAIN}.sum", f"{MAIN}.token", f"{OTHER}.sum", "kept") if name in table["arms"][0]["measures"]]
    panels = [
        Dots(
            MEASURES[name].label.replace(", ", ",\n", 1),
            [(arm["measures"][name]["value"], _ends(arm["measures"][name])) for arm in table["arms"]],
            0.5 if MEASURES[name].needs else None,
        )
        for name in wanted
    ]
    return dots("table3", "The four arms of Table 3", [arm["arm"] for arm in table["arms"]], panels)


def _curve(figure: Result) -> Picture:
    found = []
    for kind, colour in (("train", "dsft"), ("test", "rejected")):
        every = [_thinned(curve[kind], MOST_POINTS if kind == "train" else len(curve[kind])) for curve in figure["curves"]]
        several = len(every) > 1
        found += [Line(f"{kind}, one seed", colour, points, thin=True) for points in every] if several else []
        mean = [(fmean(p[0] for p in at), fmean(p[1] for p in at)) for at in zip(*every, strict=True)]
        found.append(Line(f"{kind}{' (mean of seeds)' if several else ''}", colour, mean))
    return lines("figure3-curve", "Reward accuracy over three epochs of dDPO", "update", "reward accuracy", found, mark=0.5)


def _thinned(points: Sequence[Sequence[float]], most: int) -> list[tuple[float, float]]:
    size = max(1, -(-len(points) // most))
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(fmean(p[0] for p in g), fmean(p[1] for p in g)) for g in groups]


def _grid(figure: Result) -> Picture:
    found = []
    for colour, sft in zip(("dsft", "ddpo", "rejected"), sorted({cell["sft"] for cell in figure["grid"]}), strict=True):
        cells = [cell for cell in figure["grid"] if cell["sft"] == sft]
        values = [cell["measures"][PRIMARY] for cell in cells]
        points = [(cell["dpo"], value["value"]) for cell, value in zip(cells, values, strict=True)]
        found.append(Line(f"{sft} dSFT epoch{'s' if sft > 1 else ''}", colour, points, [_ends(v) for v in values]))
    return lines("figure3-grid", "Score by epochs of dSFT and dDPO", "epochs of dDPO", MEASURES[PRIMARY].label, found)


# --- tables ----------------------------------------------------------------------------------------------------


def _shown(found: Result, measure: str) -> str:
    """A value with its interval."""
    form = percent if MEASURES[measure].share else (lambda v: fixed(v, 1)) if measure == "length" else fixed
    ends = f"[{form(found['ci95'][0])}, {form(found['ci95'][1])}]" if found["ci95"] else f"({NO_INTERVAL.format(found['prompts'])})"
    return f"{form(found['value'])} {ends}"


def _table3_tables(table: Result | None) -> list[Table]:
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


def _figure3_tables(figure: Result | None) -> list[Table]:
    if figure is None:
        return []
    columns = (Column("dSFT epochs", "text"), *(Column("dSFT alone" if d == 0 else f"{d} of dDPO") for d in range(4)))
    rows = []
    for sft in sorted({cell["sft"] for cell in figure["grid"]}):
        cells = {cell["dpo"]: cell["measures"][PRIMARY] for cell in figure["grid"] if cell["sft"] == sft}
        rows.append((str(sft), *(_shown(cells[dpo], PRIMARY) for dpo in sorted(cells))))
    note = f"{MEASURES[PRIMARY].on[0].upper()}{MEASURES[PRIMARY].on[1:]}. Each cell is a run of its own, with a schedule of its own."
    return [Table("Figure 3, right: score by epochs", columns, tuple(rows), note)]


def _paper_tables(tables: Result | None) -> list[Table]:
    if tables is None:
        return []
    ours = [(row["model"], row["scores"], row["judge"]) for row in tables["rows"]] or [("your model", {}, None)]
    chat = [Column("Model", "text"), Column("Size", "text"), Column("Align", "text"), Column("MT-Bench"), Column("AlpacaEval (SE or 95%)")]
    work = [Column("Model", "text"), *(Column(name) for name in ("ARC", "HellaSwag", "MMLU", "TruthfulQA"))]
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


# --- the rest --------------------------------------------------------------------------------------------------


def _samples(found: Result | None) -> list[dict[str, Any]]:
    """Prompts in order, each with what the models say to it."""
    if found is None:
        return []
    prompts: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in found["answers"]:
        words = [] if row["ended"] else ["was cut off"]
        words += ["runs on with a role token"] if row["role_token"] else []
        label = MODELS.get(row["model"], row["model"])
        colour = "ddpo" if "dpo" in row["model"] else "dsft"
        prompts.setdefault((row["prompt"], row["turn"]), []).append({"label": label, "colour": colour, "text": row["text"], "words": words})
    return [{"prompt": prompt, "turn": turn, "answers": answers} for (prompt, turn), answers in prompts.items()]


def _done(known: Mapping[str, Result]) -> list[str]:
    """What was made, of how much, in what time."""
    lines = []
    for name, found in known.items():
        if "seconds" in found:
            machine = ", ".join(
                f"{key} {value}" for key, value in found["machine"].items() if key in ("machine", "device", "threads", "torch")
            )
            seeds = f"{len(found['seeds'])} seed{'' if len(found['seeds']) == 1 else 's'}"
            lines.append(f"{name}: {duration(found['seconds'])} of work for {seeds}, shared steps counted ({machine})")
    about = next((found for found in known.values() if "rows" in found and "preset" in found), None)
    if about:
        for part, splits in about["rows"].items():
            lines.append(f"{part}: " + ", ".join(f"{count(n)} {split}" for split, n in splits.items()))
        lines += _read_lines(next((found["read"] for found in known.values() if "read" in found), None))
        if about["parameters"]:
            lines.append(f"the model: {count(about['parameters'])} weights")
        if about["validation"]:
            lines.append("measured on validation rows, taken from the train rows: for trying settings, not for a result")
    return lines


def _read_lines(read: Result | None) -> list[str]:
    """How many of the rows were learnt and measured on, and of how many answers the end was not."""
    if read is None:
        return []
    lines = []
    named = {MAIN: "held-out pairs", OTHER: "AlpacaEval pairs", DIALOGUES: "test dialogues"}
    for verb, whole in (("learnt", read["learnt"]), ("measured on", read["measured"])):
        for name, of in whole.items():
            cut = "" if of["cut"] is None else f"; {count(of['cut'])} of their {count(2 * of['rows'])} answers lost their end"
            updates = f", in {count(of['updates'])} updates" if of["updates"] else ""
            lines.append(f"{named.get(name, name)}: {verb} {count(of['rows'])} of {count(of['of'])} rows{updates}{cut}")
    return lines


def _left_out(about: Result | None) -> Table | None:
    if about is None or not about["left_out"]:
        return None
    rows = tuple((reason, count(n)) for reason, n in about["left_out"].items())
    return Table("Rows that are in neither split", (Column("Reason", "text"), Column("Rows")), rows)
