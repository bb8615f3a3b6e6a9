"""Turns that go round in circles, and talks in which a turn comes back."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from zephyr.text.filters.base import Hit, Turn, View

PERIODS = 4  # a passage that stands this many times in a row
SPAN = 160  # characters that they take together, at the least
WORDLESS_SPAN = 400  # the same where it has no words
LINES = 6  # times that one line stands in a turn, and a third of its lines
SAME_ANSWER = 80  # characters from which on an answer that comes again is no formula

_NUMBER = re.compile(r"^\s*\(?\d{1,4}[.):]\s*", re.MULTILINE)
# what tables, lines and empty forms are made of
_RULER = re.compile(r"[\s!-/:-@\[-`{-~\u2010-\u2015\u2026\u2500-\u259f]*")
_WORDY = re.compile(r"[^\W\d_]{2}")


def _circle(text: str) -> tuple[int, int] | None:
    """The span at the end of a text in which one passage stands `PERIODS` times or more, one after the other, the numbers of a list aside.

    A model that begins to repeat itself does not stop: the end of the turn is where it shows. What comes before is found where the
    same holds at a third and at two thirds of the text.
    """
    if not any(text.count(text[until - 12 : until]) >= PERIODS for until in (len(text), len(text) * 2 // 3, len(text) // 3)):
        return None
    bare = _NUMBER.sub("", text) if "\n" in text else text
    for until in (len(bare), len(bare) * 2 // 3, len(bare) // 3):
        if until < SPAN:
            break
        # at the very end there may be a piece of a passage
        probe = bare[until - 24 : until]
        before = bare.rfind(probe, max(0, until - 4000), until - 1)
        ruler = _RULER.fullmatch(probe) is not None
        if before < 0 or ruler:
            continue
        period = until - 24 - before
        start = until - max(PERIODS * period, SPAN if _WORDY.search(probe) else WORDLESS_SPAN)
        if start < 0 or bare[start : until - period] != bare[start + period : until]:
            continue
        return (len(text) * start // len(bare), len(text) * until // len(bare))
    return None


def _one_line(text: str) -> tuple[int, int] | None:
    """The span of a line that stands again and again, first to last."""
    if text.count("\n") < LINES - 1:
        return None
    lines = [line.strip("0123456789.):( \t\r") for line in text.split("\n")]
    long = [line for line in lines if len(line) >= 20]
    if len(long) - len(set(long)) < LINES - 1:
        return None
    line, times = Counter(long).most_common(1)[0]
    if times < LINES or 3 * times < len([li for li in lines if li]) or line.startswith("|") or not _WORDY.search(line):
        return None
    return 0, len(text)


def looping(messages: Sequence[Turn]) -> Hit | None:
    """An answer repeats one passage over and over, or is, word for word, an answer that was given before in the dialogue."""
    view = View.of(messages)
    seen: set[str] = set()
    for i in view.answers:
        text = view.texts[i]
        span = None
        if len(text) >= SPAN and "```" not in text:
            span = _circle(text.rstrip()) or _one_line(text)
        bare = text.strip()
        if span is None and bare in seen:
            span = (0, len(text))
        if span is not None:
            return Hit("looping", i, *span)
        if len(bare) >= SAME_ANSWER:
            seen.add(bare)
    return None
