"""The words of a text as truecasing sees them: where each stands, what it begins, and which must not be touched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

# what a word may be the first of: "line" is one after a short line, "wrap" one after a full line
STARTS = ("text", "sentence", "paragraph", "line", "wrap", "item", "quote", "colon", "ellipsis")
_LINE = 400  # characters of a line that are looked at, to know whether it is a title
FULL_LINE = 55  # characters; a line this long was broken because it was full

_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
_CHUNK = re.compile(r"\S+")
# a chunk with any of these inside is an address, a path, an identifier, a formula
_NOT_PROSE = re.compile(r"[_/\\@#<>{}=$~^|+&%\d]|[^\W_][.:][^\W_]")
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")
_ENDS = re.compile(r"[.!?][\"'\u201d\u2019)\]*_]*$")
_STARTS_ANY = re.compile(r"[a-z][.!?] ")
_BULLET = re.compile(r"[-*+\u2022\u25cf\u25aa\u2013]|\(?(?:\d{1,3}|[a-zA-Z]|[ivx]{1,4})[.)]|#{1,6}|>+")


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


_OPENS = "\"'\u201c\u2018"
# no sentence ends at their full stop; a single letter's does not either
_SHORT = _listed("mr mrs ms dr prof st vs etc no fig vol jr sr inc ltd co approx dept est al")


class Word(NamedTuple):
    """A word where it stands.

    Attributes:
        text: as it is written.
        low: in small letters.
        start: where it begins in the text, in characters.
        kind: what it is the first of, one of `STARTS`, or empty.
        stop: a full stop follows it.
        fixed: it stands in code or an identifier, or is a part of one: not to be changed or learnt from.
        shouted: it stands in a line of capitals or a title, which says nothing of how words are written.
    """

    text: str
    low: str
    start: int
    kind: str
    stop: bool
    fixed: bool
    shouted: bool


def words_of(text: str, abbreviations: frozenset[str] = frozenset()) -> Iterator[Word]:
    """The words of a text in order, without those in code."""
    at, kind = 0, "text"
    for code in _CODE.finditer(text):
        yield from _of_prose(text, at, code.start(), kind, abbreviations)
        at, kind = code.end(), "paragraph" if code.group().startswith("```") else ""
    yield from _of_prose(text, at, len(text), kind, abbreviations)


def _of_prose(text: str, at: int, end: int, kind: str, abbreviations: frozenset[str]) -> Iterator[Word]:
    line_at = max(text.rfind("\n", max(0, at - _LINE), at) + 1, at - _LINE)
    titled = _is_title(text[line_at : _end_of_line(text, at)])
    last = at
    begins_line = not text[line_at:at].strip()
    for found in _CHUNK.finditer(text, at, end):
        chunk, start = found.group(), found.start()
        breaks = text.count("\n", last, start)
        if breaks:
            kind = "paragraph" if breaks > 1 else "wrap" if last - line_at >= FULL_LINE and kind == "" else kind or "line"
            line_at = text.rfind("\n", last, start) + 1
            titled = _is_title(text[line_at : _end_of_line(text, line_at)])
            begins_line = True
        last = found.end()
        if begins_line and _BULLET.fullmatch(chunk):
            kind, begins_line = "item", False
            continue
        begins_line = False
        core = chunk.strip("\"'\u201c\u201d\u2018\u2019()[]*_.,;:!?\u2026-\u2013\u2014")
        fixed = _NOT_PROSE.search(core) is not None
        if not kind and chunk[0] in _OPENS:
            kind = "quote"
        word = ""
        for inner in _WORD.finditer(chunk):
            word = inner.group()
            low = word.lower()
            stop = chunk[inner.end() : inner.end() + 1] == "."
            yield Word(word, low, start + inner.start(), kind, stop, fixed or len(low) != len(word), titled)
            kind = ""
        if core:
            kind = _after(chunk, word.lower(), abbreviations)


def _after(chunk: str, word: str, abbreviations: frozenset[str]) -> str:
    """What the word after this chunk begins."""
    if chunk.endswith(("...", "\u2026")):
        return "ellipsis"
    if chunk.endswith(":"):
        return "colon"
    if _ENDS.search(chunk) is None:
        return ""
    short = "." in chunk[-3:] and (len(word) == 1 or word in _SHORT or word in abbreviations) and word != "i"
    return "" if short else "sentence"


def _end_of_line(text: str, at: int) -> int:
    end = text.find("\n", at, at + _LINE)
    return min(len(text), at + _LINE) if end < 0 else end


def _is_title(line: str) -> bool:
    """Whether a line is in capitals, or a title, in which most words have one."""
    if line.isupper():
        return True
    if _STARTS_ANY.search(line):
        return False
    long = [word for word in line.split() if len(word) > 3 and word[0].isalpha()]
    return len(long) >= 2 and sum(word[0].isupper() for word in long) * 10 >= 7 * len(long)


# --- does a text need it? -------------------------------------------------------------------------------------

_HEAD = 1500  # characters looked at
_STARTS_SMALL = re.compile(r"[.!?]\s+[a-z]")
_STARTS_BIG = re.compile(r"[.!?]\s+[A-Z]")
_VARIABLE_I = re.compile(r"\b(?:for|index|variable|let|var|int|element) i\b(?!')| i (?:in|is|to|of|or|th)\b")
_CODE_SIGNS = re.compile(r"[{};=<>\\_]")
WORDS = 3  # that a turn must have


def needs_case(text: str) -> bool:
    """Whether sentences of a text begin in small letters: its first and half of the others, or "i" stands there more often than "I"."""
    head = text[:_HEAD]
    first = head.lstrip(" \n\t\"'([*>-\u201c\u200b")[:1]
    begins_small = "a" <= first <= "z"
    if not begins_small and " i " not in head and " i'" not in head:
        return False
    if "`" in head:
        head = _CODE.sub(" ", head)
    if head.count(" ") < WORDS - 1 or 40 * len(_CODE_SIGNS.findall(head)) > len(head):
        return False
    small_i = head.count(" i ") + head.count(" i'") - len(_VARIABLE_I.findall(head))
    if small_i > head.count(" I ") + head.count(" I'"):
        return True
    return begins_small and len(_STARTS_SMALL.findall(head)) >= len(_STARTS_BIG.findall(head))
