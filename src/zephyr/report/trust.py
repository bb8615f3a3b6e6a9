"""What has to hold before a number is believed: benchmarks that were not trained on, a judge that judges the answers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from zephyr.report.facts import LABELS, Run, dig
from zephyr.report.numbers import bounds, count, finite, fixed, interval
from zephyr.report.table import Column, Table, text
from zephyr.report.tables import NO_INTERVAL

# how a stage says that it left a row out for what a benchmark holds, and by which comparison
_FOUND = re.compile(r"(?:prompt found in|in the benchmark) (.+) \((exact|normalised|ngram)\)")
_AGAINST = "against "  # how the inputs are called that hold a benchmark's items
_MADE = {"curate": "dialogues", "binarize": "prompts with ratings"}
_BENCHMARKS = {"mt_bench": "MT-Bench", "mt_bench_pairs": "MT-Bench pairs", "alpaca_eval": "AlpacaEval", "ifeval": "IFEval"}
MEANS = (
    "A benchmark whose items were learnt measures memory. Items are found that stand in the data to the letter, in the same words, or in "
    "part (enough of the same runs of words)."
)


def contamination(run: Run) -> Table | None:
    """Which benchmarks were looked for in the data, and what was found; None where none was."""
    rows = [*_left_out(run), *_beside_scores(run)]
    if not rows:
        return None
    heads = (text("benchmark"), text("looked for in"), Column("to the letter"), Column("same words"), Column("in part"), text("so"))
    return Table("Contamination", heads, tuple(rows), MEANS)


def contamination_words(run: Run) -> str:
    """What to say where nothing was looked for; "" where something was, or where nothing was learnt or measured."""
    if contamination(run) or not {"curate", "binarize", "evaluate", "judge"} & set(run.artifacts):
        return ""
    return (
        "No benchmark was looked for in the training data: the recipe names none under `benchmarks`, so nothing is known of contamination."
    )


def _left_out(run: Run) -> Iterator[tuple[str, ...]]:
    for stage, made in _MADE.items():
        manifest = run.manifest(stage)
        if manifest is None:
            continue
        found: dict[str, Counter[str]] = {
            name.removeprefix(_AGAINST): Counter() for name in sorted(manifest.parents) if name.startswith(_AGAINST)
        }
        for reason, n in manifest.dropped.items():
            if match := _FOUND.fullmatch(reason):
                found.setdefault(match[1], Counter())[match[2]] += n
        for name, kinds in found.items():
            lost = sum(kinds.values())
            so = f"{count(lost)} left out" if lost else "nothing to leave out"
            yield (name, f"{count(manifest.rows_in)} {made}", *_kinds(kinds), so)


def _beside_scores(run: Run) -> Iterator[tuple[str, ...]]:
    for stage in ("judge", "evaluate"):
        found = run.result(stage, "contamination")
        for name, one in found.items() if isinstance(found, Mapping) else ():
            lost, items = finite(dig(one, "found")) or 0, count(dig(one, "items"))
            so = f"{count(lost)} of its {items} items were trained on" if lost else f"none of its {items} items was trained on"
            looked = "the training prompts"
            if gone := dig(one, "not_at_hand"):  # what was not looked in may hold what was not found
                looked, so = "what is at hand of the training prompts", f"{so}, as far as looked: {', '.join(map(str, gone))} not at hand"
            yield (_BENCHMARKS.get(str(name), str(name)), looked, *_kinds(one), so)


def _kinds(found: Mapping[str, Any]) -> tuple[str, str, str]:
    one, two, three = (count(finite(dig(found, kind)) or 0) for kind in ("exact", "normalised", "ngram"))
    return one, two, three


# --- the judge ---------------------------------------------------------------------------------------------------


def hygiene(run: Run) -> Table | None:
    """What was found of those who judge; None where nobody did."""
    rows = [*_teacher(run), *_served(run), *_canary(run), *_unread(run), *_position(run), *_family(run)]
    return Table("Judges", (text("check"), text("found"), text("what it means")), tuple(rows)) if rows else None


def _teacher(run: Run) -> Iterator[tuple[str, str, str]]:
    """The teacher whose ratings the pairs are made of."""
    rated = run.result("rate", "mean_by_model")
    unread = finite(run.result("rate", "unparsed"))
    if isinstance(rated, Mapping) and unread is not None:
        n = sum(finite(dig(one, "n")) or 0 for one in rated.values())
        again = finite(run.result("rate", "asked_twice"))
        twice = f"; {count(again)} could be read only when asked again, or not then either" if again else ""
        yield (
            "replies of the feedback's teacher that could not be read",
            f"{count(unread)}, of {count(n)} ratings that were{twice}",
            "They are left out, not guessed: what cannot be read is not a low score.",
        )


def _served(run: Run) -> Iterator[tuple[str, str, str]]:
    """Which models rated and judged, by the names in their servers' replies: what was asked for may be an alias."""
    for stage, who, what in (("rate", "the feedback's teacher", "ratings"), ("judge", "the judge", "verdicts")):
        counts = run.result(stage, "served")
        if not isinstance(counts, Mapping) or not counts:
            continue
        # a manifest has them by name; those that are counted together (`… and 7 more names`) stand last
        ordered = sorted(counts.items(), key=lambda item: (item[0].startswith("…"), -(finite(item[1]) or 0)))
        each = ", ".join(f"{name or 'not said'} in {count(n)} {what}" for name, n in ordered)
        one = "One name throughout: what was asked for did not become another model meanwhile, as far as its server says."
        several = "Several models under one name: what they said is not of one judge, and its mean not of one scale."
        yield f"{who}, as its server calls it", each, one if len(counts.keys() - {""}) < 2 else several


