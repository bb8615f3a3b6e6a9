"""Dialogues that teachers write: how many of which kind, and what is set aside."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from zephyr.recipe.base import Count, Invalid, Name, Section, Share, Source
from zephyr.recipe.teachers import TeacherConfig

Turns = Annotated[list[Count], Field(min_length=2, max_length=2)]


class SectorConfig(Section):
    """What every kind of dialogue is told."""

    # how many are begun; what is set aside on the way is not made up for, a greater count adds to what is there
    count: Count
    # the least and the most turns of the user, each with its answer; how many it is, is drawn for each dialogue
    turns: Turns = [2, 4]

    @model_validator(mode="after")
    def _in_order(self) -> SectorConfig:
        if self.turns[0] > self.turns[1]:
            raise ValueError(f"turns: the least of them, {self.turns[0]}, is more than the most, {self.turns[1]}")
        return self


class WorldConfig(SectorConfig):
    """Questions about the world: topics, their subtopics, questions on each, related ones; and entities."""

    # the least and the most turns of the user, each with its answer; how many it is, is drawn for each dialogue
    turns: Turns = [3, 7]
    # how many subtopics a topic is divided into
    subtopics: Count = 37
    # how many questions a subtopic gets
    questions: Count = 10
    # how many further questions each of those leads to
    related: Annotated[int, Field(ge=0)] = 3
    # the share of the dialogues that begin with an entity, not with a topic
    entities: Share = 0.25
    # how many questions close to a first question about an entity
    specific: Count = 10
    # how many that merely touch on it
    general: Count = 20


class WritingConfig(SectorConfig):
    """Writing and creation: kinds of texts, instructions for each, and a share of them worked out further."""

    # how many instructions a kind of text gets
    instructions: Count = 200
    # the share of them that is worked out with more detail
    expanded: Share = 0.8


class MaterialsPlan(SectorConfig):
    """Assistance on existing materials, but for the texts."""

    # how many instructions a passage gets
    instructions: Count = 5
    # a longer text is divided, between paragraphs where that can be
    passage_characters: Annotated[int, Field(ge=200)] = 4000


class MaterialsConfig(MaterialsPlan):
    """Assistance on existing materials: passages of the user's own texts, instructions on each."""

    # text files (.txt, .md, .rst), or folders of them
    files: list[Name] = Field(min_length=1)


class SelfInstructPlan(SectorConfig):
    """Self-instruct as in the paper's section 3, but for the seed prompts."""

    # the least and the most turns of the user, each with its answer; how many it is, is drawn for each dialogue
    turns: Turns = [1, 1]
    # how often an answer is sampled and the instruction refined
    rounds: Count = 1


class SelfInstructConfig(SelfInstructPlan):
    """Self-instruct: from a seed prompt an answer, from both a refined instruction, again and again; where it ends is the data."""

    # prompts to begin with
    seeds: list[Source] = Field(min_length=1)


class SynthesizeConfig(Section):
    """Teachers write dialogues: paper, section 3, step 1."""

    # who answers
    assistant: TeacherConfig
    # who plays the user, and writes topics, questions and instructions; the same as the assistant if unset
    user: TeacherConfig | None = None
    # questions about the world
    world: WorldConfig | None = None
    # writing and creation
    writing: WritingConfig | None = None
    # assistance on existing materials
    materials: MaterialsConfig | None = None
    # instructions refined from seed prompts
    self_instruct: SelfInstructConfig | None = None
    # a folder with prompts and lists of your own, by the names of those that `zephyr synthesize --copy-prompts FOLDER` writes
    prompts: Name | None = None
    # how many items of a list are asked for at once
    items_per_call: Annotated[int, Field(ge=1, le=50)] = 10
    # dialogues or prompts that there are already: what is close to one of them is refused
    existing: list[Source] = []
    # how alike a first turn may be to an earlier one: the share of their runs of five characters that both have
    max_similarity: Annotated[float, Field(gt=0, le=1)] = 0.7
    # turns that were cut off at max_new_tokens: drop, the dialogue is set aside; keep, they stay and are counted
    cut_turns: Literal["drop", "keep"] = "drop"
    # the stage stops when more than this share of what was begun has to be set aside
    max_rejected: Share = 0.3
    # this share of prompts, chosen by hash, is kept for the test
    test_fraction: Share = 0.1
    # a seed prompt, or an existing one, that cannot be used: error, it stops the stage; drop, it is left out and counted
    invalid: Invalid = "error"

    @model_validator(mode="after")
    def _makes_something(self) -> SynthesizeConfig:
        if not (self.world or self.writing or self.materials or self.self_instruct):
            raise ValueError("nothing is asked for; give it a section world, writing, materials or self_instruct")
        return self

    def teachers(self) -> dict[str, TeacherConfig]:
        """Both, by their role."""
        return {"assistant": self.assistant, "user": self.user or self.assistant}
