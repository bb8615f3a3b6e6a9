"""Chat benchmarks: who answers, who judges, by which files."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from zephyr.recipe.base import Count, Name, Section
from zephyr.recipe.teachers import APIConfig, LocalConfig

# a file is called by it
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Judge = Annotated[LocalConfig | APIConfig, Field(discriminator="kind")]


class MTBenchConfig(Section):
    """MT-Bench: eighty questions of two turns, each answer judged from 1 to 10."""

    # question.jsonl, as FastChat has it
    questions: Name
    # reference_answer/JUDGE.jsonl: math, reasoning and coding are judged by them; 13 of the 30 that are public are wrong (docs/scores.md)
    references: Name
    # a judge_prompts.jsonl of FastChat's kind; unset, our own wording
    prompts: Name | None = None
    # read verdicts and average them as FastChat does, bug for bug
    compatible: bool = False
    # the paper's; temperatures are by category, as in the original
    max_new_tokens: Count = 1024


class AlpacaEvalConfig(Section):
    """AlpacaEval: each answer against a baseline's."""

    # the baseline's answers, as model_outputs.json: instruction, output, generator
    baseline: Name
    # both: every pair is judged in both orders, and the mean counts; seeded: once, in the order that the original draws
    order: Literal["both", "seeded"] = "both"
    # how long an answer may be
    max_new_tokens: Count = 2048
    # 0 takes the most probable token
    temperature: Annotated[float, Field(ge=0)] = 0.7


class JudgeConfig(Section):
    """Models answer the questions of chat benchmarks, and a teacher judges the answers."""

    # a judge thinks at temperature 0, with 2,048 tokens, unless they are set
    teacher: Judge
    mt_bench: MTBenchConfig | None = None
    alpaca_eval: AlpacaEvalConfig | None = None
    # of the run's models; unset, those that it trains
    models: list[Literal["base", "dsft", "ddpo"]] | None = None
    # models behind servers, by the name they are to have in the tables: one's own under vLLM, or others to compare with
    endpoints: dict[ModelName, APIConfig] = {}
    # answers that say nothing are judged, too: a judge who likes them is not to be believed
    canary: bool = True
    # only so many questions of each benchmark, for a quick look
    limit: Count | None = None

    @model_validator(mode="after")
    def _asks_something(self) -> JudgeConfig:
        if not (self.mt_bench or self.alpaca_eval):
            raise ValueError("judge: name a benchmark, mt_bench or alpaca_eval")
        if self.models == [] and not self.endpoints:
            raise ValueError("models: nobody is left to answer; name one, or an endpoint")
        if taken := {"base", "dsft", "ddpo", "canary"} & set(self.endpoints):
            raise ValueError(f"endpoints: {sorted(taken)[0]} is a name of ours; give it another")
        return self
