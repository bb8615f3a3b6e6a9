"""What a run is: typed sections read from one YAML file.

A section that is there means its stage runs; a section that is absent means it does not (the report, which needs
no settings, is made in any case). Values are checked strictly (no text becomes a number, no number a text), an
unknown key is an error that suggests the right one, and every error names its line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from zephyr.errors import UsageError
from zephyr.settings import apply_overrides as apply_overrides
from zephyr.settings import build as build
from zephyr.settings import parse_yaml


class Section(BaseModel):
    """A group of settings: strict, frozen, finite numbers only."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, protected_namespaces=())


# an empty path would be the current folder, with whatever lies there
Name = Annotated[str, Field(min_length=1)]


class DataSource(Section):
    """Where rows come from: a file (JSONL, Parquet, .gz), a folder, a hub name, or `builtin:NAME`."""

    path: Name
    # what its rows are for; of a source that has both, these rows alone are taken
    split: Literal["train", "test"] | None = None
    # which of its own splits, where it has several for one purpose: `train_sft` and `train_gen`
    source_split: Name | None = None
    # on the hub: which of the data sets under that name, and at which commit, tag or branch
    subset: Name | None = None
    revision: Name | None = None
    # ours -> theirs, for data whose columns are named differently
    columns: dict[str, str] = {}
    # in a mixture: the share of its train rows that is used, chosen by hash, so that a larger share only adds to a smaller
    weight: Annotated[float, Field(gt=0, le=1)] = 1.0

    def chosen(self) -> list[Any]:
        """What of the source is used and how, beside its content: part of the key of whatever reads it."""
        later = {"source_split": None, "subset": None, "weight": 1.0}  # fields that came later: unset, they change no key
        set_ = {name: getattr(self, name) for name, default in later.items() if getattr(self, name) != default}
        return [self.split, self.columns, *([set_] if set_ else [])]


