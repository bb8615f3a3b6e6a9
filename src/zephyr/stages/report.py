"""One page about the run, and the model card."""

from __future__ import annotations

from pathlib import Path

from zephyr.artifacts import Artifact, Draft
from zephyr.recipe import Recipe, Section
from zephyr.stages import From, Inputs, Needs

VERSION = 2
ORDER = ("synthesize", "curate", "sft", "complete", "rate", "binarize", "reference", "dpo", "answer", "judge", "evaluate")


class Config(Section):
    """Settings of this stage."""

    name: str
    title: str


def configure(recipe: Recipe) -> Config:
    """The settings of this stage in a recipe."""
    return Config(name=recipe.name, title=recipe.report.title or recipe.name)


def needs(recipe: Recipe) -> Needs:
    """Every artifact of the run."""
    section = {"reference": "dpo", "answer": "judge"}
    there = {name: getattr(recipe, section.get(name, name)) is not None for name in ORDER}
    return Needs(data={name: From(name, whole=True) for name in ORDER if there[name]})


def run(config: Config, inputs: Inputs, out: Draft) -> None:
    """Write `report.html` and `README.md`, the model card."""
    from zephyr.report import card, page

    artifacts = {name: Artifact.open(Path(found[0].path)) for name, found in inputs.data.items()}
    (out.path / "report.html").write_text(page.render(config.name, config.title, artifacts, order=ORDER), encoding="utf-8")
    (out.path / "README.md").write_text(card.render(config.name, artifacts), encoding="utf-8")
