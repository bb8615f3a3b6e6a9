"""What is measured, and the page at the end."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from zephyr.recipe.base import Count, Name, Section, Source

# a file is called by it
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class PreferencesConfig(Section):
    """Preference sets: of two answers, is the better one preferred by the model's implicit reward, or by a reward model?"""

    # by name, files, artifacts or hub names: pairs, rated answers, LLMBar's or PandaLM's rows
    sets: Annotated[dict[Label, Source], Field(min_length=1)]
    # the model that the first one measured was trained from; in a run, later ones are each set against the one before
    reference: Name | None = None
    # a folder or hub name: a sequence classifier with one output
    reward_model: Name | None = None
    # which score orders rated answers
    score: Literal["overall", "mean"] = "overall"
    # pairs with an answer that is longer, its prompt included, are left out and counted
    max_length: Annotated[int, Field(ge=2)] = 2048


class EvaluateConfig(Section):
    """What is measured, and on how much."""

    # prompts that base, dSFT and dDPO answer side by side
    samples: Annotated[int, Field(ge=0)] = 10
    # how long an answer may be
    max_new_tokens: Count = 256
    # 0 takes the most probable token; more of it, less probable ones, too
    temperature: Annotated[float, Field(ge=0)] = 0.7
    # nucleus sampling: the most probable tokens that have this share together
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    # academic tasks: arc_challenge, hellaswag, mmlu, truthfulqa, each with the file of its items, or its name on the hub (NAME@COMMIT)
    benchmarks: dict[Literal["arc_challenge", "hellaswag", "mmlu", "truthfulqa"], Name] = {}
    # the files few-shot examples are drawn from, where they are not those of the items
    fewshot: dict[Literal["arc_challenge", "hellaswag", "mmlu"], Name] = {}
    # few-shot examples: drawn for each item as lm-eval draws them; first_n: the first there are for all, which is several times faster
    sampler: Literal["drawn", "first_n"] = "drawn"
    # keep what lm-eval itself would write, results and samples with their prompts, beside the scores (a whole HellaSwag takes hundreds of
    # MB); no part of what is measured, so a measurement that is done is not made again for it
    log_samples: bool = Field(default=False, exclude=True)
    preferences: PreferencesConfig | None = None
    # what the models were trained on, beside what the run itself trains on: items of benchmarks are looked for in it
    trained_on: list[Source] = []
    # what else they were trained on and is not at hand, in words ("the dialogues of sft"): said beside each benchmark
    not_at_hand: list[Name] = []
    # only so many items a task, and rows a preference set, for a quick look
    limit: Count | None = None


class ReportConfig(Section):
    """The page at the end."""

    # the page's title; the recipe's name if unset
    title: str | None = None