def _as_source(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


Source = Annotated[DataSource, BeforeValidator(_as_source)]


def _as_benchmark(value: object) -> object:
    """A file, or a hub name that may say which commit: `ORG/NAME@REVISION`."""
    if isinstance(value, str) and "@" in value and not Path(value).expanduser().exists():
        path, _, revision = value.rpartition("@")
        return {"path": path, "revision": revision}
    return _as_source(value)


Benchmark = Annotated[DataSource, BeforeValidator(_as_benchmark)]
Invalid = Literal["error", "drop"]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class ModelConfig(Section):
    """The student, before any training of ours."""

    # a folder, a hub name, or a name that `zephyr models list` shows
    path: Name
    revision: str | None = None
    # zephyr: the paper's format; tokenizer: the model's own; or the path of a Jinja file
    chat_template: str = "zephyr"
    trust_remote_code: bool = False


class TrainConfig(Section):
    """What both training stages share; none of it changes what is computed, only how.

    What is kept out of the manifest (`exclude`) is not part of a stage's key either: changing it runs nothing again.
    """

    # auto: bfloat16 where a timed matrix product says that it pays, else float32
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    # how many tokens go through the model at once; more is faster and takes more memory
    micro_batch_tokens: Count = Field(default=2048, exclude=True)
    # a checkpoint at least this often, from which the same command goes on; and how many of the last are kept
    checkpoint_minutes: Annotated[float, Field(ge=0)] = Field(default=10, exclude=True)
    keep_checkpoints: Count = Field(default=2, exclude=True)
    # compute what is inside the layers again on the way back: less memory, one more pass forward, the same numbers
    activation_checkpointing: bool = Field(default=False, exclude=True)
    # where to show the log while it runs, besides metrics.jsonl
    log_to: list[Literal["tensorboard", "wandb", "trackio"]] = Field(default=[], exclude=True)


class LoRAConfig(Section):
    """Small matrices learn beside the frozen ones of the model, and are added to them at the end."""

    rank: Count = 16
    # the adapter counts alpha / rank
    alpha: Count = 16
    # in sft; preferences are learnt without any, as their reference is computed
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    # names of modules as they end; all-linear: every linear layer but the head
    target_modules: list[Name] = Field(default=["all-linear"], min_length=1)


class OptimizerConfig(Section):
    """AdamW and its schedule."""

    epochs: Count = 1
    learning_rate: Positive
    schedule: Literal["cosine", "linear", "constant"]
    warmup_ratio: Share = 0.1
    batch_size: Count
    max_grad_norm: Positive = 1.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    adam_betas: list[Annotated[float, Field(ge=0, lt=1)]] = Field(default=[0.9, 0.999], min_length=2, max_length=2)
    adam_epsilon: Positive = 1e-8
    # optimizer steps between two looks at the test split; the first and the last step are always looked at
    evaluate_every: Count = 10
    # train an adapter instead of all weights
    lora: LoRAConfig | None = None

    @model_serializer(mode="wrap")
    def _what_is_set(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What is not used is no part of what a stage was made from."""
        return {name: value for name, value in handler(self).items() if self._is_read(name)}

    def _is_read(self, name: str) -> bool:
        return name != "lora" or self.lora is not None


class CurateConfig(Section):
    """Which dialogues are learnt from."""

    data: list[Source] = Field(min_length=1)
    # for sources that name no split: this share of prompts, chosen by hash, is kept for the test
    test_fraction: Share = 0.1
    invalid: Invalid = "error"


class SFTConfig(OptimizerConfig):
    """Distilled supervised fine-tuning: paper, section 3."""

    learning_rate: Positive = 2e-5
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    # sequences of max_length tokens when packed, dialogues when not
    batch_size: Count = 512
    max_length: Count = 2048
    packing: bool = True
    # assistant: learn what the assistant says; all: every token, as the first public recipe did
    loss_on: Literal["assistant", "all"] = "assistant"


class ReplayConfig(Section):
    """Answers or ratings that were recorded in a file, given back."""

    kind: Literal["replay"]
    path: Name

    def recordings(self) -> list[DataSource]:
        """The file it reads."""
        return [DataSource(path=self.path)]


class ThinkingConfig(Section):
    """What every teacher that thinks is told: the paper's pool samples at temperature 1, 1,024 tokens at most."""

    max_new_tokens: Count = 1024

    def recordings(self) -> list[DataSource]:
        """None: it is asked."""
        return []


class LocalConfig(ThinkingConfig):
    """A model folder or name, run in this process."""

    kind: Literal["local"]
    path: Name
    # a judge rates at 0 unless another is set here
    temperature: Annotated[float, Field(ge=0)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    # `zephyr`, `tokenizer` (its own, also where none is set), or the path of a Jinja file
    chat_template: Name | None = None

    @model_serializer(mode="wrap")
    def _what_is_set(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A template that is not set is no part of what a stage was made from: there was no such setting once."""
        return {name: value for name, value in handler(self).items() if name != "chat_template" or value is not None}


class PricesConfig(Section):
    """What a million tokens cost, in US dollars."""

    prompt: Annotated[float, Field(ge=0)]
    completion: Annotated[float, Field(ge=0)]


class LimitsConfig(Section):
    """How fast a server may be asked. It is found out how much it takes; these are what it must not pass."""

    max_in_flight: Count = 64
    requests_per_minute: Positive | None = None
    tokens_per_minute: Positive | None = None
    # one answer may take so long
    timeout_s: Positive = 600
    # a server that has answered nothing for so long is given up; the others go on
    patience_s: Positive = 600


# fields of a request that are not for `extra`: all that settings of their own say, or that would change what one reply is
OURS = {"model", "messages", "stream", "n", "best_of", "temperature", "top_p", "response_format"} | {
    f"{what}_tokens" for what in ("max", "max_completion", "max_new", "max_output")
} | {"n_predict", "num_predict"}  # fmt: skip


def _names(value: object) -> list[str]:
    """Every name in a value, however deep."""
    if isinstance(value, dict):
        return [*value, *(name for inner in value.values() for name in _names(inner))]
    return [name for inner in value for name in _names(inner)] if isinstance(value, list) else []


class APIConfig(ThinkingConfig):
    """A model behind a server that speaks the OpenAI chat-completions protocol: OpenAI, vLLM, llama.cpp, Ollama, TGI, a gateway."""

    kind: Literal["api"]
    # up to and without /chat/completions: http://localhost:8000/v1
    base_url: Name
    # the name that the server knows the model under
    model: Name
    # something to change when the model behind that name does: answers of another are not used
    revision: Name | None = None
    # a judge rates at 0 unless another is set here; null is left to the server, for models that refuse to be told
    temperature: Annotated[float, Field(ge=0)] | None = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] | None = 1.0
    # the environment variable that holds the key; never the key
    key_env: Name | None = Field(default=None, exclude=True)
    # further fields of each request, for servers that know them: {top_k: 20, reasoning_effort: low}
    extra: dict[str, JsonValue] = {}
    # what the server calls the limit on an answer's length
    length_field: Literal["max_tokens", "max_completion_tokens"] = Field(default="max_tokens", exclude=True)
    # ratings: whether the server can be held to JSON, or to our schema of it; the reply is read as strictly either way
    structured_output: Literal["none", "json_object", "json_schema"] = "none"
    prices: PricesConfig | None = Field(default=None, exclude=True)
    limits: LimitsConfig = Field(default=LimitsConfig(), exclude=True)
    # a request that was cut off after the server may have worked: resend may pay for it twice, skip goes without the answer
    unknown: Literal["resend", "skip"] = "resend"

    @field_validator("base_url")
    @classmethod
    def _address(cls, value: str) -> str:
        address = urlsplit(value)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise ValueError("an address was expected, as http://localhost:8000/v1 or https://HOST/v1")
        if address.username or address.password:
            raise ValueError("holds a user or a password; put a key into an environment variable and name it in key_env")
        if address.query or address.fragment:
            raise ValueError("must end with the path, without ? or #")
        return value.rstrip("/")

    @field_validator("key_env")
    @classmethod
    def _name_of_a_variable(cls, value: str | None) -> str | None:
        # what is wrong here may be the key itself: it must not be repeated
        if value is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,63}", value):
            raise ValueError("the NAME of an environment variable was expected (capitals, digits, _), never the key itself")
        return value

    @field_validator("extra")
    @classmethod
    def _not_ours(cls, value: dict[str, Any]) -> dict[str, Any]:
        if ours := sorted(OURS & set(value)):
            raise ValueError(f"{ours[0]} is set by zephyr and by settings of its own; take it out")
        if secret := next(
            (name for name in _names(value) if re.search(r"api_?key|auth|secret|passw|credential|access_token", name, re.IGNORECASE)), None
        ):
            raise ValueError(f"{secret} looks like a key, and what is here is written down; name an environment variable in key_env")
        return value


TeacherConfig = Annotated[ReplayConfig | LocalConfig | APIConfig, Field(discriminator="kind")]
Principle = Literal["helpfulness", "truthfulness", "honesty", "calibration"]


class BudgetConfig(Section):
    """What the run may spend on teachers in all, earlier runs in the same folder included. It stops before more is spent."""

    usd: Positive | None = None
    calls: Count | None = None


class CompleteConfig(Section):
    """Several models answer each prompt: paper, section 3, step 2."""

    prompts: list[Source] = Field(min_length=1)
    pool: dict[str, TeacherConfig] = Field(min_length=2)
    models_per_prompt: Annotated[int, Field(ge=2)] = 4
    # each answer is asked for under one of them, drawn by hash; [] asks without a system prompt
    principles: list[Principle] = ["helpfulness", "truthfulness", "honesty", "calibration"]
    test_fraction: Share = 0.1
    invalid: Invalid = "error"

    @model_validator(mode="after")
    def _enough_models(self) -> CompleteConfig:
        if self.models_per_prompt > len(self.pool):
            raise ValueError(f"models_per_prompt is {self.models_per_prompt}, but the pool has {len(self.pool)} models")
        return self


class RateConfig(Section):
    """A teacher scores every answer."""

    teacher: TeacherConfig
    # each: one call an answer; together: all answers to a prompt in one call, in shuffled and recorded order
    protocol: Literal["each", "together"] = "each"
    # answers already collected, where there is no `complete` section
    data: list[Source] = []
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
    test_fraction: Share = 0.1
    invalid: Invalid = "error"
    # leave out prompts that are in one of the recipe's benchmarks
    decontaminate: bool = True


# settings of dpo that one objective alone reads
READ_BY = {"label_smoothing": "cdpo", "gamma": "simpo"}


class DPOConfig(OptimizerConfig):
    """Distilled direct preference optimization: paper, Eq. 1."""

    # dpo: Eq. 1; cdpo: some labels are wrong; ipo: drawn to a margin, not past it; simpo: without a reference
    objective: Literal["dpo", "cdpo", "ipo", "simpo"] = "dpo"
    beta: Positive = 0.1
    # cdpo: the share of pairs expected to be the wrong way round
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.1
    # simpo: the margin that the preferred answer should win by
    gamma: Annotated[float, Field(ge=0)] = 0.5
    learning_rate: Positive = 5e-7
    schedule: Literal["cosine", "linear", "constant"] = "linear"
    batch_size: Count = 32
    max_length: Count = 1024
    max_prompt_length: Count = 512

    @field_validator(*READ_BY)
    @classmethod
    def _read_by_the_objective(cls, value: float, info: ValidationInfo) -> float:
        reader, objective = READ_BY[str(info.field_name)], info.data.get("objective")
        if objective not in (None, reader):  # None: it is wrong itself, and said to be
            raise ValueError(f"objective {objective} does not read it; take it out, or set objective: {reader}")
        return value

    def _is_read(self, name: str) -> bool:
        return super()._is_read(name) and READ_BY.get(name, self.objective) == self.objective


class EvaluateConfig(Section):
    """What is measured, and on how much."""

    # prompts that base, dSFT and dDPO answer side by side
    samples: Annotated[int, Field(ge=0)] = 10
    max_new_tokens: Count = 256
    temperature: Annotated[float, Field(ge=0)] = 0.7
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    # academic tasks: arc_challenge, hellaswag, mmlu, truthfulqa, each with the local file of its items
    benchmarks: dict[Literal["arc_challenge", "hellaswag", "mmlu", "truthfulqa"], str] = {}
    # the files few-shot examples are drawn from, where they are not those of the items
    fewshot: dict[Literal["arc_challenge", "hellaswag", "mmlu"], str] = {}
    # only so many items a task, for a quick look
    limit: Count | None = None


class ReportConfig(Section):
    """The page at the end."""

    title: str | None = None


class Recipe(Section):
    """A whole run. The path is in the order of these fields."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    out: str | None = None
    seed: int = 0
    model: ModelConfig
    train: TrainConfig = TrainConfig()
    curate: CurateConfig | None = None
    sft: SFTConfig | None = None
    complete: CompleteConfig | None = None
    rate: RateConfig | None = None
    binarize: BinarizeConfig | None = None
    dpo: DPOConfig | None = None
    evaluate: EvaluateConfig | None = None
    report: ReportConfig = ReportConfig()
    # what is evaluated on, by name: prompts found in it are not trained on
    benchmarks: dict[Name, Benchmark] = {}
    budget: BudgetConfig = BudgetConfig()

    @field_validator("train", "report", "budget", mode="before")
    @classmethod
    def _left_empty(cls, value: object) -> object:
        return {} if value is None else value

    @model_validator(mode="after")
    def _connected(self) -> Recipe:
        if self.sft and not self.curate:
            raise ValueError("sft: there is no `curate` section to give it dialogues")
        if self.rate and not self.complete and not self.rate.data:
            raise ValueError("rate: needs a `complete` section, or `data` with answers")
        if self.binarize and not self.rate and not self.binarize.data:
            raise ValueError("binarize: needs a `rate` section, or `data` with ratings or pairs")
        # answers and ratings may be paid for: none are collected that nothing would be made of
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
        if self.dpo and not self.binarize:
            raise ValueError("dpo: there is no `binarize` section to give it preferences")
        return self

    def teachers(self) -> dict[str, ReplayConfig | LocalConfig | APIConfig]:
        """All of them, by where they stand in the recipe."""
        pool = {f"complete.pool.{name}": teacher for name, teacher in self.complete.pool.items()} if self.complete else {}
        return {**pool, **({"rate.teacher": self.rate.teacher} if self.rate else {})}


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
