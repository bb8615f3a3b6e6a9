"""dDPO takes its references only as they belong to this run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import zephyr
from conftest import SmallRun
from zephyr.errors import DataError
from zephyr.stages import dpo


def test_number_formats_of_reference_and_training_must_agree(small_run: SmallRun, tmp_path: Path) -> None:
    run = small_run.copy(tmp_path / "run")
    manifest = json.loads((run / "reference" / "manifest.json").read_text())
    assert manifest["results"]["dtype"] == "float32"
    manifest["results"]["dtype"] = "bfloat16"
    (run / "reference" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"dpo: .*different number formats \(bfloat16, float32\)"):
        zephyr.run(small_run.file, out=run, only="dpo", overrides=["dpo.beta=0.2"])


def test_auto_takes_the_format_of_the_reference(small_run: SmallRun) -> None:
    from zephyr import recipe
    from zephyr.recipe import DataSource
    from zephyr.stages import Inputs

    config = dpo.configure(recipe.load(small_run.file, ["train.dtype=auto"]))
    assert dpo._dtype(config, Inputs({"references": [DataSource(path=str(small_run.out / "reference"))]}, {})) == "float32"
    assert dpo._dtype(config, Inputs({"references": []}, {})) == "auto"
