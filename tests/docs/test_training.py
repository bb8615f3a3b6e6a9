"""The commands of the page on training run, as they stand there, on a tiny model; its mixture is one that a recipe takes."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import small
from zephyr.recipe import CurateConfig

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    recipe = small.recipe(folder / "data", small.model_folder(folder / "model"))
    del recipe["evaluate"]
    small.write_recipe(folder / "my.yaml", {**recipe, "name": "my-run"})
    (folder / "bin").mkdir()
    for name, module in (("zephyr", "zephyr"), ("torchrun", "torch.distributed.run")):
        command = folder / "bin" / name
        command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m {module} "$@"\n', encoding="utf-8")
        command.chmod(0o755)
    return folder


@pytest.mark.timeout(600)
def test_the_commands(place: Path) -> None:
    pytest.importorskip("peft", reason="adapters need peft, which is not installed")
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    lines = [line for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) for line in block.splitlines()]
    commands = [line for line in lines if line.startswith(("zephyr run", "torchrun --nproc-per-node 8 "))]
    assert len(commands) == 4
    paths = os.pathsep.join([str(place / "bin"), os.environ["PATH"]])
    environment = {**os.environ, "PATH": paths, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    for number, command in enumerate(commands):
        command = command.replace("--nproc-per-node 8", "--nproc-per-node 2")
        if number == 1:  # or it would find everything done
            command += " --out runs/two"
        if "log_to" in command:
            command += " sft.epochs=2"
        done = subprocess.run(["bash", "-c", command], cwd=place, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    assert list((place / "runs/my-run/tensorboard/sft").iterdir())
    assert json.loads((place / "runs/two/dpo/manifest.json").read_text())["environment"]["processes"] == "2"


def test_the_mixture_is_one_that_a_recipe_takes() -> None:
    (text,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    sources = CurateConfig(**yaml.safe_load(text)["curate"]).data
    assert [s.source_split for s in sources] == ["train_sft", "test_sft", None] and sources[2].weight == 0.25
