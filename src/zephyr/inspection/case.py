"""What truecasing changed, as `curate` writes it to `changed/truecased.jsonl`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from zephyr.errors import DataError
from zephyr.files import Unread
from zephyr.inspection import cards, marks
from zephyr.inspection.cards import Block, Card, Span
from zephyr.inspection.strata import Key, Lowest
from zephyr.records import Row

CHANGED_WORDS = 10_000  # different ones that are counted


class Truecased:
    """Texts whose case was mended, before and after. Entries without a text, or of two that are not of one length, are counted alone.

    Args:
        each: how many are kept.
        seed: decides which.
    """

    def __init__(self, each: int, seed: int) -> None:
        self._seed = seed
        self._kept: Lowest[Card] = Lowest(each)
        self.dialogues = self.words = self.skipped = 0
        self._pairs: Counter[tuple[str, str]] | None = Counter()

    def see(self, where: str, entry: Row | Unread) -> None:
        """A line of `truecased.jsonl`."""
        messages = entry.get("messages") if isinstance(entry, Mapping) else None
        if not isinstance(entry, Mapping) or not isinstance(messages, list) or not all(map(_is_change, messages)):
            raise DataError(f"{where}: no text whose case was mended, before and after; make the artifact again")
        # words are marked by their places: of a text that is longer before or after, they would be others
        if not messages or any(len(m["before"]) != len(m["after"]) for m in messages):
            self.skipped += 1
            return
        self.dialogues += 1
        words = [marks.changed(m["before"], m["after"]) for m in messages]
        self.words += sum(map(len, words))
        if self._pairs is not None:
            self._pairs.update((m["before"][a:b], m["after"][a:b]) for m, found in zip(messages, words, strict=True) for a, b in found)
            self._pairs = self._pairs if len(self._pairs) <= CHANGED_WORDS else None
        key = Key.of(self._seed, str(entry.get("where", where)), [m["before"] for m in messages])
        self._kept.offer(key, lambda: _before_and_after(key, messages, words))

    def cards(self) -> list[Card]:
        """The sample."""
        return self._kept.values()

    def most_changed(self, most: int) -> list[tuple[str, str, int]]:
        """(before, after, times) of the words that were changed most often; [] where too many different ones were."""
        order = sorted((self._pairs or {}).items(), key=lambda item: (-item[1], item[0]))
        return [(cards.line(before, 40), cards.line(after, 40), n) for (before, after), n in order[:most]]


def _is_change(value: object) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("before"), str) and isinstance(value.get("after"), str)


def _before_and_after(key: Key, messages: Sequence[Mapping[str, Any]], words: Sequence[Sequence[tuple[int, int]]]) -> Card:
    """The turn of a dialogue that changed most."""
    at = max(range(len(messages)), key=lambda i: (len(words[i]), -i))
    turn, changed = messages[at], words[at]
    sides = tuple(
        Block(title, cards.shown(turn[title], [Span(a, b, mark) for a, b in changed]), title)
        for title, mark in (("before", "was"), ("after", "now"))
    )
    others, count = len(messages) - 1, sum(map(len, words))
    note = f"{others} more turn{'s' if others > 1 else ''} of it changed." if others else ""
    return Card(cards.visible(key.where), key.identity[:16], (f"{count:,} word{'s' if count != 1 else ''}",), sides=sides, note=note)
