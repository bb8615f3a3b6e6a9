"""How fast a server is asked: as fast as it can take, found out, within the limits of the recipe. Design: docs/decisions/0006.

Pure bookkeeping: nothing here sleeps, sends or looks at a clock. Times are seconds of a clock that never goes back (`now`),
dates those of the calendar, seconds since 1970 (`today`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime

LONGEST_PAUSE_S = 300.0
FIRST_WINDOW = 4.0
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.5, 30.0
BREAKS_AFTER = 10  # failures in a row
FIRST_REST_S, LONGEST_REST_S = 1.0, 30.0


@dataclass
class Window:
    """How many requests may be under way: doubled a round trip until the server pushes back, then cut by half and grown by one.

    That is TCP's slow start and additive increase, multiplicative decrease. What was sent before a cut and fails after it
    belongs to the same episode, and does not cut again.
    """

    most: int
    size: float = FIRST_WINDOW
    threshold: float = math.inf  # where slow start ends
    cut_at: float = -math.inf

    def __post_init__(self) -> None:
        self.size = min(self.size, self.most)

    def grow(self) -> None:
        """One more request went well."""
        self.size = min(float(self.most), self.size + (1.0 if self.size < self.threshold else 1.0 / self.size))

    def cut(self, sent_at: float, now: float) -> None:
        """The server pushed back at a request sent at `sent_at`."""
        if sent_at < self.cut_at:
            return
        self.size = self.threshold = max(1.0, self.size / 2)
        self.cut_at = now


@dataclass
class Bucket:
    """A limit a minute, as a bucket that fills steadily and holds a few seconds' worth: never more than the limit in any minute.

    The first minute starts with what the bucket holds, and what holds is taken off the steady rate.
    """

    per_minute: float
    holds: float = field(init=False)
    level: float = field(init=False)
    at: float | None = None

    def __post_init__(self) -> None:
        self.holds = self.per_minute / 12  # five seconds' worth
        self.level = self.holds

    @property
    def rate(self) -> float:
        """A second; a full bucket and a minute of this are the limit."""
        return (self.per_minute - self.holds) / 60

    def wait(self, amount: float, now: float) -> float:
        """Seconds until `amount` may be taken; what is more than the bucket holds is let through when it is full."""
        if self.at is not None:
            self.level = min(self.holds, self.level + (now - self.at) * self.rate)
        self.at = now
        short = min(amount, self.holds) - self.level
        return max(0.0, short / self.rate) if short > 1e-9 else 0.0

    def take(self, amount: float) -> None:
        """Take it; the level may become negative, which is paid back by waiting."""
        self.level -= amount

    def give_back(self, amount: float) -> None:
        """What was taken in excess, now that the true amount is known; a negative amount takes more."""
        self.level = min(self.holds, self.level + amount)


@dataclass
class Breaker:
    """Stops asking a server that only fails: after some failures in a row it rests, then one request tries whether it is back.

    It rests twice as long each time. A server is dead when a request failed that was sent more than `patience_s` after the first
    of an unbroken row of failures: neither slow answers nor pauses that it asked for count against it.
    """

    patience_s: float
    failures: int = 0
    rest_s: float = FIRST_REST_S
    until: float = -math.inf
    since: float | None = None

    def well(self) -> None:
        """It answered, be it with an error of the request's own."""
        self.failures, self.rest_s, self.since = 0, FIRST_REST_S, None

    def failed(self, now: float) -> None:
        """It failed, in a way that is not the request's fault."""
        self.failures += 1
        if self.since is None:
            self.since = now
        if self.failures >= BREAKS_AFTER and now >= self.until:
            self.until = now + self.rest_s
            self.rest_s = min(LONGEST_REST_S, 2 * self.rest_s)

    @property
    def is_open(self) -> bool:
        """Whether it only lets one request through at a time, to try."""
        return self.failures >= BREAKS_AFTER

    def is_dead(self, sent_at: float) -> bool:
        """Whether a request that was sent then and failed was one too many."""
        return self.since is not None and sent_at >= self.since + self.patience_s


def backoff_s(tries: int, unit: float) -> float:
    """Seconds before a request that failed `tries` times is sent again: doubled each time, of which half to all by `unit` in [0, 1)."""
    whole = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(tries - 1, 30))
    return whole * (0.5 + 0.5 * unit)


@dataclass(frozen=True)
class Pause:
    """How long a server asks us to wait, in seconds; `remark` says where its figure could not be taken as it was."""

    seconds: float
    remark: str = ""


def pause_asked(headers: Mapping[str, str], today: float) -> Pause | None:
    """What a server asks for: `retry-after-ms`, `Retry-After` in seconds or as a date, `x-ratelimit-reset-*` as `6m0s` or `20ms`.

    An absurd figure (negative, not a number, longer than five minutes) is bounded, and said to be.
    """
    text = headers.get("retry-after-ms")
    if text is not None and ((seconds := _number(text, 1e-3)) is not None or "retry-after" not in headers):
        return _bounded(seconds, f"retry-after-ms: {text}")
    if (text := headers.get("retry-after")) is not None:
        seconds = _number(text, 1.0)
        return _bounded(_until(text, today) if seconds is None else seconds, f"Retry-After: {text}")
    # of the two that are sent with every reply, that of what ran out counts
    for what in ("requests", "tokens"):
        if (
            headers.get(f"x-ratelimit-remaining-{what}", "").strip() == "0"
            and (text := headers.get(f"x-ratelimit-reset-{what}")) is not None
        ):
            return _bounded(_duration(text), f"x-ratelimit-reset-{what}: {text}")
    return None


def _number(text: str, unit: float) -> float | None:
    text = text.strip()
    # float() also takes `nan`, `1_000` and digits of other scripts, which no server means
    return float(text) * unit if re.fullmatch(r"[-+]?([0-9]{1,300}(\.[0-9]*)?|\.[0-9]+)", text) else None


def _until(text: str, today: float) -> float | None:
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - today)  # a date that has passed: at once
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


UNITS_S = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def _duration(text: str) -> float | None:
    text = text.strip()
    if (seconds := _number(text, 1.0)) is not None:
        return seconds
    parts = re.findall(r"([0-9]{1,15}(?:\.[0-9]+)?)(ms|s|m|h)", text)
    return sum(float(n) * UNITS_S[unit] for n, unit in parts) if parts and "".join(n + unit for n, unit in parts) == text else None


def _bounded(seconds: float | None, said: str) -> Pause:
    said = said[:80]
    if seconds is None:
        return Pause(1.0, f"{said!r} cannot be read; waiting 1 s")
    if seconds < 0:
        return Pause(1.0, f"{said!r} lies in the past; waiting 1 s")
    if seconds > LONGEST_PAUSE_S:
        return Pause(LONGEST_PAUSE_S, f"{said!r} is longer than {LONGEST_PAUSE_S:.0f} s; waiting that long")
    return Pause(seconds)
