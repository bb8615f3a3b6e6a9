"""A whole run in seconds: a tiny random model, a dozen dialogues, ten prompts with four rated answers, and their recipe."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import tiny
from zephyr.records import ASPECTS, prompt_id_of
from zephyr.train import precision

STAGES = ["curate", "sft", "complete", "rate", "binarize", "reference", "dpo", "evaluate", "report"]
POOL = ("amber", "birch", "cedar", "dune")

QUESTIONS = [
    ("Why is the sky blue?", "Air scatters short waves of light more than long ones, and blue is short."),
    ("Name three things to buy.", "Bread, milk and eggs."),
    ("Add one and two.", "One and two are three."),
    ("What does a fox do?", "It jumps over the lazy dog, who does not mind at all."),
    ("Is the answer yes?", "I think so, but I am not sure."),
    ("Write a line of Python.", "print(add(1, 2))  # prints 3"),
    ("How many days has a year?", "365, and one more every fourth year."),
    ("Should I see a doctor?", "If it hurts, yes: I am not one."),
    ("Say hello.", "Hello! Hi there."),
    ("What is the weather like today?", "I cannot know that; look out of the window."),
    ("Thank you.", "You are welcome."),
    ("What is a list?", "Several things, one after the other."),
]
# four answers a prompt, from good to bad; what each is worth on the four aspects and over all
GRADES = {"amber": (5, 5, 5, 5, 9), "birch": (4, 4, 4, 4, 7), "cedar": (3, 2, 3, 3, 4), "dune": (1, 2, 1, 1, 2)}
SPOILT = {"amber": "{}", "birch": "{} That is all.", "cedar": "I think it is this: {} Or not.", "dune": "The answer is no."}


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def dialogues() -> list[dict[str, Any]]:
    """A third of them have two exchanges, one has a system turn."""
    rows = []
    for i, (question, answer) in enumerate(QUESTIONS):
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        if i % 3 == 1:
            turns += [{"role": "user", "content": "Are you sure?"}, {"role": "assistant", "content": "Yes, I am sure of that."}]
        if i == 4:
            turns = [{"role": "system", "content": "You are a model."}, *turns]
        rows.append({"prompt": question, "prompt_id": prompt_id_of(question), "messages": turns, "category": "plain" if i % 2 else "other"})
    return rows


def feedback() -> list[dict[str, Any]]:
    rows = []
    for i, (question, answer) in enumerate(QUESTIONS[:10]):
        prompt = f"{question} Be brief."
        completions = [_completion(model, SPOILT[model].format(answer)) for model in (*POOL[i % 4 :], *POOL[: i % 4])]
        rows.append(
            {"prompt": prompt, "prompt_id": prompt_id_of(prompt), "category": "plain" if i % 2 else "other", "completions": completions}
        )
    return rows


def _completion(model: str, response: str) -> dict[str, Any]:
    *aspects, overall = GRADES[model]
    return {
        "model": model,
        "response": response,
        "annotations": {name: {"rating": r, "rationale": f"It is worth {r}."} for name, r in zip(ASPECTS, aspects, strict=True)},
        "overall_score": overall,
        "critique": "Short, and that is all there is to say of it.",
    }


def model_folder(path: Path, **overrides: Any) -> Path:
    """A plain folder of a random Llama and a byte-level tokenizer without a chat template."""
    tiny.tiny_model(attention="sdpa", **overrides).save_pretrained(path)
    tiny.byte_tokenizer(template=None).save_pretrained(path)
    return path


def recipe(folder: Path, model: Path) -> dict[str, Any]:
    """The recipe of a run on data written into `folder`; float32, so that nothing is measured."""
    lines, rated = dialogues(), feedback()
    train, test = (str(write_lines(folder / f"dialogues-{s}.jsonl", rows)) for s, rows in (("train", lines[:8]), ("test", lines[8:])))
    ask, ask_test = (str(write_lines(folder / "feedback" / f"{s}.jsonl", rows)) for s, rows in (("train", rated[:6]), ("test", rated[6:])))
    replay = {"kind": "replay", "path": str(folder / "feedback")}
    return {
        "name": "small",
        "seed": 3,
        "model": {"path": str(model)},
        "train": {"dtype": "float32", "micro_batch_tokens": 256},
        "curate": {"data": [{"path": train, "split": "train"}, {"path": test, "split": "test"}]},
        "sft": {"batch_size": 2, "max_length": 128, "learning_rate": 1e-3},
        "complete": {
            "prompts": [{"path": ask, "split": "train"}, {"path": ask_test, "split": "test"}],
            "pool": {name: dict(replay) for name in POOL},
        },
        "rate": {"teacher": dict(replay)},
        "binarize": {},
        "dpo": {"batch_size": 3, "learning_rate": 1e-3},
        "evaluate": {"samples": 2, "max_new_tokens": 6},
    }


def write_recipe(path: Path, value: Mapping[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(dict(value), sort_keys=False), encoding="utf-8")
    return path


def contents(folder: Path, *, without: tuple[str, ...] = ()) -> dict[str, bytes]:
    """Every file under a folder, by its path."""
    files = [p for p in folder.rglob("*") if p.is_file() and p.name not in without]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def leftovers(folder: Path) -> list[str]:
    """What a stage that failed must not leave behind."""
    return sorted(p.name for p in folder.rglob("*") if p.name.endswith((".partial", ".stale", ".lock")))


def faster(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    """What `train.dtype: auto` finds from now on, as in a process that has just begun."""
    rates = {other: 2e9 if other == dtype else 1e9 for other in (torch.float32, torch.bfloat16)}
    monkeypatch.setattr(precision, "matmul_rates", lambda *_: rates)
    monkeypatch.setattr(precision, "_fastest", functools.cache(precision._fastest.__wrapped__))
