"""What the page on pairs says: its commands run, its settings are settings, and its tables name what there is."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

import small
from zephyr.api import stage
from zephyr.artifacts import Artifact
from zephyr.recipe import BinarizeConfig, build
from zephyr.records import parse_preference
from zephyr.settings import parse_yaml

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "binarization.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_commands_and_the_python(tmp_path: Path) -> None:
    command = tmp_path / "bin" / "zephyr"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m zephyr "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
    own = {"PATH": path, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path / "home")}
    environment = {**os.environ, **own}
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(lines) == 4
    for line in [*lines, *(shlex.join([sys.executable, "-c", program]) for program in blocks("python"))]:
        shell = shutil.which("bash") or "sh"
        done = subprocess.run([shell, "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    capped = json.loads((tmp_path / "runs/pairs/capped/manifest.json").read_text(encoding="utf-8"))
    assert capped["rows_out"]["train"] == 50


def test_the_example_is_a_section() -> None:
    (example,) = blocks("yaml")
    values, lines = parse_yaml(example, "docs/binarization.md")
    section = build(BinarizeConfig, values["binarize"], lines, "docs/binarization.md")
    assert section.max_per_source == {"flan": 5000, "*": 1000}


def test_every_setting_has_a_row_with_its_values_and_its_default() -> None:
    table = PAGE[PAGE.index("| setting |") : PAGE.index("**Chosen**")]
    for name, field in BinarizeConfig.model_fields.items():
        if name in ("data", "test_fraction", "invalid", "weights"):  # where rows come from, and a part of `weighted`
            continue
        assert f"| `{name}` |" in table
        values = [value for value in get_args(field.annotation) if isinstance(value, str)]
        assert all(f"| `{value}`" in table for value in values)
        if values:
            assert f"| `{field.default}` (default)" in table


REASONS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "fewer than two rated answers": ({"a": 3}, []),
    "all answers tie": ({"a": 3, "b": 3}, []),
    "every answer that may be rejected says the same as the best": ({"a": 3, "a ": 2}, []),
    "no other answer is min_margin below the best": ({"a": 3, "b": 2}, ["min_margin=2"]),
}


@pytest.mark.parametrize("reason", REASONS)
def test_a_reason_is_counted_as_the_page_calls_it(tmp_path: Path, own_cache: Path, reason: str) -> None:
    assert f"| `{reason}` |" in PAGE
    scores, settings = REASONS[reason]
    rows = [{"prompt": "fine", "completions": [{"model": t, "response": t, "overall_score": s} for t, s in {"a": 9, "b": 1}.items()]}]
    rows += [{"prompt": "p", "completions": [{"model": t, "response": t, "overall_score": s} for t, s in scores.items()]}]
    file = small.write_lines(tmp_path / "rows.jsonl", rows)
    stage("binarize", "binarize", {"ratings": [str(file)]}, tmp_path / "out", settings=["score=overall", "test_fraction=0.0", *settings])
    assert Artifact.open(tmp_path / "out").manifest.dropped == {reason: 1}


def test_every_column_is_on_the_page() -> None:
    row = parse_preference({"prompt": "p", "chosen": "a", "rejected": "b"}).row()
    assert all(re.search(rf"[`( ]{name}[`,)]", PAGE) for name in row), [n for n in row if not re.search(rf"[`( ]{n}[`,)]", PAGE)]
