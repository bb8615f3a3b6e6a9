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
from typing import TYPE_CHECKING

from zephyr.recipe import DataSource, ModelConfig

if TYPE_CHECKING:
    from zephyr.models.load import ModelRef


@dataclass(frozen=True)
class From:
    """What another stage of the run makes."""

    stage: str


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
