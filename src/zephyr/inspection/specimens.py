"""What there is to look at in a row, whatever its kind: its strata, its numbers, its names, and what is shown of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from zephyr.inspection.cards import Card
from zephyr.inspection.distributions import Scale
from zephyr.records import Row


@dataclass(frozen=True)
class Specimen:
    """Something to look at: a dialogue, an answer that was rated, a pair.

    Attributes:
        where: its place.
        texts: all that it says, which tells it from others.
        labels: by grouping, its stratum, from the finest division to the coarsest.
        numbers: (name of a distribution, value).
        names: (name of a distribution, value, a score where it has one).
        card: makes what is shown of it.
    """

    where: str
    texts: tuple[str, ...]
    labels: Mapping[str, tuple[str, ...]]
    numbers: tuple[tuple[str, float], ...]
    names: tuple[tuple[str, str, float | None], ...]
    card: Callable[[str], Card] = field(repr=False)


@dataclass(frozen=True)
class Kind:
    """A kind of rows.

    Attributes:
        name: `dialogues`, `ratings` or `preferences`.
        one, unit: what a specimen is, in the singular and in the plural.
        columns: what makes a row one of this kind, as an error says it.
        groupings: by title, how many divisions it has, from fine to coarse.
        order: by title, strata that follow one another by nature; others are in the order of their size.
        numbers: by name, what is counted, and on which scale.
        names: by name, what is counted.
        read: the specimens in a row, by its place and its split.

    `read` raises `DataError` for a row that is not what its columns say.
    """

    name: str
    one: str
    unit: str
    columns: str
    groupings: Mapping[str, int]
    order: Mapping[str, tuple[str, ...]]
    numbers: Mapping[str, tuple[str, Scale]]
    names: Mapping[str, str]
    read: Callable[[str, str | None, Row], Iterator[Specimen]]


def said(row: Mapping[str, object], *columns: str) -> Iterator[tuple[str, str]]:
    """The columns of a row that hold a text, each with that."""
    for column in columns:
        value = row.get(column)
        if isinstance(value, str) and value.strip():
            yield column, value


def band(value: float, bounds: tuple[float, ...], form: str = ",g") -> str:
    """In words, between which of the bounds a value is: `2,048 to 8,191`, for whole numbers."""
    if value < bounds[0]:
        return f"under {bounds[0]:{form}}"
    low = max(bound for bound in bounds if bound <= value)
    high = min((bound for bound in bounds if bound > value), default=None)
    if high is None:
        return f"{low:{form}} and more"
    return f"{low:{form}}" if high - 1 == low else f"{low:{form}} to {high - 1:{form}}"
