"""Numbers as people read them. What was not measured says so; what is not finite never crashes."""

from __future__ import annotations

import math
from collections.abc import Callable

MISSING = "not measured"
NOT_FINITE = "not finite"
_SUFFIXES = ((1e9, "B"), (1e6, "M"), (1e3, "k"))


def real(value: object) -> float | None:
    """A number, finite or not; None for everything else (True and False are not numbers)."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def finite(value: object) -> float | None:
    """A finite number; None for everything else."""
    number = real(value)
    return number if number is not None and math.isfinite(number) else None


def _text(value: object, form: Callable[[float], str]) -> str:
    number = real(value)
    if number is None:
        return MISSING
    if not math.isfinite(number):
        return NOT_FINITE
    text = form(number)
    if not text.strip("-0.,%"):
        text = text.lstrip("-")  # a negative number that rounds to nothing
    return text.replace("-", "\N{MINUS SIGN}")


def fixed(value: object, digits: int = 3) -> str:
    """`1,234.500`: a number with so many decimals."""
    return _text(value, lambda v: f"{v:,.{digits}f}")


def percent(value: object, digits: int = 1) -> str:
    """`62.1%` of a share from 0 to 1."""
    return _text(value, lambda v: f"{100 * v:.{digits}f}%")


def count(value: object) -> str:
    """`12,345`: a whole number."""
    return _text(value, lambda v: f"{v:,.0f}")


def short(value: object) -> str:
    """`12.3 k`: a count in three digits or so."""

    def form(number: float) -> str:
        for size, suffix in _SUFFIXES:
            if abs(number) >= 0.9995 * size:
                scaled = number / size
                return f"{scaled:.{0 if scaled >= 99.95 else 1}f} {suffix}"
        return f"{number:.0f}"

    return _text(value, form)


def general(value: object) -> str:
    """`2e-05`, `0.1`, `512`: a setting, as short as it can be said; of a whole number every digit."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(value, lambda v: f"{v:g}").replace("\N{MINUS SIGN}", "-")


def duration(value: object) -> str:
    """`4.2 s`, `3 min 12 s`, `2 h 05 min`: a time given in seconds."""

    def form(seconds: float) -> str:
        if seconds < 59.95:
            return f"{seconds:.1f} s"
        if seconds < 3599.5:
            return f"{round(seconds) // 60} min {round(seconds) % 60:02d} s"
        return f"{round(seconds / 60) // 60:,} h {round(seconds / 60) % 60:02d} min"

    return _text(value, form)


def memory(value: object) -> str:
    """`2.9 GB`: bytes, in powers of ten."""
    return _text(value, lambda v: f"{v / 1e9:.1f} GB" if v >= 0.95e9 else f"{v / 1e6:.0f} MB")


def bounds(pair: object) -> tuple[float, float] | None:
    """The two ends of an interval, None where either is absent or not finite."""
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        return None
    low, high = finite(pair[0]), finite(pair[1])
    return None if low is None or high is None else (low, high)


def interval(pair: object, form: Callable[[object], str]) -> str:
    """`[57.0%, 66.9%]`; an interval without finite ends was not measured."""
    ends = bounds(pair)
    return MISSING if ends is None else f"[{form(ends[0])},\N{NO-BREAK SPACE}{form(ends[1])}]"
