"""The pages for those who come from elsewhere: their recipes are recipes, their commands run, and the settings they name are there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import small
import tiny
from zephyr import recipes
from zephyr.cli import main
from zephyr.recipe import BinarizeConfig, DPOConfig, LoRAConfig, Recipe, SFTConfig, TrainConfig, build, load
from zephyr.settings import parse_yaml

ROOT = Path(__file__).resolve().parents[2]
TRL, HANDBOOK, DISTILABEL = (
    (ROOT / "docs" / f"from-{name}.md").read_text(encoding="utf-8") for name in ("trl", "alignment-handbook", "distilabel")
)


def blocks(page: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def recipe(text: str) -> Recipe:
    values, lines = parse_yaml(text, "page")
    return build(Recipe, values, lines, "page")


def zephyr(command: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(shlex.split(command)[1:])
    assert not end.value.code, command


def table(page: str, heading: str) -> list[list[str]]:
    part = page.split(heading)[1]
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in part.split("\n\n")[1].splitlines()[2:]]


@pytest.mark.timeout(300)
def test_trl_what_you_write_now_runs(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of the page, on data of the kind it names, from a model that TRL could have saved."""
    monkeypatch.chdir(tmp_path)
    small.write_lines(tmp_path / "chats.jsonl", small.dialogues())
    two = [{"role": "user", "content": "{}"}, {"role": "assistant", "content": "{}"}]
    rows = [
        {"prompt": q, "chosen": f"{a} That is all.", "rejected": "I do not know."} if i % 2 else
        {side: [{**two[0], "content": f"{q} Well?"}, {**two[1], "content": text}] for side, text in (("chosen", a), ("rejected", "No."))}
        for i, (q, a) in enumerate(small.QUESTIONS)
    ]  # fmt: skip
    small.write_lines(tmp_path / "pairs.jsonl", rows)
    student = tmp_path / "student"
    tiny.tiny_model(attention="sdpa").save_pretrained(student)
    tiny.byte_tokenizer().save_pretrained(student)
    runs, single = blocks(TRL, "sh")
    (text,) = blocks(TRL, "yaml")
    (tmp_path / "mine.yaml").write_text(text.replace("my/model", str(student)))
    for command in runs.splitlines() + single.replace("my/model", str(student)).splitlines():
        zephyr(command)
    assert (tmp_path / "exports/mine/dpo-BF16.gguf").exists() and (tmp_path / "runs/mine/dpo/model/config.json").exists()


def test_trl_settings_are_settings() -> None:
    pytest.importorskip("trl", reason="TRL is not installed")
    from dataclasses import fields

    from trl import DPOConfig as TheirDPO
    from trl import SFTConfig as TheirSFT

    theirs = {f.name for kind in (TheirDPO, TheirSFT) for f in fields(kind)} | {"peft_config", "resume_from_checkpoint"}
    ours = {
        *SFTConfig.model_fields,
        *DPOConfig.model_fields,
        *(f"train.{name}" for name in TrainConfig.model_fields),
        "--out",
        *Recipe.model_fields,
    }
    rows = table(TRL, "## Setting by setting")
    assert len(rows) > 12
    for their, our, _ in rows:
        assert set(re.findall(r"`([\w.-]+)`", their)) <= theirs and set(re.findall(r"`([\w.-]+)`", our)) <= ours
    defaults: dict[str, Any] = {f.name: f.default for f in fields(TheirSFT)} | {f.name: f.default for f in fields(TheirDPO)}
    assert (defaults["learning_rate"], defaults["beta"], defaults["assistant_only_loss"], defaults["max_grad_norm"]) == (
        1e-6,
        0.1,
        False,
        1.0,
    )
    assert (DPOConfig().learning_rate, DPOConfig().beta, SFTConfig().loss_on) == (5e-7, 0.1, "assistant")
    (script,) = blocks(TRL, "python")
    named = set(re.findall(r"\b(\w+)=", script)) - {"args", "train_dataset", "data_files"}
    assert len(named) > 10 and named <= theirs


