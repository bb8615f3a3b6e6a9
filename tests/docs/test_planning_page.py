"""The commands of the page on planning are read as they stand there, one of them runs; what it names of the JSON is there."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import typer.main

import small
from zephyr.cli import main
from zephyr.cli.base import app
from zephyr.estimate import machines

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "planning.md").read_text(encoding="utf-8")


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    plan = typer.main.get_command(app).commands["plan"]  # type: ignore[attr-defined]
    commands = [shlex.split(line, comments=True) for line in re.findall(r"^zephyr plan .*", PAGE, re.MULTILINE)]
    assert len(commands) == 4
    for command in commands:
        plan.make_context("plan", command[2:])  # an option that is not there is an error
    for name in machines.KNOWN:  # and the option says all that it takes
        assert name in next(p.help for p in plan.params if p.name == "gpu")
    monkeypatch.chdir(tmp_path)
    small.write_recipe(tmp_path / "my.yaml", small.recipe(tmp_path / "data", small.model_folder(tmp_path / "model")))
    with pytest.raises(SystemExit) as end:
        main(commands[-1][1:])
    assert not end.value.code
    found = json.loads(capsys.readouterr().out)["training"]
    said = PAGE.split("`--json` has")[1].split("\n## ")[0]
    stage = found["stages"][0]
    there = {*found, *stage, *stage["ways"][0], "training"}
    assert len(names := set(re.findall(r"`(\w+)`", said))) > 12 and names <= there
