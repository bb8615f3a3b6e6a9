"""Every command of the walk-through runs, in its order, in a folder of its own: with a tiny model in the real one's place."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tiny import byte_tokenizer, tiny_model

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "walkthrough.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a newcomer's clone has it after `make install`, the student a tiny model."""
    folder = tmp_path_factory.mktemp("walkthrough")
    model = folder / "tiny"
    tokenizer = byte_tokenizer()
    tiny_model("llama", max_position_embeddings=8192).save_pretrained(model)
    tokenizer.save_pretrained(model)
    (folder / "recipes").mkdir()
    recipe = (ROOT / "recipes" / "demo.yaml").read_text(encoding="utf-8")
    changes = {
        "path: smollm2-135m-instruct": f"path: {model}",
        "micro_batch_tokens: 768": "micro_batch_tokens: 8192",
        "max_new_tokens: 160": "max_new_tokens: 16",
    }
    for kind in ("dialogues", "feedback"):  # a quarter of the training rows is enough to see every command work
        rows = (ROOT / f"src/zephyr/demo/{kind}/train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[:40]
        (folder / f"{kind}.jsonl").write_text("".join(rows), encoding="utf-8")
        changes[f"builtin:demo/{kind}/train.jsonl"] = str(folder / f"{kind}.jsonl")
    for old, new in changes.items():
        assert old in recipe
        recipe = recipe.replace(old, new)
    (folder / "recipes" / "demo.yaml").write_text(recipe, encoding="utf-8")
    bin_ = folder / ".venv" / "bin"
    bin_.mkdir(parents=True)
    (bin_ / "activate").write_text(f"PATH={shlex.quote(str(bin_))}:$PATH\n", encoding="utf-8")
    command = bin_ / "zephyr"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m zephyr "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    return folder


def environment() -> dict[str, str]:
    path = os.pathsep.join(folder for folder in os.environ["PATH"].split(os.pathsep) if not (Path(folder) / "zephyr").exists())
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2"}


def test_the_commands(place: Path) -> None:
    shell = shutil.which("bash") or "sh"
    first, *commands = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(commands) >= 9
    for command in commands:  # each in a shell of its own, which begins as the page does
        done = subprocess.run(
            [shell, "-c", f"{first}\n{command}"], cwd=place, env=environment(), capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        if command == "zephyr run recipes/demo.yaml":
            assert (place / "runs/demo/report/report.html").exists()
    assert (place / "runs/mine/dpo/model/config.json").exists()


def test_the_python(place: Path) -> None:
    programs = blocks("python")
    assert len(programs) == 2
    if not (place / "runs/demo/report").exists():
        test_the_commands(place)
    for program in programs:
        done = subprocess.run([sys.executable, "-c", program], cwd=place, env=environment(), capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr


def test_the_command_is_on_the_path_before_it_is_called() -> None:
    """`make` installs into .venv, which no shell looks into by itself."""
    for page, first in ((ROOT / "README.md", "`zephyr run"), (PAGE, "\nzephyr ")):
        text = page.read_text(encoding="utf-8")
        assert 0 < text.find("\n. .venv/bin/activate") < text.index(first), page
