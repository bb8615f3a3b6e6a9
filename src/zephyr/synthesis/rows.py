"""A dialogue as it is written: the columns of dialogues, and where each comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zephyr import schemas
from zephyr.records import Row, prompt_id_of
from zephyr.synthesis.talk import Talk

if TYPE_CHECKING:
    import pyarrow as pa

LINEAGE = ("sector", "topic", "subtopic", "place", "ended")


def schema() -> pa.Schema:
    """The columns of dialogues, and where each comes from."""
    import pyarrow as pa

    more = [*((name, pa.string()) for name in LINEAGE), ("cut_turns", pa.int64())]
    return pa.schema([*schemas.dialogues(), *(pa.field(name, kind) for name, kind in more)])


def row_of(found: Talk) -> Row:
    """A dialogue as it is written. Its category is the topic, by which curation can divide."""
    place, prompt = found.place, found.opening.prompt
    return {
        "prompt": prompt,
        "prompt_id": prompt_id_of(prompt),
        "messages": [dict(m) for m in found.messages],
        "source": f"synthesize/{place.sector}",
        "category": place.topic,
        "sector": place.sector,
        "topic": place.topic,
        "subtopic": found.opening.subtopic,
        "place": place.name,
        "ended": found.ended,
        "cut_turns": found.cut,
    }
