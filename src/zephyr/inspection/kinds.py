"""The kinds of rows that can be looked at, and which of them a row is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zephyr.curation.shapes import SHAPES
from zephyr.inspection.dialogues import DIALOGUES
from zephyr.inspection.preferences import PREFERENCES
from zephyr.inspection.ratings import RATINGS
from zephyr.inspection.specimens import Kind

KINDS = (DIALOGUES, RATINGS, PREFERENCES)


def kind_of(row: Mapping[str, Any]) -> Kind | None:
    """What a row is by its columns; a pair may bring `messages` or its rated answers along. None where it is nothing known."""
    if row.get("chosen") is not None or row.get("rejected") is not None:
        return PREFERENCES
    if row.get("completions") is not None:
        return RATINGS
    if "messages" in row or any(all(row.get(column) is not None for column in columns) for columns in SHAPES.values()):
        return DIALOGUES
    return None
