"""How lists and single texts are read out of replies: strictly, nothing is guessed or filled in.

A list is asked for in one of two forms. In lines::

    LIST = [one line that ends with a colon] (NUMBER ("." | ")") space TEXT newline)…     numbered 1, 2, 3… without a gap

or, of a server that can be held to a schema, as ``{"items": [TEXT, …]}``. It has one item at least and as many as were asked for at
most, none twice. Of lines that were cut off at max_new_tokens the last one is not counted: it may be half an item.
A single text is the whole reply. Around each, white space is allowed, and before it one ``<think>…</think>``.
"""

from __future__ import annotations

import json
import re
from typing import Any

from zephyr.errors import DataError
from zephyr.records.fields import encodable

MOST_CHARACTERS = 600  # of an item: what is longer is no item of a list
MOST_OF_A_TEXT = 6000  # of an instruction
_ITEM = re.compile(r"(\d+)[.)][ \t]+(\S.*)")
# what models write before an instruction that was asked for alone
_PREAMBLE = re.compile(r"(sure|certainly|of course|okay|ok|here(?: is|'s| are)|absolutely)\b[^\n]{0,80}[:!.]?\s*(\n|$)", re.IGNORECASE)


def schema_of_list(count: int) -> dict[str, Any]:
    """A list of up to `count` texts, as a JSON schema in the part of the language that servers hold a model to."""
    items = {"type": "array", "items": {"type": "string"}}
    return {"type": "object", "properties": {"items": items}, "required": ["items"], "additionalProperties": False}


def said(text: str) -> str:
    """A reply without what was thought aloud before it, and without space around it.

    Raises:
        DataError: where the thought ends is not told.
    """
    body = text.strip()
    if not body.startswith("<think>"):
        return body
    _, end, rest = body.partition("</think>")
    if not end or "<think>" in rest or "</think>" in rest:
        raise DataError("it does not say where the thinking ends and the reply begins")
    return rest.strip()


def read_lines(text: str, count: int, *, cut: bool) -> list[str]:
    """The items of a numbered list.

    Args:
        text: of the reply.
        count: how many were asked for.
        cut: whether it was cut off, so that the last line does not count.

    Raises:
        DataError: what is wrong with it.
    """
    lines = [line.strip() for line in said(text).splitlines() if line.strip()]
    if lines and lines[0].endswith(":") and not _ITEM.fullmatch(lines[0]):
        lines = lines[1:]
    if cut:
        lines = lines[:-1]
    items = []
    for number, line in enumerate(lines, 1):
        found = _ITEM.fullmatch(line)
        if found is None:
            raise DataError(f"line {number} of the list does not begin with its number: {line[:40]!r}")
        if int(found[1][:9]) != number:
            raise DataError(f"line {number} of the list has the number {found[1][:9]}")
        items.append(found[2].strip())
    return _checked(items, count, cut=cut)


def read_json(text: str, count: int) -> list[str]:
    """The items of a JSON object `{"items": […]}`.

    Raises:
        DataError: what is wrong with it.
    """
    try:
        value = json.loads(said(text))
    except (ValueError, RecursionError) as error:
        raise DataError(f"not one JSON object ({str(error)[:120]})") from None
    if not isinstance(value, dict) or set(value) != {"items"} or not isinstance(value["items"], list):
        raise DataError('not an object with the key "items" alone, and a list under it')
    if any(not isinstance(item, str) for item in value["items"]):
        raise DataError('not all of "items" are texts')
    return _checked([item.strip() for item in value["items"]], count, cut=False)


def _checked(items: list[str], count: int, *, cut: bool) -> list[str]:
    if not items:
        raise DataError("the list holds no whole line before it was cut off" if cut else "the list is empty")
    if len(items) > count:
        raise DataError(f"the list has {len(items)} items, {count} were asked for")
    if any(not any(c.isalnum() for c in item) for item in items):
        raise DataError("an item of the list says nothing")
    for number, item in enumerate(items):
        encodable(item, f"items[{number}]")  # JSON can escape half a character, which nothing could be made of
    if long := [item for item in items if len(item) > MOST_CHARACTERS]:
        raise DataError(f"an item of the list has {len(long[0])} characters, more than {MOST_CHARACTERS}")
    words = [" ".join(item.casefold().split()) for item in items]
    if len(set(words)) < len(words):
        raise DataError("an item of the list is there twice")
    return items


def read_instruction(text: str, *, cut: bool) -> str:
    """A single instruction: the whole reply.

    Raises:
        DataError: what is wrong with it.
    """
    body = said(text)
    if cut:
        raise DataError("it was cut off at max_new_tokens")
    if not any(c.isalnum() for c in body):
        raise DataError("it is empty")
    if len(body) > MOST_OF_A_TEXT:
        raise DataError(f"it has {len(body)} characters, more than {MOST_OF_A_TEXT}")
    if _PREAMBLE.match(body):
        raise DataError("it begins with words to the one who asked; the instruction alone was asked for")
    return body
