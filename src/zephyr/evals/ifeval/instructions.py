"""The ids of the 25 instructions, as the public data has them, and what each must be given."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from zephyr.errors import DataError
from zephyr.evals.ifeval import checks
from zephyr.evals.ifeval.language import LANGUAGES

Parse = Callable[[object], object]


@dataclass(frozen=True)
class Instruction:
    """A check, and by name how each of its arguments is read."""

    check: Callable[..., bool]
    arguments: Mapping[str, Parse]


@dataclass(frozen=True)
class Asked:
    """An instruction as a prompt asks for it."""

    id: str
    arguments: Mapping[str, Any]

    def follows(self, response: str) -> bool:
        """Whether a response follows it; one without any text follows nothing."""
        return bool(response.strip()) and INSTRUCTIONS[self.id].check(response, **self.arguments)


# --- what an argument may be -----------------------------------------------------------------------------------------


def _count(value: object) -> int:
    if isinstance(value, float) and value.is_integer():  # a column of Parquet that has nulls may come as floats
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise DataError(f"is {value!r}, not a whole number from 0")
    return value


def _position(value: object) -> int:
    if not (found := _count(value)):
        raise DataError("is 0; paragraphs are counted from 1")
    return found


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"is {value!r}, not a text")
    return value


def _letter(value: object) -> str:
    if len(found := _text(value).strip()) != 1:
        raise DataError(f"is {value!r}, not a single letter")
    return found


def _words(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise DataError(f"is {value!r}, not a list of words")
    return tuple(_text(word) for word in value)


def _one_of(known: tuple[str, ...]) -> Parse:
    def parse(value: object) -> str:
        if not isinstance(value, str) or value not in known:
            raise DataError(f"is {value!r}; known are {', '.join(known)}")
        return value

    return parse


_RELATION = _one_of(checks.RELATIONS)

INSTRUCTIONS: Mapping[str, Instruction] = {
    "keywords:existence": Instruction(checks.existence, {"keywords": _words}),
    "keywords:frequency": Instruction(checks.frequency, {"keyword": _text, "frequency": _count, "relation": _RELATION}),
    "keywords:forbidden_words": Instruction(checks.forbidden_words, {"forbidden_words": _words}),
    "keywords:letter_frequency": Instruction(
        checks.letter_frequency, {"letter": _letter, "let_frequency": _count, "let_relation": _RELATION}
    ),
    "language:response_language": Instruction(checks.response_language, {"language": _one_of(tuple(LANGUAGES))}),
    "length_constraints:number_sentences": Instruction(checks.number_sentences, {"num_sentences": _count, "relation": _RELATION}),
    "length_constraints:number_paragraphs": Instruction(checks.number_paragraphs, {"num_paragraphs": _count}),
    "length_constraints:number_words": Instruction(checks.number_words, {"num_words": _count, "relation": _RELATION}),
    "length_constraints:nth_paragraph_first_word": Instruction(
        checks.nth_paragraph_first_word, {"num_paragraphs": _position, "nth_paragraph": _position, "first_word": _text}
    ),
    "detectable_content:number_placeholders": Instruction(checks.number_placeholders, {"num_placeholders": _count}),
    "detectable_content:postscript": Instruction(checks.postscript, {"postscript_marker": _text}),
    "detectable_format:number_bullet_lists": Instruction(checks.number_bullet_lists, {"num_bullets": _count}),
    "detectable_format:constrained_response": Instruction(checks.constrained_response, {}),
    "detectable_format:number_highlighted_sections": Instruction(checks.number_highlighted_sections, {"num_highlights": _count}),
    "detectable_format:multiple_sections": Instruction(checks.multiple_sections, {"section_spliter": _text, "num_sections": _count}),
    "detectable_format:json_format": Instruction(checks.json_format, {}),
    "detectable_format:title": Instruction(checks.title, {}),
    "combination:two_responses": Instruction(checks.two_responses, {}),
    "combination:repeat_prompt": Instruction(checks.repeat_prompt, {"prompt_to_repeat": _text}),
    "startend:end_checker": Instruction(checks.end_checker, {"end_phrase": _text}),
    "startend:quotation": Instruction(checks.quotation, {}),
    "change_case:capital_word_frequency": Instruction(
        checks.capital_word_frequency, {"capital_frequency": _count, "capital_relation": _RELATION}
    ),
    "change_case:english_capital": Instruction(checks.english_capital, {}),
    "change_case:english_lowercase": Instruction(checks.english_lowercase, {}),
    "punctuation:no_comma": Instruction(checks.no_comma, {}),
}


def parse_asked(name: object, given: object) -> Asked:
    """An instruction from its id and its kwargs; a null stands for an argument that is not given, as in the table on the hub.

    Raises:
        DataError: an unknown id; an argument that is missing, unknown, or not what it should be.
    """
    if not isinstance(name, str) or name not in INSTRUCTIONS:
        close = difflib.get_close_matches(str(name), INSTRUCTIONS, 1)
        hint = f"; did you mean {close[0]}?" if close else f"; the {len(INSTRUCTIONS)} known ids are in docs/offline-judges.md"
        raise DataError(f"unknown instruction {name!r}{hint}")
    if not isinstance(given, Mapping):
        raise DataError(f"{name}: its kwargs are {given!r}, not an object")
    needed = INSTRUCTIONS[name].arguments
    there = {key: value for key, value in given.items() if value is not None}
    if unknown := sorted(set(there) - set(needed)):
        takes = ", ".join(needed) or "none"
        raise DataError(f"{name}: unknown argument `{unknown[0]}`; it takes {takes}")
    arguments: dict[str, Any] = {}
    for key, parse in needed.items():
        if key not in there:
            raise DataError(f"{name}: the argument `{key}` is missing")
        try:
            arguments[key] = parse(there[key])
        except DataError as error:
            raise DataError(f"{name}: `{key}` {error}") from None
    if arguments.get("nth_paragraph", 0) > arguments.get("num_paragraphs", 0):
        raise DataError(f"{name}: `nth_paragraph` is {arguments['nth_paragraph']}, of {arguments['num_paragraphs']} paragraphs")
    return Asked(name, arguments)
