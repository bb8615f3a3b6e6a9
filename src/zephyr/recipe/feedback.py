"""How answers are collected, rated and made into pairs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from zephyr.recipe.base import Count, Invalid, Positive, Section, Share, Source
from zephyr.recipe.teachers import TeacherConfig

Principle = Literal["helpfulness", "truthfulness", "honesty", "calibration"]


class CompleteConfig(Section):
    """Several models answer each prompt: paper, section 3, step 2."""

    # what is asked
    prompts: list[Source] = Field(min_length=1)
    # the models that answer, by name
    pool: dict[str, TeacherConfig] = Field(min_length=2)
    # how many of the pool answer each prompt, drawn by hash
    models_per_prompt: Annotated[int, Field(ge=2)] = 4
    # each answer is asked for under one of them, drawn by hash; [] asks without a system prompt
    principles: list[Principle] = ["helpfulness", "truthfulness", "honesty", "calibration"]
    # for sources that name no split: this share of prompts, chosen by hash, is kept for the test
    test_fraction: Share = 0.1
    # a row that cannot be used: error, it stops the stage; drop, it is left out and counted
    invalid: Invalid = "error"

    @model_validator(mode="after")
    def _enough_models(self) -> CompleteConfig:
        if self.models_per_prompt > len(self.pool):
            raise ValueError(f"models_per_prompt is {self.models_per_prompt}, but the pool has {len(self.pool)} models")
        return self


class RateConfig(Section):
    """A teacher scores every answer."""

    # who scores them
    teacher: TeacherConfig
    # each: one call an answer; together: all answers to a prompt in one call, in shuffled and recorded order
    protocol: Literal["each", "together"] = "each"
    # answers already collected, where there is no `complete` section
    data: list[Source] = []
    # for sources that name no split: this share of prompts, chosen by hash, is kept for the test
    test_fraction: Share = 0.1
    # a row that cannot be used: error, it stops the stage; drop, it is left out and counted
    invalid: Invalid = "error"
    # the stage stops when more than this share of the replies could not be read
    max_unparsed: Share = 0.1

    @model_validator(mode="after")
    def _recorded_one_by_one(self) -> RateConfig:
        if self.protocol == "together" and self.teacher.kind == "replay":
            raise ValueError("protocol: recorded ratings are of one answer each; take `together` out")
        return self


def _for_all(value: object) -> object:
    return {"*": value} if isinstance(value, int) and not isinstance(value, bool) else value


Aspect = Literal["instruction_following", "honesty", "truthfulness", "helpfulness"]
Caps = Annotated[dict[str, Count], BeforeValidator(_for_all)]


class PairPolicy(Section):
    """Which two answers of a prompt become a pair, and how many pairs of a source stay."""

    # what ranks the answers: the mean of the aspects (the paper), the overall score (the first public set), or a weighted mean of aspects
    score: Literal["mean", "overall", "weighted"] = "mean"
    # weighted: {helpfulness: 2, honesty: 1}; of an answer that lacks some, those that it has count, by their weights
    weights: dict[Aspect, Positive] = {}
    # random: one of the others, whatever its rank (paper, section 4.1); lowest: the worst of them; nearest: the one closest below the
    # best; margin_weighted: drawn, with a chance in proportion to the distance from the best
    rejected: Literal["random", "lowest", "nearest", "margin_weighted"] = "random"
    # drop: equal scores are no preference; keep: an equal one may be rejected; second: the other score decides (overall, or the mean)
    ties: Literal["drop", "keep", "second"] = "drop"
    # how far below the best, in points of the score, a rejected answer has to be; 0: any difference
    min_margin: Annotated[float, Field(ge=0)] = 0.0
    # the most train pairs of a source: {flan: 5000, "*": 1000}, or one number for each; which stay is chosen by hash
    max_per_source: Caps = {}

    @field_validator("weights")
    @classmethod
    def _read_by_the_score(cls, value: dict[Aspect, float], info: ValidationInfo) -> dict[Aspect, float]:
        score = info.data.get("score")
        if value and score not in (None, "weighted"):  # None: it is wrong itself, and said to be
            raise ValueError(f"score {score} does not read it; take it out, or set score: weighted")
        return value

    @field_validator("min_margin")
    @classmethod
    def _keeps_what_ties_keeps(cls, value: float, info: ValidationInfo) -> float:
        if value > 0 and info.data.get("ties") == "keep":
            raise ValueError("equal scores differ by nothing, and `ties: keep` asks for them; take one of the two out")
        return value

    @model_validator(mode="after")
    def _weighs_something(self) -> PairPolicy:
        if self.score == "weighted" and not self.weights:
            raise ValueError("score: weighted needs the weights of aspects, as weights: {helpfulness: 2, honesty: 1}")
        return self

    @model_serializer(mode="wrap")
    def _what_is_set(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What is not set is no part of what a stage was made from: there were no such settings once."""
        later = {"weights": {}, "ties": "drop", "min_margin": 0.0, "max_per_source": {}}
        return {name: value for name, value in handler(self).items() if name not in later or value != later[name]}

    @property
    def ranked_by(self) -> str | dict[str, float]:
        """What ranks the answers: `mean`, `overall`, or the weights of aspects."""
        return {str(name): weight for name, weight in self.weights.items()} if self.score == "weighted" else self.score


class BinarizeConfig(PairPolicy):
    """Scores become pairs."""

    # ratings or ready-made pairs, where there is no `rate` section
    data: list[Source] = []
    # for sources that name no split: this share of prompts, chosen by hash, is kept for the test
    test_fraction: Share = 0.1
    # a row that cannot be used: error, it stops the stage; drop, it is left out and counted
    invalid: Invalid = "error"
    # leave out prompts that are in one of the recipe's benchmarks
    decontaminate: bool = True
