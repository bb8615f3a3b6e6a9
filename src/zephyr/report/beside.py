"""Several runs side by side: what they share, what was set otherwise, every number of each, and what each took.

All of it is one object that could be read by a program as well; the page only draws it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from zephyr.artifacts import Artifact, Manifest
from zephyr.recipe import READ_BY
from zephyr.report import accounts, scores
from zephyr.report.facts import LABELS, Run, dig
from zephyr.report.numbers import bounds, finite

Runs = Mapping[str, Mapping[str, Artifact]]  # by name, then by stage

# measure -> where its value and its interval stand: stage, section (then the model), the key of the value
_WHERE = {
    "nll": ("evaluate", "nll", "nll_per_token"),
    "reward_accuracy": ("evaluate", "reward_accuracy", "accuracy"),
    "reward_margin": ("evaluate", "reward_margin", "mean"),
    "mt_bench": ("judge", "mt_bench", "score"),
    "mt_bench_pairs": ("judge", "mt_bench_pairs", "win_rate"),
    "alpaca_eval": ("judge", "alpaca_eval", "win_rate"),
    "length": ("evaluate", "lengths", "mean_tokens"),
}
_SHARP = ("entropy", "top1", "top10")


def found(runs: Runs, gaps: Mapping[str, Sequence[Mapping[str, Any]]], about: Mapping[str, str], *, order: Sequence[str]) -> dict[str, Any]:
    """What the runs have in common and what not.

    Args:
        runs: the artifacts of each; the first is the one that the others are set against.
        gaps: of each run but the first, what `evals.side_by_side.between_runs` says of it.
        about: what settings mean, by STAGE.SETTING.
        order: every stage, in the order in which it runs.

    Returns:
        runs: their names.
        stages: those that any of them has, in order.
        shared: groups of `runs` that have one and the same artifact of some `stages`.
        settings: those that differ: `stages`, `setting`, `about`, `values` by run (None where the stage is not there).
        inputs: what was read from outside and differs.
        numbers: `measure`, `model`, `values` by run (`value`, `ci95`), `against_first` by run.
        not_compared: by run, the measures that another run has and it has not; of a run without any of them, all. {} where all have all.
        cost: by run and stage, `seconds`, `tokens`, `calls`, `usd`, and `shared_with`, the first run that has the same artifact.
    """
    numbers = _numbers(runs, gaps)
    return {
        "runs": list(runs),
        "stages": [stage for stage in order if any(stage in run for run in runs.values())],
        "shared": _shared(runs, order),
        "settings": _settings(runs, about, order),
        "inputs": _inputs(runs, order),
        "numbers": numbers,
        "not_compared": _not_compared(runs, numbers),
        "cost": {name: _cost(runs, name, order) for name in runs},
    }


def _shared(runs: Runs, order: Sequence[str]) -> list[dict[str, list[str]]]:
    """The groups of runs with equal artifacts, each with the stages that they share."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for stage in order:
        by_digest: dict[str, list[str]] = {}
        for name, run in runs.items():
            if stage in run:
                by_digest.setdefault(run[stage].manifest.digest, []).append(name)
        for names in by_digest.values():
            if len(names) > 1:
                groups.setdefault(tuple(names), []).append(stage)
    return [{"runs": list(names), "stages": stages} for names, stages in groups.items()]


# --- settings ----------------------------------------------------------------------------------------------------


def differing(runs: Runs, order: Sequence[str]) -> list[tuple[str, str]]:
    """(stage, setting) of every setting whose value is not the same in all runs that have the stage, or that is not in all."""
    found = []
    for stage in order:
        flat = {name: _flat(run[stage].manifest.config) for name, run in runs.items() if stage in run}
        for path in dict.fromkeys(path for values in flat.values() for path in values):
            objectives = {values.get("dpo.objective", "dpo") for values in flat.values()} if stage == "dpo" else {None}
            if READ_BY.get(path.rpartition(".")[2]) not in (None, *objectives) and stage == "dpo":
                continue  # only another objective reads it
            values = [values.get(path) for values in flat.values()]
            if len(flat) > 1 and any(value != values[0] for value in values):
                found.append((stage, path))
    return found


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, item in value.items():
        flat |= _flat(item, f"{prefix}{name}.") if isinstance(item, Mapping) and item else {f"{prefix}{name}": item}
    return flat


def _settings(runs: Runs, about: Mapping[str, str], order: Sequence[str]) -> list[dict[str, Any]]:
    """One entry a setting: stages that have the same values of it (the seed, the number format) are named together."""
    found: list[dict[str, Any]] = []
    for stage, path in differing(runs, order):
        values = {name: _flat(run[stage].manifest.config).get(path) if stage in run else None for name, run in runs.items()}
        same = next((entry for entry in found if entry["setting"] == path and entry["values"] == values), None)
        if same:
            same["stages"].append(stage)
        else:
            found.append({"stages": [stage], "setting": path, "about": about.get(f"{stage}.{path}", ""), "values": values})
    missing = [stage for stage in order if 0 < sum(stage in run for run in runs.values()) < len(runs)]
    for stage in missing:
        values = {name: "there" if stage in run else None for name, run in runs.items()}
        found.append({"stages": [stage], "setting": "", "about": "", "values": values})
    return found


