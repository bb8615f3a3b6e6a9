"""What the filters share: how they see a dialogue, what they find, and whether a passage is the speaker's own words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TypeAlias

from zephyr.records import Message

# a turn as the records have it, or (role, text)
Turn: TypeAlias = "Message | Mapping[str, str] | tuple[str, str]"


@dataclass(frozen=True, slots=True)
class Hit:
    """Why a filter refuses a dialogue: which filter, the turn (from 0), and the span of the reason in the turn's text (in characters)."""

    filter: str
    message: int
    start: int
    end: int


@dataclass(frozen=True)
class Settings:
    """What can be set.

    Attributes:
        language: ISO 639-1 code of the language that answers must be in.
        min_answer_chars: characters that all answers together must have.
        max_chars: characters that a dialogue may have.
        max_turns: turns that a dialogue may have, system turn aside.
    """

    language: str = "en"
    min_answer_chars: int = 10
    max_chars: int = 100_000
    max_turns: int = 64


class View(Sequence[tuple[str, str]]):
    """A dialogue as the filters see it: (role, text) in turn, and what several of them need, worked out once."""

    def __init__(self, messages: Sequence[Turn]) -> None:
        turns = [m if isinstance(m, tuple) else (m["role"], m["content"]) for m in messages]
        self.roles = [role for role, _ in turns]
        self.texts = [text for _, text in turns]

    @staticmethod
    def of(messages: Sequence[Turn]) -> View:
        """A view of the messages; a view is its own."""
        return messages if isinstance(messages, View) else View(messages)

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> tuple[str, str]:  # type: ignore[override]  # no slices: nobody takes one
        return self.roles[index], self.texts[index]

    @cached_property
    def lowers(self) -> list[str]:
        """The texts in small letters with straight apostrophes, character for character as long as they are."""
        return [_lowered(text) for text in self.texts]

    @cached_property
    def all_lower(self) -> str:
        """All turns in small letters, one after the other: to see quickly that a word is in none."""
        return "\n" + "\n".join(self.lowers)

    @cached_property
    def words(self) -> frozenset[bytes]:
        """The words of all turns, in small letters, with their apostrophes, in UTF-8: to see quickly that one is in none."""
        return frozenset(self.all_lower.encode("utf-8", "replace").translate(_NO_WORD).split())

    @cached_property
    def answers(self) -> list[int]:
        """Where the assistant speaks."""
        return [i for i, role in enumerate(self.roles) if role == "assistant"]

    def asked(self, i: int) -> str:
        """The user's turn that turn `i` answers, in small letters; empty where there is none."""
        return self.lowers[i - 1] if i > 0 and self.roles[i - 1] == "user" else ""


def words(text: str) -> frozenset[bytes]:
    """The words of a list that is written with spaces between, as `View.words` has them."""
    return frozenset(text.encode("utf-8").split())


_NO_WORD = bytes(code if code > 127 or chr(code).isalnum() or chr(code) == "'" else 32 for code in range(256))


def _lowered(text: str) -> str:
    low = text.lower()
    if text.isascii():
        return low
    if len(low) != len(text):  # "İ" becomes two characters; a span must stay where it is
        low = "".join(c if len(c.lower()) != 1 else c.lower() for c in text)
    return low.replace("\u2019", "'")


@dataclass(frozen=True)
class Filter:
    """One reason to leave a dialogue out.

    Attributes:
        name: in kebab-case, as settings and counts name it.
        doc: what it finds, in one sentence.
        on: whether it is on by default.
        find: the first hit in a dialogue, or None; a pure function of the turns.
    """

    name: str
    doc: str
    on: bool
    find: Callable[[Sequence[Turn]], Hit | None]


MATCHES = 50


def matches(
    view: View, where: Sequence[int], needles: Sequence[str], pattern: re.Pattern[str], anchors: Sequence[str] = ()
) -> Iterator[tuple[int, re.Match[str]]]:
    """Where a pattern matches in the turns, in small letters; looked for only where one of the words is that every match has.

    Of one turn it gives `MATCHES` at most: where so many were nothing, the next is nothing too.

    Args:
        view: the dialogue.
        where: the turns that are looked at.
        needles: of which a turn with a match has one.
        pattern: what is looked for.
        anchors: what every match begins with, at the beginning of a word: it is tried there alone, which is many times as fast.
    """
    for i in where:
        low = view.lowers[i]
        if any(needle in low for needle in needles):
            found = _anchored(low, pattern, anchors) if anchors else pattern.finditer(low)
            for match in islice(found, MATCHES):
                yield i, match


def _anchored(low: str, pattern: re.Pattern[str], anchors: Sequence[str]) -> Iterator[re.Match[str]]:
    """What `finditer` gives, of a pattern whose matches begin with one of the anchors."""
    end = 0
    for at in sorted({at for anchor in anchors for at in _beginnings(low, anchor)}):
        if at >= end and (found := pattern.match(low, at)):
            end = found.end()
            yield found


def _beginnings(low: str, anchor: str) -> Iterator[int]:
    at = low.find(anchor)
    while at >= 0:
        if at == 0 or not (low[at - 1].isalnum() or low[at - 1] == "_"):
            yield at
        at = low.find(anchor, at + 1)


_LOOK_BACK = 2000  # characters of a line in which a quotation may have begun
_QUOTES = re.compile('["\u201c\u201d\u00ab\u00bb]')


def in_code(text: str, at: int) -> bool:
    """Whether a place is in a block of code or in a piece of code within a line."""
    if text.count("```", 0, at) % 2:
        return True
    line = text.rfind("\n", 0, at) + 1
    return text.count("`", line, at) % 2 == 1 and "`" in text[at : at + 200]


def quoted(text: str, at: int) -> bool:
    """Whether a place is in a quotation: between quotation marks that open in the same line, or in a line that begins with `>`."""
    line = text.rfind("\n", 0, at) + 1
    if text.startswith(">", line):
        return True
    inside = False
    for mark in _QUOTES.finditer(text, max(line, at - _LOOK_BACK), at):
        inside = mark.group() in "\u201c\u00ab" or (mark.group() == '"' and not inside)
    return inside


_LINE_OF_A_PLAY = re.compile(r"^\W{0,4}([a-z][\w .'-]{0,24})(?:\([^)\n]{0,40}\))?\W{0,3}:", re.MULTILINE)


def scripted(low: str, at: int) -> bool:
    """Whether a place is in a line that somebody speaks in a play or an interview: `NAME: …`, and others speak too."""
    line = low.rfind("\n", 0, at) + 1
    if _LINE_OF_A_PLAY.match(low, line) is None:
        return False
    return len(set(_LINE_OF_A_PLAY.findall(low[max(0, line - 1500) : at + 1500]))) > 1


def own_words(view: View, i: int, start: int, end: int) -> bool:
    """Whether a passage is what the speaker says: not code, not a quotation, not words of an earlier turn of another."""
    text = view.texts[i]
    if in_code(text, start) or quoted(text, start):
        return False
    said = view.lowers[i][start:end]
    return not any(said in view.lowers[j] for j in range(i) if view.roles[j] != view.roles[i])
