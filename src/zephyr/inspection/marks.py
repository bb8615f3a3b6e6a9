"""Which passages of two texts are marked: words that changed, words that differ, words that both have."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

from zephyr.inspection.cards import MOST, Span

_WORD = re.compile(r"\S+")
_LETTERS = re.compile(r"\w+")
ALIKE = 0.5  # share of words in common from which on it says something to mark the others
WORDS = 500  # of each text that are compared; it takes time with their square


def changed(before: str, after: str) -> list[tuple[int, int]]:
    """The words that are written otherwise in a text of the same length, as (start, end)."""
    return [found.span() for found in _WORD.finditer(before) if before[slice(*found.span())] != after[slice(*found.span())]]


def differing(one: str, other: str) -> tuple[list[Span], list[Span]]:
    """The words of two texts that are not in both, as far as they are shown; none where the two have little in common."""
    found = [list(_WORD.finditer(text, 0, MOST))[:WORDS] for text in (one, other)]
    first, second = ([word.group() for word in words] for words in found)
    matcher = SequenceMatcher(None, first, second, autojunk=False)
    # each is quicker than the next, and never says less than it
    if min(len(first), len(second)) == 0 or matcher.quick_ratio() < ALIKE or matcher.ratio() < ALIKE:
        return [], []
    one_spans: list[Span] = []
    other_spans: list[Span] = []
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind != "equal":
            one_spans += _over(found[0][a:b])
            other_spans += _over(found[1][c:d])
    return one_spans, other_spans


def _over(words: Sequence[re.Match[str]]) -> list[Span]:
    return [Span(words[0].start(), words[-1].end(), "differs")] if words else []


def shared(text: str, item: str) -> list[Span]:
    """The longest run of words of an item that is in a text; capitals and punctuation make no difference."""
    theirs = [word.casefold() for word in _LETTERS.findall(item)][:WORDS]
    ours = list(_LETTERS.finditer(text))
    for begin in range(0, len(ours), 2 * WORDS):  # a long text in stretches that overlap by as much as an item may have
        stretch = ours[begin : begin + 3 * WORDS]
        matcher = SequenceMatcher(None, [word.group().casefold() for word in stretch], theirs, autojunk=False)
        found = matcher.find_longest_match()
        if found.size and 4 * found.size >= min(len(theirs), 20):
            return [Span(stretch[found.a].start(), stretch[found.a + found.size - 1].end())]
    return []
