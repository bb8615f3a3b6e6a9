"""What an audit says: findings, each with a count, what it means, where it is, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from zephyr._version import __version__

# problem: something is wrong; note: worth knowing, and may be meant; clear: looked for and not there; unknown: the rows do not tell
Level = Literal["problem", "note", "clear", "unknown"]
LEVELS: tuple[Level, ...] = ("problem", "note", "clear", "unknown")
EXAMPLES = 5


@dataclass(frozen=True)
class Example:
    """Where something was found, and what stands there."""

    where: str
    what: str


@dataclass(frozen=True)
class Table:
    """Columns and rows of cells, as they are shown; the first column names the row."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    Attributes:
        name: its key in the JSON.
        level: how it came out.
        count: how many were found.
        of: among how many it was looked for; 0 where the rows do not tell.
        unit: what is counted, in the plural.
        says: what it means, here; where the level is `unknown`, why.
        advice: what to do about it.
        examples: the first of them.
        numbers: what was measured, JSON values.
        table: what was counted by model, by place or by benchmark.
        measure: what it says is a figure, of interest however it came out.
    """

    name: str
    level: Level
    count: int
    of: int
    unit: str
    says: str
    advice: str = ""
    examples: tuple[Example, ...] = ()
    numbers: dict[str, Any] = field(default_factory=dict)
    table: Table | None = None
    measure: bool = False


def unknown(name: str, unit: str, why: str, advice: str = "") -> Finding:
    """A finding that the rows do not tell."""
    return Finding(name, "unknown", 0, 0, unit, why, advice)


@dataclass(frozen=True)
class Audit:
    """What was looked for in preference data, and what was found.

    Attributes:
        sources: the names of what was read.
        rows: how many rows there were.
        pairs: how many of them hold a pair.
        rated: how many hold rated answers, those of `ratings` included.
        splits: how many rows are of each split.
        findings: problems first.
        ignored: names of findings that are no reason to fail.
    """

    sources: tuple[str, ...]
    rows: int
    pairs: int
    rated: int
    splits: dict[str, int]
    findings: tuple[Finding, ...]
    ignored: tuple[str, ...] = ()

    @property
    def problems(self) -> list[str]:
        """The names of the findings that are a problem, but for those that were to be ignored."""
        return [f.name for f in self.findings if f.level == "problem" and f.name not in self.ignored]

    @property
    def clean(self) -> bool:
        """Nothing is wrong, as far as the rows tell."""
        return not self.problems

    def __getitem__(self, name: str) -> Finding:
        """The finding of that name."""
        return next(f for f in self.findings if f.name == name)

    def json(self) -> dict[str, Any]:
        """One object: each finding's count under its name, and all there is to say of it under `findings`."""
        return {
            "zephyr": __version__,
            "sources": list(self.sources),
            "rows": self.rows,
            "pairs": self.pairs,
            "rated": self.rated,
            "splits": self.splits,
            "clean": self.clean,
            "problems": self.problems,
            "ignored": list(self.ignored),
            **{f.name: f.count for f in self.findings},
            "findings": [asdict(f) for f in self.findings],
        }


def first(examples: Sequence[Example]) -> tuple[Example, ...]:
    """The examples that are shown."""
    return tuple(examples[:EXAMPLES])


def excerpt(text: str, length: int = 72) -> str:
    """The beginning of a text that others wrote, in one line: nothing in it moves a cursor or turns the writing round."""
    plain = " ".join(text[: 4 * length].split())
    plain = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in plain)
    return plain if len(plain) <= length else plain[: length - 1] + "…"
