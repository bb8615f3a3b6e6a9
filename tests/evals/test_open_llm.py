"""Academic tasks: our prompts and scores are those of lm-eval's own tasks, and those one computes by hand."""

from __future__ import annotations

import copy
import gzip
import json
import logging
import math
import os
import re
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval", reason="the extra `eval` is not installed")

import torch
from lm_eval.evaluator import evaluate as lm_evaluate
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import tiny
from zephyr import progress
from zephyr.errors import DataError, ModelError, NonFiniteError, UsageError, ZephyrError
from zephyr.evals import open_llm
from zephyr.evals.open_llm import harness, logged, outputs
from zephyr.evals.open_llm import items as open_llm_items
from zephyr.evals.open_llm import scores as open_llm_scores
from zephyr.evals.open_llm.scorer import Scorer
from zephyr.recipe import DataSource

Rows = list[dict[str, Any]]
SUBJECTS = ("anatomy", "virology", "world_religions")
WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "sees", "three", "things", "today"]


# --- rows as the hub has them, and as plain files have them ---------------------------------------------------------


def _words(seed: int, count: int) -> str:
    return " ".join(WORDS[(seed * 7 + i * (seed % 5 + 2)) % len(WORDS)] for i in range(count))


def _arc(first: int, count: int) -> Rows:
    rows = []
    for i in range(first, first + count):
        labels = ["1", "2", "3", "4"] if i % 5 == 0 else ["A", "B", "C", "D", "E"][: 3 + i % 3]
        texts = [f"{_words(i + k, 1 + (i + k) % 4)} {k}" for k in range(len(labels))]
        rows.append(
            {"id": f"q{i}", "question": f"Why {i} {_words(i, 3)}?", "choices": {"text": texts, "label": labels}, "answerKey": labels[i % 3]}
        )
    return rows


def _hellaswag(first: int, count: int) -> Rows:
    return [
        {
            "ind": i,
            "activity_label": f"Jumping {i}",
            "ctx_a": f"[header] How to jump {i} [title] {_words(i, 3)}.",
            "ctx_b": ["", "he", "then  The fox"][i % 3],
            "ctx": "unused",
            "endings": [f"{_words(i + k, 2 + (i + k) % 5)}. [substeps] {k}" for k in range(4)],
            "split_type": "indomain",
            "label": str(i % 4),
        }
        for i in range(first, first + count)
    ]


def _mmlu(first: int, count: int) -> Rows:
    return [
        {
            "question": f" {subject} {i} {_words(i, 3)}? ",
            "subject": subject,
            "choices": [f"{_words(i + k, 2)} {k}" for k in range(4)],
            "answer": (i + s) % 4,
        }
        for s, subject in enumerate(SUBJECTS)
        for i in range(first, first + count)
    ]


def _truthfulqa(first: int, count: int) -> Rows:
    return [
        {
            "question": f"What if {i} {_words(i, 2)}?",
            "mc2_targets": {
                "choices": [f'{_words(i + k, 2 + k)} isn\'t "{k}".' for k in range(3 + i % 3)],
                "labels": [1] * (1 + i % 2) + [0] * (2 + i % 3 - i % 2),
            },
        }
        for i in range(first, first + count)
    ]


MAKE: dict[str, Callable[[int, int], Rows]] = {"arc_challenge": _arc, "hellaswag": _hellaswag, "mmlu": _mmlu, "truthfulqa": _truthfulqa}
SHOTS = {"arc_challenge": 30, "hellaswag": 15, "mmlu": 6}


def _plain(name: str, row: dict[str, Any]) -> dict[str, Any]:
    """The same item in the plain shape."""
    row = copy.deepcopy(row)
    if name == "arc_challenge":
        row["answer"] = row["choices"]["label"].index(row.pop("answerKey"))
        row["choices"] = row["choices"]["text"]
    elif name == "hellaswag":
        row["label"] = int(row["label"])
    elif name == "truthfulqa":
        row["mc2_targets"] = dict(zip(row["mc2_targets"]["choices"], row["mc2_targets"]["labels"], strict=True))
    return row


def _write(path: Path, rows: Rows) -> str:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return str(path)


# --- lm-eval's own tasks, read as its users read them ---------------------------------------------------------------


@pytest.fixture(scope="module")
def catalog() -> Any:
    return open_llm.catalog()


def _of_task(rows: Rows, task: str) -> Rows:
    return [row for row in rows if not task.startswith("mmlu_") or task == f"mmlu_{row['subject']}"]


def _stock(
    catalog: Any, name: str, items: Rows, shots: Rows | None, folder: Path, seed: int, fewshot_config: dict[str, Any] | None = None
) -> dict[str, Any]:
    """lm-eval's tasks on JSON files of the hub's rows, through `datasets`: the way its documentation describes."""
    stock = {
        "arc_challenge": ("test", "train", 25),
        "hellaswag": ("validation", "train", 10),
        "mmlu": ("test", "dev", 5),
        "truthfulqa": ("validation", "", 0),
    }
    split, shot_split, num_fewshot = stock[name]
    names = {"truthfulqa": ["truthfulqa_mc2"]}.get(name, [name])
    if name == "mmlu":
        names = [f"mmlu_{subject}" for subject in dict.fromkeys(row["subject"] for row in items)]
    specs = []
    for task in names:
        files = {split: _write(folder / f"{task}-items.jsonl", _of_task(items, task))}
        if shots is not None:
            files[shot_split] = _write(folder / f"{task}-shots.jsonl", _of_task(shots, task))
        kwargs = {"data_files": files, "cache_dir": str(folder / "cache")}
        specs.append({"task": task, "num_fewshot": num_fewshot, "dataset_path": "json", "dataset_name": None, "dataset_kwargs": kwargs})
        specs[-1] |= {"fewshot_config": fewshot_config} if fewshot_config else {}
    loaded: dict[str, Any] = catalog.load({"group": "stock", "task": specs})["tasks"]
    for task in loaded.values():
        task.set_fewshot_seed(seed)
    return loaded


def _requests(tasks: dict[str, Any]) -> list[tuple[str, str]]:
    """Every (prompt, continuation) lm-eval would ask."""
    asked = []
    for task in tasks.values():
        task.build_all_requests()
        asked += [instance.args for instance in task.instances]
    return asked


