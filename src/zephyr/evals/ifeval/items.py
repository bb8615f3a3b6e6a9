"""Prompts with their instructions, and responses to them, from plain files.

A prompt is a row with `key`, `prompt`, `instruction_id_list` and `kwargs`, as in the public data. A response is a row with the `key` or the
`prompt`, and a `response` (or `output`); or a line of lm-eval's samples, which has both in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zephyr import sources
from zephyr.errors import DataError
from zephyr.evals.ifeval.instructions import Asked, parse_asked
from zephyr.recipe import DataSource
from zephyr.records import Message


@dataclass(frozen=True)
class Item:
    """A prompt and what it asks for."""

    key: str
    prompt: str
    asked: tuple[Asked, ...]

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation that is to be answered."""
        return (Message(role="user", content=self.prompt),)


def parse_item(row: Mapping[str, Any]) -> Item:
    """A prompt from its row.

    Raises:
        DataError: what is missing, or which instruction is not as it should be.
    """
    key, prompt, ids, given = (row.get(name) for name in ("key", "prompt", "instruction_id_list", "kwargs"))
    if isinstance(key, bool) or not isinstance(key, int | str) or key == "":
        raise DataError(f"`key` is {key!r}, not a number or a text")
    if not isinstance(prompt, str) or not prompt.strip():
        raise DataError("`prompt` is missing or empty")
    if not isinstance(ids, list | tuple) or not ids:
        raise DataError("`instruction_id_list` is missing or empty")
    if not isinstance(given, list | tuple) or len(given) != len(ids):
        raise DataError(f"`kwargs` must be a list with an object for each of the {len(ids)} instructions")
    return Item(str(key), prompt, tuple(parse_asked(name, kwargs) for name, kwargs in zip(ids, given, strict=True)))


def read_items(source: DataSource) -> list[Item]:
    """The prompts of a file or of a data set on the hub, of all its splits where none is chosen.

    Raises:
        DataError: naming the first row that cannot be used, or a key or prompt that is there twice; there is no such split, or no prompts.
    """
    whole = source.source_split is None and source.split is None
    return _unique(_items(sources.rows(source, whole=whole)), source.path)


def _items(rows: Iterable[tuple[str, str | None, Mapping[str, Any]]]) -> Iterator[tuple[str, Item]]:
    for where, _, row in rows:
        try:
            yield where, parse_item(row)
        except DataError as error:
            raise DataError(f"{where}: {error}") from None


def _unique(items: Iterable[tuple[str, Item]], name: str) -> list[Item]:
    found: dict[str, tuple[str, Item]] = {}
    prompts: dict[str, str] = {}
    for where, item in items:
        if item.key in found:
            raise DataError(f"{where}: the key {item.key} is there already, at {found[item.key][0]}; keys must differ")
        if item.prompt in prompts:
            raise DataError(f"{where}: the same prompt as {prompts[item.prompt]}, under another key; take one out")
        found[item.key], prompts[item.prompt] = (where, item), where
    if not found:
        raise DataError(f"{name}: no prompts")
    return [item for _, item in found.values()]


# --- responses -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answered:
    """Prompts with their responses by key; how many prompts had none, and how many responses belong to other prompts."""

    items: Sequence[Item]
    responses: Mapping[str, str]
    prompts_left_out: int = 0
    responses_left_out: int = 0


def read_responses(source: DataSource, items: Sequence[Item] | None, *, partial: bool = False) -> Answered:
    """The responses of a file, and the prompts they answer.

    Args:
        source: one response a row.
        items: the prompts; None where the rows have them, with the instructions, themselves.
        partial: leave out prompts without a response, and responses to other prompts.

    Raises:
        DataError: a row that cannot be read, a prompt that is answered twice; without `partial`, a prompt that is not answered or a
            response to a prompt that is not there.
    """
    rows = [(where, _flat(row)) for where, _, row in sources.rows(source, whole=True)]
    if items is None:
        if rows and "instruction_id_list" not in rows[0][1]:
            raise DataError(f"{rows[0][0]}: has no instruction_id_list; give the file of the prompts, too (--prompts)")
        items = _unique(_items((where, None, row) for where, row in rows), source.path)
    by_prompt, by_key = {item.prompt: item for item in items}, {item.key: item for item in items}
    found: dict[str, str] = {}
    places: dict[str, str] = {}
    strange: list[str] = []
    for where, row in rows:
        item = _item_of(row, by_prompt, by_key, where)
        response = _response(row, where)
        if item is None:
            strange.append(where)
        elif item.key in found:
            raise DataError(f"{where}: prompt {item.key} is answered already, at {places[item.key]}; give the answers of one model, once")
        else:
            found[item.key], places[item.key] = response, where
    if strange and not partial:
        raise DataError(
            f"{strange[0]}: answers a prompt that is not among the {len(items)} given ({len(strange)} such rows); give the prompts "
            "that were answered, or --partial to leave such rows out"
        )
    missing = [item.key for item in items if item.key not in found]
    if missing and (not partial or not found):
        raise DataError(
            f"{source.path}: {len(missing)} of {len(items)} prompts have no response (the first: {missing[0]}); give the whole run, or "
            "--partial to score what is there"
        )
    return Answered([item for item in items if item.key in found], found, len(missing), len(strange))


def _flat(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A line of lm-eval's samples as a row of ours; others as they are."""
    doc = row.get("doc")
    if not isinstance(doc, Mapping):
        return row
    replies = row.get("filtered_resps") or row.get("resps")
    while isinstance(replies, list | tuple) and replies:
        replies = replies[0]
    return {**doc, "response": replies}


def _item_of(row: Mapping[str, Any], by_prompt: Mapping[str, Item], by_key: Mapping[str, Item], where: str) -> Item | None:
    key, prompt = row.get("key"), row.get("prompt")
    if key is None and prompt is None:
        raise DataError(f"{where}: neither `key` nor `prompt` says what is answered; the row has {', '.join(map(repr, row))}")
    if key is None:
        return by_prompt.get(str(prompt))
    item = by_key.get(str(key))
    if item is not None and prompt is not None and prompt != item.prompt:
        raise DataError(f"{where}: has the key {key} and another prompt than that; the response belongs to another set of prompts")
    return item


def _response(row: Mapping[str, Any], where: str) -> str:
    """The text of a response, which may be empty."""
    name = "response" if "response" in row else "output"
    if not isinstance(value := row.get(name), str):
        what = "is missing" if name not in row else f"is {type(value).__name__}, not a text"
        raise DataError(f"{where}: `response` {what}")
    return value
