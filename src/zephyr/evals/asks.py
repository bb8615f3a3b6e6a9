"""A question to a judge, and what of its reply is the judge's word: who carries them is no matter of a benchmark's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from zephyr.records import Message

CANARY = "canary"  # a model that gives everything the same answer


@dataclass(frozen=True, eq=False)
class Ask:
    """One question to a judge.

    Attributes:
        name: of the benchmark's question.
        subject: which of the questions about that answer it is.
        model: whose answer it is about; the judge is not told.
        messages: what the judge is shown.
    """

    name: str
    subject: str
    model: str
    messages: tuple[Message, ...]


class Heard(Protocol):
    """What came back: a text, why it ended, and the model that wrote it as its server calls it (empty where it does not say)."""

    @property
    def text(self) -> str:
        """What was written."""

    @property
    def finish_reason(self) -> str:
        """Why it ended: `length` where it was cut off."""

    @property
    def served(self) -> str:
        """The model, as its server calls it; empty where it does not say."""


def said(text: str, finish_reason: str) -> str:
    """What a judge says after having thought aloud; nothing of a reply that was cut off, whose last line is none."""
    if finish_reason == "length":
        return ""
    if not text.lstrip().startswith("<think>"):
        return text
    return text.partition("</think>")[2].strip()  # a thought without an end holds no verdict
