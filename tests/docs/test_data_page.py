"""The examples of the page on data are read as it says, and the mixture is one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import small
from zephyr import sources
from zephyr.artifacts import draft
from zephyr.recipe import CurateConfig, build
from zephyr.records import parse_prompt
from zephyr.settings import parse_yaml

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data.md"
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def section(example: str) -> CurateConfig:
    values, lines = parse_yaml(example, "docs/data.md")
    return build(CurateConfig, values, lines, "docs/data.md")


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_a_list_of_sources(example: str) -> None:
    assert section(example).data


def test_the_mixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = [text for text in EXAMPLES if "weight" in text]
    for name, count in (("long", 20), ("short", 200), ("test", 10)):
        small.write_lines(tmp_path / "dialogues" / f"{name}.jsonl", ({"prompt": f"{name} {i}"} for i in range(count)))
    monkeypatch.chdir(tmp_path)
    with draft(tmp_path / "out", stage="s", key="k", config={}, parents={}) as out:
        found = sources.collect(section(example).data, parse_prompt, out, invalid="error", test_fraction=0.1)
    prompts = {split: [item.record.prompt.split()[0] for item in items] for split, items in found.items()}
    assert prompts["test"] == ["test"] * 10
    assert prompts["train"].count("long") == 20 and 30 <= prompts["train"].count("short") <= 70  # 50 expected
    assert out.manifest.notes == [
        f"dialogues/short.jsonl: {220 - len(prompts['train'])} train rows were left out, for its weight in the mixture is 0.25."
    ]


def test_what_it_says_of_names(tmp_path: Path) -> None:
    names = ["train_sft-00000-of-00003.jsonl", "data/train_sft-00001-of-00003.jsonl", "test.jsonl"]
    assert "`validation/0.jsonl`" in PAGE.read_text(encoding="utf-8")
    for i, name in enumerate(names):
        small.write_lines(tmp_path / name, [{"prompt": str(i)}])
    from zephyr.recipe import DataSource

    found = {row["prompt"]: split for _, split, row in sources.rows(DataSource(path=str(tmp_path)))}
    assert found == {"0": "train", "1": "train", "2": "test"}