def _ours(catalog: Any, name: str, items: str, shots: str | None, *, seed: int = 0, limit: int | None = None) -> list[tuple[str, str]]:
    return _requests(open_llm.tasks(open_llm.plan(name, items, shots, limit, catalog), catalog, seed))


# --- the model --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return tiny.tiny_model("llama", attention="sdpa", max_position_embeddings=8192)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return tiny.llama3_tokenizer()


def _nats(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prompt: str, continuation: str) -> float:
    """The log-likelihood of a continuation, from the logits, in float64."""
    ids = tokenizer(prompt + continuation)["input_ids"]
    start = len(tokenizer(prompt)["input_ids"])
    with torch.no_grad():
        logprobs = torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), -1)
    return sum(float(logprobs[t - 1, ids[t]]) for t in range(start, len(ids)))


# --- prompts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(MAKE))
def test_prompts_are_those_of_lm_evals_own_tasks(name: str, catalog: Any, tmp_path: Path) -> None:
    items, shots = MAKE[name](0, 4), MAKE[name](100, SHOTS[name]) if name in SHOTS else None
    theirs = _requests(_stock(catalog, name, items, shots, tmp_path, seed=7))
    assert len(theirs) >= 12
    for suffix, shape in ((".jsonl", lambda row: row), (".jsonl.gz", lambda row: _plain(name, row))):
        file = _write(tmp_path / f"items{suffix}", [shape(row) for row in items])
        examples = _write(tmp_path / f"shots{suffix}", [shape(row) for row in shots]) if shots is not None else None
        assert _ours(catalog, name, file, examples, seed=7) == theirs


def test_real_prompts_are_those_of_lm_evals_own_tasks(shared: Path, catalog: Any, tmp_path: Path) -> None:
    folder = shared / "data" / "eval" / "open_llm"

    def rows(name: str, count: int | None = None) -> Rows:
        with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
            return [json.loads(line) for line in file][:count]

    def hub(row: dict[str, Any]) -> dict[str, Any]:
        if isinstance(row["choices"], dict):
            return {k: row[k] for k in ("question", "choices", "answerKey")}
        labels = [*"ABCDE"][: len(row["choices"])]
        return {"question": row["question"], "choices": {"text": row["choices"], "label": labels}, "answerKey": labels[row["answer"]]}

    arc, pool = rows("arc_challenge_test", 3), rows("arc_challenge_validation")
    theirs = _requests(_stock(catalog, "arc_challenge", [hub(r) for r in arc], [hub(r) for r in pool], tmp_path, seed=1))
    files = _write(tmp_path / "arc.jsonl", arc), _write(tmp_path / "pool.jsonl", pool)
    assert _ours(catalog, "arc_challenge", *files, seed=1) == theirs

    swag, pool = rows("hellaswag_validation", 3), rows("hellaswag_validation", 43)[3:]
    files = _write(tmp_path / "swag.jsonl", swag), _write(tmp_path / "pool.jsonl", pool)
    assert _ours(catalog, "hellaswag", *files, seed=1) == _requests(_stock(catalog, "hellaswag", swag, pool, tmp_path, seed=1))

    dev = rows("mmlu_dev", 10)
    test = [next(r for r in rows("mmlu_test") if r["subject"] == s) for s in dict.fromkeys(r["subject"] for r in dev)]
    files = _write(tmp_path / "test.jsonl", test), str(folder / "mmlu_dev.jsonl.gz")
    assert _ours(catalog, "mmlu", *files) == _requests(_stock(catalog, "mmlu", test, dev, tmp_path, seed=0))

    truth = rows("truthfulqa_mc", 3)
    as_hub = [
        {"question": r["question"], "mc2_targets": {"choices": [*r["mc2_targets"]], "labels": [*r["mc2_targets"].values()]}} for r in truth
    ]
    theirs = _requests(_stock(catalog, "truthfulqa", as_hub, None, tmp_path, seed=0))
    assert _ours(catalog, "truthfulqa", _write(tmp_path / "truth.jsonl", truth), None) == theirs


def test_every_real_row_is_read(shared: Path, catalog: Any) -> None:
    subjects = {task.removeprefix("mmlu_") for task in catalog.all_subtasks}
    counts = {
        "arc_challenge_test": 840,
        "arc_challenge_validation": 299,
        "hellaswag_validation": 7041,
        "mmlu_dev": 285,
        "truthfulqa_mc": 550,
    }
    for file, count in counts.items():
        benchmark = next(name for name in MAKE if file.startswith(name))
        rows = open_llm_items.read(
            benchmark, DataSource(path=str(shared / "data" / "eval" / "open_llm" / f"{file}.jsonl.gz")), subjects=subjects
        )
        assert len(rows) == count


def test_the_text_of_the_prompts(catalog: Any, tmp_path: Path) -> None:
    """Read with one's own eyes: the layouts of the leaderboard."""
    shots = {name: _write(tmp_path / f"{name}-shots.jsonl", MAKE[name](100, n)) for name, n in SHOTS.items()}
    items = {name: _write(tmp_path / f"{name}.jsonl", make(0, 1)) for name, make in MAKE.items()}

    asked = _ours(catalog, "arc_challenge", items["arc_challenge"], shots["arc_challenge"])
    assert asked[0][0].endswith(f"\n\nQuestion: Why 0 {_words(0, 3)}?\nAnswer:")
    assert [c for _, c in asked] == [f" {_words(k, 1 + k % 4)} {k}" for k in range(4)]
    assert asked[0][0].count("Question: ") == 26
    assert re.fullmatch(r"Question: Why 1\d\d [a-z ]+\?\nAnswer: [a-z ]+ \d", asked[0][0].split("\n\n")[0])

    asked = _ours(catalog, "hellaswag", items["hellaswag"], shots["hellaswag"])
    assert asked[0][0].split("\n\n")[-1] == f"Jumping 0: How to jump 0. {_words(0, 3)}."
    assert asked[0][1] == f" {_words(0, 2)}. 0"
    assert len(asked[0][0].split("\n\n")) == 11

    asked = _ours(catalog, "mmlu", items["mmlu"], shots["mmlu"])
    world = next(prompt for prompt, _ in asked if "world_religions 0" in prompt)
    blocks = world.split("\n\n")
    assert blocks[0] == "The following are multiple choice questions (with answers) about world religions."
    assert [re.findall(r"^world_religions (\d+)", block)[0] for block in blocks[1:]] == ["100", "101", "102", "103", "104", "0"]
    choices = "\n".join(f"{letter}. {_words(100 + k, 2)} {k}" for k, letter in enumerate("ABCD"))
    assert blocks[1] == f"world_religions 100 {_words(100, 3)}?\n{choices}\nAnswer: C"
    assert blocks[-1].endswith("\nAnswer:")
    assert {continuation for _, continuation in asked} == {" A", " B", " C", " D"}

    asked = _ours(catalog, "truthfulqa", items["truthfulqa"], None)
    assert asked[0][0].startswith("Q: What is human life expectancy in the United States?\nA: ")
    assert asked[0][0].endswith(f"\n\nQ: What if 0 {_words(0, 2)}?\nA:")
    assert asked[0][0].count("Q: ") == 7
    assert asked[0][1] == f' {_words(0, 2)} isn\'t "0".'


