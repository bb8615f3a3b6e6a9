"""`report.html` of several runs: settings that differ, every number beside the others, curves in one picture, what each took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from markupsafe import Markup

from zephyr.report import overlay, scores
from zephyr.report.accounts import money
from zephyr.report.beside import Runs
from zephyr.report.facts import LABELS, Run
from zephyr.report.numbers import count, duration, general, percent, short
from zephyr.report.page import environment, summary
from zephyr.report.table import DASH, Column, Measured, Table, interval_table, text

ABSENT = "not there"
# measures of which a sentence is said at the top, and the models it is said of, the last first
_SAID = (("mt_bench", ("ddpo", "dsft")), ("alpaca_eval", ("ddpo", "dsft")), ("reward_accuracy", ("ddpo",)), ("nll", ("ddpo", "dsft")))


def render(title: str, runs: Runs, found: Mapping[str, Any]) -> str:
    """The page about several runs; the same input gives the same text.

    Args:
        title: the heading.
        runs: the artifacts of each, by name and stage.
        found: what `beside.found` says of them.
    """
    logs = {name: {stage: run[stage].log() for stage in ("sft", "dpo") if stage in run} for name, run in runs.items()}
    drawn = [(chart, Markup(chart.svg())) for chart in overlay.overlaid(logs)]  # noqa: S704 - drawn from numbers, labels are escaped
    return (
        environment()
        .get_template("comparison.html.j2")
        .render(
            title=title,
            runs=[_card(name, i, Run(run)) for i, (name, run) in enumerate(runs.items(), 1)],
            said=sentences(found),
            shared=_shared(found),
            settings=_settings(found),
            inputs=_inputs(found),
            numbers=_numbers(found),
            not_compared=not_compared(found),
            charts=drawn,
            shared_curves=[s for s in ("sft", "dpo") if any(s in group["stages"] for group in found["shared"])],
            cost=_cost(found),
            limits=_limits(runs),
            version=", ".join(sorted({a.manifest.zephyr for run in runs.values() for a in run.values() if a.manifest.zephyr})),
        )
    )


def _card(name: str, number: int, run: Run) -> dict[str, str]:
    """What a run is, at the top."""
    return {"name": name, "colour": f"run{number}", "summary": summary(run)}


def sentences(found: Mapping[str, Any]) -> list[str]:
    """What can be said of each run against the first: of one model by each measure, with what could have been shown."""
    first, *others = found["runs"]
    said = []
    for measure, models in _SAID:
        for name in others:
            gaps = {one["model"]: one["against_first"].get(name) for one in found["numbers"] if one["measure"] == measure}
            model = next((m for m in models if (gaps.get(m) or {}).get("paired")), None)
            if model is not None:
                said.append(_sentence(measure, model, name, first, gaps[model] or {}))
    return said


def _sentence(measure: str, model: str, name: str, first: str, gap: Mapping[str, Any]) -> str:
    label, form, more_is_better = scores.MEASURES[measure]
    form = scores.gap_form(form)
    rows = "questions" if measure in ("mt_bench", "alpaca_eval") else "test rows"
    on = f"on the {count(gap['n'])} {rows} that both have{scores.left_out(gap)}"
    what = f"{label[:1].upper()}{label[1:]}, {LABELS.get(model, model)}"
    if not gap["difference"] and not gap["paired_se"]:
        return f"{what}: {name} and {first} have the same value {on.replace('on the', 'on each of the')}."
    if gap["ci95"] is None:
        by, each = scores.signed(gap["difference"], form), on.replace("on the", "on each of the")
        return f"{what}: {name} is {by} from {first} {each}; no interval: all differences are equal."
    if not gap["told_apart"]:
        least = form(gap["smallest_that_could_be_shown"])
        return (
            f"{what}: {name} and {first} cannot be told apart {on}; the difference is {scores.signed(gap['difference'], form)} "
            f"{scores.gap_interval(gap['ci95'], form)}, and one of {least} or more could have been shown."
        )
    better = "" if more_is_better is None else ", the better one" if (gap["difference"] > 0) == more_is_better else ", the worse one"
    by = f"{scores.signed(gap['difference'], form)} {scores.gap_interval(gap['ci95'], form)}"
    return f"{what}: {name} is {by} from {first}{better}, {on}."


# --- settings ----------------------------------------------------------------------------------------------------


def _shared(found: Mapping[str, Any]) -> list[str]:
    """What runs have in common, a sentence for each group of runs."""
    return [
        f"{'All' if group['runs'] == found['runs'] else ', '.join(group['runs'])} share {_listed(group['stages'])}: "
        "the same artifact, byte for byte."
        for group in found["shared"]
    ]


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _settings(found: Mapping[str, Any]) -> Table | None:
    rows = [
        (", ".join(one["stages"]), _setting(one), *(_plain(one["values"].get(name)) for name in found["runs"]), one["about"])
        for one in found["settings"]
    ]
    heads = (text("stage"), text("setting"), *(text(name) for name in found["runs"]), text("what it means", minor=True))
    return Table("Settings that differ", heads, tuple(rows)) if rows else None


def _setting(one: Mapping[str, Any]) -> str:
    """A setting without the name of its section, where that is the stage's."""
    path: str = one["setting"]
    section, dot, rest = path.partition(".")
    return (rest if dot and section in one["stages"] else path) or "the stage"


