"""The nouns: what one row is, at every arrow of the path.

A row read from outside becomes one of these or raises `DataError`; past that point it is trusted.
Nothing is coerced: a number where a text belongs is an error, not a text.
"""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict, TypeGuard, cast

from zephyr.errors import DataError

Role = Literal["system", "user", "assistant"]
ASPECTS = ("instruction_following", "honesty", "truthfulness", "helpfulness")
ROLES = ("system", "user", "assistant")


class Message(TypedDict):
    """One turn, in the shape every chat library uses."""

    role: Role
    content: str


Row = dict[str, Any]


def prompt_id_of(prompt: str) -> str:
    """The public data sets' id of a prompt: sha256 of its UTF-8 text, in hex (64 characters)."""
    return hashlib.sha256(prompt.encode("utf-8")).hexdigest()


def content_id(prompt: str) -> str:
    """The id of a prompt's words: the same for texts that differ in spaces, capitals or compatible characters alone."""
    return prompt_id_of(" ".join(unicodedata.normalize("NFKC", prompt).casefold().split()))


def seeded_unit(seed: int, *names: object) -> float:
    """A number in [0, 1) that depends on the seed and the names alone, never on the order of rows."""
    key = "\x1f".join([str(seed), *map(str, names)])
    unit = int.from_bytes(hashlib.sha256(key.encode("utf-8")).digest()[:7], "big") / 2**56
    return min(unit, math.nextafter(1.0, 0.0))  # 56 bits are more than a float has, and the last few round up to 1


@dataclass(frozen=True)
class Dialogue:
    """A conversation to learn from: an optional system turn, then user and assistant in turn.

    Where it comes from does not make it another.
    """

    prompt: str
    prompt_id: str
    messages: tuple[Message, ...]
    source: str = field(default="", compare=False)
    category: str = field(default="", compare=False)

    @property
    def identity(self) -> str:
        """An id of its own; where that is the prompt's, as in the public sets, the texts: a prompt may begin several dialogues."""
        if self.prompt_id != prompt_id_of(self.prompt):
            return self.prompt_id
        return prompt_id_of("\x1e".join(m["role"] + "\x1f" + m["content"] for m in self.messages))

    def row(self) -> Row:
        """The row as it is written: the columns of `ultrachat_200k`, and where it came from."""
        return {
            "prompt": self.prompt,
            "prompt_id": self.prompt_id,
            "messages": [dict(m) for m in self.messages],
            "source": self.source,
            "category": self.category,
        }


@dataclass(frozen=True)
class Prompt:
    """A prompt that several models will answer."""

    prompt: str
    prompt_id: str
    source: str = ""
    category: str = ""

    @property
    def identity(self) -> str:
        """Its id."""
        return self.prompt_id

    def row(self) -> Row:
        """The row as it is written."""
        return {"prompt": self.prompt, "prompt_id": self.prompt_id, "source": self.source, "category": self.category}


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


# --- parsing at the edge -------------------------------------------------------------------------------------


def _text(row: Mapping[str, Any], key: str, *, default: str | None = None) -> str:
    value = row.get(key, default)
    if value is None and default is not None:
        value = default
    if not isinstance(value, str):
        what = "is missing" if key not in row else f"is {_kind(value)}, not a text"
        raise DataError(f"`{key}` {what}")
    return _encodable(value, key)