# --- few-shot examples --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "count"), [("arc_challenge", 26), ("hellaswag", 11), ("mmlu", 6)])
def test_an_item_is_never_its_own_example(name: str, count: int, catalog: Any, tmp_path: Path) -> None:
    """With as few rows as can be, every other row is shown each time."""
    items = MAKE[name](0, count)
    asked = _ours(catalog, name, _write(tmp_path / "items.jsonl", items), None)
    assert len({prompt for prompt, _ in asked}) == len(items)
    marks = [f"Why {i} " if name == "arc_challenge" else f"jump {i}." for i in range(count)]
    if name == "mmlu":
        marks = [f"{subject} {i} " for subject in SUBJECTS for i in range(count)]
    shown = Counter(mark for mark in marks for prompt in {p for p, _ in asked} if mark in prompt)
    assert len(shown) == len(items)
    for prompt, _ in asked:
        assert max(prompt.count(mark) for mark in marks) == 1


def test_a_copy_of_an_item_is_not_its_example_either(catalog: Any, tmp_path: Path) -> None:
    items = _arc(0, 26)
    copy_of_first = {**_plain("arc_challenge", items[0]), "id": "another"}
    file = _write(tmp_path / "items.jsonl", [*items, copy_of_first])
    for seed in range(5):
        for prompt, _ in _ours(catalog, "arc_challenge", file, None, seed=seed, limit=1):
            assert prompt.count("Why 0 ") == 1


@pytest.mark.parametrize("name", SHOTS)
def test_items_that_are_examples_too_are_left_out_and_counted(name: str, catalog: Any, tmp_path: Path) -> None:
    shots = MAKE[name](100, SHOTS[name])
    file = _write(tmp_path / "items.jsonl", [*MAKE[name](0, 2), *(_plain(name, row) for row in shots[:1])])
    plan = open_llm.plan(name, file, _write(tmp_path / "shots.jsonl", shots), None, catalog)
    assert plan.excluded == 1
    assert sum(len(part.items) for part in plan.parts) == len(MAKE[name](0, 2))
    with pytest.raises(DataError, match=r"every item of .* is also in .*shots\.jsonl"):
        open_llm.plan(name, _write(tmp_path / "same.jsonl", shots), str(tmp_path / "shots.jsonl"), None, catalog)


def test_a_file_that_is_both_is_its_own_source_of_examples(catalog: Any, tmp_path: Path) -> None:
    file = _write(tmp_path / "items.jsonl", _arc(0, 30))
    same = str(tmp_path / ".." / tmp_path.name / "items.jsonl")
    assert _ours(catalog, "arc_challenge", file, same, limit=2) == _ours(catalog, "arc_challenge", file, None, limit=2)


@pytest.mark.parametrize("saved", [False, True])
def test_a_folder_of_several_splits_is_read_as_the_hub_is(saved: bool, catalog: Any, tmp_path: Path) -> None:
    import datasets

    splits = {"train": _arc(100, 30), "validation": _arc(200, 3), "test": [*_arc(0, 5), *_arc(100, 1)]}
    if saved:
        datasets.DatasetDict({split: datasets.Dataset.from_list(rows) for split, rows in splits.items()}).save_to_disk(tmp_path)
    else:
        for split, rows in splits.items():
            _write(tmp_path / f"{split}.jsonl", rows)
    folder = str(tmp_path)
    plan = open_llm.plan("arc_challenge", folder, None, None, catalog)
    (part,) = plan.parts
    assert (len(part.items), len(part.shots), part.own, plan.excluded) == (5, 30, False, 1)
    assert open_llm.plan("arc_challenge", folder, folder, None, catalog) == plan, "named for both, it is no file of its own examples"
    with pytest.raises(UsageError, match="its splits are test, train, validation, but mmlu needs dev; name the file"):
        open_llm.plan("mmlu", _write(tmp_path / "mmlu.jsonl", _mmlu(0, 1)), folder, None, catalog)


def test_a_folder_of_one_split_is_its_rows(catalog: Any, tmp_path: Path) -> None:
    """Whatever the split is called; and it is its own source of examples, named for them or not."""
    for i in range(2):
        _write(tmp_path / f"validation-{i}.jsonl", _arc(15 * i, 15))
    folder = str(tmp_path)
    (part,) = open_llm.plan("arc_challenge", folder, None, None, catalog).parts
    assert (len(part.items), len(part.shots), part.own) == (30, 30, True)
    assert open_llm.plan("arc_challenge", folder, folder, None, catalog).parts == [part]


