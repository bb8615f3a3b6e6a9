"""How large an experiment is: typed sections, read from one YAML file for each preset, every value with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Annotated, Literal

from pydantic import Field, model_validator

from zephyr.errors import UsageError
from zephyr.recipe import (
    Count,
    DPOConfig,
    Name,
    Positive,
    Section,
    SFTConfig,
    ShapeConfig,
    Share,
    TrainConfig,
    apply_overrides,
    build,
)
from zephyr.settings import parse_yaml

PRESETS = ("demo", "small", "paper")


class DataConfig(Section):
    """Which rows there are, and how many are kept for the measurement."""

    # demo: the texts that ship with the package; folder: files of --data
    source: Literal["demo", "folder"]
    # dialogues that dSFT learns, at most
    train_dialogues: Count = 1_000_000
    # dialogues whose likelihood is measured, and whose prompts are answered
    test_dialogues: Count
    # pairs that dDPO learns, and pairs that it is measured on
    train_pairs: Count
    test_pairs: Count
    # pairs of a second held-out set, where there is one
    other_pairs: Count = 300
    # of a prompt and its answer (of a pair the longer one), counted before there are tokens: a longer row is left out
    characters: Count = 1_000_000
    # measure on pairs taken from the train rows, so that settings can be tried without a look at the test rows
    validation: bool = False


class BaseConfig(Section):
    """The language model that everything starts from, where none is given: its shape, and its training on plain text."""

    # vocabulary of a byte-level BPE that is learnt from the same text, and the model around it
    shape: ShapeConfig
    # AdamW on windows of max_length tokens, all of them learnt
    training: SFTConfig


class SamplingConfig(Section):
    """Answers that are sampled: does a model keep to the chat format?"""

    # prompts of test dialogues; from one alone no interval could be told
    prompts: Annotated[int, Field(ge=2)]
    # an answer that has not ended by then does not keep to it
    max_new_tokens: Count
    # how the paper's appendix samples
    temperature: Annotated[float, Field(ge=0)] = 0.7
    # nucleus
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95


class Margins(Section):
    """What is decided before anything is measured: differences that are too small to count."""

    # F3: a share of answers: one in ten that does not keep to the template is seen by whoever chats; less may be the limit or the sampling
    template: Share = 0.1
    # F4: help by less than this, in accuracy, is no help
    help: Positive = 0.02
    # F5: a train accuracy from which on the pairs are called learnt by heart; the paper's is 1, which no interval can lie above
    learnt: Share = 0.95


class Preset(Section):
    """The whole of it."""

    name: Name
    # what is to be said of the scale beside every result
    about: Name
    data: DataConfig
    base: BaseConfig
    train: TrainConfig
    sft: SFTConfig
    # the second step of dSFT-2, on the preferred answers
    best: SFTConfig
    dpo: DPOConfig
    # looks at the test pairs on the curve of Figure 3: one in so many updates
    curve_every: Count
    sampling: SamplingConfig
    margins: Margins = Margins()

    @model_validator(mode="after")
    def _fits(self) -> Preset:
        context = self.base.shape.max_position_embeddings
        longest = max(self.base.training.max_length, self.sft.max_length, self.best.max_length, self.dpo.max_length)
        if context is not None and longest > context:
            raise ValueError(f"base.shape.max_position_embeddings is {context}, and a max_length is {longest}")
        if self.dpo.objective != "dpo":
            raise ValueError("dpo.objective: the paper's experiments are of dpo, Eq. 1")
        if {self.sft.epochs, self.best.epochs, self.dpo.epochs} != {1}:
            raise ValueError("epochs: the experiment says how many; take them out of sft, best and dpo")
        return self


def load(name: str, overrides: Sequence[str] = ()) -> Preset:
    """A preset by its name, with settings changed.

    Raises:
        UsageError: there is none of that name, or a key or a value is wrong.
    """
    refuse_unknown(name)
    if name == "paper":
        raise UsageError("--preset paper: is the recipe of the paper; see `zephyr reproduce table3 --preset paper --dry-run`")
    file = resources.files("zephyr") / "reproduce" / "presets" / f"{name}.yaml"
    values, lines = parse_yaml(file.read_text(encoding="utf-8"), f"preset {name}")
    return build(Preset, apply_overrides(values, list(overrides), lines), lines, f"preset {name}")


def refuse_unknown(name: str) -> None:
    """Raise unless there is a preset of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in PRESETS:
        raise UsageError(f"--preset {name}: not a preset; known are {', '.join(PRESETS)}")
