"""The page on synthesis: its recipe is one, and its commands do what it says, against scripted teachers on loopback."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from misbehaving import serving
from scripted import SOME, teacher
from zephyr import recipe
from zephyr.artifacts import Artifact
from zephyr.cli import main
from zephyr.stages import synthesize
from zephyr.synthesis import openings, rows, steps, texts, turns

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "synthesis.md").read_text(encoding="utf-8")


def test_the_recipe_and_its_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (text,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    commands = re.findall(r"^zephyr (.*)$", PAGE, re.MULTILINE)
    assert len(commands) == 3
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOME_API_KEY", "k-123")
    (tmp_path / "texts").mkdir()
    for i in range(4):
        (tmp_path / "texts" / f"{i}.md").write_text(f"# Text {i}\n\n" + f"Moss grows on the stone number {i}, slowly. " * 8)
    (tmp_path / "seeds.jsonl").write_text("".join(f'{{"prompt": "What is {w} good for?"}}\n' for w in ("moss", "rust", "salt")))
    kept = []
    with serving(answer=teacher(SOME)) as running:
        (tmp_path / "dialogues.yaml").write_text(re.sub(r"http://localhost:800\d/v1", running.url, text))
        for command in [*commands, "synthesize --recipe dialogues.yaml --out runs/dialogues/alone world.count=60"]:
            with pytest.raises(SystemExit) as end:
                main(command.split())
            assert end.value.code == 0
            if command.startswith("run"):
                made = Artifact.open(tmp_path / "runs/dialogues/synthesize")
                kept.append({row["place"]: row["messages"] for split in made.splits() for row in made.rows(split)})
                asked = running.book.sent.total()
        assert running.book.sent.total() == asked, "the same, beside the same journal, is asked for nothing"
    assert "synthesize  assistant" in (said := capsys.readouterr().out) and "tokens sent" in said
    assert len(kept[1]) > len(kept[0]) > 60 and {place: kept[1][place] for place in kept[0]} == kept[0]
    with pytest.raises(SystemExit) as end:
        main(["synthesize", "--copy-prompts", "mine"])
    assert end.value.code == 0 and texts.load(tmp_path / "mine") == texts.load()


def test_its_reasons_columns_and_figures_are_those_there_are() -> None:
    reasons = set(re.findall(r"`([^`]+)`", "".join(re.findall(r"^\| (`.*?) \| ", PAGE.partition("## What is set aside")[2], re.MULTILINE))))
    fixed = {turns.EMPTY, turns.FLIPPED, turns.AGAIN, turns.THANKS, turns.ENDED, turns.CUT, steps.REFUSED, steps.LOST, steps.WITHHELD}
    read = {"list of … that cannot be read", "instruction that cannot be read"}
    assert reasons == fixed | read | {openings.SHORT, synthesize.NEAR}
    assert all(f"`{name}`" in PAGE for name in rows.LINEAGE)
    known = texts.load().lists
    for name, count in (("topics", "30 topics"), ("entities", "104 things"), ("writing_types", "20 kinds")):
        assert len(known[name]) == int(count.split()[0]) and count in PAGE
    assert len(known["refinements"]) == 8 and len(known["materials_layout"]) == 4 and len(known["entity_questions"]) == 5
    fields = {n for s in (recipe.SynthesizeConfig, recipe.WorldConfig, recipe.WritingConfig) for n in s.model_fields}
    assert {"prompts", "existing", "max_rejected", "max_similarity", "cut_turns", "related", "expanded", "entities"} <= fields
