"""The shape of a dialogue: whose turns, in which order, how many, how long; and what stands in the characters themselves."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from zephyr.text.filters.base import Hit, Settings, Turn, View, in_code

_INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff\u00ad"
_POINTS_ONLY = re.compile(r"[\s.,;:!?\u2026_*#>\"'`~|-]*")


def empty_turns(messages: Sequence[Turn]) -> Hit | None:
    """A turn of user or assistant without a word, a number or a sign that says anything."""
    view = View.of(messages)
    for i, (role, text) in enumerate(view):
        # what is longer than this has something in it, or is a loop
        if role != "system" and len(text) < 400 and not text[:1].isalnum() and _POINTS_ONLY.fullmatch(text.strip(_INVISIBLE + " \n")):
            only_sign = text.strip() in ("?", "!", "??", "???", "!!!", "?!") and role == "user"  # says something after an answer
            if not only_sign:
                return Hit("empty-turns", i, 0, len(text))
    return None


def alternation(messages: Sequence[Turn]) -> Hit | None:
    """Turns that are not: at most one system turn first, then user and assistant in turn, from the user's to the assistant's."""
    view = View.of(messages)
    first = 1 if view.roles[:1] == ["system"] else 0
    for i in range(first, len(view)):
        if view.roles[i] != ("user", "assistant")[(i - first) % 2]:
            return Hit("alternation", i, 0, len(view.texts[i]))
    if len(view) - first < 2 or (len(view) - first) % 2:
        last = max(len(view) - 1, 0)
        return Hit("alternation", last, 0, len(view.texts[last]) if view.texts else 0)
    return None


def length(settings: Settings) -> Callable[[Sequence[Turn]], Hit | None]:
    """The filter of dialogues that say too little, or are longer than the bounds."""

    def find(messages: Sequence[Turn]) -> Hit | None:
        view = View.of(messages)
        turns = [i for i, role in enumerate(view.roles) if role != "system"]
        if len(turns) > settings.max_turns:
            at = turns[settings.max_turns]
            return Hit("length", at, 0, len(view.texts[at]))
        total = 0
        for i, text in enumerate(view.texts):
            total += len(text)
            if total > settings.max_chars:
                return Hit("length", i, len(text) - (total - settings.max_chars), len(text))
        if view.answers and sum(len(view.texts[i].strip()) for i in view.answers) < settings.min_answer_chars:
            at = view.answers[-1]
            return Hit("length", at, 0, len(view.texts[at]))
        return None

    return find


# control characters but for tab, line feed, form feed, carriage return and next line; what is no character; lone surrogates
_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\x80-\x84\x86-\x9f\ufffd\ufdd0-\ufdef\ufffe\uffff\ud800-\udfff]")
# UTF-8 that was read as Windows-1252 or Latin-1: the lead bytes of accents and typographic signs with what follows them
_TRAIL = (
    "[\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013\u2014\u2018-\u201e\u2020-\u2022\u2026\u2030"
    "\u2039\u203a\u20ac\u2122]"
)
_MOJIBAKE = re.compile(
    f"\u00c3{_TRAIL}(?![A-Z\u00c0-\u00de])|\u00c2[\u00a0-\u00bf](?=[^A-Z]|$)|\u00e2(?:\u20ac|\u0080){_TRAIL}|\u00f0\u0178{_TRAIL}|"
    f"\u00ef\u00bb\u00bf"
)
_PLAIN = bytes(range(0x20, 0x7F)) + b"\t\n\r\f"
_ABOUT_ENCODING = re.compile(
    r"\b(?:encod\w+|decod\w+|utf-?8|utf-?16|unicode|mojibake|latin-?1|cp1252|windows-1252|ascii|character set|charset|bytes?|"
    r"replacement character)\b"
)


def encoding(messages: Sequence[Turn]) -> Hit | None:
    """Broken characters: the replacement character, control characters, UTF-8 read as something else."""
    view = View.of(messages)
    for i, text in enumerate(view.texts):
        if text.isascii() and not text.encode("ascii").translate(None, _PLAIN):
            continue
        for found in (_CONTROL.search(text), None if text.isascii() else _MOJIBAKE.search(text)):
            if found is not None and not in_code(text, found.start()):
                near = (view.lowers[j] for j in range(max(0, i - 1), min(len(view), i + 2)))
                if not any(_ABOUT_ENCODING.search(low) for low in near):
                    return Hit("encoding", i, *found.span())
    return None
