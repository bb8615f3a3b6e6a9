"""The page on judges that need no API: its commands print what it says they print, and it has every instruction."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from zephyr.cli import main
from zephyr.evals.ifeval import INSTRUCTIONS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "offline-judges.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The files of each block are written, its last line is run, in this process: starting one costs seconds."""
    monkeypatch.chdir(tmp_path)
    scripts, printed = blocks("sh"), blocks("text")
    assert len(scripts) == len(printed) == 2
    for script, wanted in zip(scripts, printed, strict=True):
        for name, text in re.findall(r"^cat > (\S+) <<'END'\n(.*?)^END$", script, re.MULTILINE | re.DOTALL):
            Path(name).write_text(text, encoding="utf-8")
        zephyr, *arguments = shlex.split(script.splitlines()[-1])
        assert zephyr == "zephyr"
        try:
            main(arguments)
        except SystemExit as end:
            assert not end.code, capsys.readouterr().err
        assert capsys.readouterr().out == wanted
    (program,) = blocks("python")
    exec(compile(program, "page", "exec"), {})
    assert "are of one family (GPT)" in capsys.readouterr().out


def test_it_has_every_instruction() -> None:
    named = re.findall(r"^\| `([a-z_]+:[a-z_]+)` \|", PAGE, re.MULTILINE)
    assert sorted(named) == sorted(INSTRUCTIONS)
