"""One file, one arrow of the picture. Stages do not import each other.

A stage module has
    VERSION              raised when equal input gives other output than before
    Config               the settings it depends on; nothing else may change what it computes
    configure(recipe)    its settings out of a recipe
    needs(recipe)        its inputs: data and models, each from another stage or from outside
    run(config, inputs, out)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from zephyr.errors import UsageError
from zephyr.recipe import DataSource, ModelConfig, Recipe, TeacherConfig
from zephyr.recipe.base import refuse_template_text

if TYPE_CHECKING:
    from zephyr.models.load import ModelRef


@dataclass(frozen=True)
class From:
    """What another stage of the run makes; with `whole`, its counts and logs too, not the rows or the model alone."""

    stage: str
    whole: bool = False


@dataclass(frozen=True)
class Needs:
    """What a stage reads, by the name it knows it under."""

    data: Mapping[str, From | Sequence[DataSource]] = field(default_factory=dict)
    models: Mapping[str, From | ModelConfig] = field(default_factory=dict)


@dataclass(frozen=True)
class Inputs:
    """What a stage reads, found."""

    data: Mapping[str, Sequence[DataSource]]
    models: Mapping[str, ModelRef]


def template_file(chat_template: str, setting: str = "model.chat_template") -> dict[str, list[DataSource]]:
    """The file of a chat template that is one: what it says is an input, not its name alone.

    Raises:
        UsageError: there is no such file, or the template itself was given; it names the setting.
    """
    if chat_template in ("zephyr", "tokenizer"):
        return {}
    try:
        there = Path(refuse_template_text(chat_template)).expanduser().is_file()
    except ValueError as error:
        raise UsageError(f"{setting}: {error}") from None
    if not there:
        raise UsageError(f"{setting}: there is no file {chat_template}; it is `zephyr`, `tokenizer` (the model's own) or a Jinja file")
    return {"chat template": [DataSource(path=chat_template)]}


def training_data(recipe: Recipe, beside: Sequence[DataSource]) -> dict[str, From | Sequence[DataSource]]:
    """What the models of a run are trained on, in which benchmarks are looked for; and what they were trained on before (`trained_on`)."""
    found: dict[str, From | Sequence[DataSource]] = {"trained on": beside} if beside else {}
    found |= {"trained on, dialogues": From("curate")} if recipe.sft else {}
    return {**found, **({"trained on, pairs": From("binarize")} if recipe.dpo else {})}


def teacher_inputs(name: str, config: TeacherConfig) -> tuple[dict[str, list[DataSource]], dict[str, ModelConfig]]:
    """(data, models) that a teacher reads: the recording of one that replays, the model of one that thinks here, nothing of a server."""
    if config.kind == "replay":
        return {name: config.recordings()}, {}
    if config.kind == "api":
        return {}, {}
    template = config.chat_template or "tokenizer"
    files = {f"{name}, {what}": data for what, data in template_file(template, f"{name}: chat_template").items()}
    return files, {
        name: ModelConfig(path=config.path, revision=config.revision, trust_remote_code=config.trust_remote_code, chat_template=template)
    }
