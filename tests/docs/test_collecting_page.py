"""The page on collecting feedback: its recipe is one, and its commands do what it says, against a server on loopback."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from misbehaving import judge_or_answer, serving
from zephyr import api, recipe
from zephyr.artifacts import Artifact
from zephyr.cli import main

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "collecting.md").read_text(encoding="utf-8")


def test_the_recipe_and_its_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (text,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    commands = re.findall(r"^zephyr (.*)$", PAGE, re.MULTILINE)
    assert commands == ["plan feedback.yaml", "run feedback.yaml --until binarize"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOME_API_KEY", "k-123")
    (tmp_path / "prompts.jsonl").write_text("".join(f'{{"prompt": "What is {i} good for?"}}\n' for i in range(30)))
    with serving(answer=judge_or_answer) as running:
        running.book.keep_bodies = True
        (tmp_path / "feedback.yaml").write_text(re.sub(r"http://localhost:800\d/v1", running.url, text))
        for command in commands:
            with pytest.raises(SystemExit) as end:
                main(command.split())
            assert end.value.code == 0
        assert "complete  mine" in (said := capsys.readouterr().out) and "at most" in said
        assert {b["model"] for b in running.book.bodies.values()} == {"my-model", "some-model-2026", "some-judge-2026"}
        rated = [b for b in running.book.bodies.values() if b["model"] == "some-judge-2026"]
        assert all(b["response_format"]["json_schema"]["strict"] and b["temperature"] == 0.0 for b in rated)
        assert {h.get("authorization") for h in running.book.headers} == {None, "Bearer k-123"}
    rows = [r for split in ("train", "test") for r in Artifact.open(tmp_path / "runs/feedback/complete").rows(split)]
    principles = {c["principle"] for r in rows for c in r["completions"]}
    assert principles == {"helpfulness", "honesty"} and all(c["system_prompt"] for r in rows for c in r["completions"])


def test_the_states_are_those_of_the_journal() -> None:
    from zephyr.teachers.journal.tables import MIGRATIONS

    (allowed,) = re.findall(r"state IN \((.*?)\)", MIGRATIONS[0])
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)) == set(re.findall(r"\w+", allowed))


def test_every_setting_that_it_names_is_one() -> None:
    values = yaml.safe_load(re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[0])
    assert recipe.build(recipe.Recipe, values, {}, "page")
    known = {name for section in (recipe.APIConfig, recipe.LimitsConfig, recipe.RateConfig) for name in section.model_fields}
    for name in ("extra", "length_field", "max_unparsed", "patience_s", "structured_output", "unknown"):
        assert name in known and name in PAGE
    assert api.plan
