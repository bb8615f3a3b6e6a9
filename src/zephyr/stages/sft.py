"""Distilled supervised fine-tuning: paper, section 3, step 1."""

from __future__ import annotations

from functools import cache

from zephyr.artifacts import Draft
from zephyr.recipe import Recipe, Section, SFTConfig, TrainConfig
from zephyr.stages import From, Inputs, Needs, template_file

VERSION = 2  # 2: dialogues have names of their own, by which an epoch is ordered; what a turn says beside its role and content is refused


class Config(Section):
    """Settings of this stage."""

    seed: int
    chat_template: str
    train: TrainConfig
    sft: SFTConfig


def configure(recipe: Recipe) -> Config:
    """The settings of this stage in a recipe."""
    assert recipe.sft is not None
    return Config(seed=recipe.seed, chat_template=recipe.model.chat_template, train=recipe.train, sft=recipe.sft)


def needs(recipe: Recipe) -> Needs:
    """The dialogues, and the model as it came."""
    return Needs(data={"dialogues": From("curate"), **template_file(recipe.model.chat_template)}, models={"base": recipe.model})


def run(config: Config, inputs: Inputs, out: Draft) -> None:
    """Train the student on the dialogues and write it as a plain model folder."""
    from zephyr.train import prepare

    work = prepare.Work(
        inputs.data["dialogues"], inputs.models["base"], config.chat_template, config.sft, out.checkpoints / "prepared", out.manifest.key
    )
    chat = cache(lambda: prepare.load_chat(work))
    train, test = prepare.dialogues(work, chat, out)
    # not before: torch and the model are not in memory while many dialogues are prepared
    from zephyr.train import session
    from zephyr.train.student import load_student
    from zephyr.train.tasks import SFT

    model = load_student(inputs.models["base"], chat(), config.train, config.sft.quantize)
    out.manifest.results["dialogues"] = {"train": len(train.split), "test": len(test.split)}
    session.fit(model, chat(), SFT(), config.sft, config.train, train, test, seed=config.seed, out=out, label="dSFT")
