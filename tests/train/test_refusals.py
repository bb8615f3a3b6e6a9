"""What the student cannot do is said before the first stage runs, and what of a recipe's lengths is a part of which key."""

from __future__ import annotations

from pathlib import Path

import pytest

import small
import zephyr
from conftest import SmallRun
from zephyr import api, pipeline
from zephyr import recipe as recipes
from zephyr.errors import DataError, ModelError, UsageError
from zephyr.models import load
from zephyr.recipe import ModelConfig


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("dpo.max_length=101", "dpo.max_length is 101, but .* reads 100 tokens at most; set dpo.max_length to 100 or less"),
        ("sft.max_length=101", "sft.max_length is 101, but .* reads 100 tokens at most"),
        (
            "dpo.lora={target_modules: [q_proj, v_porj]}",
            r"dpo\.lora\.target_modules: 'v_porj' is no linear layer of the model but its head",
        ),
    ],
)
def test_what_the_student_cannot_do_is_refused_before_anything_runs(setting: str, message: str, tmp_path: Path) -> None:
    if "lora" in setting:
        pytest.importorskip("peft", reason="adapters need peft, which is not installed")
    values = small.recipe(tmp_path / "data", small.model_folder(tmp_path / "model", max_position_embeddings=100))
    values["dpo"]["max_length"] = values["sft"]["max_length"] = 100
    file = small.write_recipe(tmp_path / "r.yaml", values)
    for dry in (True, False):
        with pytest.raises(ModelError, match=message):
            zephyr.run(file, out=tmp_path / "out", overrides=[setting], dry_run=dry)
    assert not (tmp_path / "out" / "curate").exists()
    api.run(file, out=tmp_path / "out", until="curate", overrides=[setting])  # which has nothing to do with it


def test_what_is_not_on_this_machine_is_not_fetched_for_a_plan(small_run: SmallRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "refuse_longer", lambda *_: pytest.fail("it would be fetched"))
    outcomes = zephyr.run(small_run.file, out=small_run.out.parent / "other", overrides=["model.path=someone/model"], dry_run=True)
    assert outcomes["artifacts"]["sft"]["status"] == "would run"


def test_references_of_another_policy_are_refused(small_run: SmallRun, tmp_path: Path) -> None:
    run = small_run.copy(tmp_path / "run")
    with pytest.raises(
        DataError,
        match=r"reference log-probabilities were computed with truncation 'prompt_left', not 'drop'; run `zephyr reference` again",
    ):
        zephyr.run(small_run.file, out=run, only="dpo", overrides=["dpo.truncation=drop"])


def test_code_that_came_with_the_base_is_trusted_in_what_is_made_of_it(small_run: SmallRun, tmp_path: Path) -> None:
    for trusted in (True, False):
        recipe = recipes.load(small_run.file, [f"model.trust_remote_code={str(trusted).lower()}"])
        work = pipeline.bound(recipe, "dpo", small_run.out, tmp_path / "cache")
        assert work.inputs.models["policy"].trust_remote_code is trusted


def test_a_model_without_weights_has_the_modules_of_the_one_with_them(tiny_folder: Path) -> None:
    ref = load.refer(ModelConfig(path=str(tiny_folder)))
    shape = load.without_weights(ref)
    assert {p.device.type for p in shape.parameters()} == {"meta"}
    assert [name for name, _ in shape.named_modules()] == [name for name, _ in load.load_model(ref).named_modules()]


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1])
def test_a_seed_that_torch_cannot_take_is_refused_in_the_recipe(seed: int, small_run: SmallRun) -> None:
    with pytest.raises(UsageError, match=rf"seed: .*{seed}"):
        recipes.load(small_run.file, [f"seed={seed}"])
    assert recipes.load(small_run.file, [f"seed={2**63 - 1}"]).seed == 2**63 - 1
