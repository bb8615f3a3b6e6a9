"""What is asked: the four benchmarks, their rows read and checked before any model is loaded."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from zephyr import sources
from zephyr.errors import DataError, UsageError
from zephyr.evals.open_llm import items as rows_of
from zephyr.evals.open_llm.harness import catalog
from zephyr.recipe import DataSource
from zephyr.records import Row

# how examples are chosen: for each item its own, as lm-eval draws them, or the first there are, the same for all
Sampler = Literal["drawn", "first_n"]


@dataclass(frozen=True)
class Hub:
    """Where a benchmark's rows are on the hub."""

    path: str
    subset: str | None = None


@dataclass(frozen=True)
class Benchmark:
    """One academic task, and what lm-eval calls its parts."""

    folder: str  # of the task in lm_eval/tasks
    metric: str
    lm_eval_metric: str
    shots: int
    hub: Hub
    item_split: str
    shot_split: str | None = None
    # lm-eval draws one example more than it shows, wherever it takes care to leave out the item
    spare: int = 0


BENCHMARKS: dict[str, Benchmark] = {
    "arc_challenge": Benchmark("arc", "acc_norm", "acc_norm", 25, Hub("allenai/ai2_arc", "ARC-Challenge"), "test", "train"),
    "hellaswag": Benchmark("hellaswag", "acc_norm", "acc_norm", 10, Hub("Rowan/hellaswag"), "validation", "train", spare=1),
    "mmlu": Benchmark("mmlu/default", "acc", "acc", 5, Hub("cais/mmlu", "all"), "test", "dev"),
    "truthfulqa": Benchmark("truthfulqa", "mc2", "acc", 0, Hub("truthfulqa/truthful_qa", "multiple_choice"), "validation"),
}


@dataclass(frozen=True)
class Part:
    """The rows of one lm-eval task: a benchmark, or a subject of MMLU.

    Attributes:
        task: lm-eval's name.
        items: what is asked.
        shots: what examples are drawn from.
        own: whether `shots` are the items themselves, before `limit` cut them.
    """

    task: str
    items: list[Row]
    shots: list[Row]
    own: bool


@dataclass(frozen=True)
class Plan:
    """What will be asked: the parts of a benchmark, how many items were left out as they are examples too, how examples are chosen."""

    name: str
    parts: list[Part]
    excluded: int
    sampler: Sampler = "drawn"


def plans(benchmarks: Mapping[str, str], *, fewshot: Mapping[str, str], limit: int | None, sampler: Sampler = "drawn") -> list[Plan]:
    """What will be asked, all files read and checked: before any model is loaded it is known whether it can be.

    Args:
        benchmarks: task (`arc_challenge`, `hellaswag`, `mmlu`, `truthfulqa`) -> local file of its items, or the task's name on the
            hub (`allenai/ai2_arc`, `Rowan/hellaswag`, `cais/mmlu`, `truthfulqa/truthful_qa`), which may say which commit: `NAME@COMMIT`.
            A folder of several splits is read as the name on the hub is.
        fewshot: task -> local file of the examples shown before each item, or the name on the hub, of which its split of
            examples is taken. Where there is none, they are drawn from the other items of a file, and from the split of
            examples on the hub or in the folder. An item that is among the examples of another file or split too is left out,
            and counted.
        limit: ask only this many items a task: the first ones, for MMLU the first of each subject in turn.
        sampler: `drawn`: each item has its own examples, as lm-eval draws them; `first_n`: all have the first there are
            (of their file but the item itself), so that a beginning is computed once. MMLU always has the first.

    Raises:
        ZephyrError: lm-eval is not installed, or is another version than the one these numbers are of.
        UsageError: an unknown task, a file that is not there, or a folder of several splits without the one that is wanted.
        DataError: a row that does not fit (by file and line), or too few examples to show.
    """
    _check_names(benchmarks, fewshot)
    if not benchmarks:
        return []
    known = catalog()
    return [plan(name, path, fewshot.get(name), limit, known, sampler) for name, path in benchmarks.items()]


def plan(name: str, path: str, fewshot_path: str | None, limit: int | None, known: Any, sampler: Sampler = "drawn") -> Plan:
    """Read and check the rows of one benchmark; see `plans` for the arguments, `harness.catalog` for `known`."""
    benchmark = BENCHMARKS[name]
    subjects = {task.removeprefix("mmlu_") for task in known.all_subtasks if task.startswith("mmlu_")}
    asked = source(name, path, benchmark.item_split)
    items = rows_of.read(name, asked, subjects=subjects)
    if fewshot_path is None and benchmark.shots and (sources.resolve(asked.path) is None or benchmark.shot_split in _splits(asked.path)):
        fewshot_path = path  # it has a split of examples
    shown = None if fewshot_path is None else source(name, fewshot_path, benchmark.shot_split)
    shots, excluded = None, 0
    if shown is not None and not _same_rows(shown, asked):
        shots = rows_of.read(name, shown, subjects=subjects)
        kept = _without(items, shots)
        items, excluded = kept, len(items) - len(kept)
        if not items:
            raise DataError(f"{path}: every item of {name} is also in {fewshot_path}, which has the examples to show; give it other rows")
    parts = _parts(name, items, shots, limit)
    for part in parts:
        _check_shots(benchmark, part, fewshot_path if shots is not None else path, sampler)
    return Plan(name, parts, excluded, sampler)


