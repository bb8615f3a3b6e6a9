"""The recipe itself: the sections together, and how a file becomes one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator, model_validator

from zephyr.errors import UsageError
from zephyr.recipe import known
from zephyr.recipe.base import Benchmark, ModelConfig, Name, Section
from zephyr.recipe.dialogues import CurateConfig
from zephyr.recipe.evaluation import EvaluateConfig, ReportConfig
from zephyr.recipe.feedback import BinarizeConfig, CompleteConfig, RateConfig
from zephyr.recipe.judging import JudgeConfig
from zephyr.recipe.synthesis import SynthesizeConfig
from zephyr.recipe.teachers import APIConfig, BudgetConfig, LocalConfig, ReplayConfig
from zephyr.recipe.training import DPOConfig, SFTConfig, TrainConfig
from zephyr.settings import apply_overrides, build, parse_yaml


class Recipe(Section):
    """A whole run. The path is in the order of these fields."""

    # what the run is called
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    # the folder of the run; runs/NAME if unset
    out: str | None = None
    # decides orders, draws and first values of adapters
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] = 0
    model: ModelConfig
    train: TrainConfig = TrainConfig()
    synthesize: SynthesizeConfig | None = None
    curate: CurateConfig | None = None
    sft: SFTConfig | None = None
    complete: CompleteConfig | None = None
    rate: RateConfig | None = None
    binarize: BinarizeConfig | None = None
    dpo: DPOConfig | None = None
    judge: JudgeConfig | None = None
    evaluate: EvaluateConfig | None = None
    report: ReportConfig = ReportConfig()
    # what is evaluated on, by name, or a list of names that are known ([mt-bench, open-llm]): prompts found in it are not trained on
    benchmarks: Annotated[dict[Name, Benchmark], BeforeValidator(known.by_name)] = {}
    budget: BudgetConfig = BudgetConfig()

    @field_validator("train", "report", "budget", mode="before")
    @classmethod
    def _left_empty(cls, value: object) -> object:
        return {} if value is None else value

    @model_validator(mode="after")
    def _connected(self) -> Recipe:
        if self.curate and not self.synthesize and not self.curate.data:
            raise ValueError("curate: needs `data` with dialogues, or a `synthesize` section that makes them")
        if self.sft and not self.curate:
            raise ValueError("sft: there is no `curate` section to give it dialogues")
        if self.rate and not self.complete and not self.rate.data:
            raise ValueError("rate: needs a `complete` section, or `data` with answers")
        if self.binarize and not self.rate and not self.binarize.data:
            raise ValueError("binarize: needs a `rate` section, or `data` with ratings or pairs")
        # answers and ratings may be paid for: none are collected that nothing would be made of
        if self.synthesize and self.curate and self.curate.data:
            raise ValueError("synthesize: its dialogues would not be learnt from, for `curate.data` is given; take one of the two out")
        if self.complete and self.rate and self.rate.data:
            raise ValueError("complete: its answers would not be rated, for `rate.data` is given; take one of the two out")
        if self.rate and self.binarize and self.binarize.data:
            raise ValueError("rate: its ratings would not be trained on, for `binarize.data` is given; take one of the two out")
        if self.budget.usd is not None and (
            unpriced := [name for name, t in self.teachers().items() if t.kind == "api" and t.prices is None]
        ):
            raise ValueError(
                f"budget: usd is set, and {unpriced[0]} has no prices to count it by; set its prices (0 for a server of your own)"
            )
        if self.judge and (unknown := [m for m in self.judge.models or () if m != "base" and not (self.sft if m == "dsft" else self.dpo)]):
            raise ValueError(f"judge.models: the run trains no {unknown[0]}; take it out")
        if self.dpo and not self.binarize:
            raise ValueError("dpo: there is no `binarize` section to give it preferences")
        return self

    @property
    def reference(self) -> DPOConfig | None:
        """The settings of the stage that computes the reference's log-probabilities: dDPO's, where its objective has a reference."""
        return self.dpo if self.dpo and self.dpo.has_reference else None

    def teachers(self) -> dict[str, ReplayConfig | LocalConfig | APIConfig]:
        """All of them, by where they stand in the recipe."""
        pool = {f"complete.pool.{name}": teacher for name, teacher in self.complete.pool.items()} if self.complete else {}
        talk = {f"synthesize.{role}": teacher for role, teacher in self.synthesize.teachers().items()} if self.synthesize else {}
        rated = {"rate.teacher": self.rate.teacher} if self.rate else {}
        judged = {"judge.teacher": self.judge.teacher} if self.judge and self.judge.teacher else {}
        asked = {f"judge.endpoints.{name}": model for name, model in self.judge.endpoints.items()} if self.judge else {}
        return {**talk, **pool, **rated, **asked, **judged}


def load(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a YAML file, with overrides applied.

    Raises:
        UsageError: the file is missing or not YAML, or a key or value is wrong; it names the line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"{path}: no such recipe; `zephyr init` writes one") from None
    except IsADirectoryError:
        raise UsageError(f"{path}: is a folder; a recipe is a YAML file") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    values, lines = parse_yaml(text, str(path))
    if not isinstance(values, dict):
        raise UsageError(f"{path}: a mapping of sections was expected; `zephyr init` writes an example")
    return build(Recipe, apply_overrides(values, overrides, lines), lines, str(path))