def _plain(value: object) -> str:
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return general(value)
    if isinstance(value, list):
        return ", ".join(map(_plain, value)) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items()) or "none"
    return str(value)


def _inputs(found: Mapping[str, Any]) -> Table | None:
    rows = [(one["stage"], one["input"], *(_input(one["values"].get(name)) for name in found["runs"])) for one in found["inputs"]]
    heads = (text("stage"), text("input"), *(text(name) for name in found["runs"]))
    return (
        Table("Inputs from outside that differ", heads, tuple(rows), "The path, and the beginning of the digest of what lies there.")
        if rows
        else None
    )


def _input(value: Mapping[str, str] | None) -> str:
    return ABSENT if value is None else f"{value['path']} ({value['digest'][:8]})"


# --- numbers -----------------------------------------------------------------------------------------------------


def _numbers(found: Mapping[str, Any]) -> list[Table]:
    by_measure: dict[str, list[Mapping[str, Any]]] = {}
    for one in found["numbers"]:
        by_measure.setdefault(one["measure"], []).append(one)
    return [_of_measure(measure, ones, found["runs"]) for measure, ones in by_measure.items()]


def _of_measure(measure: str, ones: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Table:
    """A table a measure: a row for each model and run, beside it how far it is from the first run's."""
    label, form, _ = _called(measure)
    is_accuracy = measure == "reward_accuracy" or measure.startswith(scores.PREFERENCES)
    scale, mark = ((0.0, 1.0), 0.5) if is_accuracy else (None, None)
    measured: list[Measured] = []
    rows: list[tuple[str, str, tuple[str, ...]]] = []
    whys: dict[str, None] = {}
    for one in ones:
        model = _model(one["model"])
        if len(one["values"]) == len(names) > 1 and all(value == one["values"][names[0]] for value in one["values"].values()):
            measured.append(Measured("", "muted", one["values"][names[0]]["value"], one["values"][names[0]]["ci95"]))
            rows.append((model, "all", (DASH, DASH, "", "")))
            continue
        for i, name in enumerate(names, 1):
            value = one["values"].get(name)
            if value is None:
                continue
            measured.append(Measured("", f"run{i}", value["value"], value["ci95"]))
            gap = one["against_first"].get(name)
            rows.append((model, name, _gap(gap, form, is_first=i == 1)))
            if i > 1 and not (gap and gap["paired"]):
                whys[f"{name}, {model}: {gap['why']}" if gap else "no rows of it are set against each other"] = None
    columns, cells = interval_table(measured, "value", form, scale, mark)
    heads = (
        text("model"),
        text("run"),
        *columns,
        Column(f"minus {names[0]}"),
        Column("95% interval, paired"),
        text("told apart", minor=True),
        Column("rows", minor=True),
    )
    note = "Not paired, so that only the intervals can be held against each other: " + "; ".join(whys) + "." if whys else ""
    caption = f"{label[:1].upper()}{label[1:]}" if label != measure else measure
    if any(gap[0] != DASH for *_, gap in rows):
        heads = tuple(replace(head, minor=True) if head.label == "95% interval" else head for head in heads)  # a phone shows the difference
        table_rows = tuple((model, name, *c, *gap) for (model, name, gap), c in zip(rows, cells, strict=True))
    else:  # nothing to hold against each other
        heads, table_rows = heads[:-4], tuple((model, name, *c) for (model, name, _), c in zip(rows, cells, strict=True))
    return Table(caption, heads, table_rows, note)


def _called(measure: str) -> tuple[str, Any, bool | None]:
    """What a measure is called, how it is shown, whether more is better."""
    if measure.startswith(scores.PREFERENCES):
        return f"preference set {measure.removeprefix(scores.PREFERENCES)}, accuracy", percent, True
    return scores.MEASURES.get(measure, (measure, percent, True))


def _model(name: str) -> str:
    """A model, or what else orders answers."""
    if name in ("length", "reward_model"):
        return {"length": "length alone", "reward_model": "reward model"}[name]
    model = name.removesuffix("_per_token")
    return LABELS.get(model, model) + (" per token" if model != name else "")


def not_compared(found: Mapping[str, Any]) -> list[str]:
    """Which runs lack what, a sentence each."""
    every = dict.fromkeys(one["measure"] for one in found["numbers"])
    return [
        f"Not compared: {name} has none of the measures."
        if len(measures) == len(every)
        else f"Not compared, for {name} has none: {'; '.join(_called(measure)[0] for measure in measures)}."
        for name, measures in found["not_compared"].items()
    ]


def _gap(gap: Mapping[str, Any] | None, form: Any, *, is_first: bool) -> tuple[str, ...]:
    if is_first:
        return (DASH, DASH, "", "")
    if gap is None or not gap["paired"]:
        return ("not paired", DASH, "", "")
    return scores.gap_cells(gap, scores.gap_form(form))


# --- cost --------------------------------------------------------------------------------------------------------


def _cost(found: Mapping[str, Any]) -> Table | None:
    costs = found["cost"]
    rows = tuple((stage, *(_spent(costs[name].get(stage)) for name in found["runs"])) for stage in found["stages"])
    if not rows:
        return None
    sums = {name: _sum(costs[name].values()) for name in found["runs"]}
    heads = (text("stage"), *(Column(name) for name in found["runs"]))
    note = (
        "A stage whose artifact is that of a run further left was paid for once, if the two runs lie in one folder or one was copied; "
        "the last line does not count it again."
    )
    shares = any(one["shared_with"] for of_run in costs.values() for one in of_run.values())
    return Table(
        "Time, tokens and money of every stage", heads, rows, note if shares else "", ("in all", *(_spent(sums[n]) for n in found["runs"]))
    )


def _sum(ones: Any) -> dict[str, Any]:
    every = [one for one in ones if not one["shared_with"]]
    return {**{key: sum(one[key] for one in every) for key in ("seconds", "tokens", "calls", "usd")}, "shared_with": None}


def _spent(one: Mapping[str, Any] | None) -> str:
    if one is None:
        return DASH
    if one["shared_with"]:
        return f"as in {one['shared_with']}"
    said = [duration(one["seconds"]), *([f"{short(one['tokens'])} tokens"] if one["tokens"] else [])]
    said += [f"{count(one['calls'])} calls"] if one["calls"] else []
    return ", ".join([*said, *([money(one["usd"])] if one["usd"] else [])])


def _limits(runs: Runs) -> list[str]:
    """What every reader has to know, each sentence once; of one that not all runs say, which do."""
    said: dict[str, list[str]] = {}
    for name, run in runs.items():
        for sentence in Run(run).limits():
            said.setdefault(sentence, []).append(name)
    return [sentence if len(names) == len(runs) else f"{', '.join(names)}: {sentence}" for sentence, names in said.items()]
