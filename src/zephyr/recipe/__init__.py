"""What a run is: typed sections read from one YAML file.

A section that is there means its stage runs; a section that is absent, or `null`, means it does not (the report, which
needs no settings, is made in any case); one that is there and empty is an error. Values are checked strictly (no text
becomes a number, no number a text), an unknown key is an error that suggests the right one, and every error names its line.
"""

from __future__ import annotations

from zephyr.recipe.base import Benchmark as Benchmark
from zephyr.recipe.base import Count as Count
from zephyr.recipe.base import DataSource as DataSource
from zephyr.recipe.base import Invalid as Invalid
from zephyr.recipe.base import ModelConfig as ModelConfig
from zephyr.recipe.base import Name as Name
from zephyr.recipe.base import Positive as Positive
from zephyr.recipe.base import Section as Section
from zephyr.recipe.base import ShapeConfig as ShapeConfig
from zephyr.recipe.base import Share as Share
from zephyr.recipe.base import Source as Source
from zephyr.recipe.curation import Curation as Curation
from zephyr.recipe.curation import FilterConfig as FilterConfig
from zephyr.recipe.curation import GateConfig as GateConfig
from zephyr.recipe.curation import NearConfig as NearConfig
from zephyr.recipe.curation import NearPromptsConfig as NearPromptsConfig
from zephyr.recipe.curation import SelectConfig as SelectConfig
from zephyr.recipe.dialogues import CurateConfig as CurateConfig
from zephyr.recipe.evaluation import EvaluateConfig as EvaluateConfig
from zephyr.recipe.evaluation import ReportConfig as ReportConfig
from zephyr.recipe.feedback import Aspect as Aspect
from zephyr.recipe.feedback import BinarizeConfig as BinarizeConfig
from zephyr.recipe.feedback import Caps as Caps
from zephyr.recipe.feedback import CompleteConfig as CompleteConfig
from zephyr.recipe.feedback import PairPolicy as PairPolicy
from zephyr.recipe.feedback import Principle as Principle
from zephyr.recipe.feedback import RateConfig as RateConfig
from zephyr.recipe.judging import JudgeConfig as JudgeConfig
from zephyr.recipe.synthesis import MaterialsPlan as MaterialsPlan
from zephyr.recipe.synthesis import SelfInstructPlan as SelfInstructPlan
from zephyr.recipe.synthesis import SynthesizeConfig as SynthesizeConfig
from zephyr.recipe.synthesis import WorldConfig as WorldConfig
from zephyr.recipe.synthesis import WritingConfig as WritingConfig
from zephyr.recipe.teachers import OURS as OURS
from zephyr.recipe.teachers import APIConfig as APIConfig
from zephyr.recipe.teachers import BudgetConfig as BudgetConfig
from zephyr.recipe.teachers import LimitsConfig as LimitsConfig
from zephyr.recipe.teachers import LocalConfig as LocalConfig
from zephyr.recipe.teachers import PricesConfig as PricesConfig
from zephyr.recipe.teachers import ReplayConfig as ReplayConfig
from zephyr.recipe.teachers import TeacherConfig as TeacherConfig
from zephyr.recipe.teachers import ThinkingConfig as ThinkingConfig
from zephyr.recipe.training import READ_BY as READ_BY
from zephyr.recipe.training import DPOConfig as DPOConfig
from zephyr.recipe.training import LoRAConfig as LoRAConfig
from zephyr.recipe.training import OptimizerConfig as OptimizerConfig
from zephyr.recipe.training import SFTConfig as SFTConfig
from zephyr.recipe.training import TrainConfig as TrainConfig
from zephyr.recipe.training import Truncation as Truncation
from zephyr.recipe.whole import Recipe as Recipe
from zephyr.recipe.whole import load as load
from zephyr.settings import apply_overrides as apply_overrides
from zephyr.settings import build as build
