"""What a check is: it sees each row once, keeps what it needs of it, and says what came of all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from zephyr.audit.findings import EXAMPLES, Example, Finding, Level, Table, excerpt
from zephyr.audit.rows import Pair, Rated, exact_key, key_of


@dataclass(frozen=True)
class Item:
    """A row that was read: where it stood, in which split, and what it holds."""

    where: str
    split: str
    pair: Pair | None
    rated: Rated | None

    @property
    def asked(self) -> tuple[str, ...]:
        """What the user says, turn by turn."""
        return self.pair.asked if self.pair else (self.rated.prompt,) if self.rated else ()

    @cached_property
    def prompt_key(self) -> int:
        """Stands for the words of the prompt."""
        return key_of(self.asked[0])

    @cached_property
    def context_key(self) -> int:
        """Stands for the words of all that comes before the answer."""
        return key_of(self.pair.context if self.pair else self.asked[0])

    @cached_property
    def answer_keys(self) -> tuple[int, int]:
        """Stand for the chosen and the rejected answer, to the letter."""
        assert self.pair is not None
        return exact_key(self.pair.chosen), exact_key(self.pair.rejected)


class Check(Protocol):
    """Something that is looked for, row by row, without keeping their texts."""

    def see(self, item: Item) -> None:
        """Take a row into account."""

    def findings(self) -> list[Finding]:
        """What came of it."""


class Found:
    """A count, and the first of what is counted."""

    def __init__(self) -> None:
        self.count = 0
        self.examples: list[Example] = []

    def add(self, item: Item, what: str) -> None:
        """Count a row, with a word on why."""
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(Example(item.where, f"{what}: {excerpt(item.asked[0])}"))

    def finding(self, name: str, of: int, unit: str, says: str, advice: str, table: Table | None = None) -> Finding:
        """A problem where there is one at all."""
        level: Level = "problem" if self.count else "clear"
        return Finding(name, level, self.count, of, unit, says, advice, tuple(self.examples), table=table)
