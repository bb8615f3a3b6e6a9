"""The shapes in which dialogues are published, and how each becomes a row with `messages`.

| shape    | recognised by          | what it is                                                            |
|----------|------------------------|-----------------------------------------------------------------------|
| messages | `messages`             | a list of `{role, content}`: OpenAI, `ultrachat_200k`                 |
| sharegpt | `conversations`        | a list of `{from, value}`: human or user, gpt, chatgpt or assistant, system |
| ultrachat| `data`                 | a list of texts, the user's and the assistant's in turn               |
| alpaca   | `instruction`, `output`| a task, in `input` what it is about, and its answer                   |

A row that has the columns of two shapes is none of them: which one is meant would be a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zephyr.errors import DataError
from zephyr.records import UNHEEDED, Row

# by shape, the columns that make it
SHAPES: dict[str, tuple[str, ...]] = {
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "ultrachat": ("data",),
    "alpaca": ("instruction", "output"),
}
# a message of ShareGPT says whose it is in one of these words
SPEAKERS = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "system": "system",
}
# what a row keeps beside its messages
KEPT = ("prompt", "prompt_id", "source", "category")


def shape_of(row: Mapping[str, Any]) -> str:
    """The shape of a row, by its columns.

    Raises:
        DataError: it has the columns of none, or of several.
    """
    found = [shape for shape, columns in SHAPES.items() if all(row.get(column) is not None for column in columns)]
    if len(found) == 1:
        return found[0]
    if found:
        both = " and ".join(f"{shape} ({', '.join(map(repr, SHAPES[shape]))})" for shape in found)
        raise DataError(f"the row has the columns of several shapes: {both}; take those out that are not meant, or rename them")
    if "messages" in row:  # null, or missing its content: that is for the parser to say
        return "messages"
    known = ", ".join("+".join(columns) for columns in SHAPES.values())
    raise DataError(f"`messages` is missing, and no other shape fits ({known}); the row has {', '.join(map(repr, row))}")


def as_messages(row: Row, shape: str) -> Row:
    """A row as one with `messages`, not yet checked; what it has of `prompt`, `prompt_id`, `source` and `category` stays.

    Raises:
        DataError: the dialogue is not what its shape says.
    """
    if shape == "messages":
        return row
    kept = {name: row[name] for name in KEPT if name in row}
    return {**kept, "messages": _READ[shape](row)}


def _sharegpt(row: Row) -> list[dict[str, Any]]:
    turns = _list(row, "conversations")
    messages = []
    for i, turn in enumerate(turns):
        if not isinstance(turn, Mapping) or not {"from", "value"} <= turn.keys():
            raise DataError(f"`conversations[{i}]`: an object with `from` and `value` was expected")
        speaker = turn["from"]
        if not isinstance(speaker, str) or speaker not in SPEAKERS:
            raise DataError(f"`conversations[{i}]`: `from` names nobody we know ({str(speaker)[:40]!r}; known are {', '.join(SPEAKERS)})")
        beside = {key: turn[key] for key in UNHEEDED if key in turn}  # what the parser refuses
        messages.append({"role": SPEAKERS[speaker], "content": turn["value"], **beside})
    return messages


def _ultrachat(row: Row) -> list[dict[str, Any]]:
    return [{"role": "assistant" if i % 2 else "user", "content": text} for i, text in enumerate(_list(row, "data"))]


def _alpaca(row: Row) -> list[dict[str, Any]]:
    for column in ("instruction", "input", "output"):
        if not isinstance(row.get(column, ""), str | None):
            raise DataError(f"`{column}` is not a text")
    about = row.get("input") or ""
    task = f"{row['instruction']}\n\n{about}" if about.strip() else row["instruction"]
    return [{"role": "user", "content": task}, {"role": "assistant", "content": row["output"]}]


def _list(row: Row, column: str) -> list[Any]:
    if not isinstance(row[column], list | tuple):
        raise DataError(f"`{column}` is not a list of turns")
    return list(row[column])


_READ = {"sharegpt": _sharegpt, "ultrachat": _ultrachat, "alpaca": _alpaca}
