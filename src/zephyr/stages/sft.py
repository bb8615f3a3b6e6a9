"""Distilled supervised fine-tuning: paper, section 3, step 1."""

from __future__ import annotations

from zephyr import sources
from zephyr.artifacts import Draft
from zephyr.recipe import Recipe, Section, SFTConfig, TrainConfig
from zephyr.records import parse_dialogue
from zephyr.stages import From, Inputs, Needs, template_file

VERSION = 1


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
    by_split = sources.collect(inputs.data["dialogues"], parse_dialogue, out, invalid="error", test_fraction=0.0)
    from zephyr.models import load
    from zephyr.train import encode, session
    from zephyr.train.tasks import SFT

    load.refuse_longer(inputs.models["base"], {"sft.max_length": config.sft.max_length})
    chat = load.load_chat(inputs.models["base"], config.chat_template)
    train, test = (encode.dialogues(by_split[split], chat, config.sft, out, split) for split in ("train", "test"))
    model = load.load_model(inputs.models["base"], chat)
    out.manifest.results["dialogues"] = {split: sum(len(d.examples) for d in items) for split, items in (("train", train), ("test", test))}
    session.fit(model, chat, SFT(), config.sft, config.train, train, test, seed=config.seed, out=out, label="dSFT")
