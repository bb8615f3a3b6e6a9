"""What every section is made of, and the two that others point to: where rows come from, and the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


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