def _inputs(runs: Runs, order: Sequence[str]) -> list[dict[str, Any]]:
    """Data and models from outside the runs that are not the same in all."""
    found = []
    for stage in order:
        there = {name: run[stage].manifest for name, run in runs.items() if stage in run}
        for given in dict.fromkeys(given for manifest in there.values() for given in manifest.parents):
            parents = {name: m.parents.get(given) for name, m in there.items()}
            outside = {name: p for name, p in parents.items() if p and not _is_made(p, order)}
            if len(outside) > 1 and len({p.get("digest") for p in outside.values()}) > 1:
                values = {name: {"path": p.get("path", ""), "digest": p.get("digest", "")} for name, p in outside.items()}
                found.append({"stage": stage, "input": given, "values": values})
    return found


def _is_made(parent: Mapping[str, str], order: Sequence[str]) -> bool:
    """Whether an input is what a stage of the run made."""
    parts = Path(parent.get("path", "")).parts
    return bool(parts) and (parts[-1] in order or (parts[-1] == "model" and len(parts) > 1 and parts[-2] in order))


# --- numbers -----------------------------------------------------------------------------------------------------


def _numbers(runs: Runs, gaps: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    by_run = {name: dict(_measured(Run(run))) for name, run in runs.items()}
    found = []
    for measure, model in dict.fromkeys(key for values in by_run.values() for key in values):
        against = {
            name: {k: v for k, v in gap.items() if k not in ("measure", "model")}
            for name, ones in gaps.items()
            for gap in ones
            if (gap["measure"], gap["model"]) == (measure, model)
        }
        values = {name: measured[measure, model] for name, measured in by_run.items() if (measure, model) in measured}
        found.append({"measure": measure, "model": model, "values": values, "against_first": against})
    order = [*_WHERE, *scores.IFEVAL, *_SHARP]
    return sorted(found, key=lambda one: order.index(one["measure"]) if one["measure"] in order else len(order))


def _measured(run: Run) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    """((measure, model), value and interval) of all that was measured."""
    for measure, (stage, section, key) in _WHERE.items():
        for model, one in _each(run.result(stage, section)):
            yield (measure, model), _value(dig(one, key), dig(one, "ci95"))
    for measure in _SHARP:
        for model, one in _each(run.result("evaluate", "sharpness")):
            yield (measure, model), _value(dig(one, measure, "mean"), dig(one, measure, "ci95"))
    for measure in scores.IFEVAL:
        for model, one in _each(run.result("judge", "ifeval")):
            yield (measure, model), _value(dig(one, measure, "value"), dig(one, measure, "ci95"))
    for name, one in _each(run.result("evaluate", "preferences")):
        for judge, found in _each(dig(one, "results")):
            yield (f"{scores.PREFERENCES}{name}", judge), _value(dig(found, "accuracy"), dig(found, "ci95"))
    for task, by_model in _each(run.result("evaluate", "benchmarks")):
        for model, one in _each(by_model):
            yield (task, model), _value(dig(one, "value"), dig(one, "ci95"))


def _not_compared(runs: Runs, numbers: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """What a run lacks of what is compared, whichever model it is of."""
    there: dict[str, set[str]] = {name: set() for name in runs}
    for one in numbers:
        for name, value in one["values"].items():
            if value["value"] is not None:
                there[name].add(one["measure"])
    lacking = {name: [m for m in dict.fromkeys(one["measure"] for one in numbers) if m not in there[name]] for name in runs}
    return {name: measures for name, measures in lacking.items() if measures}


def _each(value: object) -> list[tuple[str, Any]]:
    known = [*LABELS, "length"]
    place = {name: i for i, name in enumerate(known)}
    return sorted(value.items(), key=lambda item: place.get(item[0], len(known))) if isinstance(value, Mapping) else []


def _value(value: object, ends: object) -> dict[str, Any]:
    pair = bounds(ends)
    return {"value": finite(value), "ci95": list(pair) if pair else None}


# --- cost --------------------------------------------------------------------------------------------------------


def _cost(runs: Runs, name: str, order: Sequence[str]) -> dict[str, dict[str, Any]]:
    run = Run(runs[name])
    earlier = list(runs)[: list(runs).index(name)]
    found: dict[str, dict[str, Any]] = {}
    for stage in order:
        manifest: Manifest | None = run.manifest(stage)
        if manifest is None:
            continue
        calls, dollars = accounts.bill(run, stage)
        same = [other for other in earlier if stage in runs[other] and runs[other][stage].manifest.digest == manifest.digest]
        found[stage] = {
            "seconds": finite(manifest.seconds) or 0.0,
            "tokens": manifest.tokens,
            "calls": calls,
            "usd": dollars,
            "shared_with": same[0] if same else None,
        }
    return found
