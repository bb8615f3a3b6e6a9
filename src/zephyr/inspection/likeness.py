"""Whether a row is the one that another was left out for. A place may hold another text by now, or be a place in another folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from zephyr.curation import shapes
from zephyr.curation.compare import ID_REPEATS, NEAR_DIALOGUE, NEAR_PROMPT, NEAR_TEST, REASONS, SAME_PROMPT, SAME_TEXTS
from zephyr.curation.hashing import U64, jaccard
from zephyr.curation.index import Texts
from zephyr.errors import DataError
from zephyr.recipe import NearConfig, NearPromptsConfig
from zephyr.records import Dialogue, Row, content_id, parse_dialogue

TOLERANCE = 1e-3  # similarities are written with four digits
NGRAMS: Mapping[str, int] = {"prompts": NearPromptsConfig().ngram, "dialogues": NearConfig().ngram}
# what near rows are compared by
_NEAR = {REASONS[NEAR_PROMPT]: "prompts", REASONS[NEAR_TEST]: "prompts", REASONS[NEAR_DIALOGUE]: "dialogues"}
# what the others have in common; their words, for curation may have mended their case before it compared them
_SAME: dict[str, Callable[[Dialogue], tuple[str, ...]]] = {
    REASONS[SAME_PROMPT]: lambda record: (record.prompt_id, content_id(record.prompt)),
    REASONS[SAME_TEXTS]: lambda record: tuple(part for m in record.messages for part in (m["role"], content_id(m["content"]))),
    REASONS[ID_REPEATS]: lambda record: (record.prompt_id,),
}


def ngrams_of(config: Mapping[str, Any]) -> dict[str, int]:
    """How many words a run has by which rows were compared, by kind; `config` is a curation's, as its manifest has it."""
    sections = {kind: config.get(f"near_{kind}") for kind in NGRAMS}
    given = {kind: section.get("ngram") for kind, section in sections.items() if isinstance(section, Mapping)}
    return {**NGRAMS, **{kind: n for kind, n in given.items() if isinstance(n, int) and n > 0}}


def recogniser(entry: Mapping[str, Any], ngrams: Mapping[str, int]) -> Callable[[Row], bool]:
    """What tells whether a row is the one that an entry of `dropped.jsonl` was left out for.

    Args:
        entry: with `reason`, `row`, and `like`. Its row is not kept, only what the two are compared by.
        ngrams: by kind, how many words a run has.

    Returns:
        True for a row that is as like this one as the entry says, and nothing speaks against; a reason that is not known tells nothing.
    """
    mine, reason = _record(entry["row"]), entry["reason"]
    if mine is None:
        return lambda row: False
    if kind := _NEAR.get(reason):
        similarity, ngram, runs = entry["like"].get("similarity"), ngrams[kind], _runs(mine, kind, ngrams[kind])
        return lambda row: (
            isinstance(similarity, int | float)
            and (theirs := _record(row)) is not None
            and abs(jaccard(runs, _runs(theirs, kind, ngram)) - similarity) <= TOLERANCE
        )
    if (common := _SAME.get(reason)) is None:
        return lambda row: False
    key = common(mine)
    return lambda row: (theirs := _record(row)) is not None and common(theirs) == key


def _record(row: Row) -> Dialogue | None:
    """The dialogue as curation reads it."""
    try:
        return parse_dialogue(shapes.as_messages(row, shapes.shape_of(row)))
    except DataError:
        return None


def _runs(record: Dialogue, kind: str, ngram: int) -> U64:
    return Texts([record]).run_sets(kind, ngram)[0]
