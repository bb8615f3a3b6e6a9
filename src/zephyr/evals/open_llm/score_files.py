"""The four benchmarks scored from files of lm-eval: its own, or those that `evaluate` leaves behind; and one model's beside another's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from zephyr.evals.open_llm import logged, scores
from zephyr.evals.open_llm.benchmarks import BENCHMARKS
from zephyr.evals.open_llm.logged import SUBJECTS, TASKS, Item, Logged, Task, Told
from zephyr.evals.statistics import student_t_975
from zephyr.records import Row

_SAMPLERS = {"default": "drawn", "first_n": "first_n"}
Parts = dict[str, Task]


def score_files(paths: Sequence[Path], *, against: Sequence[Path] = (), partial: bool = False) -> Row:
    """The scores of a model by files of lm-eval, and its paired differences from a second one.

    Args:
        paths: samples, results, or the folder with those of one model; see `logged.read`.
        against: those of a second model, for the paired differences.
        partial: score the samples there are, where some are missing; they are counted.

    Returns:
        What docs/scores.md describes; its `warnings` say what a reader has to know first.

    Raises:
        UsageError: a file that is not there, or that does not tell what it is of.
        DataError: a file or row that does not fit, or nothing of the four benchmarks.
    """
    ours = logged.read(paths, partial=partial)
    theirs = logged.read(against, partial=partial) if against else None
    if theirs is not None and ours.model == theirs.model:  # told apart by where they lie
        ours, theirs = (replace(one, model=f"{one.model} ({path[0]})") for one, path in ((ours, paths), (theirs, against)))
    result: Row = {"model": ours.model, "benchmarks": _benchmarks(ours), "warnings": _warnings(ours)}
    if theirs is not None:
        found, remarks = _differences(ours, theirs)
        for name, gap in found.items():
            result["benchmarks"][name]["against"] = {theirs.model: gap}
        result["against"] = {"model": theirs.model, "benchmarks": _benchmarks(theirs)}
        result["warnings"] += [*_warnings(theirs), *remarks]
    return result


def _parts_of(found: Logged) -> dict[str, Parts]:
    """The tasks of each benchmark."""
    parts: dict[str, Parts] = {name: {} for name in BENCHMARKS}
    for task, one in found.tasks.items():
        parts[TASKS[task]][task] = one
    return {name: tasks for name, tasks in parts.items() if tasks}


def _benchmarks(found: Logged) -> Row:
    return {name: _score(name, parts) for name, parts in _parts_of(found).items()}


def _score(name: str, parts: Parts) -> Row:
    """As `open_llm.evaluate` has it, as far as files tell."""
    told = [part.told for part in parts.values() if part.told is not None]
    each = {task: items for task, part in parts.items() if (items := part.scores) is not None}
    shots = {one.shots for one in told}
    samplers = {_SAMPLERS.get(one.sampler or "") for one in told}
    result: Row = {
        "metric": BENCHMARKS[name].metric,
        **(scores.summary(each) if each else _of_mean(told[0])),
        "n_missing": sum(part.n_missing for part in parts.values()),
        "num_fewshot": shots.pop() if len(shots) == 1 else None,
        "sampler": "fixed" if name == "truthfulqa" else samplers.pop() if len(samplers) == 1 else None,
        "read_from": " and ".join(sorted({"results" if part.items is None else "samples" for part in parts.values()})),
    }
    return result | (scores.by_item(each) if name == "mmlu" else {})


def _of_mean(told: Told) -> Row:
    """A mean of shares of which the items are not at hand, with the interval that they would give."""
    half = None if told.stderr is None or told.n < 2 else student_t_975(told.n - 1) * told.stderr
    ci95 = [max(0.0, told.value - half), min(1.0, told.value + half)] if half else None
    return {"value": told.value, "stderr": told.stderr, "ci95": ci95, "n": told.n}


# --- what has to be known ----------------------------------------------------------------------------------------


def _warnings(found: Logged) -> list[str]:
    said = [f"{path}: {', '.join(tasks)}: none of the four benchmarks, left out" for path, tasks in found.left_out.items()]
    for name, parts in _parts_of(found).items():
        said += [f"{found.model}, {name}: {text}" for text in _of_benchmark(name, parts)]
    return said


def _of_benchmark(name: str, parts: Parts) -> Iterable[str]:
    told = [part.told for part in parts.values() if part.told is not None]
    benchmark, n = BENCHMARKS[name], sum(len(part.items or ()) for part in parts.values())
    if lost := sum(part.n_missing for part in parts.values()):
        yield f"{lost:,} of {lost + n:,} items are missing; the score leaves them out"
    if (of := sum(one.of or one.n for one in told)) > (asked := sum(one.n for one in told)):
        yield f"{asked:,} of its {of:,} items were asked"
    if others := sorted({one.shots for one in told if one.shots not in (None, benchmark.shots)}):
        yield f"asked with {' and '.join(map(str, others))} examples, and the leaderboard shows {benchmark.shots}: not the same number"
    if any(one.chat_template for one in told):
        yield "asked within a chat template, and the leaderboard uses none: not the same number"
    if name == "mmlu" and (missing := [subject for subject in SUBJECTS if f"mmlu_{subject}" not in parts]):
        yield f"{len(parts)} of {len(SUBJECTS)} subjects; the leaderboard's is the mean of all (the first that is missing: {missing[0]})"


# --- beside another ----------------------------------------------------------------------------------------------


def _differences(ours: Logged, theirs: Logged) -> tuple[dict[str, Row | None], list[str]]:
    """By benchmark the paired difference, None with a remark where there is none."""
    found: dict[str, Row | None] = {}
    remarks = []
    one, other, names = _parts_of(ours), _parts_of(theirs), (ours.model, theirs.model)
    for name in [name for name in BENCHMARKS if name in one or name in other]:
        if name not in one or name not in other:
            remarks.append(f"{name}: no difference, there is nothing of {names[1] if name in one else names[0]}")
            continue
        found[name] = None
        if why := _unlike(one[name], other[name], names):
            remarks.append(f"{name}: no paired difference: {why}")
            continue
        pairs = _paired(one[name], other[name])
        mine, its = ({task: [both[side].score for both in items] for task, items in pairs.items()} for side in (0, 1))
        found[name] = scores.difference(mine, its, names)
        if found[name] is None:
            remarks.append(f"{name}: no paired difference: a part has one item alone")
        elif changed := sum(a.prompt != b.prompt for items in pairs.values() for a, b in items if a.prompt and b.prompt):
            remarks.append(f"{name}: {changed:,} prompts differ (other examples, say): the difference is not of the models alone")
    return found, remarks


def _unlike(one: Parts, other: Parts, names: tuple[str, str]) -> str:
    """Why the items of two models cannot be paired; "" where they can."""
    if alone := sorted(one.keys() ^ other.keys()):
        return f"{', '.join(alone)} of one of the two only"
    for task, part in one.items():
        both = (part.items, other[task].items)
        for items, model in zip(both, names, strict=True):
            if items is None:
                return f"no samples of {task} by {model}"
            if lacking := [item.where for item in items if not item.content]:
                return f"{lacking[0]} does not say what was asked (`doc`)"
        first, second = (_by_content(items or ()) for items in both)
        if apart := [item for mine, its in ((first, second), (second, first)) for key, item in mine.items() if key not in its]:
            return f"{len(apart):,} items of {task} were asked of one of the two only, such as {apart[0].where}"
    return ""


def _by_content(items: Iterable[Item]) -> dict[tuple[str, int], Item]:
    """Items by what they ask: two files may number them differently. Of copies, the first is paired with the first."""
    times: Counter[str] = Counter()
    found = {}
    for item in items:
        found[item.content, times[item.content]] = item
        times[item.content] += 1
    return found


def _paired(one: Parts, other: Parts) -> dict[str, list[tuple[Item, Item]]]:
    """By task the items of both that ask the same."""
    found = {}
    for task, part in one.items():
        first, second = (_by_content(p.items or ()) for p in (part, other[task]))
        found[task] = [(item, second[key]) for key, item in first.items()]
    return found
