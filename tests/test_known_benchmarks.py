"""Benchmarks by the names that they go by: what a command line or a recipe says, and where it is looked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zephyr import api, sources
from zephyr.errors import DataError, UsageError
from zephyr.recipe import DataSource, Recipe, build, known
from zephyr.text.contamination import Benchmarks

MINIMAL: dict[str, Any] = {"name": "x", "model": {"path": "m"}}
ITEM = "Which of the four lamps in the cellar was lit by the keeper on the night of the great storm of that year?"


def test_names_files_and_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names with commas, groups, files by their own names, names that are given, hub names with a commit."""
    monkeypatch.chdir(tmp_path)
    for name in ("mine.v2.jsonl.gz", "a,b.json", "arc"):
        (tmp_path / name).write_text("")
    assert list(known.named(["mt-bench,gsm8k", "open-llm"])) == ["mt-bench", "gsm8k", "arc", "hellaswag", "mmlu", "truthfulqa"]
    assert known.named(["mt-bench"]) == {"mt-bench": known.HUB["mt-bench"]}
    assert known.named(["mine.v2.jsonl.gz", "a,b.json"]) == {"mine.v2": {"path": "mine.v2.jsonl.gz"}, "a,b": {"path": "a,b.json"}}
    assert known.named(["arc"]) == {"arc": {"path": "arc"}}, "a file of that name is meant"
    assert known.named(["held=mmlu", "org/set@abc"]) == {"held": known.HUB["mmlu"], "set@abc": {"path": "org/set", "revision": "abc"}}
    assert known.named(["mt-bench,mine=mine.v2.jsonl.gz,gsm8k"]) == {
        "mt-bench": known.HUB["mt-bench"],
        "mine": {"path": "mine.v2.jsonl.gz"},
        "gsm8k": known.HUB["gsm8k"],
    }
    assert known.named(["mine=a,b.json"]) == {"mine": {"path": "a,b.json"}}
    for nothing in ("", ",", "mt-bench,"):
        with pytest.raises(UsageError, match="a name is empty"):
            known.named([nothing])
    with pytest.raises(UsageError, match=r"mtbench: neither a known benchmark \(mt-bench, .*open-llm\) nor a file"):
        known.named(["mtbench"])
    with pytest.raises(UsageError, match="mine: two benchmarks of this name"):
        known.named(["mine=a.jsonl", "mine=b.jsonl"])
    with pytest.raises(UsageError, match="NAME=FILE was expected"):
        known.named(["=a.jsonl"])


def test_a_recipe_names_them_in_a_list_or_one_by_one() -> None:
    listed = build(Recipe, {**MINIMAL, "benchmarks": ["mt-bench", "gsm8k"]}, {}, "here")
    one_by_one = build(Recipe, {**MINIMAL, "benchmarks": {"mt-bench": "mt-bench", "gsm8k": known.HUB["gsm8k"]}}, {}, "here")
    assert listed.benchmarks == one_by_one.benchmarks == {name: DataSource(**known.HUB[name]) for name in ("mt-bench", "gsm8k")}
    with pytest.raises(UsageError, match="benchmarks"):
        build(Recipe, {**MINIMAL, "benchmarks": ["no-such"]}, {}, "here")


def test_what_the_hub_has_is_looked_for_in_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the command's words to a dialogue left out: the split that is measured on, and a single file of a data set."""
    import datasets
    import huggingface_hub

    asked: list[tuple[Any, ...]] = []

    def load_dataset(path: str, subset: str | None, revision: str | None) -> dict[str, list[dict[str, Any]]]:
        asked.append((path, subset, revision))
        return {"train": [{"question": "What may be learnt from?"}], "test": [{"question": ITEM}]}

    def download(repo: str, file: str, *, repo_type: str, revision: str | None) -> str:
        asked.append((repo, file, repo_type, revision))
        (tmp_path / "set.json").write_text(json.dumps([{"instruction": "Name the seven lamps of the old harbour."}]))
        return str(tmp_path / "set.json")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    texts = [ITEM, "What may be learnt from?", "Name the seven lamps of the old harbour.", "What is a fern?"]
    rows = [{"messages": [{"role": "user", "content": t}, {"role": "assistant", "content": "It is a small thing."}]} for t in texts]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = api.stage("curate", "curate", {"dialogues": [str(tmp_path / "rows.jsonl")]}, tmp_path / "out", against=["gsm8k,alpaca-eval"])
    assert sum(found["rows"].values()) == 2
    assert sum(n for reason, n in found["dropped"].items() if "benchmark" in reason) == 2, found["dropped"]
    assert set(asked) == {("openai/gsm8k", "main", None), ("tatsu-lab/alpaca_eval", "alpaca_eval.json", "dataset", None)}
    whole = Benchmarks.read({"all": DataSource(path="openai/gsm8k", subset="main")})
    assert whole.items == ["What may be learnt from?", ITEM]


def test_a_file_on_the_hub_that_is_not_given_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def download(*_: Any, **__: Any) -> str:
        raise OSError("offline")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(DataError, match=r"^hf://datasets/o/n/f.json: the hub did not give us this file \(OSError: offline\)"):
        list(sources.rows(DataSource(path="hf://datasets/o/n/f.json")))
    for wrong in ("hf://datasets/o/n", "hf://datasets/o/n/f.csv"):
        with pytest.raises(UsageError, match="OWNER/NAME/FILE was expected"):
            sources.resolve(wrong)
