"""Academic tasks as the Open LLM Leaderboard (version 1) ran them, through lm-eval, on local files.

| task          | shots | metric   | what it is                                                                        |
|---------------|-------|----------|-----------------------------------------------------------------------------------|
| arc_challenge | 25    | acc_norm | the likeliest answer, log-likelihood divided by its length in characters          |
| hellaswag     | 10    | acc_norm | the same, for the ending of a story                                               |
| mmlu          | 5     | acc      | the likeliest letter; the mean over subjects, as published, and over items        |
| truthfulqa    | 0     | mc2      | the share of probability on true answers; its prompt opens with six fixed examples |

Prompts, preprocessing and metrics are lm-eval's own tasks, read from the installed package; only the rows are ours.
No chat template is applied. Few-shot examples are drawn as lm-eval draws them, by one random stream a task, so that
equal rows and seed give the prompts that lm-eval gives: MMLU's are the first five of the subject, for the others each
item gets its own.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr.errors import DataError, UsageError, ZephyrError
from zephyr.evals import open_llm_items
from zephyr.records import Row

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Benchmark:
    """One academic task, and what lm-eval calls its parts."""

    folder: str  # of the task in lm_eval/tasks
    metric: str
    lm_eval_metric: str
    shots: int
    item_split: str
    shot_split: str | None = None
    # lm-eval draws one example more than it shows, wherever it takes care to leave out the item
    spare: int = 0


# What makes a stock task draw examples from the items themselves: lm-eval leaves out the item in question where the split
# of the examples is the test split, and by its reading no split is no split. Splits are then named as HellaSwag's are.
_OWN_SHOTS = {"training_split": "train", "validation_split": "validation", "test_split": None, "fewshot_split": None}

BENCHMARKS: dict[str, Benchmark] = {
    "arc_challenge": Benchmark("arc", "acc_norm", "acc_norm", 25, "test", "train"),
    "hellaswag": Benchmark("hellaswag", "acc_norm", "acc_norm", 10, "validation", "train", spare=1),
    "mmlu": Benchmark("mmlu/default", "acc", "acc", 5, "test", "dev"),
    "truthfulqa": Benchmark("truthfulqa", "mc2", "acc", 0, "validation"),
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
    """What will be asked: the parts of a benchmark, and how many items were left out as they are examples too."""

    name: str
    parts: list[Part]
    excluded: int


def plans(benchmarks: Mapping[str, str], *, fewshot: Mapping[str, str], limit: int | None) -> list[Plan]:
    """What will be asked, all files read and checked: before any model is loaded it is known whether it can be.

    Args:
        benchmarks: task (`arc_challenge`, `hellaswag`, `mmlu`, `truthfulqa`) -> local file of its items.
        fewshot: task -> local file of the examples shown before each item; where there is none, they are drawn from
            the other items. An item that is in this file too is left out, and counted.
        limit: ask only this many items a task: the first ones, for MMLU the first of each subject in turn.

    Raises:
        ZephyrError: lm-eval is not installed.
        UsageError: an unknown task, or a file that is not there.
        DataError: a row that does not fit (by file and line), or too few examples to show.
    """
    _check_names(benchmarks, fewshot)
    if not benchmarks:
        return []
    catalog = _catalog()
    return [plan(name, path, fewshot.get(name), limit, catalog) for name, path in benchmarks.items()]


def evaluate(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, planned: Sequence[Plan], *, batch_size: int = 8, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Scores of a model on academic tasks. Nothing is fetched, cached or printed on stdout.

    Args:
        model: a causal language model, on the CPU or a GPU.
        tokenizer: its tokenizer, which puts BOS before a text if the model wants one.
        planned: what is asked, of `plans`.
        batch_size: rows a forward pass.
        seed: of the choice of examples.

    Returns:
        For each task `metric`, `value` and its standard error `stderr` (both from 0 to 1; None for the error of a single
        item), the number of items `n`, `num_fewshot`, `excluded` (items left out as they are examples too), and
        `truncated` (items whose prompt lost its beginning, being longer than the model takes). MMLU's `value` weighs
        its subjects equally; `value_by_item` and `stderr_by_item` weigh items equally; `subjects` has `value` and `n`
        of each.

    Raises:
        ModelError: a tokenizer that cannot be used to score continuations.
        NonFiniteError: the model gave a log-likelihood that is not a number.
    """
    if not planned:
        return {}
    catalog = _catalog()
    from zephyr.evals.open_llm_scorer import Scorer

    was_training, stderr = model.training, sys.stderr
    with _quiet():
        scorer = Scorer(model, tokenizer, batch_size, stderr)
    try:
        return {p.name: _run(p, scorer, catalog, seed) for p in planned}
    finally:
        model.train(was_training)


def plan(name: str, path: str, fewshot_path: str | None, limit: int | None, catalog: Any) -> Plan:
    """Read and check the rows of one benchmark; see `plans` for the arguments, `_catalog` for the last."""
    subjects = {task.removeprefix("mmlu_") for task in catalog.all_subtasks if task.startswith("mmlu_")}
    items = open_llm_items.read(name, path, subjects=subjects)
    shots, excluded = None, 0
    if fewshot_path is not None and Path(fewshot_path).expanduser().resolve() != Path(path).expanduser().resolve():
        shots = open_llm_items.read(name, fewshot_path, subjects=subjects)
        kept = _without(items, shots)
        items, excluded = kept, len(items) - len(kept)
        if not items:
            raise DataError(f"{path}: every item of {name} is also in {fewshot_path}, which has the examples to show; give it other rows")
    parts = _parts(name, items, shots, limit)
    for part in parts:
        _check_shots(BENCHMARKS[name], part, fewshot_path if shots is not None else path)
    return Plan(name, parts, excluded)


