"""The commands of the page on the report run as they stand there, on two real runs."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

import zephyr
from zephyr.cli import main
from zephyr.cli.base import app
from zephyr.report import plots

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "report.md").read_text(encoding="utf-8")
DEMO = Path(zephyr.__file__).parent / "demo" / "feedback"
WORDS = "90 km/h"  # of one prompt of the demo


def test_the_words_that_are_followed_are_of_one_prompt_of_the_demo() -> None:
    rows = [json.loads(line) for path in sorted(DEMO.glob("*.jsonl")) for line in path.read_text(encoding="utf-8").splitlines()]
    ((prompt_id, _),) = {(row["prompt_id"], row["prompt"]) for row in rows if WORDS in row["prompt"]}
    examples = typer.main.get_command(app).commands["trace"].epilog  # type: ignore[attr-defined]
    assert f"`zephyr trace runs/demo {prompt_id[:8]}`" in examples and f"`zephyr trace runs/demo '{WORDS}' --json`" in examples
    assert examples.count("runs/demo") == 2
    assert re.findall(r'^zephyr trace runs/demo "(.*?)"', PAGE, re.MULTILINE) == [WORDS, WORDS]


def test_the_commands(small_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    small_run.copy(tmp_path / "runs/demo")
    zephyr.run(small_run.file, ["dpo.beta=0.2"], out=small_run.copy(tmp_path / "runs/other"), until="evaluate")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plots, "draw", lambda chart: "<svg></svg>")  # tested elsewhere
    commands = [line for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) for line in block.splitlines()]
    assert [command.split()[1] for command in commands] == ["report", "report", "report", "trace", "trace"]
    said = []
    capsys.readouterr()
    for command in commands:
        with pytest.raises(SystemExit) as end:
            main(shlex.split(command.replace(WORDS, "the sky"))[1:])  # this run has other prompts than the demo
        said.append(capsys.readouterr().out)
        assert not end.value.code, command

    one, both = ((tmp_path / "pages" / name / "report.html").read_text(encoding="utf-8") for name in ("demo", "both"))
    assert "<h1>The demo</h1>" in one and "From one model to the next, on the same rows" in one and 'id="chain-1"' in one
    assert "How sharp the models are" in one and "Likelihood displacement on the test prompts" in one
    found = json.loads(said[2])["results"]
    assert [(s["setting"], s["values"]) for s in found["settings"] if s["stages"] == ["dpo"]] == [("dpo.beta", {"demo": 0.1, "other": 0.2})]
    assert {stage for group in found["shared"] for stage in group["stages"]} >= {"curate", "sft", "rate", "binarize", "reference"}
    numbers = {(n["measure"], n["model"]): n["against_first"].get("other") for n in found["numbers"]}
    assert numbers["nll", "dsft"]["difference"] == 0.0 and numbers["nll", "ddpo"]["paired"] and numbers["nll", "ddpo"]["difference"] != 0.0
    assert numbers["reward_accuracy", "ddpo"]["n"] == 4 and "demo beside other" in both

    chain = json.loads(said[4])
    assert chain["prompt"].startswith("Why is the sky blue?") and len(chain["answers"]) == 4
    assert said[3].startswith(f"prompt {chain['prompt_id']} (") and "complete and rate read recorded texts" in said[3]
    pair = chain["pairs"][0]
    assert sorted(a["part"] for a in chain["answers"]) == ["", "", "chosen", "rejected"] and pair["reference"]["chosen"] < 0
