"""The page on the audit: its commands run as they stand there, print what it says they print, and it has every finding."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from zephyr.audit import audit

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def zephyr_in(folder: Path) -> dict[str, str]:
    """The environment in which `zephyr` is a command."""
    command = folder / "bin" / "zephyr"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m zephyr "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    path = os.pathsep.join([str(command.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


@pytest.mark.timeout(300)
def test_the_commands(tmp_path: Path) -> None:
    environment = zephyr_in(tmp_path)

    def run(script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)

    first, second = blocks("sh")
    (output,) = blocks("text")
    done = run(first)
    assert (done.returncode, done.stdout) == (1, output), done.stderr
    assert "6 problems found" in (tmp_path / "audit.html").read_text(encoding="utf-8")
    for command in second.splitlines():
        done = run(command)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    (program,) = blocks("python")
    done = run(f"python -c {shlex.quote(program)}")
    assert done.stdout.startswith("1 4 ['unreadable', 'ties', "), done.stderr


def test_it_has_every_finding_and_no_other(tmp_path: Path) -> None:
    from small import write_lines

    found = audit(write_lines(tmp_path / "one.jsonl", [{"prompt": "p", "chosen": "a", "rejected": "b"}]))
    named = set(re.findall(r"^(?:\| )?`(\w+)`", PAGE.split("## What it looks for")[1], re.MULTILINE))
    assert {f.name for f in found.findings} == named