@pytest.mark.parametrize(("name", "own", "others"), [("arc_challenge", 25, 24), ("hellaswag", 10, 10), ("mmlu", 5, 4)])
def test_too_few_examples(name: str, own: int, others: int, catalog: Any, tmp_path: Path) -> None:
    task = "mmlu_anatomy" if name == "mmlu" else name
    file = _write(tmp_path / "items.jsonl", MAKE[name](0, own))
    with pytest.raises(
        DataError, match=rf"items\.jsonl: {own} rows to draw examples of {task} from, at least {own + 1} are needed.*`fewshot`"
    ):
        open_llm.plan(name, file, None, None, catalog)
    shots = _write(tmp_path / "shots.jsonl", MAKE[name](100, others))
    with pytest.raises(DataError, match=rf"shots\.jsonl: {others} rows to draw examples of {task} from, at least {others + 1} are needed"):
        open_llm.plan(name, file, shots, None, catalog)
    assert _ours(catalog, name, file, _write(tmp_path / "shots.jsonl", MAKE[name](100, others + 1)))


def test_the_seed_picks_the_examples(catalog: Any, tmp_path: Path) -> None:
    file = _write(tmp_path / "items.jsonl", _hellaswag(0, 20))
    assert _ours(catalog, "hellaswag", file, None, seed=1) == _ours(catalog, "hellaswag", file, None, seed=1)
    assert _ours(catalog, "hellaswag", file, None, seed=1) != _ours(catalog, "hellaswag", file, None, seed=2)


@pytest.mark.parametrize("name", ["arc_challenge", "hellaswag"])
def test_the_first_examples_for_all(name: str, catalog: Any, tmp_path: Path) -> None:
    """`first_n` is lm-eval's sampler of that name: every prompt begins alike, and no example is kept in reserve."""
    items, shots = MAKE[name](0, 4), MAKE[name](100, open_llm.BENCHMARKS[name].shots)
    theirs = _requests(_stock(catalog, name, items, shots, tmp_path, 0, {"sampler": "first_n"}))
    files = _write(tmp_path / "items.jsonl", items), _write(tmp_path / "shots.jsonl", shots)
    plan = open_llm.plan(name, *files, None, catalog, "first_n")
    ours = _requests(open_llm.tasks(plan, catalog, 3))
    assert ours == theirs
    assert len({prompt.rsplit("\n\n", 1)[0] for prompt, _ in ours}) == 1
    drawn = [
        prompt.rsplit("\n\n", 1)[0] for prompt, _ in _ours(catalog, name, files[0], _write(tmp_path / "more.jsonl", MAKE[name](100, 40)))
    ]
    assert len(set(drawn)) == len(items)


