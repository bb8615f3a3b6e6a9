"""Pairs of answers, of which one is preferred, and where each comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zephyr.errors import DataError
from zephyr.records.base import Message, Row, prompt_id_of
from zephyr.records.dialogues import first_user, parse_messages
from zephyr.records.fields import encodable, kind, missing, number, text, whole_number
from zephyr.records.ratings import ASPECTS, RatedPrompt, Rating, parse_rated_prompt, parse_rating


@dataclass(frozen=True)
class Lineage:
    """Where one answer of a pair comes from, as far as that is known.

    Attributes:
        model: whose answer it is.
        principle: what its model was asked to heed.
        rating: what the teacher gave it; a pair keeps the numbers of it.
        position: its place among the answers of the prompt as their row lists them, from 0.
    """

    model: str = ""
    principle: str = ""
    rating: Rating | None = None
    position: int | None = None

    def columns(self, which: str) -> Row:
        """Its columns, `which` being chosen or rejected; null where unknown."""
        r = self.rating
        ratings = None if r is None else {**{name: r.aspects.get(name) for name in ASPECTS}, "overall_score": r.overall_score}
        return {
            f"{which}_model": self.model or None,
            f"{which}_principle": self.principle or None,
            f"{which}_ratings": ratings,
            f"{which}_position": self.position,
        }


@dataclass(frozen=True)
class Preference:
    """A pair: the same prompt, the answer to prefer and the one to avoid.

    Where its answers come from does not make it another. `rejected_rank` is 1 + how many of the prompt's answers score higher than the
    rejected one, `answer_count` how many answers there were to choose from.
    """

    prompt: str
    prompt_id: str
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    score_chosen: float | None
    score_rejected: float | None
    source: str = ""
    category: str = ""
    chosen_from: Lineage = field(default=Lineage(), compare=False)
    rejected_from: Lineage = field(default=Lineage(), compare=False)
    rejected_rank: int | None = field(default=None, compare=False)
    answer_count: int | None = field(default=None, compare=False)

    @property
    def identity(self) -> str:
        """The id of the pair."""
        return self.pair_id

    @property
    def pair_id(self) -> str:
        """What identifies a pair: sha256 over its texts, in hex. One prompt may have several pairs."""
        texts = [m["role"] + "\x1f" + m["content"] for m in (*self.chosen, self.rejected[-1])]
        return prompt_id_of("\x1e".join(texts))

    def row(self) -> Row:
        """The row in the public columns of binarized UltraFeedback, and its lineage."""
        return {
            "prompt": self.prompt,
            "prompt_id": self.prompt_id,
            "chosen": [dict(m) for m in self.chosen],
            "rejected": [dict(m) for m in self.rejected],
            "messages": [dict(m) for m in self.chosen],
            "score_chosen": self.score_chosen,
            "score_rejected": self.score_rejected,
            "source": self.source,
            "category": self.category,
            **self.chosen_from.columns("chosen"),
            **self.rejected_from.columns("rejected"),
            "rejected_rank": self.rejected_rank,
            "answer_count": self.answer_count,
        }


def parse_preference(row: Mapping[str, Any]) -> Preference:
    """A pair from `chosen` and `rejected` (turns, or bare texts beside `prompt`), scores where there are any.

    Raises:
        DataError: the two answers are the same, or answer different prompts.
    """
    for key in ("chosen", "rejected"):
        if key not in row:
            raise missing(row, key, "`zephyr binarize` makes pairs of rated `completions`")
    given = row.get("prompt")
    if isinstance(given, list | tuple):  # the conversational shape: `prompt` as turns, the answers as one turn each
        row = _joined(row, given)
    prompt = text(row, "prompt", default="")
    chosen = _answer_turns(row["chosen"], prompt, "chosen")
    rejected = _answer_turns(row["rejected"], prompt, "rejected")
    if chosen[:-1] != rejected[:-1]:
        raise DataError("`chosen` and `rejected` answer different conversations")
    if chosen[-1]["content"].strip() == rejected[-1]["content"].strip():
        raise DataError("`chosen` and `rejected` are the same answer: a preference needs two")
    prompt = prompt or first_user(chosen)
    return Preference(
        prompt=prompt,
        prompt_id=text(row, "prompt_id", default="") or prompt_id_of(prompt),
        chosen=chosen,
        rejected=rejected,
        score_chosen=_score(row, "score_chosen"),
        score_rejected=_score(row, "score_rejected"),
        source=text(row, "source", default=""),
        category=text(row, "category", default=""),
        chosen_from=_lineage(row, "chosen"),
        rejected_from=_lineage(row, "rejected"),
        rejected_rank=whole_number(row, "rejected_rank", least=1),
        answer_count=whole_number(row, "answer_count", least=2),
    )


def _answer_turns(value: object, prompt: str, key: str) -> tuple[Message, ...]:
    """`chosen` or `rejected`: a list of turns, or the bare text of an answer to `prompt`."""
    if isinstance(value, str):
        if not value.strip():
            raise DataError(f"`{key}` is empty")
        if not prompt.strip():
            raise DataError(f"`{key}` is a bare text and there is no `prompt` that it answers")
        return ({"role": "user", "content": prompt}, {"role": "assistant", "content": encodable(value, key)})
    messages = parse_messages(value, key, learnt="last")
    if messages[-1]["role"] != "assistant":
        raise DataError(f"`{key}` ends with a {messages[-1]['role']} turn; the last must be the assistant's")
    return messages


def _joined(row: Mapping[str, Any], given: list[Any] | tuple[Any, ...]) -> Row:
    """A conversational pair with each answer joined to the turns of `prompt`, and their first user turn as the prompt."""
    context = parse_messages(given, "prompt", learnt="none") if given else ()
    answers: Row = {}
    for key in ("chosen", "rejected"):
        value = row[key]
        if not isinstance(value, list | tuple):
            raise DataError(f"`{key}` is {kind(value)}; beside a `prompt` that is a list of turns, a list of turns was expected")
        answers[key] = [*context, *value]
    return {**row, "prompt": first_user(context), **answers}


def _lineage(row: Mapping[str, Any], which: str) -> Lineage:
    """Where an answer of a pair comes from, in the columns that this tool writes; rows of others, and older ones, lack them."""
    return Lineage(
        model=text(row, f"{which}_model", default=""),
        principle=text(row, f"{which}_principle", default=""),
        rating=_ratings(row.get(f"{which}_ratings"), f"{which}_ratings"),
        position=whole_number(row, f"{which}_position", least=0),
    )


def _ratings(value: object, key: str) -> Rating | None:
    """The numbers of a rating: aspects and overall score in one object."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise DataError(f"`{key}` is {kind(value)}, not an object")
    given = {name: rating for name, rating in value.items() if rating is not None}
    if not given:
        return None
    overall = given.pop("overall_score", None)
    try:
        annotations = {name: {"rating": rating} for name, rating in given.items()}
        return parse_rating({"annotations": annotations, "overall_score": overall}, complete=False)
    except DataError as error:
        raise DataError(f"`{key}`: {error}") from None


def _score(row: Mapping[str, Any], key: str) -> float | None:
    value = row.get(key)
    return None if value is None else number(value, key)


def parse_feedback(row: Mapping[str, Any]) -> RatedPrompt | Preference:
    """A row of `chosen` and `rejected` is a pair; one with `completions` is a prompt whose rated answers are yet to be compared.

    A table that holds both kinds has all columns in every row, and null in those that are not a row's own.
    """
    row = {name: value for name, value in row.items() if value is not None or name not in ("chosen", "completions")}
    if "chosen" not in row and "completions" not in row:
        has = ", ".join(map(repr, row)) or "no columns"
        raise DataError(f"neither `chosen` and `rejected` nor `completions`; the row has {has}"[:300])
    return parse_preference(row) if "chosen" in row else parse_rated_prompt(row)
