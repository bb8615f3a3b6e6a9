"""Answers that stop before they end."""

from __future__ import annotations

import re
from collections.abc import Sequence

from zephyr.text.filters.base import Hit, Turn, View


def _listed(text: str) -> frozenset[str]:
    return frozenset(text.split())


# words after which no English sentence ends; of those that sometimes do ("in", "on", "that", "is"), none
_OPEN_WORDS = _listed(
    "that the a an and or but nor of to with from into your my our their its his whose which because although if "
    "whether than as per via every between among towards including are were was will would should could can may might must has have "
    "had been very more most by for at when while where what who how these those such not also both either be being using"
)
_ITEM = re.compile(r"\s*(?:[-*+\u2022\u25cf\u25aa\u2013]|\(?\d{1,3}[.):]|\(?[a-zA-Z][.)]|#+|\[|>)\s*")
_LAST_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?$")
_SENTENCE_ENDS = re.compile(r"(?:[.!?\u2026]|:(?=\s+\S+\s+\S+\s))[\"'\u201d\u2019)*_]*(?:\s|$)")
_LETTER_ENDS = re.compile(
    r"\b(?:sincerely|regards|cheers|thanks|thank you|best|love|yours|wishes|truly|faithfully|respectfully|xoxo|name\]?|signed|"
    r"warmly|p\.s\.)\b",
    re.IGNORECASE,
)
_FENCE = re.compile(r"^[ \t>]*(?:[-*\d.]+[ \t]+)?```", re.MULTILINE)
# an example that does not come; a number of a list without its item
_ANNOUNCES = re.compile(r"\b(?:here (?:is|are)|here's|as follows|the following|look like|looks like|an example)\b[^.!?]*:$", re.IGNORECASE)
_MARKER = re.compile(r"(?:\d{1,3}[.)]|[-*+])")
FULL_LINE = 60  # characters; a verse is rarely longer
LONG_LINE = 100  # characters; from here on a line is prose, not a heading, a name or a verse


def cut_at(text: str) -> int | None:
    """Where the piece begins that has no end (in characters), or None where the text ends as texts do.

    It is cut where a block of code stays open; where the last word needs another ("and", "of the"); and where the last line is prose,
    long or with a sentence before it that does end, and stops in a letter although this writer ends sentences.
    """
    bare = text.rstrip(" \n\t\r\u200b\u200c\ufeff")
    if bare.count("```") % 2 and len(_FENCE.findall(bare)) % 2 and not _closes(bare):
        return bare.rfind("```")
    if bare.endswith("```"):
        return _cut_code(bare)
    line_at = bare.rfind("\n") + 1
    line = bare[line_at:]
    if _ANNOUNCES.search(line) or (line_at and _MARKER.fullmatch(line)):
        return line_at
    if not line or not (line[-1].isalnum() or line[-1] in ",-(\u2014\u2013") or line.startswith(("|", "    ", "http")):
        return None
    item = _ITEM.match(line)
    at = line_at + (item.end() if item else 0)
    # a block of code says nothing of how lines end
    before = bare[bare.rfind("```", 0, line_at) + 3 if "```" in bare else 0 : line_at]
    return _cut_in(bare[at:], at, before, item is not None)


def _closes(bare: str) -> bool:
    """Whether the last mark of a block of code closes one that an earlier answer had opened: what follows it is a paragraph of prose."""
    tail = bare[bare.rfind("```") + 3 :]
    return tail.startswith("\n") and tail[-1] in ".!?" and tail.count(" ") > 6 and not any(sign in tail for sign in "{};=")


def _cut_code(bare: str) -> int | None:
    """Where the last block of code begins, if it was closed although the code in it goes on: brackets are open, or a line."""
    at = bare.rfind("```", 0, len(bare) - 3)
    code = bare[at + 3 : -3].rstrip()
    is_open = sum(map(code.count, "([{")) - sum(map(code.count, ")]}"))
    return at if at >= 0 and code and (is_open >= 2 or (is_open >= 1 and code[-1] in "([{,=.&|")) else None


def _cut_in(body: str, at: int, before: str, in_list: bool) -> int | None:
    """The same for the last line, which begins at `at`, or the words of it where it is an item of a list."""
    said = body.split()
    if not said or "://" in said[-1] or "@" in said[-1] or said[-1][0] in "#@":
        return None
    word = _LAST_WORD.search(body)
    open_word = word is not None and word.group() in _OPEN_WORDS
    open_sign = (
        body[-1] == "(" or (body.count("(") > body.count(")") and body[-1].isalnum()) or (body[-1] == "," and not _LETTER_ENDS.search(body))
    )
    if open_sign or open_word:
        sure = len(said) > 2 and (len(body) > FULL_LINE or not _verse(before))
        return at + _sentence(body) if sure else None
    if not body[-1].isalnum():
        return None
    inner = _sentence(body)
    lines = _like(before, in_list)
    ended = sum(line[-1] in '.!?:"\u201d)' for line in lines)
    if inner == 0 and len(body) < LONG_LINE:
        # a heading, a name, a verse, a short answer; but not where each line before is a sentence, and this might be one
        like_them = ended == len(lines) and (ended >= 3 if in_list else ended >= 2 and len(said) >= 6 and body[-1].islower())
        return at if like_them and not _LETTER_ENDS.search(before[-200:] + body) else None
    if 4 * ended < 3 * len(lines) or (not lines and inner == 0):
        return None
    return at + inner if len(body) - inner > 1 and (body[inner : inner + 1].isalpha() or inner == 0) else None


def _sentence(body: str) -> int:
    """Where the last sentence of a line begins."""
    last = 0
    for found in _SENTENCE_ENDS.finditer(body):
        # "e.g. ", "Mr. " and a number of a list are no ends
        if found.start() > 3 and body[found.start() - 2 : found.start()].isalpha() and body[found.end() : found.end() + 1].isupper():
            last = found.end()
    return last


def _like(before: str, in_list: bool) -> list[str]:
    """Of the lines before, the last that are of the same kind: items of a list, or not."""
    lines = [line.rstrip() for line in before.split("\n")[-13:] if line.strip()]
    return [line for line in lines if (_ITEM.match(line) is not None) == in_list and len(line) > 40]


def _verse(before: str) -> bool:
    """Whether the lines before are verses, or a list whose lines end as they like."""
    lines = [line.rstrip() for line in before.split("\n")[-8:] if line.strip()]
    open_ended = [line for line in lines if line[-1].isalpha() or line[-1] == ","]
    return len(lines) >= 2 and len(open_ended) * 2 > len(lines)


def truncated(messages: Sequence[Turn]) -> Hit | None:
    """An answer that stops in the midst of a sentence or of a block of code."""
    view = View.of(messages)
    for i in view.answers:
        start = cut_at(view.texts[i])
        if start is not None:
            return Hit("truncated", i, start, len(view.texts[i]))
    return None
