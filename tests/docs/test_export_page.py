"""The commands of the page on exports run as they stand there; its tables are those of the code."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from zephyr.cli import main
from zephyr.export import DTYPES, check, hub
from zephyr.export.vocabulary import RULES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "export.md").read_text(encoding="utf-8")


def test_the_commands(small_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    small_run.copy(tmp_path / "runs/demo")
    monkeypatch.chdir(tmp_path)
    commands = [line for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) for line in block.splitlines()]
    assert [command.split()[1] for command in commands] == ["export", "export", "push"]
    for command in commands:
        with pytest.raises(SystemExit) as end:
            main(shlex.split(command)[1:])
        said = capsys.readouterr().out
        # the card of a run from a folder of no known licence lacks that and the base: so it says
        assert (end.value.code or 0) == (1 if " push " in command else 0), said
    assert "licence: README.md" in said and "base_model: README.md" in said and "nothing was sent" in said
    assert (tmp_path / "exports/demo/model.safetensors").exists() and (tmp_path / "exports/demo-gguf/dpo-Q8_0.gguf").exists()


def test_what_it_says_is_so() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE.split("## The hub")[1], re.MULTILINE)) == set(hub.NAMES)
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE.split("## The hub")[0], re.MULTILINE)) == set(DTYPES) - {"--to"}
    for name in {*DTYPES["gguf"], *DTYPES["safetensors"], *RULES}:
        assert f"`{name}`" in PAGE
    assert len(check.DIALOGUES) == 5 and "Five dialogues" in PAGE
