"""The page on inspecting: its commands run as they stand there, and print what it says they print."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
from pathlib import Path

import pytest

from zephyr.cli import main
from zephyr.inspection import dialogues, run, strata, victims

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "inspecting.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    first, others = blocks("sh")
    _, name, text, command = re.fullmatch(r"(cat) > (\S+) <<'END'\n(.*?)^END\n(.*)\n", first, re.DOTALL | re.MULTILINE).groups()  # type: ignore[union-attr]
    Path(name).write_text(text, encoding="utf-8")
    (output,) = blocks("text")
    assert run_command(command, capsys) == output
    assert Path("inspect.html").exists()
    said = [run_command(line, capsys) for line in others.splitlines()]
    assert "left out:" in said[1] and "near-duplicate prompt" in said[1]
    assert json.loads(said[3])["kind"] == "ratings"
    assert all(Path(page).exists() for page in ("curated.html", "dialogues.html", "ratings.html"))
    (program,) = blocks("python")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(program, {})
    assert printed.getvalue() == "dialogues 5 1\n"


def run_command(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(line)[1:])
    said = capsys.readouterr()
    assert not ended.value.code, said.err
    return said.out


def test_the_numbers_are_those_of_the_code() -> None:
    assert f"{victims.LOOKED_AT:,} rows are drawn" in PAGE
    assert f"more than {strata.STRATA}, the page falls back" in PAGE
    assert f"characters ({', '.join(f'{bound:,}' for bound in dialogues.CHARS)})" in PAGE
    assert f"of each reason, {run.EACH} by default" in PAGE
