"""Words, capital words and sentences, counted as the original counts them, without its tokenizers and their trained tables.

Words are runs of letters, digits and underscores. Sentences follow the decisions of Punkt (Kiss & Strunk 2006, "Unsupervised
Multilingual Sentence Boundary Detection"), which the original uses with tables learnt from newspapers; here a short list of
abbreviations and of everyday words stands for the tables. Words in capitals are tokens as the Penn Treebank divides them.
docs/offline-judges.md says how often the counts are the original's.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import groupby

_WORD = re.compile(r"\w+")
_JOINERS = "\u200c\u200d"  # between the letters of one word, in Persian and in the scripts of India

# a mark that may end a sentence: other punctuation follows at once, or a space and a further word
_MARK = re.compile(r"[.?!](?=[)\";}\]*:@'({\[!?]|\s+(?P<next>\S+))")
_CLOSING = re.compile(r"[\"')\]}]+?(?:\s+|(?=--)|$)")  # belongs to the sentence before
_NUMBER = re.compile(r"-?[.,]?\d[\d,.\-]*")
_LEADING = "\"'`({[:;&#*@)}],-"

_TITLES = "mr mrs ms dr prof st jr sr gen rep reps sen gov lt col maj capt sgt messrs"
_DATES = "jan feb aug sep sept oct nov dec mon tues wed thurs fri"
_BUSINESS = "inc ltd corp co cos bros cie vs ave blvd"
_PLACES = "ariz calif colo fla ill mich minn okla ore pa tenn tex va wash wis"
_ABBREVIATIONS = frozenset(" ".join((_TITLES, _DATES, _BUSINESS, _PLACES, "ph.d")).split()) | frozenset("cdefghjklmnprstvw")
_INITIALS = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]")  # u.s, p.m, j.r.r
_NOT_SHORT = ("e.g", "i.e", "p.s", "p.p.s")  # the original's tables do not know them (nor etc), and end a sentence there

# in lower case wherever no sentence begins: with a capital, after an abbreviation or three dots, they begin one
_EVERYDAY_WORDS = """
    a about after all also although an and another any are as at because been before both but by can could despite did do does
    during each even every few finally first for from had has have he her here his how however i if in indeed instead is it its just
    last later let many maybe meanwhile more moreover most much my nevertheless next no nor not now of often on once one only or
    other our perhaps please second several she should since so some something sometimes soon still such suddenly than that the
    their them then there therefore these they this those though three through thus to too two under until was we well were what
    when where whether which while who why will with without would yes yet you your"""
_EVERYDAY = frozenset(_EVERYDAY_WORDS.split())


def count_words(text: str) -> int:
    """Runs of letters, digits and underscores, with the marks that belong to letters: `it's` has two, `well-known` has two."""
    if text.isascii():
        return sum(1 for _ in _WORD.finditer(text))
    # vowels in the scripts of India are marks: to `\\w` each would end a word
    runs = ("".join(run) for inside, run in groupby(text, _in_word) if inside)
    return sum(1 for run in runs if _WORD.search(run))


def _in_word(c: str) -> bool:
    return c.isalnum() or c == "_" or c in _JOINERS or unicodedata.category(c)[0] == "M"


# --- sentences ----------------------------------------------------------------------------------------------------


def sentences(text: str) -> list[str]:
    """The sentences of a text, without the spaces between them. A number and its point that begin a list item are one of their own."""
    found, start = [], 0
    end = len(text.rstrip())
    for stop, goes_on in [*_breaks(text), (end, end)]:
        start = min(start, end)
        if closing := _CLOSING.match(text, goes_on) if stop < end else None:
            stop = goes_on = closing.end()
        if text[start:stop].strip():
            found.append(text[start:stop].strip())
        start = goes_on
    return found


def count_sentences(text: str) -> int:
    """How many sentences a text has."""
    return len(sentences(text))


def _breaks(text: str) -> Iterator[tuple[int, int]]:
    """(where a sentence stops, where the next one starts) of every end of a sentence but that of the text."""
    for mark in _candidates(text):
        if _ends(_word_before(text, mark.start()), text[mark.start()], text[mark.end()], mark["next"]):
            yield mark.end(), mark.start("next") if mark["next"] else mark.end()


def _candidates(text: str) -> Iterator[re.Match[str]]:
    """The marks that may end a sentence; of several in one stretch without spaces, the last."""
    held: re.Match[str] | None = None
    for mark in _MARK.finditer(text):
        if held is not None and (held["next"] or re.search(r"\s", text[held.end() : mark.start()])):
            yield held
        held = mark
    if held is not None:
        yield held


def _word_before(text: str, at: int) -> str:
    """What stands between the last space or opening mark and a position."""
    start = at
    while start and not text[start - 1].isspace() and at - start < 60:
        start -= 1
    word = text[start:at].lstrip(_LEADING)
    return re.split(r"[)\";}\]*:@'({\[!?]", word)[-1]


def _ends(word: str, mark: str, after: str, following: str | None) -> bool:
    """Whether a mark ends a sentence.

    Args:
        word: what stands before it, without spaces.
        mark: one of ``.?!``.
        after: the character after it.
        following: the next word, if there is a space between.
    """
    if mark != ".":
        return True
    begins = _begins_sentence(following or after)
    name = word.lower()
    if word.endswith(".") and not word.strip(".").count("."):  # two or more dots in a row
        return begins is True
    if name in _ABBREVIATIONS or name.rpartition("-")[2] in _ABBREVIATIONS or (_INITIALS.fullmatch(name) and name not in _NOT_SHORT):
        return begins is True
    return not ((len(word) == 1 or _NUMBER.fullmatch(word)) and begins is False)


def _begins_sentence(word: str) -> bool | None:
    """True: a word that has its capital from the beginning of a sentence; False: one in lower case; None where it cannot be told."""
    if word[:1].islower():
        return False
    return True if word[:1].isupper() and re.split(r"\W", word.lower())[0] in _EVERYDAY else None


# --- words in capitals --------------------------------------------------------------------------------------------

_APART = re.compile(r"[\[\](){}<>«»“”‘’„\"`;@#$%&*?!]|''|--|\.{2,}|[:,](?!\d)")
_LAST_POINT = re.compile(r"(?<![.])\.[\]\)}>\"'»”’ ]*\s*$")
_CLITIC = re.compile(r"(?<=[^'\s])('[SMDsmd]|'(?:LL|RE|VE|ll|re|ve)|N'T|n't)(?=\s|$)")
_TWO_WORDS = re.compile(r"\b(CAN(?=NOT\b)|GIM(?=ME\b)|GON(?=NA\b)|GOT(?=TA\b)|LEM(?=ME\b)|WAN(?=NA\b)|'T(?=IS\b)|'T(?=WAS\b))")


def count_capital_words(text: str) -> int:
    """Tokens that have a capital letter and no small one: `NASA/ESA` is one, `DON'T` is two, `I` and `3D` are one each."""
    return sum(token.isupper() for sentence in sentences(text) for token in _tokens(sentence))


def _tokens(sentence: str) -> list[str]:
    """The tokens of a sentence that can hold letters."""
    spaced = _APART.sub(" ", _LAST_POINT.sub(" ", sentence))
    return _TWO_WORDS.sub(r"\1 ", _CLITIC.sub(r" \1", spaced)).split()
