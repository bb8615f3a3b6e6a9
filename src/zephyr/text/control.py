"""Control tokens: what opens and ends turns, as ids or as plain text, and must therefore not stand inside one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from zephyr.errors import DataError
from zephyr.records import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# How templates mark roles in plain text: <|user|>, [INST], <<SYS>>. Written by a user, one would open another's turn.
_PLAIN_MARKER = re.compile(r"<\|[^<>|\s]+\|>|<<?/?[A-Z]+>>?|\[/?[A-Z]+\]")


class ControlTokens:
    """The control tokens of one tokenizer with one template.

    Args:
        tokenizer: whose vocabulary they are of.
        scaffold: what the template writes around the turns.
        markers: texts that count as some, whatever the template writes.

    Attributes:
        atomic: those that are one id each: the special ones, and those that the template writes. The rest of the added vocabulary is
            text: Gemma has runs of line breaks there, GPT-NeoX runs of spaces.
        ids: theirs.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, scaffold: str, markers: Sequence[str] = ()) -> None:
        self._scaffold, self._markers, self._added = scaffold, markers, tokenizer.added_tokens_decoder
        added = self._added.values()
        special = {t.content for t in added if t.special} | set(tokenizer.all_special_tokens)
        written = {t.content for t in added if t.content.strip() and t.content in scaffold}
        self.atomic = frozenset((special | written) - {""})
        ids = {i for i, token in self._added.items() if token.content in self.atomic}
        self.ids = frozenset(ids - {tokenizer.unk_token_id})  # the unknown token may stand for text
        self._first = _any_of(self.atomic)

    @cached_property
    def texts(self) -> list[str]:
        """Texts that must not stand inside a turn: they would be read as the end of it, or as another's turn."""
        return sorted(self.atomic | {*_PLAIN_MARKER.findall(self._scaffold), *self._markers})

    @cached_property
    def _anywhere(self) -> re.Pattern[str]:
        return _any_of(self.texts)

    @property
    def unwritten(self) -> set[int]:
        """The ids of those that the template does not write."""
        return {i for i in self.ids if self._added[i].content not in self._scaffold}

    def first_in(self, text: str) -> re.Match[str] | None:
        """Where in a text the first of the vocabulary's stands."""
        return self._first.search(text)

    def ids_of(self, text: str) -> tuple[int, ...]:
        """The ids of the added vocabulary that are written so."""
        return tuple(i for i, token in self._added.items() if token.content == text)

    def last_of(self, text: str) -> str:
        """The end of a text that can change how what follows it is read: tokenizers split at control tokens."""
        return text[max(0, *(text.rfind(t) for t in self.atomic)) :]

    def refuse_in(self, messages: Sequence[Message]) -> None:
        """Raise `DataError` if a turn contains one."""
        for i, message in enumerate(messages):
            if found := self._anywhere.search(message["content"]):
                raise DataError(f"turn {i} ({message['role']}) contains the control token {found.group()!r}")


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    return re.compile(
        "|".join(re.escape(t) for t in sorted(texts, key=len, reverse=True))
    )  # the longest first: it is what a tokenizer takes
