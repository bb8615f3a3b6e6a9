"""The tables of benchmarks that others have made. A table of which nothing was measured is None."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zephyr.report.facts import LABELS, Run, dig
from zephyr.report.numbers import MISSING, bounds, count, finite, interval, percent
from zephyr.report.table import DASH, Column, Measured, Table, interval_table, known, text, words


def benchmarks(run: Run) -> Table | None:
    """Academic tasks, a column for each model."""
    found = run.result("evaluate", "benchmarks")
    if not found:
        return None
    names = [n for n in LABELS if any(n in (by_model or {}) for by_model in found.values())]
    rows = []
    for task in sorted(found):
        one: Any = next((found[task][n] for n in names if n in found[task]), {})
        scores = [_score(dig(found[task], n)) for n in names]
        shown = [known(dig(one, key)) for key in ("num_fewshot", "n", "excluded")]
        cut = [known(dig(found[task], n, "truncated")) for n in names]
        of_each = cut if len(set(cut)) > 1 else cut[:1]  # one number, if it is that of every model
        rows.append((task, words(dig(one, "metric")), *shown, " / ".join(of_each), _seen(run, "evaluate", task), *scores))
    uncut = not any(dig(by_model, n, "truncated") for by_model in found.values() for n in names)
    told = (Column("shots"), Column("items"), Column("left out", minor=True), Column("cut", minor=uncut), Column("trained on"))
    heads = (text("task"), text("metric"), *told, *(Column(LABELS[n]) for n in names))
    note = (
        "In brackets the 95% interval over items. No chat template is applied. Shots are the examples before each item; left out are items "
        f"that are also among the examples; cut are prompts that lost their beginning, being longer than the model takes, "
        f"model by model where they differ. {_TRAINED_ON}"
    )
    return Table("Academic tasks", heads, tuple(rows), note)


def judged(run: Run) -> Table | None:
    """Chat benchmarks, a row for each model; answers that say nothing stand among them."""
    manifest = run.manifest("judge")
    if manifest is None:
        return None
    rows = [*_verdicts(run), *_followed(run)]
    if not rows:
        return None
    heads = (
        text("benchmark"),
        text("model"),
        Column("score"),
        Column("95% interval"),
        text("of", minor=True),
        Column("n"),
        Column("unread"),
        Column("trained on"),
    )
    note = f"The intervals are over questions. {_TRAINED_ON}"
    if judge := manifest.results.get("judge"):
        note = (
            f"Judged by {judge}; IFEval's instructions are checked by a program. Unread are verdicts that the strict reading could not "
            "find, which are left out. `canary` is a model that gives everything the same answer, which says nothing: a judge who likes it "
            f"is not to be believed. {note}"
        )
    return Table("Chat benchmarks", heads, tuple(rows), " ".join([note, *_places(manifest.results)]))


def _verdicts(run: Run) -> Iterator[tuple[str, ...]]:
    """What a judge said, a row for each model."""
    kinds = (
        ("mt_bench", "MT-Bench", "score", "1 to 10", "n", "n_unparsed"),
        ("mt_bench_pairs", "MT-Bench pairs", "win_rate", "0 to 100", "n", "n_unparsed"),
        ("alpaca_eval", "AlpacaEval", "win_rate", "0 to 100", "n_total", "n_null"),
    )
    for name, label, key, of, n, unread in kinds:
        for model, found in (run.result("judge", name) or {}).items():
            against = dig(found, "against") if name == "mt_bench_pairs" else None
            what = f"{label}, against {', '.join(against)}" if against else label
            value = (two(dig(found, key)), interval(dig(found, "ci95"), two))
            seen = _seen(run, "judge", name.removesuffix("_pairs"))
            yield what, LABELS.get(model, model), *value, of, count(dig(found, n)), count(dig(found, unread)), seen


def _followed(run: Run) -> Iterator[tuple[str, ...]]:
    """IFEval, four rows for each model: prompts and instructions, strictly and loosely."""
    for model, found in (run.result("judge", "ifeval") or {}).items():
        for level, of in (("prompt", "prompts"), ("inst", "instructions")):
            for way in ("strict", "loose"):
                one = dig(found, f"{level}_level_{way}_acc")
                share, ends = finite(dig(one, "value")), [100 * end for end in dig(one, "ci95") or ()]
                value = (two(None if share is None else 100 * share), interval(ends, two))
                n, seen = count(dig(found, f"n_{of}")), _seen(run, "judge", "ifeval")
                yield f"IFEval, {of}, {way}", LABELS.get(model, model), *value, "0 to 100", n, DASH, seen


def _places(results: dict[str, Any]) -> Iterator[str]:
    """What the place in which an answer was shown did, in words."""
    for name, label in (("mt_bench_pairs", "MT-Bench pairs"), ("alpaca_eval", "AlpacaEval")):
        said: list[Any] = []
        for model, found in (results.get(name) or {}).items():
            order = dig(found, "order")
            if dig(order, "consistent") is None or order in said:
                continue  # judged in one order alone; or a baseline, whose pairs are those of the model beside it
            said.append(order)
            agree, first = (f"{two(dig(order, key))}% {_of(order, key)}" for key in ("consistent", "first_shown_wins"))
            share = f"; of the decided verdicts {first} are for the answer shown first" if "first_shown_wins" in order else ""
            yield f"{label}, {LABELS.get(model, model)}: both orders agree in {agree}{share}."


def _of(order: Any, key: str) -> str:
    ends = dig(order, f"{key}_ci95")
    return interval(ends, two) if bounds(ends) else NO_INTERVAL


def preferences(run: Run) -> Table | None:
    """Preference sets: a row for each set and each that judges."""
    found = run.result("evaluate", "preferences")
    if not found:
        return None
    rows, measured = [], []
    for name, one in found.items():
        for judge, result in (dig(one, "results") or {}).items():
            model, per_token = judge.removesuffix("_per_token"), " per token" if judge.endswith("_per_token") else ""
            before = dig(one, "against", model)
            against = f" against {LABELS.get(before, before)}" if before else ""
            label = {"length": "length alone (longer wins)", "reward_model": "reward model"}.get(judge)
            ties, pairs = (count(dig(result, key)) for key in ("ties", "pairs"))
            rows.append((name, label or f"{LABELS.get(model, model)}{against}{per_token}", pairs, ties, _seen(run, "evaluate", name)))
            measured.append(Measured("", model if model in LABELS else "muted", dig(result, "accuracy"), dig(result, "ci95")))
    columns, cells = interval_table(measured, "accuracy", percent, (0.0, 1.0), 0.5)
    heads = (text("set"), text("judged by"), *columns, Column("pairs"), Column("ties", minor=True), Column("trained on"))
    note = (
        "How often the better of two answers has the higher value: β × the log-probability it gained from one model to the next (per "
        "token: divided by its length), or a reward model's. One half is chance; ties count as wrong; a judge that is not above length "
        f"alone has shown nothing. The intervals are over prompts. {_TRAINED_ON}"
    )
    return Table("Preference sets", heads, tuple((*row[:2], *cell, *row[2:]) for row, cell in zip(rows, cells, strict=True)), note)


NO_INTERVAL = "(no interval)"
_TRAINED_ON = "Trained on: how many of a benchmark's items are among the training prompts; a dash where that was not looked for."


def _seen(run: Run, stage: str, benchmark: str) -> str:
    """`3 of 80`: how many items of a benchmark were trained on; a dash where it is not known."""
    found = run.result(stage, "contamination", benchmark)
    return f"{count(dig(found, 'found'))} of {count(dig(found, 'items'))}" if found else DASH


def two(value: object) -> str:
    """With two decimals, as these benchmarks are quoted."""
    number = finite(value)
    return MISSING if number is None else f"{number:.2f}"


def _score(found: Any) -> str:
    value, ends = percent(dig(found, "value")), dig(found, "ci95")
    if finite(dig(found, "value")) is None:
        return value
    return f"{value} {interval(ends, percent) if bounds(ends) else NO_INTERVAL}"
