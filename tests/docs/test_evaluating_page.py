"""The page on benchmarks: its commands run, on tiny models and against a judge on loopback; its recipes are recipes."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import small
import tiny
from misbehaving import answer_to, serving
from zephyr.cli import main
from zephyr.recipe import Recipe, build
from zephyr.settings import parse_yaml

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "evaluating.md").read_text(encoding="utf-8")
IFEVAL = [{"key": i, "prompt": f"Say {i}.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]} for i in range(3)]
PAIRS = [{"prompt": question, "chosen": answer, "rejected": "No."} for question, answer in small.QUESTIONS[:5]]
ARC = [{"question": f"Which is {i}?", "choices": [f"{i}", "none"], "answer": 0} for i in range(32)]
TRUTH = [{"question": "Is it?", "mc2_targets": {"Yes.": 1, "No.": 0}}]
QUESTIONS = [{"question_id": 81 + i, "category": "writing", "turns": ["Write.", "Again."]} for i in range(2)]
REFERENCES = [{"question_id": 101, "model_id": "r", "choices": [{"index": 0, "turns": ["a", "b"]}]}]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def commands(block: str) -> list[list[str]]:
    return [shlex.split(line, comments=True)[1:] for line in block.splitlines()]


def zephyr(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert not end.value.code, arguments


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, seed in (("models/dpo", 1), ("models/sft", 2), ("runs/mine/dpo", 1)):
        tiny.tiny_model(attention="sdpa", seed=seed).save_pretrained(tmp_path / name)
        tiny.byte_tokenizer().save_pretrained(tmp_path / name)
    files = {
        "prompts.jsonl": IFEVAL,
        "pairs.jsonl": PAIRS,
        "llmbar.jsonl": PAIRS,
        "arc.jsonl": ARC[:2],
        "shots.jsonl": ARC[2:],
        "truthfulqa.jsonl": TRUTH,
        "question.jsonl": QUESTIONS,
        "reference_answer/gpt-4.jsonl": REFERENCES,
    }
    for name, rows in files.items():
        small.write_lines(tmp_path / name, rows)
    (tmp_path / "text_davinci_003").mkdir()
    outputs = [{"instruction": "Say one.", "output": "One.", "generator": "davinci"}]
    (tmp_path / "text_davinci_003" / "model_outputs.json").write_text(json.dumps(outputs))
    return tmp_path


def test_without_a_judge(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("lm_eval", reason="the extra `eval` is not installed")
    first, second = commands(blocks("sh")[0])
    zephyr([*first, "judge.ifeval.max_new_tokens=4", "train.dtype=float32"])
    said = capsys.readouterr().out
    assert "ifeval, dpo: " in said and "preferences pairs: 5 pairs" in said and "dpo is set against sft" in said
    zephyr([*second, "train.dtype=float32", "--limit", "1"])
    said = capsys.readouterr().out
    assert "arc_challenge, dpo: " in said and "25 examples drawn" in said and "truthfulqa, dpo: " in said


def test_with_a_judge(place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "k-123")
    (recipe,) = [block for block in blocks("yaml") if block.startswith("# judges.yaml")]
    look, whole = commands(blocks("sh")[1])
    assert "--limit" in look and "all" in whole

    def judge(messages: list[dict[str, str]]) -> str:
        told = messages[0]["content"]
        return "Well.\n[[4]]" if told.startswith("Judge") else "Well.\n[[B]]" if told.startswith("You compare") else answer_to(messages)

    with serving(answer=judge) as running:
        (place / "judges.yaml").write_text(recipe.replace("https://HOST/v1", running.url))
        short = ["judge.mt_bench.max_new_tokens=3", "judge.alpaca_eval.max_new_tokens=3", "train.dtype=float32"]
        zephyr([*look, *short])
        zephyr([*whole, *short])
    said = capsys.readouterr().out
    assert said.count("mt-bench, dpo: 4.00 of 10") == 2 and "alpaca-eval, dpo: 50.00%" in said


def test_its_recipes_are_recipes(place: Path) -> None:
    found: list[dict[str, Any]] = []
    for block in blocks("yaml"):
        values, lines = parse_yaml(block, "page")
        assert isinstance(values, dict)
        build(Recipe, {"name": "page", "model": {"path": "m"}, **values}, lines, "page")
        found.append(values)
    assert len(found) == 3 and found[0]["evaluate"]["sampler"] == "first_n"


def test_the_files_that_it_names_are_written(place: Path) -> None:
    """Every name in the table is one that a stage writes."""
    named = re.findall(r"^\| `((?:answer|judge|evaluate)/data/[^`]+)`", PAGE, re.MULTILINE)
    sources = "".join((Path(__file__).resolve().parents[2] / "src" / "zephyr" / name).read_text() for name in (
        "stages/answer.py", "stages/judge.py", "stages/evaluate.py", "evals/judged.py", "evals/preference_runs.py"
    ))  # fmt: skip
    for name in named:
        file = Path(name).name.replace("MODEL", "{model}").replace("SET", "{name}")
        assert file in sources or file.startswith("ifeval."), name
    assert len(named) == 10
