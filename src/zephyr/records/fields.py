"""One field of a row read from outside: it is what it should be, or an error that says what it is instead. Nothing is coerced."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from zephyr.errors import DataError


def text(row: Mapping[str, Any], key: str, *, default: str | None = None) -> str:
    """A text; `default` where it is absent or null, if there is one."""
    value = row.get(key, default)
    if value is None and default is not None:
        value = default
    if not isinstance(value, str):
        what = "is missing" if key not in row else f"is {kind(value)}, not a text"
        raise DataError(f"`{key}` {what}")
    return encodable(value, key)


def missing(row: Mapping[str, Any], key: str, elsewhere: str) -> DataError:
    """What to say of a row without a column: which it has, and what reads rows of other columns."""
    has = ", ".join(map(repr, row)) or "no columns"
    return DataError(f"`{key}` is missing ({elsewhere}); the row has {has}"[:300])


def encodable(value: str, key: str) -> str:
    """A text that can be written as UTF-8, as it is."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(f"`{key}` holds a lone surrogate, which is not valid Unicode text") from None
    return value


def kind(value: object) -> str:
    """What a value is, for an error: as JSON calls it."""
    names = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a text", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)


def quoted(value: object) -> str:
    """A value as an error shows it: a text may be of any length."""
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def number(value: object, key: str) -> float:
    """A finite number; a boolean is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"`{key}` is {kind(value)}, not a number")
    try:
        found = float(value)
    except OverflowError:  # JSON knows whole numbers of any length
        raise DataError(f"`{key}` is a number too large to use") from None
    if not math.isfinite(found):
        raise DataError(f"`{key}` is {value}, not a finite number")
    return found


def whole_number(row: Mapping[str, Any], key: str, *, least: int) -> int | None:
    """A whole number from `least` to 2**31 - 1; None where it is absent."""
    value = row.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**31:
        raise DataError(f"`{key}` is {kind(value)}, and no whole number from {least} on")
    return value
