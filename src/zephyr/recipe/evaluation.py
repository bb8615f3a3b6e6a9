"""What is measured, and the page at the end."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from zephyr.recipe.base import Count, Section


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
    # academic tasks: arc_challenge, hellaswag, mmlu, truthfulqa, each with the local file of its items
    benchmarks: dict[Literal["arc_challenge", "hellaswag", "mmlu", "truthfulqa"], str] = {}
    # the files few-shot examples are drawn from, where they are not those of the items
    fewshot: dict[Literal["arc_challenge", "hellaswag", "mmlu"], str] = {}
    # only so many items a task, for a quick look
    limit: Count | None = None


class ReportConfig(Section):
    """The page at the end."""

    # the page's title; the recipe's name if unset
    title: str | None = None
