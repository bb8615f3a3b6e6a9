"""Chat benchmarks: who answers, who judges, by which files."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from zephyr.recipe.base import Benchmark, Count, Name, Section, Source
from zephyr.recipe.evaluation import Label
from zephyr.recipe.teachers import APIConfig, LocalConfig

Judge = Annotated[LocalConfig | APIConfig, Field(discriminator="kind")]


class MTBenchConfig(Section):
    """MT-Bench: eighty questions of two turns, each answer judged from 1 to 10, or beside another model's."""

    # question.jsonl, as FastChat has it
    questions: Name
    # reference_answer/JUDGE.jsonl: math, reasoning and coding are judged by them; 13 of the 30 that are public are wrong (docs/scores.md)
    references: Name
    # whose, where that file has the answers of several
    reference_model: Name | None = None
    # a judge_prompts.jsonl of FastChat's kind; unset, our own wording
    prompts: Name | None = None
    # judge each answer by itself, from 1 to 10
    single: bool = True
    # a baseline's answers (FastChat's model_answer/MODEL.jsonl, or what `answer` made in another run): each answer is judged beside
    # the baseline's, in both orders
    against: Name | None = None
    # whose, where there are answers of several
    against_model: Name | None = None
    # read verdicts and average them as FastChat does, bug for bug
    compatible: bool = False
    # the paper's; temperatures are by category, as in the original
    max_new_tokens: Count = 1024

    @model_validator(mode="after")
    def _judges_something(self) -> MTBenchConfig:
        if not self.single and self.against is None:
            raise ValueError("single: false leaves nothing to judge; name a baseline's answers in `against`")
        if self.against_model is not None and self.against is None:
            raise ValueError("against_model: there is no `against` to take it from")
        return self


class AlpacaEvalConfig(Section):
    """AlpacaEval: each answer against a baseline's."""

    # the baseline's answers, as model_outputs.json: instruction, output, generator
    baseline: Name
    # both: every pair is judged in both orders, and the mean counts; seeded: once, in the order that the original draws
    order: Literal["both", "seeded"] = "both"
    # words: the judge gives reasons, then its verdict; log_probabilities: it says one token, and how probable it and the other were counts
    preference: Literal["words", "log_probabilities"] = "words"
    # how long an answer may be
    max_new_tokens: Count = 2048
    # 0 takes the most probable token
    temperature: Annotated[float, Field(ge=0)] = 0.7


class IFEvalConfig(Section):
    """IFEval: prompts with instructions that a program can check; no judge is asked."""

    # rows with key, prompt, instruction_id_list and kwargs: a file, or a hub name (NAME@COMMIT)
    prompts: Benchmark
    # as in lm-eval
    max_new_tokens: Count = 1280
    # 0 takes the most probable token
    temperature: Annotated[float, Field(ge=0)] = 0.0


class JudgeConfig(Section):
    """Models answer the questions of chat benchmarks, and a teacher, or for IFEval a program, judges the answers."""

    # a judge thinks at temperature 0, with 2,048 tokens, unless they are set
    teacher: Judge | None = None
    mt_bench: MTBenchConfig | None = None
    alpaca_eval: AlpacaEvalConfig | None = None
    ifeval: IFEvalConfig | None = None
    # of the run's models; unset, those that it trains
    models: list[Literal["base", "dsft", "ddpo"]] | None = None
    # models behind servers, by the name they are to have in the tables: one's own under vLLM, or others to compare with
    endpoints: dict[Label, APIConfig] = {}
    # answers that say nothing are judged, too: a judge who likes them is not to be believed
    canary: bool = True
    # what the models were trained on, beside what the run itself trains on: questions are looked for in it
    trained_on: list[Source] = []
    # what else they were trained on and is not at hand, in words ("the dialogues of sft"): said beside each benchmark
    not_at_hand: list[Name] = []
    # only so many questions of each benchmark, for a quick look
    limit: Count | None = None

    @model_validator(mode="after")
    def _asks_something(self) -> JudgeConfig:
        if not (self.mt_bench or self.alpaca_eval or self.ifeval):
            raise ValueError("judge: name a benchmark, mt_bench, alpaca_eval or ifeval")
        if self.teacher is None and (lacks := "mt_bench" if self.mt_bench else "alpaca_eval" if self.alpaca_eval else ""):
            raise ValueError(f"judge: {lacks} is judged by a teacher, and there is none; name one in `teacher`")
        if self.alpaca_eval and self.alpaca_eval.preference == "log_probabilities" and self.teacher and self.teacher.kind != "api":
            raise ValueError("alpaca_eval: log_probabilities are asked of a judge behind a server; take words, or a teacher of kind: api")
        if self.models == [] and not self.endpoints:
            raise ValueError("models: nobody is left to answer; name one, or an endpoint")
        if taken := {"base", "dsft", "ddpo", "canary"} & set(self.endpoints):
            raise ValueError(f"endpoints: {sorted(taken)[0]} is a name of ours; give it another")
        return self
