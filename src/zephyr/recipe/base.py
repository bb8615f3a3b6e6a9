"""What every section is made of, and the two that others point to: where rows come from, and the model."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from zephyr.recipe import known


class Section(BaseModel):
    """A group of settings: strict, frozen, finite numbers only."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, protected_namespaces=())

    def given(self) -> dict[str, Any]:
        """What was set, as it would stand in a recipe: also that which is no part of a key, and which `model_dump` leaves out."""
        return {name: _given(getattr(self, name)) for name in self.model_fields_set}


def _given(value: object) -> Any:
    if isinstance(value, Section):
        return value.given()
    if isinstance(value, dict):
        return {name: _given(inner) for name, inner in value.items()}
    return [_given(inner) for inner in value] if isinstance(value, list) else value


# an empty path would be the current folder, with whatever lies there
Name = Annotated[str, Field(min_length=1)]


def refuse_template_text(value: str) -> str:
    """A chat template's name, or the path of its file: raise `ValueError` where it is the template itself."""
    if any(mark in value for mark in ("{%", "{{", "\n")):
        raise ValueError("a template itself was given; write it into a file and name that, or `zephyr` / `tokenizer`")
    return value


Template = Annotated[Name, AfterValidator(refuse_template_text)]


class DataSource(Section):
    """Where rows come from: a file (JSONL, Parquet, .gz), a folder, a hub name, or `builtin:NAME`."""

    # a file or folder, a hub name (owner/name), or builtin:NAME
    path: Name
    # what its rows are for; of a source that has both, these rows alone are taken
    split: Literal["train", "test"] | None = None
    # which of its own splits, where it has several for one purpose: `train_sft` and `train_gen`
    source_split: Name | None = None
    # on the hub: which of the data sets under that name, and at which commit, tag or branch
    subset: Name | None = None
    # on the hub: at which commit, tag or branch; a commit is the only one that stays what it is
    revision: Name | None = None
    # ours -> theirs, for data whose columns are named differently
    columns: dict[str, str] = {}
    # in a mixture: the share of its train rows that is used, chosen by hash, so that a larger share only adds to a smaller
    weight: Annotated[float, Field(gt=0, le=1)] = 1.0
    # how many rows it has, for a plan that is made where it is not at hand; nothing that is computed depends on it
    rows: Annotated[int, Field(ge=1)] | None = Field(default=None, exclude=True)
    # how many tokens they are trained on as, before any are cut: a dialogue with its markers; of a pair the prompt once, both answers
    tokens: Annotated[int, Field(ge=1)] | None = Field(default=None, exclude=True)

    def chosen(self) -> list[Any]:
        """What of the source is used and how, beside its content: part of the key of whatever reads it."""
        later = {"source_split": None, "subset": None, "weight": 1.0}  # fields that came later: unset, they change no key
        set_ = {name: getattr(self, name) for name, default in later.items() if getattr(self, name) != default}
        return [self.split, self.columns, *([set_] if set_ else [])]


def _as_source(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


Source = Annotated[DataSource, BeforeValidator(_as_source)]


Benchmark = Annotated[DataSource, BeforeValidator(known.source_of)]
Invalid = Literal["error", "drop"]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class ShapeConfig(Section):
    """What a plan needs to know of a model that is not at hand, by the names of its config.json."""

    # the architecture, as transformers calls it
    model_type: Name = "llama"
    # the width of the stream
    hidden_size: Count
    # the width inside the feed-forward layers
    intermediate_size: Count
    # layers, one after the other
    num_hidden_layers: Count
    # heads that attend
    num_attention_heads: Count
    # heads of keys and values, which several of those share
    num_key_value_heads: Count
    # the width of a head; unset, hidden_size / num_attention_heads
    head_dim: Count | None = None
    # rows of the output matrix
    vocab_size: Count
    # whether the output matrix is the input embedding as well
    tie_word_embeddings: bool = False
    # how many tokens a sequence may have
    max_position_embeddings: Count | None = None

    @property
    def parameters(self) -> int:
        """Weights of such a Llama or Mistral: gated feed-forward layers, no biases, two norms a layer and one at the end."""
        head = self.head_dim or self.hidden_size // self.num_attention_heads
        attention = 2 * self.hidden_size * head * (self.num_attention_heads + self.num_key_value_heads)
        layer = attention + 3 * self.hidden_size * self.intermediate_size + 2 * self.hidden_size
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tie_word_embeddings else 2)
        return self.num_hidden_layers * layer + embeddings + self.hidden_size


class ModelConfig(Section):
    """The student, before any training of ours."""

    # a folder, a hub name, or a name that `zephyr models list` shows
    path: Name
    # on the hub: at which commit, tag or branch; a commit is the only one that stays what it is
    revision: str | None = None
    # zephyr: the paper's format; tokenizer: the model's own; or the path of a Jinja file
    chat_template: Template = "zephyr"
    # run code that a model folder brings along: off, unless its author is trusted
    trust_remote_code: bool = False
    # what it is, for a plan that is made where it is not at hand; nothing that is computed depends on it
    shape: ShapeConfig | None = Field(default=None, exclude=True)
