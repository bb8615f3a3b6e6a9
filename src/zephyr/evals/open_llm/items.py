"""Items of the academic tasks: whatever public shape a row has, one shape comes out, or an error that names the line.

Two shapes are read: the hub's (`allenai/ai2_arc`, `Rowan/hellaswag`, `cais/mmlu`, `truthfulqa/truthful_qa`), and the
plain one that lists `choices` beside an `answer` index and maps the texts of `mc2_targets` to 0 or 1. What comes out is
the hub's, the one lm-eval's own tasks read, without the columns they do not use: two items are the same if their rows
are equal.
"""

from __future__ import annotations

import difflib
import re
import string
from collections.abc import Callable, Collection, Mapping
from typing import Any

from zephyr import sources
from zephyr.errors import DataError
from zephyr.recipe import DataSource
from zephyr.records import Row


def read(benchmark: str, source: DataSource, *, subjects: Collection[str]) -> list[Row]:
    """Every item of a source, in order: a local file (JSONL, JSON, Parquet, `.gz`), a folder, or a split of a data set on the hub.

    Args:
        benchmark: `arc_challenge`, `hellaswag`, `mmlu` or `truthfulqa`.
        source: where the items are.
        subjects: the subjects MMLU has.

    Raises:
        UsageError: there is no such file.
        DataError: a row that does not fit, by file and line; or no rows.
    """
    parse = _PARSERS[benchmark]
    items = []
    for where, _, row in sources.rows(source, whole=source.source_split is None):
        try:
            item = parse(row)
            if benchmark == "mmlu":
                _known_subject(item["subject"], subjects)
        except DataError as error:
            raise DataError(f"{where}: {error}") from None
        items.append(item)
    if not items:
        raise DataError(f"{source.path}: no items of {benchmark} in it")
    return items


def _arc(row: Mapping[str, Any]) -> Row:
    question = _text(row, "question")
    choices = row.get("choices")
    if isinstance(choices, Mapping):
        texts, labels = _texts(choices, "text", "choices.text"), _texts(choices, "label", "choices.label")
        key = _text(row, "answerKey")
        if len(labels) != len(texts) or len(set(labels)) != len(labels):
            raise DataError(f"`choices` has {len(texts)} texts and {len(set(labels))} different labels; one label a text was expected")
        if key not in labels:
            raise DataError(f"`answerKey` is {key!r}, but the labels are {', '.join(labels)}")
        answer = labels.index(key)
    else:
        texts = _texts(row, "choices")
        answer = _index(row, "answer", len(texts))
    if not 2 <= len(texts) <= len(string.ascii_uppercase):
        raise DataError(f"`choices` has {len(texts)} texts; at least 2 were expected")
    # The prompt never shows a label, so `1` and `A` are written alike, and equal items compare equal.
    letters = list(string.ascii_uppercase[: len(texts)])
    return {"question": question, "choices": {"text": texts, "label": letters}, "answerKey": letters[answer]}


def _hellaswag(row: Mapping[str, Any]) -> Row:
    endings = _texts(row, "endings", length=4)
    for i, ending in enumerate(endings):
        if not re.sub(r"\[.*?\]", "", ending).strip():  # the task deletes what stands in brackets, and divides by the length
            raise DataError(f"`endings[{i}]` is empty but for its brackets: {ending!r}")
    label = row.get("label")
    if isinstance(label, str):  # the hub's data has digits as text, and "" where the answer is kept secret
        if label not in ("0", "1", "2", "3"):
            raise DataError(f"`label` is {label!r}; 0 to 3 was expected (the public test split has no answers: use the validation split)")
        label = int(label)
    return {
        "activity_label": _text(row, "activity_label"),
        "ctx_a": _text(row, "ctx_a"),
        "ctx_b": _text(row, "ctx_b", may_be_empty=True),
        "endings": endings,
        "label": str(_index({"label": label}, "label", 4)),
    }


def _mmlu(row: Mapping[str, Any]) -> Row:
    return {
        "subject": _text(row, "subject"),
        "question": _text(row, "question"),
        "choices": _texts(row, "choices", length=4),
        "answer": _index(row, "answer", 4),
    }


def _truthfulqa(row: Mapping[str, Any]) -> Row:
    targets = row.get("mc2_targets")
    if not isinstance(targets, Mapping):
        raise DataError(f"`mc2_targets` is {_kind(targets)}; an object with `choices` and `labels`, or of texts with 0 or 1, was expected")
    hub = set(targets) == {"choices", "labels"} and isinstance(targets["choices"], list)
    by_column = targets if hub else {"choices": list(targets), "labels": list(targets.values())}
    choices, labels = _texts(by_column, "choices", "mc2_targets.choices"), by_column["labels"]
    if not isinstance(labels, list) or len(labels) != len(choices) or any(type(x) is not int or x not in (0, 1) for x in labels):
        raise DataError("`mc2_targets` needs a 0 (false) or 1 (true) for each of its texts")
    if len(set(labels)) < 2:
        raise DataError(f"all texts of `mc2_targets` are labelled {labels[0]}; a true and a false one were expected")
    return {"question": _text(row, "question"), "mc2_targets": {"choices": choices, "labels": labels}}


_PARSERS: dict[str, Callable[[Mapping[str, Any]], Row]] = {
    "arc_challenge": _arc,
    "hellaswag": _hellaswag,
    "mmlu": _mmlu,
    "truthfulqa": _truthfulqa,
}


def _known_subject(subject: str, subjects: Collection[str]) -> None:
    if subject not in subjects:
        near = difflib.get_close_matches(subject, subjects, n=1)
        hint = f"did you mean {near[0]}?" if near else f"they are written like {min(subjects)}"
        raise DataError(f"{subject!r} is not a subject of MMLU; {hint}")


def _text(row: Mapping[str, Any], column: str, *, may_be_empty: bool = False) -> str:
    value = row.get(column)
    if not isinstance(value, str):
        raise DataError(f"`{column}` is {_kind(value)}; a text was expected")
    if not may_be_empty and not value.strip():
        raise DataError(f"`{column}` is empty")
    return value


def _texts(row: Mapping[str, Any], column: str, name: str | None = None, *, length: int | None = None) -> list[str]:
    values, name = row.get(column), name or column
    if not isinstance(values, list):
        raise DataError(f"`{name}` is {_kind(values)}; a list of texts was expected")
    for i, value in enumerate(values):
        if not isinstance(value, str) or not value.strip():
            raise DataError(f"`{name}[{i}]` is {'empty' if isinstance(value, str) else _kind(value)}; a text was expected")
    if not values or (length is not None and len(values) != length):
        raise DataError(f"`{name}` has {len(values)} texts; {length or 'at least one'} was expected")
    return values


def _index(row: Mapping[str, Any], column: str, length: int) -> int:
    value = row.get(column)
    if type(value) is not int:
        raise DataError(f"`{column}` is {_kind(value)}; the number of the right choice was expected, from 0")
    if not 0 <= value < length:
        raise DataError(f"`{column}` is {value}; it counts from 0, so 0 to {length - 1} was expected")
    return value


def _kind(value: object) -> str:
    """What is there instead of what should be, in few words."""
    return "missing" if value is None else f"of type {type(value).__name__}"
