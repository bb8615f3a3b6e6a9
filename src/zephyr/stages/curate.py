"""Dialogues in, dialogues to learn from out."""

from __future__ import annotations

from zephyr import schemas, sources
from zephyr.artifacts import Draft
from zephyr.recipe import CurateConfig, Invalid, Recipe, Section, Share
from zephyr.records import parse_dialogue
from zephyr.stages import Inputs, Needs

VERSION = 2


class Config(Section):
    """Settings of this stage."""

    test_fraction: Share = 0.0
    invalid: Invalid = "error"


def _section(recipe: Recipe) -> CurateConfig:
    assert recipe.curate is not None
    return recipe.curate


def configure(recipe: Recipe) -> Config:
    """The settings of this stage in a recipe."""
    section = _section(recipe)
    return Config(test_fraction=section.test_fraction, invalid=section.invalid)


def needs(recipe: Recipe) -> Needs:
    """Dialogues from outside."""
    return Needs(data={"dialogues": _section(recipe).data})


def run(config: Config, inputs: Inputs, out: Draft) -> None:
    """Check every dialogue, drop duplicates, and divide into train and test."""
    by_split = sources.collect(inputs.data["dialogues"], parse_dialogue, out, invalid=config.invalid, test_fraction=config.test_fraction)
    for split, items in by_split.items():
        out.write_rows(split, [item.record.row() for item in items], schemas.dialogues())
    turns = [len(item.record.messages) for items in by_split.values() for item in items]
    out.manifest.results = {"mean_turns": sum(turns) / len(turns), "multi_turn": sum(t > 3 for t in turns)}