def tasks(plan: Plan, catalog: Any, seed: int) -> dict[str, Any]:
    """lm-eval's own tasks by name, in which only the rows are ours."""
    benchmark = BENCHMARKS[plan.name]
    specs = [
        {
            "task": part.task,
            "num_fewshot": benchmark.shots,
            "custom_dataset": _dataset(benchmark, part),
            **(_OWN_SHOTS if part.own and benchmark.shots else {}),
        }
        for part in plan.parts
    ]
    loaded: dict[str, Any] = catalog.load({"group": "open_llm", "task": specs})["tasks"]
    for task in loaded.values():
        task.set_fewshot_seed(seed)
    if plan.name == "truthfulqa":
        task = loaded["truthfulqa_mc2"]
        task.set_config("process_results", _without_underflow(task.config.process_results))
    return loaded


# --- rows ----------------------------------------------------------------------------------------------------------


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


def _check_shots(benchmark: Benchmark, part: Part, where: str | None) -> None:
    if not benchmark.shots:
        return
    times = Counter(map(repr, part.shots))
    unusable = max(times[repr(item)] for item in part.items) if part.own else benchmark.spare
    if len(part.shots) < benchmark.shots + unusable:
        hint = ", other than the item itself; name a file of examples under `fewshot`" if part.own else ""
        raise DataError(
            f"{where}: {len(part.shots)} rows to draw examples of {part.task} from, at least {benchmark.shots + unusable} are needed: "
            f"each prompt shows {benchmark.shots}{hint}"
        )


def _dataset(benchmark: Benchmark, part: Part) -> Callable[..., Any]:
    """What lm-eval calls to get the rows, in place of the hub. They stay in memory: no file to guess types from, no cache."""
    item_split, shot_split = ("validation", "train") if part.own else (benchmark.item_split, benchmark.shot_split)

    def load(**_: object) -> Any:
        import datasets

        splits = {item_split: part.items, **({shot_split: part.shots} if shot_split else {})}
        return datasets.DatasetDict({split: datasets.Dataset.from_list(rows) for split, rows in splits.items()})

    return load


# --- lm-eval -------------------------------------------------------------------------------------------------------


def _catalog() -> Any:
    """lm-eval's task manager, knowing the folders of our four benchmarks only: all of them would take seconds to read."""
    try:
        import lm_eval.tasks
    except ImportError as error:
        raise ZephyrError(f"academic tasks need lm-eval, which is not installed ({error}): pip install 'zephyr-align[eval]'") from error
    root = Path(lm_eval.tasks.__file__).parent
    return lm_eval.tasks.TaskManager(include_defaults=False, include_path=[root / b.folder for b in BENCHMARKS.values()])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No word from lm-eval and `datasets`: neither their logs nor their progress bars, on stdout or stderr."""
    logger, sink = logging.getLogger("lm_eval"), io.StringIO()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            yield
    finally:
        logger.setLevel(level)


def _without_underflow(stock: Callable[[Row, Any], dict[str, float]]) -> Callable[[Row, Any], dict[str, float]]:
    """lm-eval's mc2 exponentiates log-likelihoods as they are: below -745 nats, that is 0 / 0. A common factor cancels."""

    def process_results(doc: Row, results: Sequence[tuple[float, bool]]) -> dict[str, float]:
        top = max(nats for nats, _ in results)
        return stock(doc, [(nats - top, greedy) for nats, greedy in results])

    return process_results


def _run(plan: Plan, scorer: Any, catalog: Any, seed: int) -> dict[str, Any]:
    from lm_eval.evaluator import evaluate as lm_evaluate

    scorer.label = plan.name
    with _quiet():
        loaded = tasks(plan, catalog, seed)
        results = lm_evaluate(scorer, {"tasks": loaded}, log_samples=True)
    metric = BENCHMARKS[plan.name].lm_eval_metric
    scores = {task: [float(sample[metric]) for sample in results["samples"][task]] for task in loaded}
    return {
        "metric": BENCHMARKS[plan.name].metric,
        **_summary(scores),
        "num_fewshot": BENCHMARKS[plan.name].shots,
        "excluded": plan.excluded,
        "truncated": scorer.truncated,
        **(_by_item(scores) if plan.name == "mmlu" else {}),
    }


def _summary(scores: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Mean over tasks of the mean over items, and its standard error: the tasks are fixed, their items are a sample."""
    errors = [_stderr(items) for items in scores.values()]
    known = [e for e in errors if e is not None]
    return {
        "value": statistics.fmean(statistics.fmean(items) for items in scores.values()),
        "stderr": math.hypot(*known) / len(errors) if len(known) == len(errors) else None,
        "n": sum(map(len, scores.values())),
    }


def _by_item(scores: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    items = [score for subject in scores.values() for score in subject]
    return {
        "value_by_item": statistics.fmean(items),
        "stderr_by_item": _stderr(items),
        "subjects": {task.removeprefix("mmlu_"): {"value": statistics.fmean(s), "n": len(s)} for task, s in scores.items()},
    }


def _stderr(items: Sequence[float]) -> float | None:
    """Standard error of the mean, from the sample's standard deviation (n - 1), as lm-eval has it."""
    return statistics.stdev(items) / math.sqrt(len(items)) if len(items) > 1 else None