def test_handbook_the_difference_is_what_the_page_shows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    diff, run = blocks(HANDBOOK, "sh")
    zephyr(diff.strip())
    said = capsys.readouterr().out
    shown = re.search(r"^```\n(zephyr-7b.*?)^```", HANDBOOK, re.MULTILINE | re.DOTALL)
    assert shown and said.startswith(shown.group(1))
    zephyr(re.findall(r"`(zephyr recipe show [^`]*)`", HANDBOOK)[0])
    assert "  # how far the model may move" in capsys.readouterr().out
    for name in re.findall(r"\(\.\./recipes/(.*?)\)", HANDBOOK):
        assert (ROOT / "recipes" / name).exists()
    (tmp_path / "mine.yaml").write_text(blocks(HANDBOOK, "yaml")[0])
    monkeypatch.chdir(tmp_path)
    zephyr(run.splitlines()[0])
    mine, theirs = load(tmp_path / "mine.yaml"), load(ROOT / "recipes/zephyr-7b-handbook-f0ffa0d.yaml")
    found = recipes.compare(theirs, mine)["differences"]
    assert {d["setting"].split("[")[0] for d in found if d["section"] in ("sft", "dpo")} == set(), "it is the handbook's, written short"
    assert mine.curate and theirs.curate and mine.binarize and theirs.binarize
    assert (mine.curate.invalid, mine.binarize.invalid, mine.binarize.ties) == (theirs.curate.invalid, theirs.binarize.invalid, "keep")


def test_handbook_settings_are_settings() -> None:
    ours = {
        "split",
        "source_split",
        "weight",
        "path",
        "data",
        "batch_size",
        "rank",
        "alpha",
        "dropout",
        "target_modules",
        "quantize",
        "nf4",
    }
    assert {"rank", "alpha", "dropout", "target_modules", "quantize"} <= set(LoRAConfig.model_fields)
    known = ours | {
        *SFTConfig.model_fields,
        *DPOConfig.model_fields,
        *TrainConfig.model_fields,
        *Recipe.model_fields,
        "revision",
        "chat_template",
    }
    for _, our in table(HANDBOOK, "## Setting by setting"):
        named = set(re.findall(r"(?:^|[`{ ,.\[])(\w+)(?=[:,}`])", " ".join(re.findall(r"`[^`]*`", our))))
        assert {name for name in named if not name.isdigit()} - {
            "name",
            "zephyr",
            "tokenizer",
            "train",
            "test",
            "bfloat16",
            "NAME",
            "run",
        } <= known, our


def test_distilabel_the_recipe_and_its_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_folder: Path) -> None:
    from misbehaving import judge_or_answer, serving

    whole, part = blocks(DISTILABEL, "yaml")
    asked = recipe(whole)
    assert asked.complete and asked.rate and asked.rate.protocol == "together" and asked.binarize and asked.binarize.rejected == "lowest"
    monkeypatch.chdir(tmp_path)
    small.write_lines(tmp_path / "prompts.jsonl", [{"prompt": f"What is {i} good for?"} for i in range(8)])
    collect, look = blocks(DISTILABEL, "sh")
    plan, run, audit = collect.splitlines()
    with serving(answer=judge_or_answer) as running:
        (tmp_path / "preferences.yaml").write_text(re.sub(r"http://localhost:800\d/v1", running.url, whole))
        zephyr(plan)
        # the judge of the tests speaks of one answer at a time
        zephyr(f"{run} rate.protocol=each")
    with pytest.raises(SystemExit) as end:
        main(shlex.split(audit)[1:])
    assert end.value.code in (0, 1)  # 1: something found, in answers this much alike
    pairs = [
        {"prompt": q, "chosen": [{"role": "user", "content": q}, {"role": "assistant", "content": a}], "chosen_rating": 5.0,
         "rejected": [{"role": "user", "content": q}, {"role": "assistant", "content": "No."}], "rejected_rating": 2.0}
        for q, a in small.QUESTIONS
    ]  # fmt: skip
    small.write_lines(tmp_path / "pairs.jsonl", pairs)
    from zephyr import sources
    from zephyr.artifacts import draft
    from zephyr.records import parse_preference

    section = build(BinarizeConfig, parse_yaml(part, "page")[0]["binarize"], {}, "page")
    with draft(tmp_path / "read", stage="s", key="k", config={}, parents={}) as out:
        found = sources.collect(section.data, parse_preference, out, invalid="error", test_fraction=0.0)
    assert {(item.record.score_chosen, item.record.score_rejected) for item in found["train"]} == {(5.0, 2.0)}
    with pytest.raises(SystemExit) as end:
        main(shlex.split(look.strip())[1:])
    assert end.value.code in (0, 1)
