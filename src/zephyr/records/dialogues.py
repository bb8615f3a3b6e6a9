"""Dialogues to learn from, and prompts to be answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeGuard, cast

from zephyr.errors import DataError
from zephyr.records.base import ROLES, Message, Role, Row, prompt_id_of
from zephyr.records.fields import encodable, kind, missing, quoted, text

# what a turn may say beside `role` and `content`, and nothing here heeds: whether it is learnt, and what else it says
_LEARNT = ("weight", "train")
UNHEEDED = (*_LEARNT, "tool_calls", "function_call", "reasoning_content", "thinking")


@dataclass(frozen=True)
class Dialogue:
    """A conversation to learn from: an optional system turn, then user and assistant in turn.

    Where it comes from does not make it another.
    """

    prompt: str
    prompt_id: str
    messages: tuple[Message, ...]
    source: str = field(default="", compare=False)
    category: str = field(default="", compare=False)

    @property
    def identity(self) -> str:
        """An id of its own; where that is the prompt's, as in the public sets, the texts: a prompt may begin several dialogues."""
        if self.prompt_id != prompt_id_of(self.prompt):
            return self.prompt_id
        return prompt_id_of("\x1e".join(m["role"] + "\x1f" + m["content"] for m in self.messages))

    def row(self) -> Row:
        """The row as it is written: the columns of `ultrachat_200k`, and where it came from."""
        return {
            "prompt": self.prompt,
            "prompt_id": self.prompt_id,
            "messages": [dict(m) for m in self.messages],
            "source": self.source,
            "category": self.category,
        }


@dataclass(frozen=True)
class Prompt:
    """A prompt that several models will answer."""

    prompt: str
    prompt_id: str
    source: str = ""
    category: str = ""

    @property
    def identity(self) -> str:
        """Its id."""
        return self.prompt_id

    def row(self) -> Row:
        """The row as it is written."""
        return {"prompt": self.prompt, "prompt_id": self.prompt_id, "source": self.source, "category": self.category}


def _is_role(value: object) -> TypeGuard[Role]:
    return value in ROLES


def parse_messages(value: object, key: str = "messages", *, learnt: Literal["each", "last", "none"] = "each") -> tuple[Message, ...]:
    """A list of turns, checked: an optional system turn first, then user and assistant in turn, none empty.

    Args:
        value: the list.
        key: what it is called in its row.
        learnt: which answers are learnt: one of these that is marked as not to be is an error.

    Raises:
        DataError: naming the turn and what is wrong with it.
    """
    if not isinstance(value, list | tuple) or not value:
        raise DataError(f"`{key}` is {kind(value) if value else 'empty'}; a list of turns was expected")
    turns: list[Message] = []
    for i, turn in enumerate(cast(list[object], value)):
        where = f"`{key}[{i}]`"
        if not isinstance(turn, Mapping):
            raise DataError(f"{where} is {kind(turn)}, not an object with `role` and `content`")
        role, content = turn.get("role"), turn.get("content")
        if not _is_role(role):
            raise DataError(f"{where}: role {role!r} is not one of system, user, assistant")
        _refuse_unheeded(turn, where, learnt == "each" or (learnt == "last" and i == len(value) - 1))
        if not isinstance(content, str):
            raise DataError(f"{where}: `content` is {kind(content)}, not a text")
        if role != "system" and not content.strip():
            raise DataError(f"{where}: the {role} turn is empty")
        if role == "system" and i > 0:
            raise DataError(
                f"{where}: a second system turn" if turns[0]["role"] == "system" else f"{where}: a system turn that is not the first"
            )
        turns.append({"role": role, "content": encodable(content, f"{key}[{i}].content")})
    body = turns[1:] if turns[0]["role"] == "system" else turns
    for i, message in enumerate(body):
        want = "user" if i % 2 == 0 else "assistant"
        if message["role"] != want:
            raise DataError(
                f"`{key}`: turns do not alternate (found {message['role']} where {want} belongs, turn {i + len(turns) - len(body)})"
            )
    return tuple(turns)


def _refuse_unheeded(turn: Mapping[str, Any], where: str, learnt: bool) -> None:
    """What is not heeded must not vanish; null and what is empty say nothing, and Parquet fills up objects with them."""
    for key in UNHEEDED:
        value = turn.get(key)
        if key in _LEARNT:
            if learnt and turn["role"] == "assistant" and value not in (None, 1):  # other turns are not, by default
                raise DataError(
                    f"{where}: `{key}` is not {'true' if key == 'train' else 1} (but {quoted(value)}); each answer is learnt, all of it: "
                    "leave the row out, or take the key out where that may be"
                )
        elif any(value.values()) if isinstance(value, Mapping) else value:
            raise DataError(f"{where}: `{key}` holds something (only `role` and `content` are read); put it into `content`, or take it out")


def first_user(messages: tuple[Message, ...]) -> str:
    """The text of the first user turn, which the public sets call the prompt."""
    return next((m["content"] for m in messages if m["role"] == "user"), "")


def parse_dialogue(row: Mapping[str, Any]) -> Dialogue:
    """A dialogue from a row with `messages`; the last turn must be the assistant's."""
    if "messages" not in row:
        raise missing(row, "messages", "`zephyr curate` reads `conversations`, `data` and `instruction` with `output`, too")
    messages = parse_messages(row["messages"])
    if not any(m["role"] == "assistant" for m in messages):
        raise DataError("`messages` has no assistant turn: there is nothing to learn")
    if messages[-1]["role"] != "assistant":
        raise DataError(f"`messages` ends with a {messages[-1]['role']} turn; the last must be the assistant's")
    prompt = text(row, "prompt", default="") or first_user(messages)
    return Dialogue(
        prompt=prompt,
        prompt_id=text(row, "prompt_id", default="") or prompt_id_of(prompt),
        messages=messages,
        source=text(row, "source", default=""),
        category=text(row, "category", default=""),
    )


def parse_prompt(row: Mapping[str, Any]) -> Prompt:
    """A prompt from a row with `prompt`."""
    prompt = text(row, "prompt")
    if not prompt.strip():
        raise DataError("`prompt` is empty")
    return Prompt(
        prompt=prompt,
        prompt_id=text(row, "prompt_id", default="") or prompt_id_of(prompt),
        source=text(row, "source", default=""),
        category=text(row, "category", default=""),
    )
