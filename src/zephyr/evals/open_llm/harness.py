"""lm-eval: its own tasks, read from the installed package, in which only the rows are ours."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr.errors import ZephyrError
from zephyr.records import Row

if TYPE_CHECKING:
    from zephyr.evals.open_llm.benchmarks import Benchmark, Part, Plan

VERSION = "0.4.13"  # of lm-eval; another may put its prompts otherwise
FOLDERS = ("arc", "hellaswag", "mmlu/default", "truthfulqa")

# What makes a stock task draw examples from the items themselves: lm-eval leaves out the item in question where the split
# of the examples is the test split, and by its reading no split is no split. Splits are then named as HellaSwag's are.
_OWN_SHOTS = {"training_split": "train", "validation_split": "validation", "test_split": None, "fewshot_split": None}


def catalog() -> Any:
    """lm-eval's task manager, knowing the folders of our four benchmarks only: all of them would take seconds to read.

    Raises:
        ZephyrError: lm-eval is not installed, or in another version than the one whose prompts these are.
    """
    try:
        import lm_eval.tasks
    except ImportError as error:
        raise ZephyrError(f"academic tasks need lm-eval, which is not installed ({error}): pip install 'zephyr-align[eval]'") from error
    if (found := importlib.metadata.version("lm_eval")) != VERSION:
        raise ZephyrError(f"academic tasks are those of lm-eval {VERSION}, and {found} is installed: pip install lm-eval=={VERSION}")
    root = Path(lm_eval.tasks.__file__).parent
    return lm_eval.tasks.TaskManager(include_defaults=False, include_path=[root / folder for folder in FOLDERS])


def tasks(plan: Plan, known: Any, seed: int) -> dict[str, Any]:
    """lm-eval's own tasks by name, in which only the rows are ours; `known` is the `catalog`."""
    from zephyr.evals.open_llm.benchmarks import BENCHMARKS

    benchmark = BENCHMARKS[plan.name]
    chosen = {"fewshot_config": {"sampler": plan.sampler}} if plan.sampler != "drawn" and plan.name != "mmlu" and benchmark.shots else {}
    specs = [
        {
            "task": part.task,
            "num_fewshot": benchmark.shots,
            "custom_dataset": _dataset(benchmark, part),
            **chosen,
            **(_OWN_SHOTS if part.own and benchmark.shots else {}),
        }
        for part in plan.parts
    ]
    loaded: dict[str, Any] = known.load({"group": "open_llm", "task": specs})["tasks"]
    for task in loaded.values():
        task.set_fewshot_seed(seed)
    if plan.name == "truthfulqa":
        task = loaded["truthfulqa_mc2"]
        task.set_config("process_results", _without_underflow(task.config.process_results))
    return loaded


def _dataset(benchmark: Benchmark, part: Part) -> Callable[..., Any]:
    """What lm-eval calls to get the rows, in place of the hub. They stay in memory: no file to guess types from, no cache."""
    item_split, shot_split = ("validation", "train") if part.own else (benchmark.item_split, benchmark.shot_split)

    def load(**_: object) -> Any:
        import datasets

        splits = {item_split: part.items, **({shot_split: part.shots} if shot_split else {})}
        return datasets.DatasetDict({split: datasets.Dataset.from_list(rows) for split, rows in splits.items()})

    return load


def _without_underflow(stock: Callable[[Row, Any], dict[str, float]]) -> Callable[[Row, Any], dict[str, float]]:
    """lm-eval's mc2 exponentiates log-likelihoods as they are: below -745 nats, that is 0 / 0. A common factor cancels."""

    def process_results(doc: Row, results: Sequence[tuple[float, bool]]) -> dict[str, float]:
        top = max(nats for nats, _ in results)
        return stock(doc, [(nats - top, greedy) for nats, greedy in results])

    return process_results


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No word from lm-eval and `datasets`: neither their logs nor their progress bars, on stdout or stderr."""
    logger, sink = logging.getLogger("lm_eval"), io.StringIO()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            yield
    finally:
        logger.setLevel(level)
