"""dDPO takes its references only as they belong to this run."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

import small
import zephyr
from conftest import SmallRun
from zephyr import api, recipe
from zephyr.artifacts import Artifact, Manifest, draft
from zephyr.errors import DataError, ZephyrError
from zephyr.parts import Parts
from zephyr.recipe import DataSource, Recipe, build
from zephyr.stages import Inputs, dpo, reference


def test_number_formats_of_reference_and_training_must_agree(small_run: SmallRun, tmp_path: Path) -> None:
    run = small_run.copy(tmp_path / "run")
    manifest = json.loads((run / "reference" / "manifest.json").read_text())
    assert manifest["results"]["dtype"] == "float32"
    manifest["results"]["dtype"] = "bfloat16"
    (run / "reference" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"dpo: .*different number formats \(bfloat16, float32\)"):
        zephyr.run(small_run.file, out=run, only="dpo", overrides=["dpo.beta=0.2"])


def test_auto_takes_the_format_of_the_reference(small_run: SmallRun) -> None:
    config = dpo.configure(recipe.load(small_run.file, ["train.dtype=auto"]))
    assert dpo._dtype(config, Inputs({"references": [DataSource(path=str(small_run.out / "reference"))]}, {})) == "float32"
    assert dpo._dtype(config, Inputs({"references": []}, {})) == "auto"


@pytest.mark.parametrize("stage", [dpo, reference])
def test_a_pair_in_train_and_test_is_refused_with_advice_that_can_be_followed(stage: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}) + "\n")
    data = [DataSource(path=str(path), split=split) for split in ("train", "test")]
    values = {"name": "pairs", "model": {"path": "."}, "binarize": {"data": [str(path)]}, "dpo": {}}
    config = stage.configure(build(Recipe, values, {}, "test"))
    with draft(tmp_path / "out", stage="s", key="k", config={}, parents={}) as out, pytest.raises(DataError) as caught:
        stage.run(config, Inputs({"preferences": data}, {}), out)
    assert str(caught.value).endswith("take it out of one (`zephyr curate` or `zephyr binarize` with `invalid=drop` does)")


def test_what_goes_on_keeps_its_number_format_and_its_parts(small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the second start the other format is the faster one."""
    settings = ("train.dtype=auto", "train.micro_batch_tokens=60")
    keep, kept = Parts.keep, list[int]()

    def run(name: str) -> Manifest:
        given = {"preferences": [str(small_run.out / "binarize")]}
        made = api.stage("reference", "dpo", given, tmp_path / name, settings=settings, model=str(small_run.out / "sft"))
        return Artifact.open(Path(made["path"])).manifest

    def killed(self: Parts, part: int, result: object) -> None:
        keep(self, part, result)
        kept.append(part)
        if len(kept) == 2:
            raise MemoryError

    small.faster(monkeypatch, torch.bfloat16)
    whole = run("whole")
    monkeypatch.setattr(Parts, "keep", killed)
    with pytest.raises(ZephyrError, match="reference: not enough memory"):
        run("cut")
    small.faster(monkeypatch, torch.float32)
    found = run("cut")
    assert found.results["dtype"] == "bfloat16" and found.digest == whole.digest
    assert len(kept) == whole.rows_out["train"] + whole.rows_out["test"], "a pair is a part, and none was computed twice"
    assert run("other").results["dtype"] == "float32"
