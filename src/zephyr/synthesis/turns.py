"""What a user's turn, or the assistant's, must not be: empty, the other's, the same again, or nothing but thanks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from zephyr.errors import DataError
from zephyr.records import Message
from zephyr.synthesis import grammar
from zephyr.synthesis.near import runs_of, similarity

Role = Literal["user", "assistant"]
END = "[END]"
EMPTY = "empty turn"
FLIPPED = "role flip"
AGAIN = "the same turn again"
THANKS = "nothing but thanks"
ENDED = "ended too early"
CUT = "cut off"
UNREADABLE = "reply that cannot be read"

ALIKE = 0.8  # of the runs of characters that two turns have: one is a copy of the other
LEAST_OF_A_COPY = 25  # characters: "Yes." may be said twice
MOST_OF_AN_ECHO = 300  # characters of a user's turn that an answer has no reason to repeat
_OWN_LABEL = {
    "user": re.compile(r"(?:\[?(?:person|user|human)\]?)[ \t]*:[ \t]*", re.IGNORECASE),
    "assistant": re.compile(r"(?:\[?(?:assistant|ai)\]?)[ \t]*:[ \t]*", re.IGNORECASE),
}
# pieces of chat templates, and lines that begin with a role
_MARKER = re.compile(
    r"<\|\w+\|>|\[/?INST\]|</?s>|<start_of_turn>|^#+ (?:user|assistant|human|person)\b|<\|im_", re.IGNORECASE | re.MULTILINE
)
# a label at the head of a line, bold, quoted or a heading or not; that of an item of a list may be a word that is explained
_LABEL = r"^[\s>*_#]*\[?(?:{names})\]?[*_]*\s*:"
_LINE_OF = {
    "user": re.compile(_LABEL.format(names="assistant|ai|bot"), re.IGNORECASE | re.MULTILINE),
    "assistant": re.compile(_LABEL.format(names="person|user|human"), re.IGNORECASE | re.MULTILINE),
}
# a second label of one's own; "AI:" may be a word that an answer explains
_OWN_LINE = {
    "user": _LINE_OF["assistant"],
    "assistant": re.compile(_LABEL.format(names="assistant"), re.IGNORECASE | re.MULTILINE),
}
_ENDS = re.compile(r"\[end\]", re.IGNORECASE)
# how an assistant speaks, and a person who wants something does not
_ASSISTANT = re.compile(
    r"\bas an? (?:ai|artificial intelligence|language model|assistant)\b"
    r"|\bi(?:'m| am) an? (?:ai\b|language model|virtual assistant|assistant\b)"
    r"|\bhow (?:can|may) i (?:help|assist) you\b"
    r"|\bi(?:'m| am) (?:here|ready) to (?:help|assist)\b|\bi(?:'d| would) be happy to (?:help|assist)\b"
    r"|\blet me know if you (?:have|need)\b|\bfeel free to (?:ask|reach)\b|\bhope this helps\b|\byou(?:'re| are) (?:very |most )?welcome\b"
    r"|^(?:sure|certainly|of course|absolutely)[,!.] (?:here|i can|i'd|i will|i'll|let me)",
    re.IGNORECASE,
)
# one of them is in whatever it finds; looking for these alone is ten times as fast
_HINTS = ("ai", "artificial", "model", "assist", "help", "let me", "free to", "welcome", "sure", "certainly", "of course", "absolutely")
_THANKS = re.compile(
    r"\b(?:thanks?(?: you)?|cheers|appreciate|much obliged|grateful|good ?bye|bye|see you|have a (?:nice|good|great)|take care)\b",
    re.IGNORECASE,
)
# a short turn that thanks and also wants something
_WANTS = re.compile(r"\?|\b(?:but|could|can|please|what|how|why|tell|give|write|explain|show|also|one more|make|add)\b", re.IGNORECASE)
MOST_WORDS_OF_THANKS = 25


class UnfitError(DataError):
    """A turn that is none; `reason` is one of the few that are counted."""

    def __init__(self, reason: str, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason


@dataclass(frozen=True)
class Turn:
    """A turn that is one; or the user's word that there is nothing left to say."""

    text: str
    cut: bool = False
    ends: bool = False


