"""What the page on curation shows works as it says."""

from __future__ import annotations

import json
import random
import re
import shlex
from pathlib import Path

import pytest
import yaml

from curating import dialogues, lines
from zephyr.cli import main
from zephyr.recipe import CurateConfig, build

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "curation.md").read_text(encoding="utf-8")


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    rng, rows = random.Random(0), dialogues(120)
    for row in rows:  # what a filter on languages takes for English
        for message in row["messages"]:
            message["content"] = (
                " ".join(
                    rng.choice(["the", "river", "is", "long", "and", "we", "walked", "to", "it", "with", "some", "bread", "in", "hand"])
                    for _ in range(25)
                )
                + "."
            )
    lines(Path("raw.jsonl"), rows)
    lines(Path("bench.jsonl"), [{"prompt": rows[3]["messages"][0]["content"]}])
    (block,) = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    sampled, whole = block.splitlines()
    for command in (sampled, whole):
        with pytest.raises(SystemExit) as end:
            main(shlex.split(command)[1:])
        assert end.value.code == 0, capsys.readouterr().err
        assert Path("curated").exists() == (command == whole)
        out = capsys.readouterr().out
    found = json.loads(out)
    assert sum(found["rows"].values()) + sum(found["dropped"].values()) == found["rows_in"] == 120
    assert found["dropped"]["in the benchmark mine (exact)"] == 1 and sum(found["rows"].values()) == 60
    reasons = [json.loads(line)["reason"] for line in Path("curated/dropped/dropped.jsonl").read_text().splitlines()]
    assert {reason: reasons.count(reason) for reason in reasons} == found["dropped"]


def test_the_recipe_and_the_numbers() -> None:
    (example,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    config = build(CurateConfig, yaml.safe_load(example)["curate"], {}, "docs/curation.md")
    assert config.near_prompts and config.near_dialogues and config.near_prompts.ngram == 3 and config.near_dialogues.ngram == 5
    assert f"({config.near_prompts.bands}) bands" in PAGE and f"`rows` ({config.near_prompts.rows})" in PAGE
    for s, said in re.findall(r"(0\.\d+) at (0\.\d)", PAGE):
        assert round(1 - (1 - float(said) ** 6) ** 20, len(s) - 2) == float(s)
