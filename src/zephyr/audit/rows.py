"""Rows as they come, anyone's: read as far as they can be, for what is wrong with them is the question.

A pair is `chosen` and `rejected`: texts, or turns (`role` and `content`, or `from` and `value`), the last of them the answer. What both
answer is in the turns before, or in `prompt`, `instruction` (and `input`), `question` or `conversations`; or the two are transcripts, in
which an empty line and `Human:` or `Assistant:` begin a turn. A row of `completions` is a prompt whose answers were rated. A row may be
both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zephyr.errors import DataError
from zephyr.records import ASPECTS, Rating, content_id, parse_rated_prompt, parse_rating, prompt_id_of

_SCORE = ("score_{}", "{}_score", "{}_rating", "{}-rating")
_MODEL = ("{}_model", "model_{}", "{}-model")
_POSITION = ("{}_position", "position_{}", "{}_index")
_TRANSCRIPT = "\n\nAssistant:"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of a model, and what was said of it, as far as that is there. A rating that `zephyr binarize` refuses is as none.

    Attributes:
        text: what it says.
        model: whose it is, "" where that is not said.
        mean: of the ratings of its aspects, 1 to 5.
        overall: its overall score, 1 to 10.
        shown: the place at which the judge saw it, counted from wherever the data counts.
    """

    text: str
    model: str = ""
    mean: float | None = None
    overall: float | None = None
    shown: int | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt, the answer to prefer and the one to avoid, and what the row says of them.

    Attributes:
        asked: what the user says, turn by turn.
        context: all that stands before the answer.
        apart: the two answer different conversations.
        bad_score: a score that is there and is no finite number; it is None then.
        rejected_rank: 1 + how many of the prompt's answers score higher.
        answer_count: how many answers there were to choose from.
        ratings: mean of the aspects and overall score of each answer that has both.
    """

    asked: tuple[str, ...]
    context: str
    chosen: str
    rejected: str
    apart: bool = False
    score_chosen: float | None = None
    score_rejected: float | None = None
    bad_score: str = ""
    chosen_model: str = ""
    rejected_model: str = ""
    chosen_position: int | None = None
    rejected_position: int | None = None
    rejected_rank: int | None = None
    answer_count: int | None = None
    ratings: tuple[tuple[float, float], ...] = ()

    @property
    def prompt(self) -> str:
        """The first thing the user says."""
        return self.asked[0]

    @property
    def scores(self) -> tuple[float, float] | None:
        """Of the chosen and of the rejected answer, None unless both are there."""
        return None if self.score_chosen is None or self.score_rejected is None else (self.score_chosen, self.score_rejected)

    @property
    def identical(self) -> bool:
        """Both answers are the same text, but for spaces around it."""
        return self.chosen.strip() == self.rejected.strip()


@dataclass(frozen=True, slots=True)
class Rated:
    """A prompt and the answers that were rated, in the order of the row.

    Attributes:
        prompt: what was answered.
        answers: with what was said of them, as far as that can be read.
        bad_rating: why `zephyr binarize` does not take them, the first thing that it says; "" where it does.
    """

    prompt: str
    answers: tuple[Answer, ...]
    bad_rating: str = ""


def read_row(row: Mapping[str, Any]) -> tuple[Pair | None, Rated | None]:
    """What a row holds: a pair, rated answers, or both.

    Raises:
        DataError: it holds neither, or what it holds is not of a shape that is known.
    """
    pair = _pair(row) if row.get("chosen") is not None or row.get("rejected") is not None else None
    rated = _rated(row) if row.get("completions") is not None else None
    if pair is None and rated is None:
        raise DataError(f"neither `chosen` and `rejected` nor `completions`; the row has {', '.join(map(repr, row)) or 'no columns'}")
    return pair, rated


# --- pairs -----------------------------------------------------------------------------------------------------

Turns = tuple[tuple[str, str], ...]  # role and text of each


def _pair(row: Mapping[str, Any]) -> Pair:
    chosen, rejected = (_turns(row.get(key), key) for key in ("chosen", "rejected"))
    given = _given(row)
    if not given and len(chosen) == len(rejected) == 1:
        chosen, rejected = _transcript(chosen[0][1]), _transcript(rejected[0][1])
    before = [_before(turns, given, joined=isinstance(row.get("prompt"), list | tuple)) for turns in (chosen, rejected)]
    asked = tuple(text for role, text in before[0] if role == "user")
    if not asked:
        raise DataError("`chosen` is an answer, and nothing says to which prompt")
    scores = [_number(_first(row, _SCORE, key)) for key in ("chosen", "rejected")]
    models = [_first(row, _MODEL, key) for key in ("chosen", "rejected")]
    places = [_first(row, _POSITION, key) for key in ("chosen", "rejected")]
    return Pair(
        asked=asked,
        context="\x1e".join(f"{role}\x1f{text}" for role, text in before[0] if text.strip()),
        chosen=chosen[-1][1],
        rejected=rejected[-1][1],
        apart=before[0] != before[1],
        score_chosen=scores[0][0],
        score_rejected=scores[1][0],
        bad_score=scores[0][1] or scores[1][1],
        chosen_model=models[0] if isinstance(models[0], str) else "",
        rejected_model=models[1] if isinstance(models[1], str) else "",
        chosen_position=_whole(places[0]),
        rejected_position=_whole(places[1]),
        rejected_rank=_whole(row.get("rejected_rank")),
        answer_count=_whole(row.get("answer_count")),
        ratings=tuple(both for key in ("chosen", "rejected") if (both := _both(row.get(f"{key}_ratings")))),
    )


def _turns(value: object, key: str) -> Turns:
    if isinstance(value, str):
        return (("assistant", value),)
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list | tuple) or not value:
        raise DataError(f"`{key}` is {'missing' if value is None else 'neither a text nor a list of turns'}")
    return tuple(_turn(turn, key) for turn in value)


def _before(turns: Turns, given: Turns, *, joined: bool) -> Turns:
    """What stands before the answer: the turns before it, or those given apart; `joined`: the one goes on where the other ends."""
    before = turns[:-1]
    return given + before if not before or (joined and before[: len(given)] != given) else before


_ROLES = {"human": "user", "prompter": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant"}


def _turn(turn: object, key: str) -> tuple[str, str]:
    if isinstance(turn, Mapping):
        for role_key, text_key in (("role", "content"), ("from", "value")):
            role, text = turn.get(role_key), turn.get(text_key)
            if isinstance(role, str) and isinstance(text, str):
                return _ROLES.get(role, role), text
    raise DataError(f"`{key}` has a turn without a role and a text")


def _given(row: Mapping[str, Any]) -> Turns:
    """The turns that stand before the answers, in columns of their own."""
    prompt = row.get("prompt")
    if isinstance(prompt, list | tuple):
        return _turns(prompt, "prompt") if prompt else ()
    if isinstance(prompt, str) and prompt.strip():
        return (("user", prompt),)
    for key in ("instruction", "question"):
        text = row.get(key)
        if isinstance(text, str) and text.strip():
            more = row.get("input")
            return (("user", f"{text}\n\n{more}" if isinstance(more, str) and more.strip() else text),)
    talk = row.get("conversations")
    return _turns(talk, "conversations") if isinstance(talk, list | tuple) and talk else ()


def _transcript(text: str) -> Turns:
    """A talk that is written as one text: what stands before its last answer, and that."""
    before, mark, answer = text.rpartition(_TRANSCRIPT)
    return (("user", before.removeprefix("\n\nHuman:").strip()), ("assistant", answer.strip())) if mark else (("assistant", text),)


# --- rated answers ---------------------------------------------------------------------------------------------


def _rated(row: Mapping[str, Any]) -> Rated:
    prompt = row.get("prompt") or row.get("instruction")
    if not isinstance(prompt, str) or not prompt.strip():
        raise DataError("`completions` without a `prompt` or an `instruction`")
    items = row["completions"]
    if not isinstance(items, list | tuple):
        raise DataError("`completions` is not a list of answers")
    answers = tuple(_answer(item, i) for i, item in enumerate(items))
    return Rated(prompt, answers, "" if row.get("chosen") is not None else _refused(prompt, items))  # of a pair, the pair is read


def _answer(item: object, index: int) -> Answer:
    if not isinstance(item, Mapping) or not isinstance(item.get("response"), str):
        raise DataError(f"`completions[{index}]` has no text as its `response`")
    model, rating = item.get("model"), _rating(item)
    mean, overall = (rating.mean, rating.overall_score) if rating else (None, None)
    return Answer(item["response"], model if isinstance(model, str) else "", mean, overall, _whole(item.get("position")))


def _rating(item: Mapping[str, Any]) -> Rating | None:
    try:
        return parse_rating(item, complete=False)
    except DataError:
        return None


def _refused(prompt: str, items: Sequence[object]) -> str:
    """What is said of rated answers where they are to be compared: the same parser reads them, so that both refuse the same."""
    try:
        parse_rated_prompt({"prompt": prompt, "completions": items})
    except DataError as error:
        return str(error)
    return ""


def _both(ratings: object) -> tuple[float, float] | None:
    """Mean of the aspects and overall score, as pairs keep them: numbers by name."""
    if not isinstance(ratings, Mapping):
        return None
    aspects = [number for name in ASPECTS if (number := _number(ratings.get(name))[0]) is not None]
    overall = _number(ratings.get("overall_score"))[0]
    return (sum(aspects) / len(aspects), overall) if aspects and overall is not None else None


# --- values ----------------------------------------------------------------------------------------------------


def _first(row: Mapping[str, Any], names: Sequence[str], key: str) -> object:
    return next((row[name] for n in names if row.get(name := n.format(key)) is not None), None)


def _number(value: object) -> tuple[float | None, str]:
    """A finite number, or None and what stands there instead ("" where nothing does)."""
    if value is None:
        return None, ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None, f"{value!r}"[:40]
    try:
        number = float(value)
    except OverflowError:
        return None, "a number too large to use"
    return (number, "") if math.isfinite(number) else (None, str(value))


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def key_of(text: str) -> int:
    """64 bits that stand for the words of a text, whatever its spaces and capitals: what is kept of a text to know it again."""
    return int(content_id(_encodable(text))[:16], 16)


def exact_key(text: str) -> int:
    """64 bits that stand for a text to the letter, but for spaces around it."""
    return int(prompt_id_of(_encodable(text.strip()))[:16], 16)


def _encodable(text: str) -> str:
    """A text without lone surrogates, which JSON can spell and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")
