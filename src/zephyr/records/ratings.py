"""Answers to a prompt, and what a teacher says of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, cast

from zephyr.errors import DataError
from zephyr.records.base import Row
from zephyr.records.dialogues import parse_prompt
from zephyr.records.fields import kind, number, quoted, text

ASPECTS = ("instruction_following", "honesty", "truthfulness", "helpfulness")


@dataclass(frozen=True)
class Rating:
    """What the teacher said of one answer: aspects 1-5 with reasons, a score 1-10 and a critique.

    An aspect that the data does not have is absent; `mean` is over those that are there.
    """

    aspects: Mapping[str, int]
    rationales: Mapping[str, str]
    overall_score: float | None
    critique: str

    @property
    def mean(self) -> float | None:
        """Mean of the aspect ratings (1-5), or None where there are none."""
        return sum(self.aspects.values()) / len(self.aspects) if self.aspects else None


@dataclass(frozen=True)
class Completion:
    """One model's answer to a prompt, with its rating once it has one."""

    model: str
    response: str
    principle: str = ""
    finish_reason: str = "stop"
    rating: Rating | None = None
    system_prompt: str = ""
    position: int | None = None  # where it stood, from 0, when it was rated together with others
    rated_by: str = ""  # the model that rated it, as its server calls it; empty where nobody says

    def row(self) -> Row:
        """The answer in UltraFeedback's nested shape."""
        r = self.rating
        return {
            "model": self.model,
            "principle": self.principle,
            "system_prompt": self.system_prompt,
            "response": self.response,
            "finish_reason": self.finish_reason,
            "annotations": None
            if r is None
            else {name: {"rating": r.aspects.get(name), "rationale": r.rationales.get(name, "")} for name in ASPECTS},
            "overall_score": None if r is None else r.overall_score,
            "critique": None if r is None else r.critique,
            "position": self.position,
            **({"rated_by": self.rated_by} if self.rated_by else {}),
        }


@dataclass(frozen=True)
class RatedPrompt:
    """A prompt with the answers of several models: UltraFeedback's row."""

    prompt: str
    prompt_id: str
    completions: tuple[Completion, ...]
    source: str = ""
    category: str = ""

    @property
    def identity(self) -> str:
        """The id of the prompt: its answers belong into one row."""
        return self.prompt_id

    def row(self) -> Row:
        """The row as it is written."""
        return {
            "prompt": self.prompt,
            "prompt_id": self.prompt_id,
            "source": self.source,
            "category": self.category,
            "completions": [c.row() for c in self.completions],
        }


def parse_rating(value: Mapping[str, Any], *, complete: bool = True, may_not_apply: Collection[str] = ()) -> Rating:
    """A rating from `annotations`, `overall_score` and `critique`.

    Args:
        value: the object that holds the three keys.
        complete: every aspect must be there (what we ask of a teacher); data of others may have fewer.
        may_not_apply: the aspects that may be rated "N/A": they have a rationale and no rating then.

    Raises:
        DataError: an aspect that is missing, not a whole number, or outside 1-5; a score outside 1-10.
    """
    aspects: dict[str, int] = {}
    rationales: dict[str, str] = {}
    annotations = value.get("annotations")
    if annotations is None:
        annotations = {}
    if not isinstance(annotations, Mapping):
        raise DataError(f"`annotations` is {kind(annotations)}, not an object")
    unknown = sorted(map(repr, set(annotations) - set(ASPECTS)))
    if unknown:
        raise DataError(f"`annotations`: unknown aspect {unknown[0][:80]}; known are {', '.join(ASPECTS)}")
    for name in ASPECTS:
        item = annotations.get(name)
        if item is None:
            if complete:
                raise DataError(f"`annotations.{name}` is missing")
            continue
        if not isinstance(item, Mapping):
            raise DataError(f"`annotations.{name}` is {kind(item)}, not an object")
        rating, rationale = _public_aspect(item, name) if "Rating" in item else (item.get("rating"), text(item, "rationale", default=""))
        if rating is None and not complete:
            if rationale:
                rationales[name] = rationale
            continue
        if rating == "N/A" and name in may_not_apply:
            rationales[name] = rationale
            continue
        if isinstance(rating, bool) or not isinstance(rating, int):
            raise DataError(f"`annotations.{name}.rating` is {quoted(rating)}, not a whole number from 1 to 5")
        if not 1 <= rating <= 5:
            raise DataError(f"`annotations.{name}.rating` is {quoted(rating)}, outside 1 to 5")
        aspects[name], rationales[name] = rating, rationale
    overall = value.get("overall_score")
    score = None if overall is None and not complete else number(overall, "overall_score")
    if score is not None and not 1 <= score <= 10:
        raise DataError(f"`overall_score` is {quoted(overall)}, outside 1 to 10")
    if not aspects and score is None:
        raise DataError("the answer has neither aspect ratings nor an overall score")
    return Rating(aspects=aspects, rationales=rationales, overall_score=score, critique=text(value, "critique", default=""))


def _public_aspect(item: Mapping[str, Any], name: str) -> tuple[int | None, str]:
    """An aspect as UltraFeedback was published: `Rating` a text, `"1"` to `"5"` or `"N/A"`, and the rationale under one of two names."""
    given = item["Rating"]
    rationale = text(item, "Rationale For Rating", default="") or text(item, "Rationale", default="")
    if given == "N/A" or given is None:
        return None, rationale
    if not isinstance(given, str) or given not in ("1", "2", "3", "4", "5"):
        raise DataError(f"`annotations.{name}.Rating` is {given!r}, not one of the texts '1' to '5' or 'N/A'")
    return int(given), rationale


def parse_rated_prompt(row: Mapping[str, Any], *, rated: bool = True) -> RatedPrompt:
    """A prompt with its completions; with `rated`, each answer must carry a rating."""
    base = parse_prompt(row)
    items = row.get("completions")
    if not isinstance(items, list | tuple) or not items:
        raise DataError("`completions` is missing or empty; a list of answers was expected")
    completions: list[Completion] = []
    for i, item in enumerate(cast(list[object], items)):
        try:
            completions.append(_parse_completion(item, rated=rated))
        except DataError as error:
            raise DataError(f"`completions[{i}]`: {error}") from None
    return RatedPrompt(base.prompt, base.prompt_id, tuple(completions), base.source, base.category)


def _parse_completion(item: object, *, rated: bool) -> Completion:
    if not isinstance(item, Mapping):
        raise DataError(f"is {kind(item)}, not an object")
    return Completion(
        model=text(item, "model"),
        response=text(item, "response"),
        principle=text(item, "principle", default=""),
        finish_reason=text(item, "finish_reason", default="stop"),
        rating=parse_rating(item, complete=False) if rated else None,
        system_prompt=text(item, "system_prompt", default="") or text(item, "custom_system_prompt", default=""),
        position=_position(item),
        rated_by=text(item, "rated_by", default="") if rated else "",
    )


def _position(item: Mapping[str, Any]) -> int | None:
    value = item.get("position")
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise DataError(f"`position` is {value!r}, not a whole number from 0")
    return value
