"""Files that lm-eval has written, read in: samples of every item (`--log_samples`), and results, which have sums alone.

A task's samples are read where they are at hand, else what its results say. Where both are, they have to be of one run. What does
not fit (an item that is missing or stands twice, a score that is none, another metric) is an error that names its place.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr import files
from zephyr.errors import DataError, UsageError
from zephyr.evals import plain_files
from zephyr.evals.open_llm.benchmarks import BENCHMARKS
from zephyr.records import Row

SUBJECTS = (
    "abstract_algebra", "anatomy", "astronomy", "business_ethics", "clinical_knowledge", "college_biology", "college_chemistry",
    "college_computer_science", "college_mathematics", "college_medicine", "college_physics", "computer_security", "conceptual_physics",
    "econometrics", "electrical_engineering", "elementary_mathematics", "formal_logic", "global_facts", "high_school_biology",
    "high_school_chemistry", "high_school_computer_science", "high_school_european_history", "high_school_geography",
    "high_school_government_and_politics", "high_school_macroeconomics", "high_school_mathematics", "high_school_microeconomics",
    "high_school_physics", "high_school_psychology", "high_school_statistics", "high_school_us_history", "high_school_world_history",
    "human_aging", "human_sexuality", "international_law", "jurisprudence", "logical_fallacies", "machine_learning", "management",
    "marketing", "medical_genetics", "miscellaneous", "moral_disputes", "moral_scenarios", "nutrition", "philosophy", "prehistory",
    "professional_accounting", "professional_law", "professional_medicine", "professional_psychology", "public_relations",
    "security_studies", "sociology", "us_foreign_policy", "virology", "world_religions",
)  # fmt: skip
# lm-eval's name of a task: the benchmark that it is, or is a part of
TASKS = {
    "arc_challenge": "arc_challenge",
    "hellaswag": "hellaswag",
    **{f"mmlu_{subject}": "mmlu" for subject in SUBJECTS},
    "truthfulqa_mc2": "truthfulqa",
}
# what lm-eval averages the subjects into; the leaderboard's mean is another one
_GROUPS = ("mmlu", "mmlu_humanities", "mmlu_other", "mmlu_social_sciences", "mmlu_stem")
# columns of an item that tell it from others, whatever stands beside them
_TELLING = {
    "arc_challenge": ("question", "choices"),
    "hellaswag": ("query", "choices"),
    "mmlu": ("question", "choices"),
    "truthfulqa": ("question", "mc2_targets"),
}
_SAMPLES = re.compile(r"samples_(.+?)(?:_\d{4}-\d\d-\d\d(?:T[\d.:-]+)?)?\.jsonl(?:\.gz)?")
_ROUNDING = 1e-6
_PARTIAL = "--partial scores what is there"


@dataclass(frozen=True)
class Item:
    """One item as it was asked.

    Attributes:
        doc_id: its number.
        where: file and line.
        score: what it came to, from 0 to 1.
        prompt: lm-eval's hash of the prompt; None where the file has none.
        content: what tells it from others; "" where the file does not have it.
    """

    doc_id: int
    where: str
    score: float
    prompt: str | None
    content: str


@dataclass(frozen=True)
class Told:
    """What a file of results says of a task: its score with its error, of `n` items out of `of`, and how it was asked.

    Attributes:
        shots: examples that each prompt shows; None where the file does not say.
        sampler: how lm-eval chose them, by its name.
    """

    path: Path
    value: float
    stderr: float | None
    n: int
    of: int | None
    shots: int | None
    sampler: str | None
    chat_template: bool


@dataclass(frozen=True)
class Task:
    """What is known of one of lm-eval's tasks: from its samples, from a file of results, or both."""

    name: str
    items: tuple[Item, ...] | None
    told: Told | None
    n_missing: int

    @property
    def scores(self) -> list[float] | None:
        """Of every item; None where only a mean of shares is known. Of right and wrong the mean is enough, for the order says nothing."""
        if self.items is not None:
            return [item.score for item in self.items]
        if TASKS[self.name] == "truthfulqa" or self.told is None:
            return None
        right = round(self.told.value * self.told.n)
        return [1.0] * right + [0.0] * (self.told.n - right)


@dataclass(frozen=True)
class Logged:
    """One model's files: its name, its tasks by lm-eval's names, and what else stood there, by file."""

    model: str
    tasks: dict[str, Task]
    left_out: dict[str, list[str]]


