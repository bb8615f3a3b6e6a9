"""What a run is: typed sections read from one YAML file.

A section that is there means its stage runs; a section that is absent means it does not (the report, which needs
no settings, is made in any case). Values are checked strictly (no text becomes a number, no number a text), an
unknown key is an error that suggests the right one, and every error names its line.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from zephyr.errors import UsageError


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
    # compute what is inside the layers again on the way back: much less memory, a third more time, the same numbers
    activation_checkpointing: bool = Field(default=False, exclude=True)
    # where to show the log while it runs, besides metrics.jsonl
    log_to: list[Literal["tensorboard", "wandb", "trackio"]] = Field(default=[], exclude=True)


class LoRAConfig(Section):
    """Small matrices learn beside the frozen ones of the model, and are added to them at the end."""

    rank: Count = 16
    # the adapter counts alpha / rank
    alpha: Count = 16
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


class TeacherConfig(Section):
    """A language model that answers or judges."""

    # replay: gives back answers or ratings recorded in a file; local: a model folder or name, run here
    kind: Literal["replay", "local"]
    path: Name
    # a local judge rates at 0 unless another is set here
    temperature: Annotated[float, Field(ge=0)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_new_tokens: Count = 1024
    # of a local one: `zephyr`, `tokenizer` (its own, also where none is set), or the path of a Jinja file
    chat_template: Name | None = None

    @field_validator("chat_template")
    @classmethod
    def _of_one_that_thinks(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("kind") == "replay":
            raise ValueError("a recording is not asked in a chat template; take it out")
        return value

    @model_serializer(mode="wrap")
    def _what_is_set(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A template that is not set is no part of what a stage was made from: there was no such setting once."""
        return {name: value for name, value in handler(self).items() if name != "chat_template" or value is not None}

    def recordings(self) -> list[DataSource]:
        """The file a replaying teacher reads; [] for one that thinks."""
        return [DataSource(path=self.path)] if self.kind == "replay" else []


class CompleteConfig(Section):
    """Several models answer each prompt: paper, section 3, step 2."""

    prompts: list[Source] = Field(min_length=1)
    pool: dict[str, TeacherConfig] = Field(min_length=2)
    models_per_prompt: Annotated[int, Field(ge=2)] = 4
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
    # answers already collected, where there is no `complete` section
    data: list[Source] = []
    invalid: Invalid = "error"
    # the stage stops when more than this share of the replies could not be read
    max_unparsed: Share = 0.1


class BinarizeConfig(Section):
    """Scores become pairs."""

    # what ranks the answers: the mean of the aspects (the paper) or the overall score (the first public set)
    score: Literal["mean", "overall"] = "mean"
    # random: one of the others, whatever its rank (paper, section 4.1); lowest: the worst of them
    rejected: Literal["random", "lowest"] = "random"
    # ratings or ready-made pairs, where there is no `rate` section
    data: list[Source] = []
    test_fraction: Share = 0.1
    invalid: Invalid = "error"


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
        if self.dpo and not self.binarize:
            raise ValueError("dpo: there is no `binarize` section to give it preferences")
        return self


# --- reading -------------------------------------------------------------------------------------------------


Model = TypeVar("Model", bound=BaseModel)
# the line of every key; 0 for one that an override set
Lines = dict[tuple[str | int, ...], int]
OVERRIDDEN = 0


MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, less three of its traps.

    `5e-7` is a number; `010` and `1:30` are none (it would read 8 and 90); a key given twice is an error.
    """


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag not in ("tag:yaml.org,2002:float", "tag:yaml.org,2002:int")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+|[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$"), list("-+0123456789"))


def _construct(loader: _Loader, node: yaml.Node, lines: Lines, at: tuple[str | int, ...], file: str) -> Any:
    lines[at] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value if key_node.tag == MERGE else _scalar(loader, key_node, file)
            line = key_node.start_mark.line + 1
            if key_node.tag == MERGE:
                raise UsageError(f"{file}, line {line}: merge keys (`<<`) are not read; write the keys out")
            if not isinstance(key, str):
                raise UsageError(f"{file}, line {line}: the key {key!r} is not a text; put it in quotes")
            if key in result:
                raise UsageError(f"{_dotted((*at, key))}: given twice ({file}, lines {lines[(*at, key)]} and {line}); keep one")
            result[key] = _construct(loader, value_node, lines, (*at, key), file)
            lines[(*at, key)] = line
        return result
    if isinstance(node, yaml.SequenceNode):
        return [_construct(loader, child, lines, (*at, i), file) for i, child in enumerate(node.value)]
    return _scalar(loader, node, file)


def _scalar(loader: _Loader, node: yaml.Node, file: str) -> Any:
    try:
        return loader.construct_object(node, deep=True)
    except ValueError:  # a date that no calendar has, `!!int abc`
        raise UsageError(
            f"{file}, line {node.start_mark.line + 1}: {_short(node.value)} cannot be read as what it looks like; quote it"
        ) from None


def parse_yaml(text: str, file: str) -> tuple[Any, Lines]:
    """The value of one YAML document and the line of every key in it."""
    lines: Lines = {}
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UsageError(f"{file}, line {line}: the character {chr(error.character)!r} is not allowed in YAML; remove it") from None
    try:
        node = loader.get_single_node()
        return (None if node is None else _construct(loader, node, lines, (), file)), lines
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = ", ".join(filter(None, (getattr(error, "context", None), getattr(error, "problem", None))))
        where = f", line {mark.line + 1}" if mark else ""
        raise UsageError(f"{file}{where}: not valid YAML ({problem})") from None
    except RecursionError:
        raise UsageError(f"{file}: nested too deep, or an alias that holds itself; a recipe is sections of keys") from None
    finally:
        loader.dispose()


def _dotted(path: Sequence[str | int]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _known_keys(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """The keys a section at `path` may have, walking the annotations."""
    current: Any = model
    for part in path:
        if isinstance(part, int):
            continue
        fields = getattr(current, "model_fields", None)
        annotation = fields[part].annotation if fields and part in fields else current
        current = next((t for t in _leaves(annotation) if isinstance(t, type) and issubclass(t, BaseModel)), None)
        if current is None:
            return []
    return list(current.model_fields)


def _leaves(annotation: Any) -> list[Any]:
    args = getattr(annotation, "__args__", None)
    return [annotation] if not args else [leaf for arg in args for leaf in _leaves(arg)]


def _explain(error: ValidationError, lines: Mapping[tuple[str | int, ...], int], file: str, model: type[BaseModel]) -> str:
    messages = []
    for item in error.errors():
        # pydantic's "[key]" says that the key itself is wrong, which is where the path ends anyway
        path = tuple(part for part in item["loc"] if part != "[key]")
        kind, given = item["type"], item.get("input")
        text = str(item["ctx"]["error"]) if kind == "value_error" and "ctx" in item else item["msg"]
        # what the recipe as a whole finds wrong starts with the section it is about
        place = path or (text.partition(":")[0],)
        where = _where(next((lines[place[:n]] for n in range(len(place), -1, -1) if place[:n] in lines), None), file)
        name = _dotted(path) or "the recipe"
        if kind == "extra_forbidden":
            known = _known_keys(model, path[:-1])
            close = difflib.get_close_matches(str(path[-1]), known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]}?" if close else f"known keys: {', '.join(known)}"
            messages.append(f"{name}: unknown key; {hint}{where}")
        elif kind == "missing":
            messages.append(f"{name}: is required and not there{where}")
        elif kind == "finite_number":
            messages.append(f"{name}: is {given}; a finite number is needed{where}")
        elif kind == "value_error":
            messages.append(f"{name + ': ' if path else ''}{text}{where}")
        elif kind in WANTED:
            messages.append(f"{name}: {_wrong_type(kind, given)}{where}")
        else:
            messages.append(f"{name}: {text[:1].lower()}{text[1:]}, got {_short(given)}{where}")
    return "\n".join(dict.fromkeys(messages))


# pydantic's names of a wrong type, and what belongs there
WANTED = {
    "string_type": "a text",
    "float_type": "a number",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a section with keys of its own",
    "model_type": "a section with keys of its own",
}


def _wrong_type(kind: str, given: object) -> str:
    wanted = WANTED[kind]
    if given is None:
        return f"is empty; {wanted} belongs here"
    if isinstance(given, str) and kind in ("float_type", "int_type", "bool_type"):
        return f"is the text {_short(given)}; write {wanted} without quotes"
    if kind == "string_type" and not isinstance(given, list | dict):
        return f"is {given}, not a text; put it in quotes"
    return f"is {_short(given)}; {wanted} belongs here"


def _where(line: int | None, file: str) -> str:
    return " (command line)" if line == OVERRIDDEN else f" ({file}, line {line})" if line else f" ({file})"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def apply_overrides(values: dict[str, Any], overrides: Sequence[str], lines: Lines) -> dict[str, Any]:
    """`sft.learning_rate=1e-5`: each sets one key; its value is read as YAML."""
    for override in overrides:
        path, eq, text = override.partition("=")
        keys = [key.strip() for key in path.split(".")]
        if not eq or not all(keys):
            raise UsageError(f"{override!r}: an override is written section.key=value")
        value, _ = parse_yaml(text, f"override {override!r}")
        node = values
        for depth, key in enumerate(keys[:-1]):
            child = node.get(key)
            if child is None:
                node[key] = child = {}
                lines[tuple(keys[: depth + 1])] = OVERRIDDEN
            if not isinstance(child, dict):
                raise UsageError(f"{override!r}: {'.'.join(keys[: depth + 1])} is not a section")
            node = child
        node[keys[-1]] = value
        for known in [k for k in lines if k[: len(keys)] == tuple(keys)]:
            del lines[known]
        lines[tuple(keys)] = OVERRIDDEN
    return values


def build(model: type[Model], values: object, lines: Lines, file: str) -> Model:
    """`values` checked against `model`; raises `UsageError` with one line a mistake."""
    if not isinstance(values, dict):
        raise UsageError(f"{file}: a mapping of keys was expected, found {type(values).__name__}")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UsageError(_explain(error, lines, file, model)) from None


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
