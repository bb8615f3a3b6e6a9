"""What a table is, and the pieces that tables are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from zephyr.report.numbers import MISSING, bounds, count, finite, interval
from zephyr.report.plots import whisker

DASH = "\N{EN DASH}"


@dataclass(frozen=True)
class Column:
    """A heading, and what stands under it: `text`, `number` or `plot`; on a phone, minor ones are left out."""

    label: str
    kind: str = "number"
    minor: bool = False


@dataclass(frozen=True)
class Table:
    """A caption, columns, rows of cells, perhaps a last row that sums them, and what has to be said below."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    foot: tuple[str, ...] = ()


def text(label: str, *, minor: bool = False) -> Column:
    """A column of words."""
    return Column(label, "text", minor)


def words(value: object) -> str:
    """A text; what is none was not measured."""
    return value if isinstance(value, str) and value else MISSING


@dataclass(frozen=True)
class Measured:
    """A row of a table of intervals: what was measured, the colour of its mark, its value and the two ends."""

    label: str
    colour: str
    value: Any
    ends: Any


def _whiskers(rows: Sequence[Measured], scale: tuple[float, float] | None, mark: float | None) -> list[str]:
    """One small picture a row, all on one scale; without one given, it is what the rows span."""
    found = [(finite(row.value), bounds(row.ends)) for row in rows]
    every = [v for value, ends in found for v in (value, *(ends or ())) if v is not None]
    if not every:
        return ["" for _ in rows]
    if scale is None:
        wide = [*every, *([mark] if mark is not None else [])]
        pad = (max(wide) - min(wide)) * 0.08 or 1.0
        scale = (min(wide) - pad, max(wide) + pad)
    return [
        Markup(whisker(value, ends, scale, mark, row.colour)) if value is not None else ""  # noqa: S704 - made of numbers and our names
        for row, (value, ends) in zip(rows, found, strict=True)
    ]


def interval_table(
    rows: Sequence[Measured], heading: str, form: Callable[[object], str], scale: tuple[float, float] | None, mark: float | None
) -> tuple[tuple[Column, ...], list[tuple[str, ...]]]:
    """Three columns: values, intervals, and both as pictures on one scale (what the rows span, if it is None), with a tick at `mark`."""
    pictures = _whiskers(rows, scale, mark)
    columns = (Column(heading), Column("95% interval"), Column("0 to 100%" if scale == (0.0, 1.0) else "", "plot"))
    return columns, [(form(row.value), interval(row.ends, form), plot) for row, plot in zip(rows, pictures, strict=True)]


def known(value: object) -> str:
    """A count; a dash where there is none."""
    return DASH if value is None else count(value)


def bar(share: float) -> str:
    """A share from 0 to 1 as a bar."""
    shape = 'class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true" focusable="false"'
    return Markup(f'<svg {shape}><rect width="{100 * share:.2f}" height="8"/></svg>')  # noqa: S704 - made of a number