def read_user(text: str, before: Sequence[Message], *, cut: bool, may_end: bool, keep_cut: bool) -> Turn:
    """What the user says next.

    Args:
        text: of the reply; it may begin with the label `Person:`.
        before: the conversation so far, ending with the assistant's turn.
        cut: whether it was cut off at max_new_tokens.
        may_end: whether the conversation is long enough to end.
        keep_cut: whether a turn that was cut off may stay.

    Raises:
        UnfitError: it is none, and why.
    """
    body = _body(text, "user")
    if _ENDS.search(body):
        if not may_end:
            raise UnfitError(ENDED, "the conversation is not over yet; write the person's next message")
        rest = _ENDS.sub(" ", body, count=1)
        if _WANTS.search(rest) or _ENDS.search(rest):  # a last word may stand before it, but nothing that wants an answer
            raise UnfitError(UNREADABLE, f"{END} stands in a message; write the message alone, or {END} alone")
        return Turn("", ends=True)
    if is_thanks(body):
        if not may_end:
            raise UnfitError(THANKS, "it is nothing but thanks; write a message that asks for something")
        return Turn("", ends=True)
    refuse_assistant(body)
    _refuse_labels(body, "user")
    _refuse_copies(body, before, own="user")
    return Turn(body, _kept(cut, keep_cut))


def read_assistant(text: str, before: Sequence[Message], *, cut: bool, keep_cut: bool) -> Turn:
    """What the assistant answers; `before` ends with the user's turn.

    Raises:
        UnfitError: it is no answer, and why.
    """
    body = _body(text, "assistant")
    _refuse_labels(body, "assistant")
    _refuse_copies(body, before, own="assistant")
    return Turn(body, _kept(cut, keep_cut))


def refuse_assistant(text: str) -> None:
    """What a person asks must not be said as an assistant says things.

    Raises:
        UnfitError: it is.
    """
    small = text.casefold()
    if any(hint in small for hint in _HINTS) and (found := _ASSISTANT.search(text)):
        raise UnfitError(FLIPPED, f"it speaks as the assistant ({found[0][:40]!r}); write what the person says")


def is_thanks(text: str) -> bool:
    """Whether a turn thanks, or says good-bye, and wants nothing."""
    return len(text.split()) <= MOST_WORDS_OF_THANKS and bool(_THANKS.search(text)) and not _WANTS.search(text)


def _body(text: str, role: Role) -> str:
    try:
        body = grammar.said(text)
    except DataError as error:
        raise UnfitError(UNREADABLE, str(error)) from None
    if label := _OWN_LABEL[role].match(body):
        body = body[label.end() :].strip()
    if not any(c.isalnum() for c in body):
        raise UnfitError(EMPTY, "it is empty")
    return body


def _kept(cut: bool, keep_cut: bool) -> bool:
    if cut and not keep_cut:
        raise UnfitError(CUT, "it was cut off at max_new_tokens; be brief")
    return cut


def _refuse_labels(body: str, role: Role) -> None:
    if ":" in body and (found := _OWN_LINE[role].search(body)):  # the label at its beginning is taken off by now
        raise UnfitError(FLIPPED, f"it holds more than one turn ({found[0].strip()[:40]!r}); write one turn alone")
    if ":" in body and (found := _LINE_OF[role].search(body)):
        raise UnfitError(FLIPPED, f"it goes on as the other ({found[0].strip()[:40]!r}); write one turn alone")
    if any(c in body for c in "<[#") and (found := _MARKER.search(body)):
        raise UnfitError(FLIPPED, f"it holds a piece of a chat template ({found[0][:40]!r}); write one turn alone")


def _refuse_copies(body: str, before: Sequence[Message], *, own: Role) -> None:
    """A turn that says what was said: the other's last words are a flip, one's own a loop."""
    for i, message in enumerate(reversed(before)):
        text = message["content"]
        # an assistant may well give a long text back, mended; and a short word be said twice
        if len(body) < LEAST_OF_A_COPY or (message["role"] != own and (i > 0 or (own == "assistant" and len(text) > MOST_OF_AN_ECHO))):
            continue
        if _is_copy(body, text):
            if i == 0:
                raise UnfitError(FLIPPED, "it repeats what the other has just said; write the next turn")
            raise UnfitError(AGAIN, "it was said before; write something new")


def _is_copy(a: str, b: str) -> bool:
    if not 0.5 <= len(a) / len(b) <= 2:
        return False
    words, others = set(a.casefold().split()), set(b.casefold().split())
    if len(words & others) < 0.5 * len(words | others):  # a quick look, for every turn is held against all before it
        return False
    return similarity(runs_of(a), runs_of(b)) >= ALIKE