def _encodable(value: str, key: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(f"`{key}` holds a lone surrogate, which is not valid Unicode text") from None
    return value


def _kind(value: object) -> str:
    names = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a text", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)


def _quoted(value: object) -> str:
    """A value as an error shows it: a text may be of any length."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _number(value: object, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"`{key}` is {_kind(value)}, not a number")
    try:
        number = float(value)
    except OverflowError:  # JSON knows whole numbers of any length
        raise DataError(f"`{key}` is a number too large to use") from None
    if not math.isfinite(number):
        raise DataError(f"`{key}` is {value}, not a finite number")
    return number


def _is_role(value: object) -> TypeGuard[Role]:
    return value in ROLES


def parse_messages(value: object, key: str = "messages") -> tuple[Message, ...]:
    """A list of turns, checked: an optional system turn first, then user and assistant in turn, none empty.

    Raises:
        DataError: naming the turn and what is wrong with it.
    """
    if not isinstance(value, list | tuple) or not value:
        raise DataError(f"`{key}` is {_kind(value) if value else 'empty'}; a list of turns was expected")
    turns: list[Message] = []
    for i, turn in enumerate(cast(list[object], value)):
        where = f"`{key}[{i}]`"
        if not isinstance(turn, Mapping):
            raise DataError(f"{where} is {_kind(turn)}, not an object with `role` and `content`")
        role, content = turn.get("role"), turn.get("content")
        if not _is_role(role):
            raise DataError(f"{where}: role {role!r} is not one of system, user, assistant")
        if not isinstance(content, str):
            raise DataError(f"{where}: `content` is {_kind(content)}, not a text")
        if role != "system" and not content.strip():
            raise DataError(f"{where}: the {role} turn is empty")
        if role == "system" and i > 0:
            raise DataError(
                f"{where}: a second system turn" if turns[0]["role"] == "system" else f"{where}: a system turn that is not the first"
            )
        turns.append({"role": role, "content": _encodable(content, f"{key}[{i}].content")})
    body = turns[1:] if turns[0]["role"] == "system" else turns
    for i, message in enumerate(body):
        want = "user" if i % 2 == 0 else "assistant"
        if message["role"] != want:
            raise DataError(
                f"`{key}`: turns do not alternate (found {message['role']} where {want} belongs, turn {i + len(turns) - len(body)})"
            )
    return tuple(turns)


def first_user(messages: tuple[Message, ...]) -> str:
    """The text of the first user turn, which the public sets call the prompt."""
    return next((m["content"] for m in messages if m["role"] == "user"), "")


def parse_dialogue(row: Mapping[str, Any]) -> Dialogue:
    """A dialogue from a row with `messages`; the last turn must be the assistant's."""
    messages = parse_messages(row.get("messages"))
    if not any(m["role"] == "assistant" for m in messages):
        raise DataError("`messages` has no assistant turn: there is nothing to learn")
    if messages[-1]["role"] != "assistant":
        raise DataError(f"`messages` ends with a {messages[-1]['role']} turn; the last must be the assistant's")
    prompt = _text(row, "prompt", default="") or first_user(messages)
    return Dialogue(
        prompt=prompt,
        prompt_id=_text(row, "prompt_id", default="") or prompt_id_of(prompt),
        messages=messages,
        source=_text(row, "source", default=""),
        category=_text(row, "category", default=""),
    )


def parse_prompt(row: Mapping[str, Any]) -> Prompt:
    """A prompt from a row with `prompt`."""
    prompt = _text(row, "prompt")
    if not prompt.strip():
        raise DataError("`prompt` is empty")
    return Prompt(
        prompt=prompt,
        prompt_id=_text(row, "prompt_id", default="") or prompt_id_of(prompt),
        source=_text(row, "source", default=""),
        category=_text(row, "category", default=""),
    )


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
        raise DataError(f"`annotations` is {_kind(annotations)}, not an object")
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
            raise DataError(f"`annotations.{name}` is {_kind(item)}, not an object")
        rating, rationale = _public_aspect(item, name) if "Rating" in item else (item.get("rating"), _text(item, "rationale", default=""))
        if rating is None and not complete:
            if rationale:
                rationales[name] = rationale
            continue
        if rating == "N/A" and name in may_not_apply:
            rationales[name] = rationale
            continue
        if isinstance(rating, bool) or not isinstance(rating, int):
            raise DataError(f"`annotations.{name}.rating` is {_quoted(rating)}, not a whole number from 1 to 5")
        if not 1 <= rating <= 5:
            raise DataError(f"`annotations.{name}.rating` is {_quoted(rating)}, outside 1 to 5")
        aspects[name], rationales[name] = rating, rationale
    overall = value.get("overall_score")
    score = None if overall is None and not complete else _number(overall, "overall_score")
    if score is not None and not 1 <= score <= 10:
        raise DataError(f"`overall_score` is {_quoted(overall)}, outside 1 to 10")
    if not aspects and score is None:
        raise DataError("the answer has neither aspect ratings nor an overall score")
    return Rating(aspects=aspects, rationales=rationales, overall_score=score, critique=_text(value, "critique", default=""))


def _public_aspect(item: Mapping[str, Any], name: str) -> tuple[int | None, str]:
    """An aspect as UltraFeedback was published: `Rating` a text, `"1"` to `"5"` or `"N/A"`, and the rationale under one of two names."""
    given = item["Rating"]
    rationale = _text(item, "Rationale For Rating", default="") or _text(item, "Rationale", default="")
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
        raise DataError(f"is {_kind(item)}, not an object")
    return Completion(
        model=_text(item, "model"),
        response=_text(item, "response"),
        principle=_text(item, "principle", default=""),
        finish_reason=_text(item, "finish_reason", default="stop"),
        rating=parse_rating(item, complete=False) if rated else None,
        system_prompt=_text(item, "system_prompt", default="") or _text(item, "custom_system_prompt", default=""),
        position=_position(item),
    )


def _position(item: Mapping[str, Any]) -> int | None:
    value = item.get("position")
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise DataError(f"`position` is {value!r}, not a whole number from 0")
    return value


def _answer_turns(value: object, prompt: str, key: str) -> tuple[Message, ...]:
    """`chosen` or `rejected`: a list of turns, or the bare text of an answer to `prompt`."""
    if isinstance(value, str):
        if not value.strip():
            raise DataError(f"`{key}` is empty")
        if not prompt.strip():
            raise DataError(f"`{key}` is a bare text and there is no `prompt` that it answers")
        return ({"role": "user", "content": prompt}, {"role": "assistant", "content": _encodable(value, key)})
    messages = parse_messages(value, key)
    if messages[-1]["role"] != "assistant":
        raise DataError(f"`{key}` ends with a {messages[-1]['role']} turn; the last must be the assistant's")
    return messages


def parse_preference(row: Mapping[str, Any]) -> Preference:
    """A pair from `chosen` and `rejected` (turns, or bare texts beside `prompt`), scores where there are any.

    Raises:
        DataError: the two answers are the same, or answer different prompts.
    """
    given = row.get("prompt")
    if isinstance(given, list | tuple):  # the conversational shape: `prompt` as turns, the answers as one turn each
        row = _joined(row, given)
    prompt = _text(row, "prompt", default="")
    chosen = _answer_turns(row.get("chosen"), prompt, "chosen")
    rejected = _answer_turns(row.get("rejected"), prompt, "rejected")
    if chosen[:-1] != rejected[:-1]:
        raise DataError("`chosen` and `rejected` answer different conversations")
    if chosen[-1]["content"].strip() == rejected[-1]["content"].strip():
        raise DataError("`chosen` and `rejected` are the same answer: a preference needs two")
    prompt = prompt or first_user(chosen)
    return Preference(
        prompt=prompt,
        prompt_id=_text(row, "prompt_id", default="") or prompt_id_of(prompt),
        chosen=chosen,
        rejected=rejected,
        score_chosen=_score(row, "score_chosen"),
        score_rejected=_score(row, "score_rejected"),
        source=_text(row, "source", default=""),
        category=_text(row, "category", default=""),
        chosen_from=_lineage(row, "chosen"),
        rejected_from=_lineage(row, "rejected"),
        rejected_rank=_place(row, "rejected_rank", least=1),
        answer_count=_place(row, "answer_count", least=2),
    )


def _lineage(row: Mapping[str, Any], which: str) -> Lineage:
    """Where an answer of a pair comes from, in the columns that this tool writes; rows of others, and older ones, lack them."""
    return Lineage(
        model=_text(row, f"{which}_model", default=""),
        principle=_text(row, f"{which}_principle", default=""),
        rating=_ratings(row.get(f"{which}_ratings"), f"{which}_ratings"),
        position=_place(row, f"{which}_position", least=0),
    )


def _ratings(value: object, key: str) -> Rating | None:
    """The numbers of a rating: aspects and overall score in one object."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise DataError(f"`{key}` is {_kind(value)}, not an object")
    given = {name: rating for name, rating in value.items() if rating is not None}
    if not given:
        return None
    overall = given.pop("overall_score", None)
    try:
        annotations = {name: {"rating": rating} for name, rating in given.items()}
        return parse_rating({"annotations": annotations, "overall_score": overall}, complete=False)
    except DataError as error:
        raise DataError(f"`{key}`: {error}") from None


def _place(row: Mapping[str, Any], key: str, *, least: int) -> int | None:
    value = row.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**31:
        raise DataError(f"`{key}` is {_kind(value)}, and no whole number from {least} on")
    return value


def parse_feedback(row: Mapping[str, Any]) -> RatedPrompt | Preference:
    """A row of `chosen` and `rejected` is a pair; one with `completions` is a prompt whose rated answers are yet to be compared."""
    return parse_preference(row) if "chosen" in row else parse_rated_prompt(row)


def _joined(row: Mapping[str, Any], given: list[Any] | tuple[Any, ...]) -> Row:
    """A conversational pair with each answer joined to the turns of `prompt`, and their first user turn as the prompt."""
    context = parse_messages(given, "prompt") if given else ()
    answers: Row = {}
    for key in ("chosen", "rejected"):
        value = row.get(key)
        if not isinstance(value, list | tuple):
            raise DataError(f"`{key}` is {_kind(value)}; beside a `prompt` that is a list of turns, a list of turns was expected")
        answers[key] = [*context, *value]
    return {**row, "prompt": first_user(context), **answers}


def _score(row: Mapping[str, Any], key: str) -> float | None:
    value = row.get(key)
    return None if value is None else _number(value, key)
