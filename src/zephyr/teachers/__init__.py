"""Models that answer and models that judge: one interface, whether they are asked over the network, think here, or were recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from zephyr.records import Message


@dataclass(frozen=True, eq=False)
class Request:
    """One question to a teacher.

    Args:
        kind: an answer to a prompt, or a rating of answers.
        prompt_id: the prompt it is about.
        messages: what the teacher is sent.
        subject: the answer to be rated; empty for `complete`, and where several are rated together.
        author: the model whose answer it is; the teacher is not told.
        sample: which of several answers to the same messages.
        schema: the JSON schema that the reply must follow, for a server that can be held to one.
        temperature: this request's own; the teacher's if None.
        max_new_tokens: the same.
        top_logprobs: ask a server how probable so many tokens were as the first of the reply. The reply's text is then not what was said
            but the JSON list of these, each with `token` and `logprob` (nats).
    """

    kind: Literal["complete", "rate"]
    prompt_id: str
    messages: tuple[Message, ...]
    subject: str = ""
    author: str = ""
    sample: int = 0
    schema: Mapping[str, Any] | None = None
    temperature: float | None = None
    max_new_tokens: int | None = None
    top_logprobs: int | None = None


@dataclass(frozen=True)
class Reply:
    """What came back: the text, why it ended, and the tokens it took, sent and received.

    It ended of its own accord (`stop`), was cut off (`length`), or as a server calls it (`content_filter`, `refusal`…). Or there
    is no text, and `problem` says why: the request could not be put to the teacher at all (`refused`), or it may have been
    answered and the recipe would rather go without than pay twice (`unknown`).
    """

    request: Request
    text: str
    finish_reason: str
    tokens: int
    problem: str = ""
    principle: str = ""  # of a recorded answer
    prompt_tokens: int = 0  # of the tokens, those that were sent
    served: str = ""  # the model that answered, as its server calls it; an alias may have moved. Empty where nobody says

    @property
    def is_refused(self) -> bool:
        """Whether there is no answer because the request could not be put; a server may end an answer with the same word."""
        return self.finish_reason == "refused" and bool(self.problem)

    @property
    def is_lost(self) -> bool:
        """Whether there is no answer because it is lost, and may have been paid for; a server may end an answer with `unknown`."""
        return self.finish_reason == "unknown" and bool(self.problem)
