"""The raw replies that stand behind a prompt's answers and ratings, found again in the journal of a run.

A reply is known by what it says: an answer is the reply's text, and a rating is what the strict parser makes of one. So whatever a
table shows can be held against the words that it was read from. Nothing is sent, nothing is written, and a journal holds no keys.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zephyr.errors import DataError
from zephyr.records import RatedPrompt, Rating
from zephyr.teachers import rubric
from zephyr.teachers.journal import NANO, peek


@dataclass(frozen=True)
class Raw:
    """A reply as it came.

    Attributes:
        key: the journal's name for the request, in hex: sha256 over teacher, model, messages, sampling and which sample it is.
        stage: that asked.
        teacher: its name in the recipe.
        model: as the server, or the recipe, calls it.
        state: `answered`; of others there is no text.
        text: of the reply.
        finish_reason: why it ended.
        prompt_tokens: sent.
        completion_tokens: received.
        spent_usd: what it cost.
        error: why there is no answer.
    """

    key: str
    stage: str
    teacher: str
    model: str
    state: str
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    spent_usd: float
    error: str

    def json(self) -> dict[str, Any]:
        """As one object."""
        return asdict(self)


def replies(journal: Path, stage: str, prompt_id: str) -> list[Raw]:
    """What a journal holds of a stage's requests about a prompt, by teacher and key; [] where there is no journal.

    Raises:
        ZephyrError: it cannot be read.
    """
    query = """
        SELECT lower(hex(key)), stage, teacher, model, state, coalesce(text, ''), coalesce(finish_reason, ''), coalesce(prompt_tokens, 0),
               coalesce(completion_tokens, 0), spent / :nano, coalesce(error, '')
        FROM requests WHERE stage = :stage AND prompt_id = :prompt_id ORDER BY teacher, key
    """
    with peek.looking(journal) as db:
        rows = db.execute(query, {"stage": stage, "prompt_id": prompt_id, "nano": float(NANO)}).fetchall() if db else []
    return [Raw(*row) for row in rows]


def of_answers(journal: Path, prompt: RatedPrompt) -> list[Raw | None]:
    """For each answer of a prompt, the reply that it is."""
    found = [raw for raw in replies(journal, "complete", prompt.prompt_id) if raw.state == "answered"]
    return _each(prompt, found, lambda i, raw: (raw.teacher, raw.text) == (prompt.completions[i].model, prompt.completions[i].response))


def of_ratings(journal: Path, prompt: RatedPrompt) -> tuple[list[Raw | None], list[Raw]]:
    """For each answer of a prompt, the reply that its rating was read from; and the replies that no rating was read from.

    Answers that were rated together have one reply in common, as equal answers may have. The others are those that could not be read,
    and were asked for again.
    """
    found = [raw for raw in replies(journal, "rate", prompt.prompt_id) if raw.state == "answered"]
    read = {raw.key: _ratings(raw.text) for raw in found}
    shown = [c for c in prompt.completions if c.position is not None]
    matched: list[Raw | None]
    if shown:  # one reply has the ratings of all of them, each in its place
        together = next((raw for raw in found if all(_at(read[raw.key], c.position) == c.rating for c in shown)), None)
        matched = [together if c.position is not None else None for c in prompt.completions]
    else:
        matched = _equals(prompt, _each(prompt, found, lambda i, raw: read[raw.key] == [prompt.completions[i].rating]))
    used = {raw.key for raw in matched if raw}
    return matched, [raw for raw in found if raw.key not in used]


def _at(ratings: Sequence[Rating], place: int | None) -> Rating | None:
    return ratings[place] if place is not None and place < len(ratings) else None


def _each(prompt: RatedPrompt, found: Sequence[Raw], fits: Callable[[int, Raw], bool]) -> list[Raw | None]:
    """The reply of each answer, each reply for one answer alone."""
    left, matched = list(found), []
    for i in range(len(prompt.completions)):
        raw = next((raw for raw in left if fits(i, raw)), None)
        matched.append(raw)
        if raw is not None:
            left.remove(raw)
    return matched


def _equals(prompt: RatedPrompt, matched: Sequence[Raw | None]) -> list[Raw | None]:
    """A server is asked about equal answers once: the reply of one of them is that of all."""
    pairs = list(zip(prompt.completions, matched, strict=True))
    return [raw or next((r for o, r in pairs if r and (o.response, o.rating) == (c.response, c.rating)), None) for c, raw in pairs]


def _ratings(text: str) -> list[Rating]:
    """What can be read in a reply: one rating, or those of as many answers as it has; [] where it cannot be read."""
    for count in range(rubric.MOST_ANSWERS + 1):
        with contextlib.suppress(DataError):
            return rubric.parse_together(text, count) if count else [rubric.parse_reply(text)]
    return []