def read(paths: Sequence[Path], *, partial: bool = False) -> Logged:
    """What files of lm-eval, or the folders that they lie in, say of the four benchmarks.

    Args:
        paths: samples (`samples_TASK_DATE.jsonl`, also under gzip), results (`.json`), or a folder with those of one model.
        partial: take the samples there are, where some are missing.

    Raises:
        UsageError: a file that is not there, a folder with the files of several models, or a file whose name tells no task.
        DataError: a file or row that does not fit, or nothing of the four benchmarks.
    """
    samples: dict[str, Path] = {}
    told: dict[str, Told] = {}
    left_out: dict[str, list[str]] = {}
    named: list[str] = []
    for path in (file for given in paths for file in _files(given)):
        if path.name.endswith(".json"):
            found, others, name = _results(path)
            _take(told, found, {task: one.path for task, one in told.items()}, path)
            named += [name] if name else []
        else:
            task = _task_of(path)
            others = [] if task in TASKS else [task]
            _take(samples, {} if others else {task: path}, samples, path)
        left_out.update({str(path): others} if others else {})
    tasks = [task for task in TASKS if task in samples or task in told]
    if not tasks:
        other = ", ".join(dict.fromkeys(task for tasks in left_out.values() for task in tasks)) or "nothing"
        raise DataError(f"{paths[0]}: has {other}; of lm-eval's tasks arc_challenge, hellaswag, mmlu_SUBJECT and truthfulqa_mc2 are scored")
    known = {task: _task(task, samples.get(task), told.get(task), partial) for task in tasks}
    return Logged(next(iter(named), (samples.get(tasks[0]) or told[tasks[0]].path).resolve().parent.name), known, left_out)


def _files(given: Path) -> list[Path]:
    path = given.expanduser()
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UsageError(f"{given}: no such file or folder")
    found = sorted({*path.rglob("samples_*.jsonl"), *path.rglob("samples_*.jsonl.gz"), *path.rglob("results*.json")})
    folders = sorted({str(file.parent) for file in found})
    if len(folders) > 1:
        raise UsageError(f"{given}: files of lm-eval in {', '.join(folders)}; name the folder of one model")
    if not found:
        raise UsageError(f"{given}: no file of lm-eval in it, which are called samples_TASK_DATE.jsonl and results_DATE.json")
    return found


def _task_of(path: Path) -> str:
    match = _SAMPLES.fullmatch(path.name)
    if match is None:
        raise UsageError(f"{path}: its name does not tell the task; lm-eval calls samples samples_TASK_DATE.jsonl, and results a .json")
    return match[1]


def _take(into: dict[str, Any], found: Mapping[str, Any], paths: Mapping[str, Path], path: Path) -> None:
    for task in found:
        if task in into:
            raise UsageError(f"{path}: {task} stands in {paths[task]} too; name the files of one run")
    into.update(found)


def _task(task: str, path: Path | None, told: Told | None, partial: bool) -> Task:
    """A task's samples, held against its results.

    Raises:
        DataError: they are not of one run, or items are missing.
    """
    if path is None:
        return Task(task, None, told, 0)
    items = _items(path, task)
    n = len(items)
    if told is None:
        ids, last = {item.doc_id for item in items}, items[-1].doc_id
        if last >= n and not partial:
            first = next(i for i in range(last) if i not in ids)
            raise DataError(f"{path}: of doc_id 0 to {last} {last + 1 - n} are missing, the first is {first}; {_PARTIAL}")
        return Task(task, items, None, last + 1 - n)
    if n > told.n or (n < told.n and not partial):
        hint = f"; {_PARTIAL}" if n < told.n else ""
        raise DataError(f"{path}: {n:,} samples of {task}, of which {told.path} has {told.n:,}{hint}")
    value = statistics.fmean(item.score for item in items)
    if n == told.n and abs(value - told.value) > _ROUNDING:
        raise DataError(f"{path}: the samples of {task} come to {value:.4f}, and {told.path} says {told.value:.4f}: they are of two runs")
    return Task(task, items, told, told.n - n)


# --- samples -----------------------------------------------------------------------------------------------------


def _items(path: Path, task: str) -> tuple[Item, ...]:
    """Every item of a file of samples, by number."""
    found: dict[int, Item] = {}
    for where, row in plain_files.rows(path):
        item = _item(where, row, task)
        if item.doc_id in found:
            raise DataError(f"{where}: doc_id {item.doc_id} stands twice, first at {found[item.doc_id].where}; one run was expected")
        found[item.doc_id] = item
    if not found:
        raise DataError(f"{path}: no samples in it")
    return tuple(found[number] for number in sorted(found))


