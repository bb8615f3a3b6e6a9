"""The 25 verifiable instructions of IFEval, each a pure function of a response and what the prompt asked for.

Zhou et al. 2023, "Instruction-Following Evaluation for Large Language Models", table 1. Where the paper leaves the edges open they are
those of the code that was published with it, since that is what published figures mean; docs/offline-judges.md lists where we differ.
A response without any text follows nothing: the caller sees to that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from zephyr.evals.ifeval.language import detect
from zephyr.evals.ifeval.text import count_capital_words, count_sentences, count_words

OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
LESS_THAN, AT_LEAST = RELATIONS = ("less than", "at least")

_DIVIDER = re.compile(r"\s?\*\*\*\s?")
_FENCES = ("```json", "```Json", "```JSON", "```")
_STARRED = re.compile(r"^\s*\*[^*].*$", re.MULTILINE)
_DASHED = re.compile(r"^\s*-.*$", re.MULTILINE)


def _related(count: int, relation: str, bound: int) -> bool:
    return count < bound if relation == LESS_THAN else count >= bound


# --- keywords ------------------------------------------------------------------------------------------------------


def existence(response: str, keywords: Sequence[str]) -> bool:
    """Every keyword is there, in whatever case, also within a longer word."""
    return all(re.search(re.escape(word), response, re.IGNORECASE) for word in keywords)


def frequency(response: str, keyword: str, frequency: int, relation: str) -> bool:
    """A keyword is there so many times, in whatever case, also within longer words; occurrences do not overlap."""
    return _related(len(re.findall(re.escape(keyword.strip()), response, re.IGNORECASE)), relation, frequency)


def forbidden_words(response: str, forbidden_words: Sequence[str]) -> bool:
    """None of the words is there as a word of its own."""
    return not any(_as_word(word).search(response) for word in forbidden_words)


def _as_word(word: str) -> re.Pattern[str]:
    r"""A word between boundaries; at an end of it that is no letter (`c++`), `\b` would ask for a letter to follow."""
    before, after = (r"\b" if re.match(r"\w", end) else "" for end in (word[0], word[-1]))
    return re.compile(before + re.escape(word) + after, re.IGNORECASE)


def letter_frequency(response: str, letter: str, let_frequency: int, let_relation: str) -> bool:
    """A letter, or another single character, is there so many times, in whatever case."""
    return _related(response.lower().count(letter.lower()), let_relation, let_frequency)


# --- language and length ---------------------------------------------------------------------------------------------


def response_language(response: str, language: str) -> bool:
    """Most of the response is in a language; one without letters passes, as in the original."""
    return detect(response) in (language, None)


def number_sentences(response: str, num_sentences: int, relation: str) -> bool:
    """So many sentences."""
    return _related(count_sentences(response), relation, num_sentences)


def number_words(response: str, num_words: int, relation: str) -> bool:
    """So many words."""
    return _related(count_words(response), relation, num_words)


def number_paragraphs(response: str, num_paragraphs: int) -> bool:
    """Exactly so many paragraphs with `***` between them; one may also stand before the first and after the last."""
    first, *middle = _DIVIDER.split(response)
    if not middle:
        return num_paragraphs == (1 if first.strip() else 0)
    *middle, last = middle
    if not all(part.strip() for part in middle):
        return False
    return num_paragraphs == len(middle) + bool(first.strip()) + bool(last.strip())


def nth_paragraph_first_word(response: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """Exactly so many paragraphs with an empty line between them, one of which begins with a word."""
    paragraphs = response.split("\n\n")
    count = sum(bool(paragraph.strip()) for paragraph in paragraphs)
    if nth_paragraph > count or not paragraphs[nth_paragraph - 1].strip():
        return False
    word = paragraphs[nth_paragraph - 1].split()[0].lstrip("'").lstrip('"')
    return count == num_paragraphs and re.split(r"[.,?!'\"]", word)[0].lower() == first_word.lower()


# --- content and format ----------------------------------------------------------------------------------------------


def number_placeholders(response: str, num_placeholders: int) -> bool:
    """At least so many placeholders in square brackets, `[address]`."""
    return len(re.findall(r"\[.*?\]", response)) >= num_placeholders


def postscript(response: str, postscript_marker: str) -> bool:
    """The marker of a postscript is there, in whatever case; `P.S.` and `P.P.S` also with a space after a point."""
    marker = postscript_marker.strip()
    known = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return re.search(known.get(marker) or re.escape(marker.lower()), response.lower()) is not None


def number_bullet_lists(response: str, num_bullets: int) -> bool:
    """Exactly so many lines that begin with `-`, or with a `*` that is not followed by another."""
    return len(_STARRED.findall(response)) + len(_DASHED.findall(response)) == num_bullets


def constrained_response(response: str) -> bool:
    """One of the three answers that were offered is in it."""
    return any(option in response for option in OPTIONS)


def number_highlighted_sections(response: str, num_highlights: int) -> bool:
    """At least so many stretches of a line between asterisks, one or two, that are not blank."""
    single, double = re.findall(r"\*([^\n*]*)\*", response), re.findall(r"\*\*([^\n*]*)\*\*", response)
    return sum(bool(inner.strip()) for inner in (*single, *double)) >= num_highlights


def multiple_sections(response: str, section_spliter: str, num_sections: int) -> bool:
    """At least so many headings: the word, as it is written, and a number."""
    return len(re.findall(re.escape(section_spliter.strip()) + r"\s?\d+", response)) >= num_sections


def json_format(response: str) -> bool:
    """All of it is JSON, in a fence of three backticks or without."""
    body = response.strip()
    for fence in _FENCES:
        body = body.removeprefix(fence)
    try:
        json.loads(body.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def title(response: str) -> bool:
    """A title in double angular brackets, `<<poem of joy>>`, on one line and not blank."""
    return any(found.lstrip("<").rstrip(">").strip() for found in re.findall(r"<<[^\n]+>>", response))


# --- combination, start and end, case, punctuation -------------------------------------------------------------------


def two_responses(response: str) -> bool:
    """Two different answers with `******` between them."""
    parts = response.split("******")
    answers = [part.strip() for part in parts if part.strip()]
    blank_within = any(not part.strip() for part in parts[1:-1])
    return not blank_within and len(answers) == 2 and answers[0] != answers[1]


def repeat_prompt(response: str, prompt_to_repeat: str) -> bool:
    """It begins with the request, in whatever case."""
    return response.strip().lower().startswith(prompt_to_repeat.strip().lower())


def end_checker(response: str, end_phrase: str) -> bool:
    """It ends with a phrase, in whatever case; quotation marks around the whole do not count."""
    return response.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def capital_word_frequency(response: str, capital_frequency: int, capital_relation: str) -> bool:
    """So many words are all in capitals."""
    return _related(count_capital_words(response), capital_relation, capital_frequency)


def english_capital(response: str) -> bool:
    """English, without a small letter."""
    return response.isupper() and detect(response) in ("en", None)


def english_lowercase(response: str) -> bool:
    """English, without a capital letter."""
    return response.islower() and detect(response) in ("en", None)


def no_comma(response: str) -> bool:
    """Not one comma."""
    return "," not in response


def quotation(response: str) -> bool:
    """Double quotation marks around the whole."""
    body = response.strip()
    return len(body) > 1 and body[0] == body[-1] == '"'