def _canary(run: Run) -> Iterator[tuple[str, str, str]]:
    found = run.result("judge", "canary")
    for name, form in (("mt_bench", "{:.2f} of 10"), ("mt_bench_pairs", "{:.1f}% wins"), ("alpaca_eval", "{:.1f}% wins")):
        if isinstance(found, Mapping) and name in found:
            value = finite(found[name])
            ends = bounds(run.result("judge", name, "canary", "ci95"))
            shown = "no verdict could be read" if value is None else form.format(value)
            yield (
                f"canary, {_BENCHMARKS[name]}",
                shown if value is None else f"{shown} {interval(ends, lambda v: fixed(v, 2)) if ends else NO_INTERVAL}",
                "An answer that is the same to every question, and says it is the best. A judge who likes it judges something else.",
            )


def _unread(run: Run) -> Iterator[tuple[str, str, str]]:
    kinds = (("mt_bench", "n_unparsed", "n"), ("mt_bench_pairs", "n_unparsed", "n"), ("alpaca_eval", "n_null", "n_total"))
    for name, lost, all_of in kinds:
        counted = [(model, finite(dig(one, lost)), finite(dig(one, all_of))) for model, one in _by_model(run, name)]
        said = [f"{LABELS.get(m, m)} {count(n)} of {count(n + k)}" for m, n, k in counted if n is not None and k is not None]
        if said:
            what = "pairs without a verdict in one of the orders" if name == "mt_bench_pairs" else "unread verdicts"
            yield f"{what}, {_BENCHMARKS[name]}", ", ".join(said), "Left out of the score; many of them make it one of the rest."


def _by_model(run: Run, name: str) -> list[tuple[str, Any]]:
    """What a judge found, the run's own models first."""
    found = run.result("judge", name)
    by_model = found if isinstance(found, Mapping) else {}
    return [(model, by_model[model]) for model in (*(m for m in LABELS if m in by_model), *(m for m in by_model if m not in LABELS))]


def _position(run: Run) -> Iterator[tuple[str, str, str]]:
    seen: list[Any] = []
    for model, one in _by_model(run, "mt_bench_pairs"):
        order = dig(one, "order")
        if finite(dig(order, "consistent")) is None or order in seen:
            continue  # the pairs of a baseline are those of the model beside it
        seen.append(order)
        drawn = dig(order, "first_shown_wins") is not None
        share = f"; of the decided verdicts {_share(order, 'first_shown_wins')} are for the answer shown first" if drawn else ""
        yield (
            f"order, MT-Bench pairs, {LABELS.get(model, model)}",
            f"the same verdict in both orders in {_share(order, 'consistent')} of {count(dig(order, 'n'))}{share}",
            "Every pair is judged in both orders, each counts half; a judge without a liking for a place has half of the verdicts in it.",
        )
    for model, one in _by_model(run, "alpaca_eval"):
        order = dig(one, "order")
        if any(finite(dig(order, f"win_rate_shown_{place}")) is None for place in ("first", "second")):
            continue
        in_both = isinstance(order, Mapping) and "consistent" in order  # of pairs in one order nothing is known of the other
        known = dig(order, "consistent") is not None
        agree = f"; the same verdict in {_share(order, 'consistent')} of {count(dig(order, 'n'))}" if known else ""
        yield (
            f"order, {LABELS.get(model, model)}",
            f"wins {_share(order, 'win_rate_shown_first')} shown first, {_share(order, 'win_rate_shown_second')} shown second{agree}",
            _IN_BOTH if in_both else _IN_ONE,
        )


_IN_BOTH = "Every pair is judged in both orders and the mean counts; the gap is what the place alone is worth to this judge."
_IN_ONE = (
    "Every pair is judged in one order, drawn by its instruction: the two rates are of different pairs, so the gap is what the place is "
    "worth to this judge, and what sets those pairs apart."
)


def _share(order: Any, key: str) -> str:
    """`55.0% [44.1, 65.2]`, of what is from 0 to 100."""
    ends = bounds(dig(order, f"{key}_ci95"))
    return f"{fixed(dig(order, key), 1)}% {interval(ends, lambda v: fixed(v, 1)) if ends else NO_INTERVAL}"


def _family(run: Run) -> Iterator[tuple[str, str, str]]:
    manifest = run.manifest("judge")
    if manifest is None or not manifest.results.get("judge"):
        return  # IFEval alone is checked by a program
    said = [note.rstrip(".") for note in manifest.notes if "one family" in note or "are one model" in note]
    yield (
        "self-preference",
        "; ".join(said) or f"no model of the judge's own family was judged, as far as names tell ({manifest.results.get('judge')})",
        "Judges lean towards what they would have written themselves.",
    )