def _item(where: str, row: Row, task: str) -> Item:
    number, kind, prompt = row.get("doc_id"), row.get("filter", "none"), row.get("prompt_hash")
    if type(number) is not int or number < 0:
        raise DataError(f"{where}: `doc_id` is {_shown(number) if 'doc_id' in row else 'missing'}; the number of the item was expected")
    if kind != "none":
        raise DataError(f"{where}: read by the filter {_shown(kind)}; {task} has none")
    metrics = row.get("metrics")
    score = _score(where, row, TASKS[task], has=metrics if isinstance(metrics, list) else ())
    return Item(number, where, score, prompt if isinstance(prompt, str) else None, _content(TASKS[task], row))


def _score(where: str, row: Row, name: str, *, has: Collection[Any], suffix: str = "") -> float:
    """What an item, or a whole task, came to by the metric of its benchmark, from 0 to 1."""
    metric = f"{BENCHMARKS[name].lm_eval_metric}{suffix}"
    if metric not in row:
        raise DataError(f"{where}: no `{metric}`, by which {name} is scored; there is {', '.join(map(str, has)) or 'no metric'}")
    value = row[metric]
    if not plain_files.is_number(value):
        underflow = "; lm-eval divides nought by nought where all answers are very unlikely, `zephyr evaluate` does not"
        raise DataError(f"{where}: `{metric}` is {_shown(value)}, which is no score{underflow if name == 'truthfulqa' else ''}")
    shares = name == "truthfulqa" or bool(suffix)
    if not (-_ROUNDING < value < 1 + _ROUNDING if shares else value in (0, 1)):
        raise DataError(f"{where}: `{metric}` is {value}; {'a share from 0 to 1' if shares else '0 or 1'} was expected")
    return float(value)


def _content(name: str, row: Row) -> str:
    doc = row.get("doc")
    found = [doc.get(column) for column in _TELLING[name]] if isinstance(doc, Mapping) else [None]
    if None in found:
        return ""
    # the labels of ARC's choices, and what is true of TruthfulQA's, are in no prompt
    texts = [value.get("text", value.get("choices")) if isinstance(value, Mapping) else value for value in found]
    return json.dumps([*texts, row.get("target")])


def _shown(value: object) -> str:
    return json.dumps(value)[:60]


# --- results -----------------------------------------------------------------------------------------------------


def _results(path: Path) -> tuple[dict[str, Told], list[str], str | None]:
    """What a file of results says of our tasks, what other tasks it has, and the model's name."""
    no_results = "lm-eval's results were expected, an object with `results`"
    whole = files.read_object(path, other=no_results)
    results, parts = whole.get("results"), whole.get("group_subtasks")
    if not isinstance(results, dict) or not all(isinstance(one, dict) for one in results.values()):
        raise DataError(f"{path}: {no_results}")
    groups = {*_GROUPS, *(group for group, tasks in (parts.items() if isinstance(parts, dict) else ()) if tasks)}
    told = {task: _told(path, task, one, whole) for task, one in results.items() if task in TASKS}
    name = whole.get("model_name")
    return told, [task for task in results if task not in TASKS and task not in groups], name if isinstance(name, str) else None


def _told(path: Path, task: str, one: Row, whole: Row) -> Told:
    name = TASKS[task]
    where, metric = f"{path}, {task}", BENCHMARKS[name].lm_eval_metric
    value = _score(where, one, name, has=[key for key in one if "," in key and "_stderr," not in key], suffix=",none")
    counts = _part(whole, "n-samples", task)
    counted = counts if isinstance(counts, dict) else {}
    n, stderr, shots = counted.get("effective", one.get("sample_len")), one.get(f"{metric}_stderr,none"), _part(whole, "n-shot", task)
    if type(n) is not int or n < 1:
        raise DataError(f"{where}: of how many items its score is, it does not say (`n-samples`); give the samples")
    if name != "truthfulqa" and abs(value * n - round(value * n)) >= _ROUNDING:
        raise DataError(f"{where}: `{metric},none` is {value}, which is no share of {n} items")
    error = float(stderr) if isinstance(stderr, int | float) and plain_files.is_number(stderr) else None  # else N/A: of one item, say
    config, of = _part(whole, "configs", task), counted.get("original")
    examples = config.get("fewshot_config") if isinstance(config, dict) else None
    sampler = examples.get("sampler") if isinstance(examples, dict) else None
    chat = bool(whole.get("chat_template"))
    return Told(path, value, error, n, of if type(of) is int else None, shots if type(shots) is int else None, sampler, chat)


def _part(whole: Row, key: str, task: str) -> Any:
    found = whole.get(key)
    return found.get(task) if isinstance(found, dict) else None
