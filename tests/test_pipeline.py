"""A recipe through all its stages: what runs, what is recognised, what is made again."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

import small
import zephyr
from zephyr import api, artifacts, forecast, pipeline
from zephyr.api import words
from zephyr.artifacts import Artifact, Manifest
from zephyr.errors import ArtifactError, UsageError, ZephyrError
from zephyr.guards import locked
from zephyr.pipeline import current, one

if TYPE_CHECKING:
    from conftest import SmallRun


def statuses(result: dict[str, Any]) -> dict[str, str]:
    return {stage: a["status"] for stage, a in result["artifacts"].items()}


def ran(result: dict[str, Any]) -> list[str]:
    return [stage for stage, status in statuses(result).items() if status == "ran"]


# --- the whole path ----------------------------------------------------------------------------------------------


def test_every_stage_publishes_a_whole_artifact(small_run: SmallRun) -> None:
    assert ran(small_run.result) == small.STAGES
    assert small.leftovers(small_run.out) == []
    for stage in small.STAGES:
        artifact = Artifact.open(small_run.out / stage)
        manifest = artifact.manifest
        assert artifact.check(verify=True) is None
        assert manifest.stage == stage and len(manifest.key) == len(manifest.digest) == 64
        assert manifest.config and manifest.seconds >= 0 and manifest.zephyr == zephyr.__version__
        written = {n for n in small.contents(artifact.path) if n not in ("manifest.json", "model/README.md")}
        assert written == set(manifest.files)
        if stage != "curate":
            assert manifest.parents
        assert all(len(parent["digest"]) == 64 for parent in manifest.parents.values())
    assert Manifest.read(small_run.out / "curate").rows_in == 12  # type: ignore[union-attr]
    assert Manifest.read(small_run.out / "sft").tokens > 0  # type: ignore[union-attr]


def test_the_result_says_where_everything_is_and_what_it_is_worth(small_run: SmallRun) -> None:
    result = small_run.result
    assert [Path(a["path"]) for a in result["artifacts"].values()] == [small_run.out / stage for stage in small.STAGES]
    assert Path(result["model"]) == small_run.out / "dpo" / "model"
    assert Path(result["report"]).read_text(encoding="utf-8").startswith("<!doctype html>")
    scores = result["scores"]
    assert set(scores["nll"]) == {"base", "dsft", "ddpo"}
    assert set(scores["reward_accuracy"]) == {"dsft", "ddpo", "length"}
    assert scores["reward_accuracy"]["length"]["pairs"] == 4 * 6  # all ordered pairs of four answers, four test prompts
    assert scores["nll"]["dsft"]["nll_per_token"] < scores["nll"]["base"]["nll_per_token"]
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_the_final_folder_loads_and_chats_without_anything_of_ours(small_run: SmallRun) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(small_run.result["model"])
    tokenizer = AutoTokenizer.from_pretrained(small_run.result["model"])
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], add_generation_prompt=True, return_tensors="pt")["input_ids"]
    text = tokenizer.decode(ids[0])
    assert text == "<|system|>\n<|im_end|>\n<|user|>\nHi<|im_end|>\n<|assistant|>\n"
    out = model.generate(ids, max_new_tokens=3, do_sample=False)
    assert out.shape[1] > ids.shape[1]
    assert model.config._attn_implementation == "sdpa"
    assert (small_run.out / "dpo" / "model" / "README.md").read_bytes() == (small_run.out / "report" / "README.md").read_bytes()


def test_a_second_run_does_nothing(small_run: SmallRun, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a finished stage ran again")

    before = small.contents(small_run.out)
    monkeypatch.setattr(one, "execute", never)
    again = zephyr.run(small_run.file, out=small_run.out)
    assert set(statuses(again).values()) == {"done"}
    assert again["scores"] == small_run.result["scores"]
    assert small.contents(small_run.out) == before


def test_equal_work_gives_equal_bytes(small_run: SmallRun, tmp_path: Path) -> None:
    other = zephyr.run(small_run.file, out=tmp_path / "other", until="evaluate")
    for stage in small.STAGES[:-1]:
        assert other["artifacts"][stage]["digest"] == small_run.result["artifacts"][stage]["digest"], stage
    for stage in ("sft", "dpo"):
        weights = "model/model.safetensors"
        assert (tmp_path / "other" / stage / weights).read_bytes() == (small_run.out / stage / weights).read_bytes()


# --- what depends on what ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "again"),
    [
        ("dpo.learning_rate=2e-3", ["dpo", "evaluate", "report"]),
        ("dpo.beta=0.2", ["dpo", "evaluate", "report"]),
        ("dpo.max_length=500", ["reference", "dpo", "evaluate", "report"]),
        ("sft.learning_rate=2e-3", ["sft", "reference", "dpo", "evaluate", "report"]),
        ("binarize.score=overall", ["binarize", "reference", "dpo", "evaluate", "report"]),
        ("evaluate.samples=1", ["evaluate", "report"]),
        ("report.title=Another", ["report"]),
        ("rate.max_unparsed=0.5", ["rate", "binarize", "reference", "dpo", "evaluate", "report"]),
        ("out=elsewhere", []),
        ("train.micro_batch_tokens=64", []),  # what is lowered where memory does not suffice: no work is lost by it
    ],
)
def test_a_setting_touches_only_what_depends_on_it(small_run: SmallRun, override: str, again: list[str]) -> None:
    before = small.contents(small_run.out)
    result = zephyr.run(small_run.file, [override], out=small_run.out, dry_run=True)
    assert [s for s, status in statuses(result).items() if status == "would run"] == again
    assert small.contents(small_run.out) == before, "a dry run wrote something"
    if again:
        assert override.split("=")[0].split(".")[1] in result["artifacts"][again[0]]["reason"]


def test_a_setting_that_is_no_part_of_a_key_reaches_its_stage(small_run: SmallRun) -> None:
    from zephyr.recipe import load

    recipe = load(small_run.file, ["train.micro_batch_tokens=64"])
    for stage in ("sft", "reference", "dpo", "evaluate"):
        assert pipeline.module_of(stage).configure(recipe).train.micro_batch_tokens == 64


def test_changing_the_dpo_reruns_dpo_and_what_follows(small_run: SmallRun, tmp_path: Path) -> None:
    out = small_run.copy(tmp_path / "run")
    result = zephyr.run(small_run.file, ["dpo.learning_rate=2e-3"], out=out)
    assert ran(result) == ["dpo", "evaluate", "report"]
    assert result["artifacts"]["dpo"]["reason"] == "dpo.learning_rate 0.001 -> 0.002"
    assert result["artifacts"]["dpo"]["digest"] != small_run.result["artifacts"]["dpo"]["digest"]


def test_an_objective_without_a_reference_runs_without_its_stage(small_run: SmallRun, tmp_path: Path) -> None:
    out = small_run.copy(tmp_path / "run")
    shutil.rmtree(out / "reference")
    result = zephyr.run(small_run.file, ["dpo.objective=simpo", "dpo.beta=2"], out=out)
    assert list(statuses(result)) == [stage for stage in small.STAGES if stage != "reference"]
    assert ran(result) == ["dpo", "evaluate", "report"] and not (out / "reference").exists()
    assert set(Manifest.read(out / "dpo").parents) == {"preferences", "policy"}  # type: ignore[union-attr]
    log = [json.loads(line) for line in (out / "dpo" / "metrics.jsonl").read_text().splitlines()]
    assert all(
        line["chosen_reward"] < 0 and line["margin"] == pytest.approx(line["chosen_reward"] - line["rejected_reward"]) for line in log
    )


def test_a_stage_that_gives_the_same_again_stops_the_wave(small_run: SmallRun, tmp_path: Path) -> None:
    out = small_run.copy(tmp_path / "run")
    result = zephyr.run(small_run.file, ["rate.max_unparsed=0.5"], out=out)
    assert ran(result) == ["rate", "report"]  # equal ratings; the page shows the manifest


def test_a_log_that_changed_is_shown_again(small_run: SmallRun, tmp_path: Path) -> None:
    """The page shows curves; `evaluate_every` changes them and not the model."""
    out = small_run.copy(tmp_path / "run")
    result = zephyr.run(small_run.file, ["dpo.evaluate_every=1"], out=out)
    assert ran(result) == ["dpo", "report"]


def test_changed_data_and_models_are_noticed(small_run: SmallRun, tmp_path: Path, tiny_folder: Path) -> None:
    model = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    values = small.recipe(tmp_path / "data", model)
    recipe, out = small.write_recipe(tmp_path / "r.yaml", values), tmp_path / "run"
    zephyr.run(recipe, out=out, until="binarize")

    def would_run() -> list[str]:
        result = zephyr.run(recipe, out=out, until="binarize", dry_run=True)
        return [s for s, status in statuses(result).items() if status == "would run"]

    assert would_run() == []
    (model / "generation_config.json").write_text("{}")
    assert would_run() == ["sft"]
    ratings = tmp_path / "data" / "feedback" / "train.jsonl"
    ratings.write_text(ratings.read_text().replace("Short, and that", "Brief, and that"))
    assert would_run() == ["sft", "complete", "rate", "binarize"]


def test_a_template_file_is_an_input(tiny_folder: Path, tmp_path: Path) -> None:
    from tiny import CHATML

    template = tmp_path / "chat.jinja"
    template.write_text(CHATML)
    values = small.recipe(tmp_path / "data", tiny_folder)
    values["model"]["chat_template"] = str(template)
    recipe = small.write_recipe(tmp_path / "r.yaml", values)
    zephyr.run(recipe, out=tmp_path / "run", until="sft")
    template.write_text(CHATML.replace("'\\n' + message['content']", "' ' + message['content']"))
    assert statuses(zephyr.run(recipe, out=tmp_path / "run", until="sft", dry_run=True)) == {"curate": "done", "sft": "would run"}


# --- part of the path --------------------------------------------------------------------------------------------


def test_until_and_only(small_run: SmallRun, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = zephyr.run(small_run.file, out=out, until="sft")
    assert statuses(first) == {"curate": "ran", "sft": "ran"}
    assert first["model"] == str(out / "sft" / "model") and first["scores"] is None and first["report"] is None
    assert ran(zephyr.run(small_run.file, out=out, only="complete")) == ["complete"]
    with pytest.raises(UsageError, match="binarize needs what rate makes"):
        zephyr.run(small_run.file, out=out, only="binarize")
    with pytest.raises(UsageError, match="not a stage of this recipe; it has curate, sft"):
        zephyr.run(small_run.file, out=out, only="sfft")
    with pytest.raises(UsageError, match="exclude each other"):
        zephyr.run(small_run.file, out=out, only="sft", until="sft")


def test_only_says_when_what_it_takes_is_stale(small_run: SmallRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = small_run.copy(tmp_path / "run")
    zephyr.run(small_run.file, ["binarize.score=overall"], out=out, only="report")
    assert (
        "report: takes what is there, though with this recipe binarize, reference, dpo, evaluate would run again" in capsys.readouterr().err
    )


def test_dry_run_of_a_new_run_writes_nothing_at_all(small_run: SmallRun, tmp_path: Path) -> None:
    result = zephyr.run(small_run.file, out=tmp_path / "new", dry_run=True, until="rate")
    assert statuses(result) == dict.fromkeys(["curate", "sft", "complete", "rate"], "would run")
    assert result["artifacts"]["sft"]["reason"] == "after curate"
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_object_and_a_file_are_the_same(small_run: SmallRun) -> None:
    from zephyr.recipe import load

    result = zephyr.run(load(small_run.file), out=small_run.out)
    assert set(statuses(result).values()) == {"done"}
    with pytest.raises(UsageError, match="overrides go with a recipe file"):
        zephyr.run(load(small_run.file), ["seed=1"], out=small_run.out)
    with pytest.raises(UsageError, match="overrides go with a recipe file"):
        api.plan(load(small_run.file), ["seed=1"], out=small_run.out)


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_recipe_without_stages_is_refused(tmp_path: Path, dry_run: bool) -> None:
    recipe = small.write_recipe(tmp_path / "r.yaml", {"name": "empty", "model": {"path": "x/y"}, "report": {}})
    with pytest.raises(UsageError, match="the recipe has no section that is a stage"):
        zephyr.run(recipe, out=tmp_path / "run", dry_run=dry_run)
    assert not (tmp_path / "run").exists()


def test_the_card_stands_beside_the_model_of_the_recipe(small_run: SmallRun, tmp_path: Path) -> None:
    out = small_run.copy(tmp_path / "run")
    card = (out / "dpo" / "model" / "README.md").read_bytes()
    values = {k: v for k, v in small_run.recipe.items() if k != "dpo"}
    zephyr.run(small.write_recipe(tmp_path / "r.yaml", values), out=out)
    assert (out / "sft" / "model" / "README.md").read_bytes() == (out / "report" / "README.md").read_bytes() != card
    assert (out / "dpo" / "model" / "README.md").read_bytes() == card


OUTSIDE: dict[str, tuple[dict[str, Any], str]] = {
    "another set on the hub": (
        {"evaluate": {"benchmarks": {"mmlu": "owner/name"}}},
        "owner/name: no such file or folder; items of mmlu are read from a local file, or from cais/mmlu on the hub",
    ),
    "a benchmark that is missing": ({"evaluate": {"benchmarks": {"mmlu": "no.jsonl"}}}, "no.jsonl: no such file or folder"),
    "few-shot examples": (
        {"evaluate": {"benchmarks": {"mmlu": "HERE"}, "fewshot": {"mmlu": "owner/name"}}},
        "owner/name: no such file or folder; items of mmlu are read from a local file",
    ),
    "lm-eval": ({"evaluate": {"benchmarks": {"mmlu": "HERE"}}}, "academic tasks need lm-eval, which is not installed: pip install"),
    "a template": (
        {"model": {"path": "HERE", "chat_template": "chatml"}},
        r"^model.chat_template: there is no file chatml; it is `zephyr`, `tokenizer` \(the model's own\) or a Jinja file$",
    ),
    "a teacher's template": (
        {"rate": {"teacher": {"kind": "local", "path": "HERE", "chat_template": "chatml"}}},
        "^teacher: chat_template: there is no file chatml; it is",
    ),
    "a recording": ({"rate": {"teacher": {"kind": "replay", "path": "no.jsonl"}}}, "no.jsonl: no such file or folder"),
    "a teacher": ({"rate": {"teacher": {"kind": "local", "path": "./no"}}}, "./no: no such folder; a model is a folder"),
}


@pytest.mark.parametrize("what", OUTSIDE)
def test_what_is_missing_outside_is_said_before_the_first_stage(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    changes, message = OUTSIDE[what]
    monkeypatch.setitem(sys.modules, "lm_eval", None)  # as where it is not installed
    values = json.loads(json.dumps({**small_run.recipe, **changes}).replace("HERE", str(small_run.file)))
    recipe, out = small.write_recipe(tmp_path / "r.yaml", values), tmp_path / "run"
    for dry_run in (True, False):
        with pytest.raises(ZephyrError, match=message):
            zephyr.run(recipe, out=out, dry_run=dry_run)
    assert not (out / "curate").exists()
    assert ran(zephyr.run(recipe, out=out, until="curate")) == ["curate"]  # what does not run needs nothing


def test_dpo_without_sft_starts_from_the_model(small_run: SmallRun, tmp_path: Path) -> None:
    values = {k: v for k, v in small_run.recipe.items() if k not in ("curate", "sft")}
    result = zephyr.run(small.write_recipe(tmp_path / "r.yaml", values), out=tmp_path / "run")
    assert ran(result) == ["complete", "rate", "binarize", "reference", "dpo", "evaluate", "report"]
    assert set(result["scores"]["reward_accuracy"]) == {"ddpo", "length"}
    assert "nll" not in result["scores"]


# --- damage ------------------------------------------------------------------------------------------------------


def test_missing_and_damaged_files_are_made_again(small_run: SmallRun, tmp_path: Path) -> None:
    out = small_run.copy(tmp_path / "run")
    (out / "curate" / "data" / "train-00000.parquet").unlink()
    with (out / "dpo" / "model" / "model.safetensors").open("ab") as file:
        file.write(b"x")
    (out / "rate" / "manifest.json").write_text('{"format": 1, "sta')
    result = zephyr.run(small_run.file, out=out)
    assert ran(result) == ["curate", "rate", "dpo", "report"]
    assert "train-00000.parquet is missing" in result["artifacts"]["curate"]["reason"]
    assert "not a readable manifest" in result["artifacts"]["rate"]["reason"]
    assert "bytes, the manifest says" in result["artifacts"]["dpo"]["reason"]
    assert all(result["artifacts"][s]["digest"] == small_run.result["artifacts"][s]["digest"] for s in small.STAGES[:-1])


def test_verify_finds_a_flipped_bit(small_run: SmallRun, tmp_path: Path) -> None:
    out = small_run.copy(tmp_path / "run")
    weights = out / "sft" / "model" / "model.safetensors"
    flipped(weights)
    data = weights.read_bytes()
    assert set(statuses(zephyr.run(small_run.file, out=out)).values()) == {"done"}  # size and time are believed
    planned = zephyr.run(small_run.file, out=out, verify=True, dry_run=True)
    assert "sha256 differs" in planned["artifacts"]["sft"]["reason"]
    assert ran(zephyr.run(small_run.file, out=out, verify=True)) == ["sft", "report"]
    assert weights.read_bytes() != data


def flipped(file: Path) -> None:
    """A bit of it is another, and its size and times are as they were."""
    times, data = file.stat(), bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_verify_is_of_the_inputs_of_a_stage_alone_too(small_run: SmallRun, tmp_path: Path) -> None:
    out = small_run.copy(tmp_path / "run")
    flipped(out / "sft" / "model" / "model.safetensors")
    assert statuses(zephyr.run(small_run.file, out=out, only="reference")) == {"reference": "done"}
    with pytest.raises(ArtifactError, match=r"reference needs what sft makes, and .*sha256 differs"):
        zephyr.run(small_run.file, out=out, only="reference", verify=True)


@pytest.mark.parametrize(("stage", "file"), [("curate", "curate/data/train-00000.parquet"), ("sft", "dpo/model/model.safetensors")])
def test_verify_is_of_artifacts_from_outside_too(small_run: SmallRun, tmp_path: Path, stage: str, file: str) -> None:
    outside, out = small_run.copy(tmp_path / "outside"), small_run.copy(tmp_path / "run")
    changes = {"curate": {"data": [str(outside / "curate")]}, "model": {"path": str(outside / "dpo")}}
    recipe = small.write_recipe(tmp_path / "r.yaml", {**small_run.recipe, **changes})
    flipped(outside / file)
    zephyr.run(recipe, out=out, only=stage, dry_run=True)
    with pytest.raises(ArtifactError, match="sha256 differs"):
        zephyr.run(recipe, out=out, only=stage, dry_run=True, verify=True)


def test_a_stage_alone_does_not_take_damaged_input(small_run: SmallRun, tmp_path: Path) -> None:
    out = small_run.copy(tmp_path / "run")
    (out / "binarize" / "data" / "train-00000.parquet").unlink()
    with pytest.raises(ArtifactError, match=r"reference needs what binarize makes, and .*train-00000.parquet is missing"):
        zephyr.run(small_run.file, out=out, only="reference")


def test_what_is_not_ours_is_not_replaced(small_run: SmallRun, tmp_path: Path) -> None:
    out = tmp_path / "run"
    (out / "curate").mkdir(parents=True)
    (out / "curate" / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="not empty, and no artifact, so it is not replaced"):
        zephyr.run(small_run.file, out=out, until="curate")
    (out / "curate" / "manifest.json").write_text('{"name": "a web page"}')
    with pytest.raises(UsageError, match=r"manifest format None, .*is not replaced; give another --out, or remove it"):
        zephyr.run(small_run.file, out=out, until="curate")
    assert (out / "curate" / "thesis.tex").read_text() == "years of work"
    shutil.rmtree(out / "curate")
    shutil.copytree(small_run.out / "binarize", out / "curate")
    with pytest.raises(UsageError, match="holds what binarize made, and curate would replace it"):
        zephyr.run(small_run.file, out=out, until="curate")
    shutil.rmtree(out)
    out.write_text("a file")
    with pytest.raises(UsageError, match="is a file"):
        zephyr.run(small_run.file, out=out, until="curate")


def test_every_file_of_an_artifact_is_known_as_ours(small_run: SmallRun) -> None:
    """An artifact whose manifest is torn is made again only if all that is in it can be ours."""
    assert [current.not_ours(small_run.out / stage) for stage in small.STAGES] == [None] * len(small.STAGES)


def test_a_publication_cut_in_two_is_finished(small_run: SmallRun, tmp_path: Path) -> None:
    out = small_run.copy(tmp_path / "run")
    (out / "binarize").rename(out / ".binarize.stale")  # the old one is aside, the new one was not in place yet
    result = zephyr.run(small_run.file, out=out)
    assert ran(result) == []
    assert small.leftovers(out) == []


# --- one at a time -----------------------------------------------------------------------------------------------


def test_a_second_run_in_the_same_folder_is_refused(small_run: SmallRun, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with locked(out / ".lock"), pytest.raises(UsageError, match="another run is at work in this folder"):
        zephyr.run(small_run.file, out=out, until="curate")
    assert ran(zephyr.run(small_run.file, out=out, until="curate")) == ["curate"]


@pytest.mark.parametrize("folder", ["/proc", "/proc/new", "/proc/new/run", "/dev/null"])
def test_a_folder_that_cannot_be_written_or_made_is_named(folder: str) -> None:
    with (
        pytest.raises(UsageError, match=rf"^{folder}: nothing can be written in this folder \(.*\); give another --out$"),
        one.alone_at(Path(folder) / "x"),
    ):
        pass


RESULT: dict[str, Any] = {"stage": "a", "status": "ran", "path": "p", "rows_in": 3, "rows": {"train": 2, "test": 1}}
RESULT |= {"dropped": {}, "results": {}, "notes": []}


def test_one_row_is_not_plural() -> None:
    assert words.describe(RESULT) == "a: ran, p\n  train: 2 rows\n  test: 1 row"
    sampled = RESULT | {"status": "would run", "reason": "a sample of the data", "rows_in": 1, "rows": {}}
    assert words.describe(sampled) == "a: would run, p\n  a sample of the data, 1 row"


@pytest.mark.parametrize(
    ("n", "dialogues", "said"),
    [
        (2, {"train": 36}, "36 train dialogues in 2 sequences"),
        (1, {"train": 9}, "9 train dialogues in 1 sequence"),
        (9, {"train": 9}, "9 train"),
    ],
)
def test_packed_dialogues_are_not_called_rows(n: int, dialogues: dict[str, int], said: str) -> None:
    assert one.rows_in_words(n, "train", dialogues) == said and one.rows_in_words(n, "train", None) == f"{n} train"


def test_a_result_does_not_call_them_rows_either() -> None:
    packed = RESULT | {"results": {"dialogues": {"train": 36, "test": 1}}}
    assert words.describe(packed) == "a: ran, p\n  36 train dialogues in 2 sequences\n  test: 1 row"


def test_a_run_and_a_stage_alone_exclude_each_other(small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    draft = out / ".curate.partial"  # of a `zephyr curate --out run/curate` that is at work
    draft.mkdir(parents=True)
    with locked(out / ".curate.lock"), pytest.raises(UsageError, match="another run is at work in this folder"):
        zephyr.run(small_run.file, out=out, until="curate")
    assert draft.exists()
    execute = pipeline.execute

    def meanwhile(work: pipeline.Work) -> Artifact:
        with pytest.raises(UsageError, match="another run is at work in this folder"):
            pipeline.run_one(work)
        return execute(work)

    monkeypatch.setattr(one, "execute", meanwhile)
    assert ran(zephyr.run(small_run.file, out=out, until="curate")) == ["curate"]
    assert sorted(p.name for p in out.iterdir()) == [pipeline.FINGERPRINTS, "curate"]


def test_a_lock_is_of_the_file_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its holder removes the file when it ends: who has opened it before and locks it after has locked nothing."""
    lock, flock, calls = tmp_path / ".lock", fcntl.flock, 0

    def late(file: Any, operation: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:  # between opening and locking the holder ends, and another process makes the file anew
            lock.unlink()
            lock.touch()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with locked(lock):
        assert calls == 2
        with lock.open() as another, pytest.raises(BlockingIOError):
            flock(another, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert not lock.exists()


def test_keys_depend_on_the_version_of_a_stage(small_run: SmallRun, monkeypatch: pytest.MonkeyPatch) -> None:
    from zephyr.stages import binarize

    monkeypatch.setattr(binarize, "VERSION", binarize.VERSION + 1)
    result = zephyr.run(small_run.file, out=small_run.out, dry_run=True)
    assert result["artifacts"]["binarize"]["reason"] == "this version of the stage computes it differently"


def test_a_defect_of_the_forecast_is_seen(small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> dict[str, float]:
        return {"sft": None + 1}  # type: ignore[operator]

    monkeypatch.setattr(forecast, "forecast", broken)
    with pytest.raises(TypeError):
        zephyr.run(small_run.file, out=tmp_path / "run", until="sft")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 29.00 GiB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
    ids=["torch", "cuBLAS"],
)
def test_a_gpu_too_small_to_measure_on_stops_no_run(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    """Adapters, activations computed again, shards: what is trained may fit where all gradients do not."""

    def full(*_: object) -> dict[str, float]:
        raise error

    monkeypatch.setattr(forecast, "forecast", full)
    zephyr.run(small_run.file, out=tmp_path / "run", until="sft")
    assert "forecast: not known: there is no memory for the whole model with all its gradients" in capsys.readouterr().err
    assert (tmp_path / "run" / "sft" / artifacts.MANIFEST).exists()


def test_the_demo_recipe_plans_from_end_to_end(own_cache: Path, tmp_path: Path) -> None:
    from conftest import ROOT

    result = zephyr.run(ROOT / "recipes" / "demo.yaml", out=tmp_path / "demo", dry_run=True)
    assert list(result["artifacts"]) == small.STAGES
    assert list(own_cache.iterdir()) == [], "planning fetched something"
    assert artifacts.MANIFEST == "manifest.json"
