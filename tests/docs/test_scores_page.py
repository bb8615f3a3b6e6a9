"""The page on scores: every command of it runs on small files of ours, and the keys that it names stand in what comes out."""

from __future__ import annotations

import gzip
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import small
from zephyr.cli import main

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "scores.md").read_text(encoding="utf-8")
QUESTIONS = (81, 82, 101)


def judgments() -> list[dict[str, Any]]:
    return [
        {
            "question_id": q,
            "model": model,
            "judge": ["j", "p"],
            "user_prompt": f"{model} {q} {turn}",
            "judgment": f"Well.\nRating: [[{score + turn + q % 3}]]",
            "score": score + turn + q % 3,
            "turn": turn,
            "tstamp": 0,
        }
        for q in QUESTIONS
        for model, score in (("a", 5), ("b", 2 - q % 2))  # a is not better by the same on each, which would leave no interval
        for turn in (1, 2)
    ]


def pairs() -> list[dict[str, Any]]:
    row = {"model_1": "a", "model_2": "b", "judge": ["j", "p"], "tstamp": 0, "g1_judgment": "So.\n[[A]]", "g1_winner": "model_1"}
    second = {False: {"g2_judgment": "So.\n[[B]]", "g2_winner": "model_1"}, True: {"g2_judgment": "So.\n[[A]]", "g2_winner": "model_2"}}
    prompts = {"g1_user_prompt": "a one, b one, longer", "g2_user_prompt": "b one, longer, a one"}
    return [{**row, **prompts, **second[q == 82], "question_id": q, "turn": turn} for q in QUESTIONS for turn in (1, 2)]


def annotations(model: str, annotator: str) -> str:
    rows = [
        {
            "instruction": f"Say {n}.",
            "output_1": "plain",
            "output_2": f"{model} {'x' * n}",
            "generator_1": "base",
            "generator_2": model,
            "annotator": annotator,
            "dataset": "d",
            "preference": [1.0, 2.0, 1.5, 1.9][(n + len(model)) % 4],
        }
        for n in range(12)
    ]
    return json.dumps(rows)


def logged(right: tuple[int, ...]) -> list[dict[str, Any]]:
    doc = {"question": "q", "choices": ["a", "b", "c", "d"]}
    return [{"doc_id": i, "doc": {**doc, "question": f"q{i}"}, "target": "0", "acc": float(i in right)} for i in range(8)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    small.write_lines(tmp_path / "model_judgment" / "gpt-4_single.jsonl", judgments())
    small.write_lines(tmp_path / "model_judgment" / "gpt-4_pair.jsonl", pairs())
    for model in "ab":
        turns = {"a": ["one", "one"], "b": ["one, longer", "one, longer"]}[model]
        answers = [
            {"question_id": q, "model_id": model, "choices": [{"index": 0, "turns": [f"{model} {t}" for t in turns]}]} for q in QUESTIONS
        ]
        small.write_lines(tmp_path / "model_answer" / f"{model}.jsonl", answers)
        (tmp_path / model).mkdir()
        with gzip.open(tmp_path / model / "annotations.json.gz", "wt", encoding="utf-8") as file:
            file.write(annotations(model, "judge"))
    folder = tmp_path / "results" / "my-model" / "weighted_alpaca_eval_gpt4_turbo"
    folder.mkdir(parents=True)
    (folder / "annotations.json").write_text(annotations("my-model", folder.name))
    for model, right in (("a", (0, 1, 2, 5)), ("b", (0, 5, 6))):
        for subject in ("anatomy", "virology"):
            small.write_lines(tmp_path / "lm_eval" / model / f"samples_mmlu_{subject}_2026-11-22T10-00-00.123456.jsonl", logged(right))
    (tmp_path / "leaderboard.csv").write_text(",win_rate,standard_error,n_total\nmy-model,61.0,5.0,12\nother,50.0,5.0,12\n")
    return tmp_path


def zephyr(command: str) -> None:
    name, *arguments = shlex.split(command, comments=True)
    assert name == "zephyr"
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert not end.value.code, command


def test_every_command(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands = [line for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) for line in block.splitlines()]
    assert len(commands) == 5
    said = {}
    for command in commands:
        zephyr(command)
        said[command] = capsys.readouterr().out
    single, paired, board, against, academic = said.values()
    assert "a is better than b" in single and "wins" in paired and "both orders agree" in paired and "longer answer wins" in paired
    assert "my-model" in board and "61.0" in board
    assert json.loads(against)["against"]["model"] == "b"
    assert json.loads(academic)["benchmarks"]["mmlu"]["against"]["b"]["difference"] == 1 / 8


def keys_of(heading: str) -> set[str]:
    """The keys in the first column of the table under a heading."""
    (part,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return {key for line in part.splitlines() if line.startswith("| `") for key in re.findall(r"`(\w+)`", line.split("|")[1])}


def test_the_keys_are_there(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zephyr("zephyr score mt-bench model_judgment/gpt-4_single.jsonl --json")
    assert keys_of(r"MT-Bench: .*") <= set(json.loads(capsys.readouterr().out)["a"])
    zephyr("zephyr score mt-bench model_judgment/gpt-4_pair.jsonl --answers model_answer/a.jsonl --answers model_answer/b.jsonl --json")
    found = json.loads(capsys.readouterr().out)["a"]
    assert {"win_rate", "wins", "losses", "ties", "order", "longer_wins"} <= set(found)
    assert {"consistent", "first_shown_wins", "first_both_times"} <= set(found["order"])
    zephyr(
        "zephyr score alpaca-eval results/my-model/weighted_alpaca_eval_gpt4_turbo/annotations.json --leaderboard leaderboard.csv --json"
    )
    assert keys_of("AlpacaEval") <= set(json.loads(capsys.readouterr().out))
    zephyr("zephyr score open-llm lm_eval/a --against lm_eval/b --json")
    found = json.loads(capsys.readouterr().out)
    mmlu = found["benchmarks"]["mmlu"]
    named = set(re.findall(r"`(\w+)`", PAGE.split("## Academic tasks")[1].split("\n## ")[0].split("\n\n")[2]))
    named -= {"null", "arc_challenge", "hellaswag", "mmlu", "truthfulqa"}
    assert len(named) == 18 and named <= {*found, *mmlu, *mmlu["subjects"]["anatomy"], *mmlu["against"]["b"], *found["against"]}
    small.write_lines(
        place / "r.jsonl",
        [{"key": 1, "prompt": "p", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}], "response": "No"}],
    )
    zephyr("zephyr score ifeval r.jsonl --json")
    assert keys_of("IFEval and preference sets") <= set(json.loads(capsys.readouterr().out))
