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
from zephyr.records import RatedPrompt, Rating, Row, parse_rated_prompt
from zephyr.teachers import Reply, Request
from zephyr.teachers.rubric import NOT_APPLICABLE


class ReplayTeacher:
    """Recorded answers and ratings, in UltraFeedback's nested rows."""

    def __init__(self, name: str, recording: DataSource) -> None:
        """`name` is the model whose answers are given back; ratings are found by prompt, model and answer.

        Raises:
            DataError: a row cannot be read, or two rows contradict each other.
        """
        self.name = name
        self._path = recording.path
        self._answers: dict[str, tuple[str, str, str]] = {}
        self._ratings: dict[tuple[str, str, str], Rating] = {}
        self._raters: dict[tuple[str, str, str], str] = {}
        for where, _, row in sources.rows(recording, whole=True):
            try:
                self._remember(parse_rated_prompt(row, rated=_is_rated(row)))
            except DataError as error:
                raise DataError(f"{where}: {error}") from None

    def _remember(self, record: RatedPrompt) -> None:
        for c in record.completions:
            answer = c.response, c.finish_reason, c.principle
            if c.model == self.name and self._answers.setdefault(record.prompt_id, answer) != answer:
                raise DataError(f"a second, different answer of {c.model!r} to the same prompt")
            rated = record.prompt_id, c.model, c.response
            if c.rating is not None and self._ratings.setdefault(rated, c.rating) != c.rating:
                raise DataError(f"a second, different rating of the same answer of {c.model!r}")
            if c.rated_by:
                self._raters.setdefault(rated, c.rated_by)

    def answer(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """What was recorded for each request; no tokens are spent.

        Raises:
            DataError: nothing was recorded for a request.
        """
        for request in requests:
            if request.kind == "complete":
                found = self._answers.get(request.prompt_id)
                if found is None:
                    raise DataError(f"{self._path}: no answer of {self.name!r} to {_short(request.messages[-1]['content'])} was recorded")
                text, reason, principle = found
                yield Reply(request, text, reason, 0, principle=principle)
            else:
                rated = request.prompt_id, request.author, request.subject
                rating = self._ratings.get(rated)
                if rating is None:
                    raise DataError(f"{self._path}: no rating of the answer {_short(request.subject)} of {request.author!r} was recorded")
                yield Reply(request, _as_reply(rating), "stop", 0, served=self._raters.get(rated, ""))


def _is_rated(row: Row) -> bool:
    """Whether a recording holds ratings: that of answers alone has none, or empty columns for them."""
    answers = row.get("completions")
    if not isinstance(answers, list):
        return False
    return any(isinstance(a, dict) and (a.get("annotations") is not None or a.get("overall_score") is not None) for a in answers)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")


def _as_reply(rating: Rating) -> str:
    """The rating as a live teacher would write it, so that it goes through the same parser."""
    annotations = {name: {"rating": rating.aspects.get(name, NOT_APPLICABLE), "rationale": why} for name, why in rating.rationales.items()}
    score = rating.overall_score
    whole = int(score) if score is not None and float(score).is_integer() else score
    return json.dumps({"annotations": annotations, "critique": rating.critique, "overall_score": whole}, ensure_ascii=False)