def source(name: str, path: str, split: str | None = None) -> DataSource:
    """Where the rows of a benchmark are: a local file, or its name on the hub or a folder of several splits with the one that is wanted.

    Raises:
        UsageError: another name on the hub than the benchmark's, or a folder of several splits without that one.
    """
    hub = BENCHMARKS[name].hub
    known, _, revision = path.partition("@")
    if known == hub.path and not Path(path).expanduser().exists():
        return DataSource(path=hub.path, subset=hub.subset, revision=revision or None, source_split=split)
    if sources.resolve(path) is None:
        raise UsageError(f"{path}: no such file or folder; items of {name} are read from a local file, or from {hub.path} on the hub")
    there = _splits(path) if split else set()
    if there and split not in there:
        raise UsageError(f"{path}: its splits are {', '.join(sorted(there))}, but {name} needs {split}; name the file of one of them")
    return DataSource(path=path, source_split=split if there else None)


def _splits(path: str) -> set[str]:
    """The names of a folder's splits, where it has several."""
    names = {part.name for part, _ in sources.divided(DataSource(path=path), whole=True) if part.name}
    return names if len(names) > 1 else set()


def _same_rows(one: DataSource, other: DataSource) -> bool:
    paths = [Path(source.path).expanduser() for source in (one, other)]
    return paths[0].exists() and paths[0].resolve() == paths[1].resolve() and one.source_split == other.source_split


def _check_names(benchmarks: Mapping[str, str], fewshot: Mapping[str, str]) -> None:
    for name in [*benchmarks, *fewshot]:
        if name not in BENCHMARKS:
            raise UsageError(f"{name}: unknown benchmark; known are {', '.join(BENCHMARKS)}")
    if "truthfulqa" in fewshot:
        raise UsageError("truthfulqa: its prompt has fixed examples; take it out of `fewshot`")


def _without(items: Sequence[Row], others: Sequence[Row]) -> list[Row]:
    known = {repr(row) for row in others}
    return [item for item in items if repr(item) not in known]


def _parts(name: str, items: list[Row], shots: list[Row] | None, limit: int | None) -> list[Part]:
    """One part, or for MMLU one a subject, in the order they first appear."""
    pool, own = (items, True) if shots is None else (shots, False)
    if name != "mmlu":
        return [Part("truthfulqa_mc2" if name == "truthfulqa" else name, items[:limit], pool, own)]
    by_subject: dict[str, list[Row]] = defaultdict(list)
    for item in items:
        by_subject[item["subject"]].append(item)
    # the first item of every subject, then the second of every subject...: 100 items are not all about algebra
    in_turn = sorted((i, subject) for subject, rows in enumerate(by_subject.values()) for i in range(len(rows)))
    counts = Counter(subject for _, subject in in_turn[:limit])
    return [
        Part(f"mmlu_{subject}", rows[: counts[s]], [row for row in pool if row["subject"] == subject], own)
        for s, (subject, rows) in enumerate(by_subject.items())
        if counts[s]
    ]


def _check_shots(benchmark: Benchmark, part: Part, where: str | None, sampler: Sampler) -> None:
    if not benchmark.shots:
        return
    times = Counter(map(repr, part.shots))
    spare = 0 if sampler == "first_n" else benchmark.spare
    unusable = max(times[repr(item)] for item in part.items) if part.own else spare
    if len(part.shots) < benchmark.shots + unusable:
        hint = ", other than the item itself; name a file of examples under `fewshot`" if part.own else ""
        raise DataError(
            f"{where}: {len(part.shots)} rows to draw examples of {part.task} from, at least {benchmark.shots + unusable} are needed: "
            f"each prompt shows {benchmark.shots}{hint}"
        )


def texts_of(plan: Plan) -> dict[str, list[str]]:
    """The question of each item, by task and number: what is looked for in training data."""
    found = {}
    for part in plan.parts:
        for i, item in enumerate(part.items):
            found[f"{part.task}[{i}]"] = [item["question"] if "question" in item else f"{item['ctx_a']} {item['ctx_b']}".strip()]
    return found
