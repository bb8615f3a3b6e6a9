"""Dialogues in, dialogues to learn from out."""

from __future__ import annotations

from typing import Any

from zephyr.artifacts import Draft
from zephyr.recipe import CurateConfig, Curation, Recipe
from zephyr.stages import From, Inputs, Needs

VERSION = 5  # 5: what a turn says beside its role and content is refused where it would vanish
SAMPLE_BYTES, SAMPLE_PIECES = 1 << 18, 16  # some thousand dialogues
AGAINST = "against "  # how the names of inputs begin that hold a benchmark's items


class Config(Curation):
    """Settings of this stage."""


def _section(recipe: Recipe) -> CurateConfig:
    assert recipe.curate is not None
    return recipe.curate


def configure(recipe: Recipe) -> Config:
    """The settings of this stage in a recipe."""
    section = _section(recipe)
    return Config(**{name: getattr(section, name) for name in Curation.model_fields})


def needs(recipe: Recipe) -> Needs:
    """Dialogues, from outside or synthesized; texts to learn case from; and the benchmarks whose items are left out."""
    section = _section(recipe)
    against = {f"{AGAINST}{name}": [source] for name, source in recipe.benchmarks.items()} if section.decontaminate else {}
    cases = {} if isinstance(section.truecase, str) or not section.truecase else {"truecase": section.truecase}
    return Needs(data={"dialogues": section.data or From("synthesize"), **cases, **against})


def run(config: Config, inputs: Inputs, out: Draft) -> None:
    """Check every dialogue, leave out what is wrong, doubled or a benchmark's, and divide into train and test."""
    from zephyr.curation import curate

    curate(config, inputs.data["dialogues"], out, **_beside(inputs))


def sample(config: Config, inputs: Inputs, out: Draft) -> None:
    """The same with stretches of the data, spread evenly: what it would come to."""
    from zephyr.curation import curate

    curate(config, inputs.data["dialogues"], out, **_beside(inputs), piece_bytes=SAMPLE_BYTES, sample=SAMPLE_PIECES)


def _beside(inputs: Inputs) -> dict[str, Any]:
    return {"against": {name.removeprefix(AGAINST): data[0] for name, data in inputs.data.items() if name.startswith(AGAINST)}}
