"""Counts in words."""

from __future__ import annotations


def agree(n: int, one: str, more: str) -> str:
    """The words behind a count: `1 row is`, `2 rows are`; `0 rows are`."""
    return one if n == 1 else more
