"""What is written into a journal, and what it has: requests on their way, what became of them, and their sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

NANO = 1_000_000_000  # money is counted in whole billionths of a dollar, so that sums are exact


@dataclass(frozen=True)
class Sending:
    """A request about to be sent; `reserve` is the most it may cost."""

    key: bytes
    stage: str
    teacher: str
    model: str
    prompt_id: str
    reserve: int


@dataclass(frozen=True)
class Settled:
    """What became of a request that was sent: an answer with its cost, or why there is none.

    Costs in billionths of a dollar; what an `unknown` one may have cost is what was reserved for it. `served` is the model that
    answered, as its server calls it.
    """

    sending: Sending
    state: Literal["answered", "failed", "unknown"]
    text: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    usage_known: bool = True
    spent: int = 0
    error: str | None = None
    served: str = ""


@dataclass(frozen=True)
class Kept:
    """What the journal has of a request."""

    state: str
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    error: str
    served: str  # empty where the server does not say, and of what was answered before this was kept


@dataclass
class Totals:
    """Of all requests: sendings, and money in billionths of a dollar."""

    calls: int = 0
    reserved: int = 0
    spent: int = 0
    maybe: int = 0