@pytest.mark.parametrize("name", list(MAKE))
def test_rows_from_the_hub(name: str, catalog: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the names that lm-eval's own tasks have, with its splits; at a commit, where one is named."""
    import datasets

    items, shots = MAKE[name](0, 3), MAKE[name](100, SHOTS.get(name, 0))
    task = f"mmlu_{SUBJECTS[0]}" if name == "mmlu" else {"truthfulqa": "truthfulqa_mc2"}.get(name, name)
    any_rows = datasets.Dataset.from_list(MAKE[name](0, 1) * 30)
    any_splits = datasets.DatasetDict(dict.fromkeys(("train", "dev", "validation", "test"), any_rows))
    (stock,) = catalog.load({"group": "g", "task": [{"task": task, "custom_dataset": lambda **_: any_splits}]})["tasks"].values()
    hub, benchmark = open_llm.BENCHMARKS[name].hub, open_llm.BENCHMARKS[name]
    asked: list[Any] = []

    def load_dataset(*args: Any, **kwargs: Any) -> Any:
        asked.append((*args, kwargs))
        splits = {benchmark.item_split: items, "other": items[:1], **({benchmark.shot_split: shots} if benchmark.shot_split else {})}
        return datasets.DatasetDict({split: datasets.Dataset.from_list(rows) for split, rows in splits.items()})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    local = _ours(catalog, name, _write(tmp_path / "i.jsonl", items), _write(tmp_path / "s.jsonl", shots) if shots else None)
    assert _ours(catalog, name, f"{hub.path}@abc", None) == local
    assert {args[0] for args in asked} == {stock.config.dataset_path}
    assert {args[1] for args in asked} == {"all" if name == "mmlu" else stock.config.dataset_name}  # of MMLU every subject at once
    assert {args[2]["revision"] for args in asked} == {"abc"}
    assert (benchmark.item_split, benchmark.shot_split or None) == {
        "mmlu": (stock.config.test_split, stock.config.fewshot_split),
        "arc_challenge": (stock.config.test_split, stock.config.training_split),
    }.get(name, (stock.config.validation_split, stock.config.training_split))


# --- scores -------------------------------------------------------------------------------------------------------------


def test_scores_are_those_of_lm_eval(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, catalog: Any, tmp_path: Path) -> None:
    items = {"arc_challenge": _arc(0, 6), "hellaswag": _hellaswag(0, 6), "mmlu": _mmlu(0, 4), "truthfulqa": _truthfulqa(0, 6)}
    shots = {name: MAKE[name](100, n) for name, n in SHOTS.items()}
    planned = open_llm.plans(
        {name: _write(tmp_path / f"{name}.jsonl", rows) for name, rows in items.items()},
        fewshot={name: _write(tmp_path / f"{name}-shots.jsonl", rows) for name, rows in shots.items()},
        limit=None,
    )
    ours = open_llm.evaluate(model, tokenizer, planned, batch_size=3, seed=5, out=tmp_path / "ours")
    assert list(ours) == list(items)
    hflm = HFLM(pretrained=model, tokenizer=copy.deepcopy(tokenizer), batch_size=1)
    for name, metric in {"arc_challenge": "acc_norm", "hellaswag": "acc_norm", "truthfulqa": "acc"}.items():
        tasks = _stock(catalog, name, items[name], shots.get(name), tmp_path, seed=5)
        found = lm_evaluate(hflm, {"tasks": tasks}, log_samples=True)
        (theirs,) = found["results"].values()
        _as_lm_eval_saves(found, tmp_path / "theirs")
        assert ours[name]["value"] == pytest.approx(theirs[f"{metric},none"], abs=1e-6)
        assert ours[name]["stderr"] == pytest.approx(theirs[f"{metric}_stderr,none"], abs=1e-6)
        assert (ours[name]["n"], ours[name]["excluded"], ours[name]["truncated"]) == (6, 0, 0)
    assert [(r["metric"], r["num_fewshot"]) for r in ours.values()] == [("acc_norm", 25), ("acc_norm", 10), ("acc", 5), ("mc2", 0)]

    found = lm_evaluate(hflm, {"tasks": _stock(catalog, "mmlu", items["mmlu"], shots["mmlu"], tmp_path, seed=5)}, log_samples=True)
    theirs = found["results"]
    _as_lm_eval_saves(found, tmp_path / "theirs")
    by_subject = {task.removeprefix("mmlu_"): scores["acc,none"] for task, scores in theirs.items()}
    mmlu = ours["mmlu"]
    assert {s: r["value"] for s, r in mmlu["subjects"].items()} == by_subject
    assert mmlu["value"] == pytest.approx(statistics.fmean(by_subject.values()))
    assert mmlu["stderr"] == pytest.approx(math.sqrt(sum(r["acc_stderr,none"] ** 2 for r in theirs.values())) / 3)

    # the files of both come in again with the same scores, item by item
    again = open_llm.score_files([tmp_path / "ours"], against=[tmp_path / "theirs"])
    for name, one in again["benchmarks"].items():
        same = {key: ours[name][key] for key in one.keys() & ours[name].keys()}
        assert {key: one[key] for key in same} == same
        assert same.keys() >= {"value", "stderr", "ci95", "n", "metric", "num_fewshot", "sampler"}
        (gap,) = one["against"].values()
        assert gap["difference"] == pytest.approx(0, abs=1e-6) and gap["n"] == one["n"] == again["against"]["benchmarks"][name]["n"]
        assert one["read_from"] == "samples"
    assert list(again["benchmarks"]) == list(ours) and all("of 57 subjects" in text for text in again["warnings"])


def _as_lm_eval_saves(found: Any, folder: Path) -> None:
    from lm_eval.loggers import EvaluationTracker

    tracker = EvaluationTracker(output_path=str(folder))
    tracker.general_config_tracker.model_name_sanitized = "model"
    samples = found.pop("samples")
    tracker.save_results_aggregated(found, samples)
    for task, rows in samples.items():
        tracker.save_results_samples(task, rows)


def test_the_subjects_are_lm_evals(catalog: Any) -> None:
    stock = {task for task in catalog.all_subtasks if task.startswith("mmlu_")}
    assert {task for task in logged.TASKS if task.startswith("mmlu_")} == stock and len(logged.SUBJECTS) == 57


def test_answers_that_are_kept_are_not_computed_again(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut after its first part of five questions, taken up again: the same scores, and only the other parts are computed."""
    from zephyr.artifacts import draft
    from zephyr.evals.open_llm import scorer
    from zephyr.evals.open_llm.engine import Engine
    from zephyr.parts import Parts

    monkeypatch.setattr(scorer, "PART", 5)
    planned = open_llm.plans({"hellaswag": _write(tmp_path / "swag.jsonl", _hellaswag(0, 14))}, fewshot={}, limit=3)
    answers, keep, computed = Engine.answers, Parts.keep, list[int]()

    def counted(self: Engine, forest: Any, advance: Any) -> Any:
        computed.append(len(forest))
        return answers(self, forest, advance)

    def cut(self: Parts, part: int, result: Any) -> None:
        keep(self, part, result)
        raise KeyboardInterrupt

    def run(name: str) -> Any:
        computed.clear()
        with draft(tmp_path / name, stage="evaluate", key="k", config={}, parents={}) as out:
            return open_llm.evaluate(model, tokenizer, planned, keep=out.parts)

    monkeypatch.setattr(Engine, "answers", counted)
    whole = run("whole")
    assert computed == [5, 5, 2]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Parts, "keep", cut)
        run("cut")
    assert computed == [5]
    assert run("cut") == whole and computed == [5, 2]


def test_what_lm_eval_would_write(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """Samples line by line as its own writer has them; twice the same bytes."""
    from lm_eval.loggers import EvaluationTracker

    planned = open_llm.plans({"hellaswag": _write(tmp_path / "swag.jsonl", _hellaswag(0, 14))}, fewshot={}, limit=3)
    seen: list[Any] = []
    inner = outputs.write

    def spy(folder: Path, name: str, results: Any) -> None:
        inner(folder, name, results)
        seen.append(results)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outputs, "write", spy)
        for folder in ("one", "two"):
            scores = open_llm.evaluate(model, tokenizer, planned, out=tmp_path / folder)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["results_hellaswag.json", "samples_hellaswag.jsonl"]
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    results = json.loads((tmp_path / "one" / "results_hellaswag.json").read_text())["results"]["hellaswag"]
    assert results["acc_norm,none"] == pytest.approx(scores["hellaswag"]["value"])

    tracker = EvaluationTracker(output_path=str(tmp_path / "theirs"))
    tracker.general_config_tracker.model_name_sanitized, tracker.date_id = "model", "today"
    tracker.save_results_samples("hellaswag", copy.deepcopy(seen[0]["samples"]["hellaswag"]))
    theirs = (tmp_path / "theirs" / "model" / "samples_hellaswag_today.jsonl").read_text().splitlines()
    ours = (tmp_path / "one" / "samples_hellaswag.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in ours] == [json.loads(line) for line in theirs]
    assert len(ours) == 3


def test_what_is_no_number_is_not_written_and_where_files_lie_stands_nowhere(tmp_path: Path) -> None:
    sample = {
        "doc": {"q": "/is/part/of/an/item"},
        "arguments": [("a", "b")],
        "resps": [[(-1.0, True)]],
        "filtered_resps": [(-1.0, True)],
        "target": 0,
    }
    # places of somebody's machine, made up: none of them may be written
    kwargs = {"data_files": {"test": "/home/me/rows.jsonl", "train": ["rows.jsonl", "/x/two words.jsonl"]}, "cache_dir": Path("/tmp/cache")}
    texts = {"target_delimiter": "/", "description": "/a line\nand another", "doc_to_text": "/no_think {{q}}/{{a}}"}
    config = {"dataset_kwargs": kwargs, "metadata": {"version": 1.0, "config_source": "/x/lm_eval/t.yaml"}, **texts}
    whole = {"results": {"t": {"acc": 0.5}}, "configs": {"t": config}, "samples": {"t": [sample]}}
    outputs.write(tmp_path / "one", "t", whole)
    written = json.loads((tmp_path / "one" / "results_t.json").read_text())["configs"]["t"]
    assert written["dataset_kwargs"] == {
        "data_files": {"test": "rows.jsonl", "train": ["rows.jsonl", "two words.jsonl"]},
        "cache_dir": "cache",
    }
    assert written["metadata"] == {"version": 1.0, "config_source": "t.yaml"} and {key: written[key] for key in texts} == texts
    assert json.loads((tmp_path / "one" / "samples_t.jsonl").read_text())["doc"] == sample["doc"], "what was asked is as it was"
    for where, bad in (
        ("results_t.json", {**whole, "results": {"t": {"acc": math.nan}}}),
        ("samples_t.jsonl", {**whole, "samples": {"t": [{**sample, "acc": math.inf}]}}),
    ):
        with pytest.raises(NonFiniteError, match=f"{where}: not written: a number in it is NaN or infinite"):
            outputs.write(tmp_path / "two", "t", bad)
        assert not (tmp_path / "two").exists(), "half of it was written"


def _expected_mc2(nats: list[float], labels: list[int]) -> float:
    weights = [math.exp(x - max(nats)) for x in nats]
    return sum(w for w, label in zip(weights, labels, strict=True) if label) / sum(weights)


def test_scores_by_hand(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, catalog: Any, tmp_path: Path) -> None:
    """From the logits: length-normalised accuracy in characters, and the probability of true answers."""
    arc, truth = _arc(0, 8), _truthfulqa(0, 3)
    files = {"arc_challenge": _write(tmp_path / "arc.jsonl", arc), "truthfulqa": _write(tmp_path / "truth.jsonl", truth)}
    shots = _write(tmp_path / "shots.jsonl", _arc(100, 30))
    planned = open_llm.plans(files, fewshot={"arc_challenge": shots}, limit=None)
    scores = open_llm.evaluate(model, tokenizer, planned, batch_size=4)

    asked = iter(_ours(catalog, "arc_challenge", files["arc_challenge"], shots))
    right = []
    for row in arc:
        per_character = [_nats(model, tokenizer, *next(asked)) / len(text) for text in row["choices"]["text"]]
        right.append(row["choices"]["label"][per_character.index(max(per_character))] == row["answerKey"])
    assert 0 < sum(right) < len(right)
    assert scores["arc_challenge"]["value"] == sum(right) / len(right)
    assert scores["arc_challenge"]["stderr"] == pytest.approx(statistics.stdev(map(float, right)) / math.sqrt(8))

    asked = iter(_ours(catalog, "truthfulqa", files["truthfulqa"], None))
    shares = []
    for row in truth:
        labels = row["mc2_targets"]["labels"]
        shares.append(_expected_mc2([_nats(model, tokenizer, *next(asked)) for _ in labels], labels))
    assert scores["truthfulqa"]["value"] == pytest.approx(statistics.fmean(shares), abs=1e-5)


def test_mc2_of_answers_too_unlikely_for_a_float(catalog: Any, tmp_path: Path) -> None:
    rows = _truthfulqa(0, 1)
    plan = open_llm.plan("truthfulqa", _write(tmp_path / "truth.jsonl", rows), None, None, catalog)
    task = open_llm.tasks(plan, catalog, 0)["truthfulqa_mc2"]
    nats = [-2000.0, -2001.0, -2003.0]
    score = task.process_results(plan.parts[0].items[0], [(x, False) for x in nats])
    assert score == {"acc": pytest.approx(_expected_mc2(nats, rows[0]["mc2_targets"]["labels"]))}


def test_mmlu_weighs_subjects_equally_and_says_both() -> None:
    scores = {"mmlu_anatomy": [1.0, 1.0, 0.0, 1.0, 1.0, 1.0], "mmlu_virology": [0.0, 1.0]}
    summary = {**open_llm_scores.summary(scores), **open_llm_scores.by_item(scores)}
    assert summary["value"] == pytest.approx((5 / 6 + 1 / 2) / 2)
    assert summary["value_by_item"] == pytest.approx(6 / 8)
    assert summary["n"] == 8
    # variances with n - 1, over n, by hand: 5/36 * 6/5 / 6 = 1/36 and 1/4 * 2 / 2 = 1/4
    assert summary["stderr"] == pytest.approx(math.sqrt(1 / 36 + 1 / 4) / 2)
    assert summary["stderr_by_item"] == pytest.approx(math.sqrt(6 * 2 / 64 * 8 / 7 / 8))
    # 8 items of 2 subjects: 6 degrees of freedom, whose 97.5% point is 2.4469; what goes beyond 1 is cut
    assert summary["ci95"] == pytest.approx([max(0, 2 / 3 - 2.446912 * math.sqrt(1 / 36 + 1 / 4) / 2), 1.0], abs=1e-6)
    low, high = summary["ci95_by_item"]
    assert 0.3 < low < 0.75 < high < 1
    virology = summary["subjects"]["virology"]
    assert (virology["value"], virology["n"], virology["stderr"]) == (0.5, 2, 0.5)
    assert virology["ci95"][0] < 0.1 and virology["ci95"][1] > 0.9, "each subject has an interval of its own"
    assert open_llm_scores.summary({"mmlu_anatomy": [1.0], "mmlu_virology": [0.0, 1.0]})["stderr"] is None


def test_two_models_on_the_same_items() -> None:
    """By hand: what both find hard cancels; subjects weigh the same; where a subject has one item nothing is said."""
    one = {"mmlu_anatomy": [1.0, 1.0, 0.0, 1.0, 1.0, 1.0], "mmlu_virology": [0.0, 1.0]}
    other = {"mmlu_anatomy": [1.0, 1.0, 0.0, 1.0, 1.0, 0.0], "mmlu_virology": [0.0, 1.0]}
    found = open_llm.difference(one, other, ("a", "b"))
    assert found is not None and found["difference"] == pytest.approx(1 / 12) and found["n"] == 8
    assert found["paired_se"] == pytest.approx(math.sqrt(1 / 36) / 2)  # the other subject's differences are nought
    variances = (1 / 36 + 1 / 4, 2 / 9 * 6 / 5 / 6 + 1 / 4)
    assert found["unpaired_se"] == pytest.approx(math.sqrt(sum(variances)) / 2)
    assert found["ci95"] == pytest.approx([1 / 12 - 2.446912 / 12, 1 / 12 + 2.446912 / 12], abs=1e-6) and not found["told_apart"]
    assert found["in_words"].startswith("a and b cannot be told apart with 8 items: the difference is 8.3 [-12.1, 28.7]")
    same = open_llm.difference(one, one, ("a", "b"))
    assert same is not None and same["ci95"] is None and "the same value on each of 8 items" in same["in_words"]
    assert open_llm.difference({"x": [1.0]}, {"x": [0.0]}, ("a", "b")) is None


def test_limit(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, catalog: Any, tmp_path: Path) -> None:
    arc, mmlu = _write(tmp_path / "arc.jsonl", _arc(0, 26)), _write(tmp_path / "mmlu.jsonl", [*_mmlu(0, 8), *_mmlu(8, 1)[:1]])
    scores = open_llm.evaluate(model, tokenizer, open_llm.plans({"arc_challenge": arc, "mmlu": mmlu}, fewshot={}, limit=4))
    assert (scores["arc_challenge"]["n"], scores["mmlu"]["n"]) == (4, 4)
    assert {s: r["n"] for s, r in scores["mmlu"]["subjects"].items()} == {"anatomy": 2, "virology": 1, "world_religions": 1}
    first = _ours(catalog, "arc_challenge", arc, None, limit=4)
    assert len({prompt for prompt, _ in first}) == 4
    assert first == _ours(catalog, "arc_challenge", arc, None)[: len(first)]
    assert len(open_llm.plan("mmlu", mmlu, None, 2, catalog).parts) == 2
    assert sum(len(part.items) for part in open_llm.plan("mmlu", mmlu, None, 1000, catalog).parts) == 25


def test_prompts_longer_than_the_model_takes_are_counted(tokenizer: PreTrainedTokenizerFast, catalog: Any, tmp_path: Path) -> None:
    rows = _truthfulqa(0, 3)
    lengths = []
    for row in rows:
        asked = _ours(catalog, "truthfulqa", _write(tmp_path / "one.jsonl", [row]), None)
        lengths.append(max(len(tokenizer(prompt + answer)["input_ids"]) for prompt, answer in asked))
    file, longest = _write(tmp_path / "truth.jsonl", rows), sorted(lengths)
    assert len(set(lengths)) == 3
    planned = open_llm.plans({"truthfulqa": file}, fewshot={}, limit=None)
    for takes, lost in ((longest[2] - 1, 0), (longest[1] - 1, 1), (longest[0] - 2, 3)):  # the last token is predicted, not read
        model = tiny.tiny_model("llama", attention="sdpa", max_position_embeddings=takes)
        assert open_llm.evaluate(model, tokenizer, planned)["truthfulqa"]["truncated"] == lost


def test_a_broken_model_has_no_score(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    broken = tiny.tiny_model("llama", attention="sdpa", max_position_embeddings=8192)
    with torch.no_grad():
        broken.get_output_embeddings().weight[0, 0] = math.nan
    planned = open_llm.plans({"truthfulqa": _write(tmp_path / "truth.jsonl", _truthfulqa(0, 2))}, fewshot={}, limit=None)
    with pytest.raises(NonFiniteError, match=r"truthfulqa: log-likelihoods of \d+ of \d+ answers are not finite"):
        open_llm.evaluate(broken, tokenizer, planned)


# --- what it leaves behind ------------------------------------------------------------------------------------------------


def test_nothing_is_printed_cached_or_changed(
    model: PreTrainedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tiny.llama3_tokenizer()
    assert tokenizer.pad_token is None
    cache = Path(os.environ["HF_HOME"])
    before = sorted(cache.rglob("*"))
    handler = logging.StreamHandler(sys.stdout)
    logging.getLogger().addHandler(handler)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(progress, "QUIET_S", 0.0)  # these tasks are over before a line is due
    model.train()
    files = {"hellaswag": _write(tmp_path / "swag.jsonl", _hellaswag(0, 12)), "mmlu": _write(tmp_path / "mmlu.jsonl", _mmlu(0, 6))}
    try:
        scores = open_llm.evaluate(model, tokenizer, open_llm.plans(files, fewshot={}, limit=3))
        assert model.training
    finally:
        model.eval()
        logging.getLogger().removeHandler(handler)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert {line.split(":")[0].strip() for line in printed.err.splitlines()} == {"hellaswag", "mmlu"}  # one progress line a task
    assert tokenizer.pad_token is None
    assert sorted(cache.rglob("*")) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mmlu.jsonl", "swag.jsonl"]
    assert json.loads(json.dumps(scores)) == scores


# --- what is refused --------------------------------------------------------------------------------------------------------


def _change(name: str, **changes: Any) -> dict[str, Any]:
    return {**MAKE[name](0, 1)[0], **changes}


BAD: dict[str, tuple[str, Any, str]] = {
    "arc: a key that is no label": (
        "arc_challenge",
        _change("arc_challenge", answerKey="Z"),
        "`answerKey` is 'Z', but the labels are 1, 2, 3, 4",
    ),
    "arc: no key": ("arc_challenge", {k: v for k, v in _arc(0, 1)[0].items() if k != "answerKey"}, "`answerKey` is missing"),
    "arc: labels repeat": (
        "arc_challenge",
        _change("arc_challenge", choices={"text": ["a", "b"], "label": ["A", "A"]}),
        "2 texts and 1 different labels",
    ),
    "arc: an index past the end": (
        "arc_challenge",
        {"question": "q", "choices": ["a", "b"], "answer": 2},
        "`answer` is 2; it counts from 0, so 0 to 1",
    ),
    "arc: an index as text": ("arc_challenge", {"question": "q", "choices": ["a", "b"], "answer": "1"}, "`answer` is of type str"),
    "arc: an index as a truth value": (
        "arc_challenge",
        {"question": "q", "choices": ["a", "b"], "answer": True},
        "`answer` is of type bool",
    ),
    "arc: one choice": ("arc_challenge", {"question": "q", "choices": ["a"], "answer": 0}, "at least 2 were expected"),
    "arc: an empty choice": ("arc_challenge", {"question": "q", "choices": ["a", " "], "answer": 0}, "`choices[1]` is empty"),
    "arc: no question": ("arc_challenge", _change("arc_challenge", question=None), "`question` is missing"),
    "arc: an empty question": ("arc_challenge", _change("arc_challenge", question=" "), "`question` is empty"),
    "hellaswag: three endings": ("hellaswag", _change("hellaswag", endings=["a", "b", "c"]), "`endings` has 3 texts; 4 was expected"),
    "hellaswag: secret answers": ("hellaswag", _change("hellaswag", label=""), "use the validation split"),
    "hellaswag: a label past the end": ("hellaswag", _change("hellaswag", label=4), "`label` is 4"),
    "hellaswag: nothing but brackets": (
        "hellaswag",
        _change("hellaswag", endings=["a", "[step] ", "c", "d"]),
        "`endings[1]` is empty but for its brackets",
    ),
    "hellaswag: no context": ("hellaswag", _change("hellaswag", ctx_b=None), "`ctx_b` is missing"),
    "mmlu: five choices": ("mmlu", _change("mmlu", choices=["a"] * 5), "`choices` has 5 texts; 4 was expected"),
    "mmlu: a letter": ("mmlu", _change("mmlu", answer="B"), "`answer` is of type str; the number of the right choice"),
    "mmlu: no such subject": ("mmlu", _change("mmlu", subject="anatomie"), "'anatomie' is not a subject of MMLU; did you mean anatomy?"),
    "mmlu: choices of numbers": ("mmlu", _change("mmlu", choices=[1, 2, 3, 4]), "`choices[0]` is of type int"),
    "truthfulqa: labels are missing": (
        "truthfulqa",
        _change("truthfulqa", mc2_targets={"choices": ["a", "b"], "labels": [1]}),
        "a 0 (false) or 1 (true) for each",
    ),
    "truthfulqa: a label of 2": ("truthfulqa", _change("truthfulqa", mc2_targets={"a": 1, "b": 2}), "a 0 (false) or 1 (true) for each"),
    "truthfulqa: all true": ("truthfulqa", _change("truthfulqa", mc2_targets={"a": 1, "b": 1}), "are labelled 1; a true and a false one"),
    "truthfulqa: no targets": ("truthfulqa", {"question": "q", "mc1_targets": {"a": 1}}, "`mc2_targets` is missing"),
    "a list for a row": ("mmlu", ["a", "b"], "an object with named columns was expected, found list"),
}


@pytest.mark.parametrize(("name", "row", "message"), BAD.values(), ids=BAD)
def test_a_row_that_does_not_fit(name: str, row: Any, message: str, tmp_path: Path) -> None:
    good = MAKE[name](1, 1)
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps(r) for r in [*good, row, *good]))
    with pytest.raises(DataError, match=f"^{re.escape(str(file))}:{len(good) + 1}: .*{re.escape(message)}"):
        open_llm_items.read(name, DataSource(path=str(file)), subjects=SUBJECTS)


def test_files_that_do_not_fit(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    good = _write(tmp_path / "good.jsonl", _arc(0, 30))

    def run(benchmarks: dict[str, str], fewshot: dict[str, str] | None = None) -> list[open_llm.Plan]:
        return open_llm.plans(benchmarks, fewshot=fewshot or {}, limit=1)

    with pytest.raises(UsageError, match="arc: unknown benchmark; known are arc_challenge, hellaswag, mmlu, truthfulqa"):
        run({"arc": good})
    with pytest.raises(UsageError, match="truthfulqa: its prompt has fixed examples"):
        run({"truthfulqa": good}, {"truthfulqa": good})
    with pytest.raises(UsageError, match=r"nowhere\.jsonl: no such file"):
        run({"arc_challenge": str(tmp_path / "nowhere.jsonl")})
    with pytest.raises(UsageError, match=r"nobody/arc: no such file or folder; .* from a local file, or from allenai/ai2_arc on the hub"):
        run({"arc_challenge": "nobody/arc"})
    with pytest.raises(UsageError, match=r"nowhere\.jsonl: no such file"):
        run({"arc_challenge": good}, {"arc_challenge": str(tmp_path / "nowhere.jsonl")})
    with pytest.raises(DataError, match=r"empty\.jsonl: no items of mmlu in it"):
        run({"mmlu": _write(tmp_path / "empty.jsonl", [])})
    with pytest.raises(DataError, match=r"good\.jsonl:1: `activity_label` is missing|good\.jsonl:1: `endings` is missing"):
        run({"arc_challenge": good, "hellaswag": good})
    assert run({}) == [] and open_llm.evaluate(model, tokenizer, []) == {}


def test_a_tokenizer_that_ends_every_text(model: PreTrainedModel) -> None:
    from tokenizers import processors

    tokenizer = tiny.byte_tokenizer()
    eos = tokenizer.eos_token
    assert eos is not None
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {eos}", special_tokens=[(eos, tokenizer.eos_token_id)]
    )
    with pytest.raises(ModelError, match="it ends every text with EOS"):
        Scorer(model, tokenizer, 1, sys.stderr)


def test_without_lm_eval(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in [name for name in sys.modules if name.split(".")[0] == "lm_eval"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(ZephyrError, match=r"pip install 'zephyr-align\[eval\]'"):
        open_llm.plans({"arc_challenge": _write(tmp_path / "arc.jsonl", _arc(0, 30))}, fewshot={}, limit=None)


def test_another_version_of_lm_eval(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(harness, "VERSION", "0.4.0")
    with pytest.raises(
        ZephyrError, match=r"academic tasks are those of lm-eval 0\.4\.0, and 0\.4\.13 is installed: pip install lm-eval==0\.4\.0"
    ):
        open_llm.plans({"arc_challenge": _write(tmp_path / "arc.jsonl", _arc(0, 30))}, fewshot={}, limit=None)
