"""What is shown of a row: its texts, cut to what a reader reads, with the passages marked that matter.

A card is small whatever the row is, so that thousands of them can be kept while the data goes by.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from zephyr.records import Row

HEAD, MOST = 500, 3000  # characters of a text that are shown at once, and with what is folded away
AROUND = 240  # characters before and after a marked passage
TURNS = 12  # of a dialogue
_NEAR = 30  # characters that a cut is moved by, to the next word
_GAP = re.compile(r"\s+")
_SCRAP = 120  # what is not worth a fold


class Span(NamedTuple):
    """From which character to which a passage goes, and why it is marked: `hit`, `whole`, `was`, `now` or `differs`."""

    start: int
    end: int
    mark: str = "hit"


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text that is marked as a whole, or not."""

    text: str
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """What is shown of a text.

    Attributes:
        pieces: at once.
        more: folded away.
        before: how many characters are ahead of it that are not shown.
        after: how many follow it that are not shown.
        folded: how many are folded away.

    Characters are those of the text: a sign that stands for one that cannot be seen may have more.
    """

    pieces: tuple[Piece, ...]
    more: tuple[Piece, ...] = ()
    before: int = 0
    after: int = 0
    folded: int = 0


@dataclass(frozen=True, slots=True)
class Block:
    """A text and whose it is.

    Attributes:
        title: whose, or what it is.
        text: what is shown of it.
        tone: how it is coloured: `user`, `assistant`, `chosen`, `rejected`, `before`, `after` or nothing.
        stressed: the title is marked: that such a text is there is what matters.
    """

    title: str
    text: Shown
    tone: str = ""
    stressed: bool = False


@dataclass(frozen=True, slots=True)
class Card:
    """What is shown of a row.

    Attributes:
        where: its place, as a user looks for it.
        id: of its prompt, or a hash of its texts.
        tags: what is said of it in a word or two.
        blocks: its texts, one below the other.
        sides: texts that are compared, one beside the other.
        rest: the whole of it, folded away.
        rest_says: how much that is.
        note: a sentence on it.
        reason: why it was left out.
        like: the place of the row that it was left out for.
        is_like: whether a row that is found there is that row; None where there is no such place.
        text: what the two are compared by.
    """

    where: str
    id: str
    tags: tuple[str, ...] = ()
    blocks: tuple[Block, ...] = ()
    sides: tuple[Block, ...] = ()
    rest: tuple[Block, ...] = ()
    rest_says: str = ""
    note: str = ""
    reason: str = ""
    like: str = ""
    is_like: Callable[[Row], bool] | None = field(default=None, repr=False, compare=False)
    text: str = field(default="", repr=False)


# what a browser shows as nothing, or as something else: controls but for tab and line feed, what turns the writing round, spaces without
# width (but for the joiners that emoji and Persian are written with), lone surrogates, what is no character, tags
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufdd0-\ufdef\ufeff\ufff9-\ufffb\ufffe\uffff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """A text that others wrote, safe to print: what cannot be seen is shown by a sign, or by its number."""
    return _UNSEEN.sub(_sign, text.replace("\r\n", "\n"))


def _sign(found: re.Match[str]) -> str:
    code = ord(found.group())
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"\u27e8U+{code:04X}\u27e9"


def line(text: str, length: int = 90) -> str:
    """The beginning of a text in one line."""
    plain = visible(" ".join(text[: 4 * length].split()))
    return plain if len(plain) <= length and len(text) <= 4 * length else plain[: length - 1] + "…"


def shown(text: str, spans: Sequence[Span] = (), *, head: int = HEAD, most: int = MOST, around: bool = True) -> Shown:
    """What is shown of a text: its beginning, or the surroundings of the first marked passage, and some more folded away.

    Args:
        text: of any length.
        spans: in order, none over another.
        head: characters that are shown at once, about.
        most: characters that are shown at all, about.
        around: begin where the first marked passage is near, not with the text.
    """
    start = 0
    if around and spans and spans[0].start > max(head - AROUND, AROUND):
        start = _between_words(text, spans[0].start - AROUND)
    fold = start + head
    if around and spans:
        fold = max(fold, min(spans[0].end, spans[0].start + head) + AROUND)
    end = min(len(text), max(fold, start + most))
    end = len(text) if len(text) - end < _SCRAP else end
    fold = end if end - fold < _SCRAP else _between_words(text, fold)
    start, fold, end = (_off_line_end(text, at) for at in (start, fold, end))
    return Shown(_pieces(text, start, fold, spans), _pieces(text, fold, end, spans), start, len(text) - end, end - fold)


def _between_words(text: str, at: int) -> int:
    """The next place that begins a word, if it is near: nothing is cut in the midst of one without need."""
    found = _GAP.search(text, max(at - 1, 0), at + _NEAR)
    return found.end() if found else at


def _off_line_end(text: str, at: int, *, ahead: bool = True) -> int:
    """The place ahead of a line end that a place is within, or the one behind it: what is left of one half is a stray sign."""
    return at + (-1 if ahead else 1) if 0 < at < len(text) and text[at - 1] == "\r" and text[at] == "\n" else at


def _pieces(text: str, start: int, end: int, spans: Sequence[Span]) -> tuple[Piece, ...]:
    found: list[Piece] = []
    at = start
    for span in spans:
        begins, ends = max(_off_line_end(text, span.start), at), min(_off_line_end(text, span.end, ahead=False), end)
        if begins >= ends or span.start >= span.end:
            continue
        found += [Piece(visible(text[at:begins]))] if begins > at else []
        found.append(Piece(visible(text[begins:ends]), span.mark))
        at = ends
    return (*found, Piece(visible(text[at:end]))) if at < end else tuple(found)


Messages = Sequence[tuple[str, str]]  # role and text of each turn


def turns(messages: Messages, marked: Mapping[int, Sequence[Span]] | None = None) -> tuple[Block, ...]:
    """The turns of a dialogue, the first of them, each cut to an equal share of what is shown."""
    most = max(HEAD, 3 * MOST // max(1, min(len(messages), TURNS)))
    return tuple(turn(messages, i, (marked or {}).get(i, ()), most=most, around=False) for i in range(min(len(messages), TURNS)))


def turn(messages: Messages, i: int, spans: Sequence[Span] = (), *, head: int = HEAD, most: int = MOST, around: bool = True) -> Block:
    """A turn of a dialogue, with its number."""
    role, text = messages[i]
    tone = role if role in ("user", "assistant", "system") else ""
    return Block(f"{line(role, 20)}, turn {i + 1} of {len(messages)}", shown(text, spans, head=head, most=most, around=around), tone)


def told_turns(messages: Messages) -> str:
    """How much of a dialogue `turns` shows."""
    count = len(messages)
    return f"The first {TURNS} of {count:,} turns" if count > TURNS else f"The dialogue, {count} turn{'s' if count != 1 else ''}"


def unread(where: str, row: Mapping[str, Any], problem: str) -> Card:
    """A row that is not understood: as JSON, and why."""
    try:
        text = json.dumps(row, ensure_ascii=False, default=repr)
    except (ValueError, TypeError, RecursionError):
        text = repr(row)
    return Card(visible(where), "", blocks=(Block("the row", shown(text)),), note=line(problem, 300))
