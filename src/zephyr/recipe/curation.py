"""How dialogues are curated: what is left out, what is mended, how many are kept, and how they are divided."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer

from zephyr.recipe.base import Count, Invalid, Name, Section, Share, Source


class NearConfig(Section):
    """Near-duplicates: two texts are one if the runs of `ngram` words that they share are at least `threshold` of all that they have.

    Candidates are pairs of which `rows` min-hashes in a row agree, in one of `bands` bands; two texts with the similarity s become one
    with the probability 1 - (1 - s**rows)**bands: 0.998 at 0.8, 0.27 at 0.5. Each is then compared exactly.
    """

    # how alike two texts have to be, from 0 to 1
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.8
    # how many words a run has
    ngram: Count = 5
    # how many bands of min-hashes are compared: more of them miss less, and compare more
    bands: Annotated[int, Field(ge=1, le=256)] = 20
    # how many min-hashes of a band have to agree: more of them compare less, and miss more
    rows: Annotated[int, Field(ge=1, le=32)] = 6


class NearPromptsConfig(NearConfig):
    """Near-duplicates among prompts, which are shorter."""

    # how many words a run has
    ngram: Count = 3
    # one: of prompts that are near, the first stays; apart: all stay, but none that is near a prompt of the other split
    keep: Literal["one", "apart"] = "one"


class GateConfig(Section):
    """What counts as a benchmark's item, beside the same words: runs of `ngram` words, at least the share `overlap` of the item's."""

    # how many words a run has
    ngram: Count = 13
    # the share of an item's runs that have to be in a text
    overlap: Annotated[float, Field(gt=0, le=1)] = 0.5
    # drop: leave the dialogue out and count it; error: stop, and name the item
    on_match: Literal["drop", "error"] = "drop"


class SelectConfig(Section):
    """Which of the dialogues are taken where there are more than are wanted."""

    # how many are taken
    target: Count
    # what the strata are made of
    by: list[Literal["topic", "turns", "length"]] = Field(default=["topic", "turns", "length"], min_length=1)
    # what a stratum gets: its share of what there is; the root of that, so that small ones get more; or as much as any other
    balance: Literal["proportional", "root", "even"] = "proportional"


class FilterConfig(Section):
    """What some of the filters go by."""

    # ISO 639-1 code of the language that answers must be in
    language: Annotated[str, Field(pattern=r"^[a-z]{2}$")] = "en"
    # what all answers of a dialogue together must have
    min_answer_chars: Annotated[int, Field(ge=0)] = 10
    # what the dialogue may have
    max_chars: Count = 100_000
    # how many turns it may have, a system turn aside
    max_turns: Count = 64


class Curation(Section):
    """All that decides what comes out, but for the data. What is not set is not done."""

    # for sources that name no split: this share of prompts, chosen by hash, is kept for the test
    test_fraction: Share = 0.1
    # a row that cannot be used: error, it stops the stage; drop, it is left out and counted
    invalid: Invalid = "error"
    # this share of prompts, chosen by hash, goes to splits of their own (train_gen, test_gen), which dSFT does not read
    gen_fraction: Share = 0.0
    # `none`, `default` (those that are on by default), `all`, or their names
    filters: Literal["none", "default", "all"] | list[Name] = "none"
    filter_settings: FilterConfig = FilterConfig()
    # texts in good case to learn from (rows with `text`, or dialogues), or `self`: the first 2,000 dialogues of the data
    truecase: Literal["self"] | list[Source] = []
    near_prompts: NearPromptsConfig | None = None
    near_dialogues: NearConfig | None = None
    # leave out dialogues with a prompt of one of the recipe's benchmarks
    decontaminate: bool = True
    gate: GateConfig = GateConfig()
    select: SelectConfig | None = None
    # how many processes work at it; by default as many as there are processors
    processes: Count | None = Field(default=None, exclude=True)

    @field_validator("gate", "filter_settings", mode="before")
    @classmethod
    def _left_empty(cls, value: object) -> object:
        return {} if value is None else value

    @model_serializer(mode="wrap")
    def _what_is_set(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What is not used is no part of what a stage was made from: there were no such settings once."""
        later: dict[str, Any] = {
            "gen_fraction": 0.0,
            "filters": "none",
            "filter_settings": FilterConfig().model_dump(),
            "truecase": [],
            "near_prompts": None,
            "near_dialogues": None,
            "decontaminate": True,
            "gate": GateConfig().model_dump(),
            "select": None,
        }
        return {name: value for name, value in handler(self).items() if name not in later or value != later[name]}
