"""Models that answer and models that judge: one interface, whether they think, or give back what was recorded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from zephyr.recipe import TeacherConfig
from zephyr.records import Message


@dataclass(frozen=True, eq=False)
class Request:
    """One question to a teacher.

    Args:
        kind: an answer to a prompt, or a rating of an answer.
        prompt_id: the prompt it is about.
        messages: what the teacher is sent.
        subject: the answer to be rated; empty for `complete`.
        author: the model whose answer it is; the teacher is not told.
    """

    kind: Literal["complete", "rate"]
    prompt_id: str
    messages: tuple[Message, ...]
    subject: str = ""
    author: str = ""


@dataclass(frozen=True)
class Reply:
    """What came back: the text, why it ended, and the tokens it took, sent and received.

    It ended of its own accord (`stop`), was cut off (`length`), or the request could not be put to the teacher at all
    (`refused`); then there is no text, and `problem` says why.
    """

    request: Request
    text: str
    finish_reason: str
    tokens: int
    problem: str = ""


class Teacher(Protocol):
    """Something that answers requests, in whatever order they get done."""

    def answer(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """A reply to each request."""


def make_teacher(name: str, config: TeacherConfig, seed: int) -> Teacher:
    """The teacher that a recipe describes, under the name it has there."""
    if config.kind == "replay":
        from zephyr.teachers.replay import ReplayTeacher

        return ReplayTeacher(name, config.recordings()[0])
    from zephyr.teachers.local import LocalTeacher

    return LocalTeacher(name, config, seed)
