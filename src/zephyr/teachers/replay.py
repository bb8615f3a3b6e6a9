"""A teacher that gives back what was recorded: answers by model and prompt, ratings by prompt and answer.

It stands where a live model stands and is read by the same parser; it does not think. The demo uses it, and so can
anyone who has the answers and ratings of an earlier run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from zephyr import sources
from zephyr.errors import DataError
from zephyr.recipe import DataSource
from zephyr.records import Rating, parse_rated_prompt
from zephyr.teachers import Reply, Request


class ReplayTeacher:
    """Recorded answers and ratings, in UltraFeedback's nested rows."""

    def __init__(self, name: str, recording: DataSource) -> None:
        """`name` is the model whose answers are given back; ratings are found by the answer itself."""
        self.name = name
        self._path = recording.path
        self._answers: dict[str, tuple[str, str]] = {}
        self._ratings: dict[tuple[str, str], Rating] = {}
        for where, _, row in sources.rows(recording):
            try:
                record = parse_rated_prompt(row, rated="annotations" in (row.get("completions") or [{}])[0])
            except DataError as error:
                raise DataError(f"{where}: {error}") from None
            for c in record.completions:
                if c.model == name:
                    self._answers[record.prompt_id] = (c.response, c.finish_reason)
                if c.rating is not None:
                    self._ratings[record.prompt_id, c.response] = c.rating

    def answer(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """What was recorded for each request; no tokens are spent.

        Raises:
            DataError: nothing was recorded for a request.
        """
        for request in requests:
            if request.kind == "complete":
                found = self._answers.get(request.prompt_id)
                if found is None:
                    raise DataError(f"{self._path}: no answer of {self.name!r} to {request.messages[-1]['content'][:60]!r} was recorded")
                yield Reply(request, found[0], found[1], 0)
            else:
                rating = self._ratings.get((request.prompt_id, request.subject))
                if rating is None:
                    raise DataError(f"{self._path}: no rating of the answer {request.subject[:60]!r} was recorded")
                yield Reply(request, _as_reply(rating), "stop", 0)


def _as_reply(rating: Rating) -> str:
    """The rating as a live teacher would write it, so that it goes through the same parser."""
    annotations = {name: {"rating": value, "rationale": rating.rationales[name]} for name, value in rating.aspects.items()}
    score = rating.overall_score
    whole = int(score) if score is not None and float(score).is_integer() else score
    return json.dumps({"annotations": annotations, "critique": rating.critique, "overall_score": whole}, ensure_ascii=False)
