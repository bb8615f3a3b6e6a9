"""What comes to nothing on the way, and how many dialogues are led to their end with a line of progress."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, TypeVar

from zephyr.artifacts import Draft
from zephyr.errors import DataError
from zephyr.progress import bar
from zephyr.records import Row
from zephyr.synthesis.openings import Place
from zephyr.synthesis.steps import Hearing, RejectedError, Steps, together

T = TypeVar("T")


class Aside:
    """What comes to nothing: kept with its reason, counted, and too much of it stops the stage."""

    def __init__(self, planned: int, limit: float, out: Draft | None, status: Callable[[int], str]) -> None:
        """Of `planned` dialogues the share `limit` may come to nothing. A plan has no `out`, and counts nothing."""
        self._planned, self._limit, self._out, self.status = planned, limit, out, status
        self.counts = out is not None
        self._reasons: Counter[str] = Counter()

    def put(self, error: RejectedError, place: Place, row: Row) -> None:
        """One that ends here."""
        self._reasons[error.reason] += 1
        if self._out:
            about = {"sector": place.sector, "topic": place.topic, "error": error.problem, "reply": error.reply}
            self._out.drop(error.reason, place.name, {**about, **row})

    def look(self, done: Mapping[Any, object]) -> None:
        """Whether it is sure by now that more come to nothing than may; `done` holds some that are not put here yet.

        Raises:
            DataError: how many, and why.
        """
        reasons = self._reasons + Counter(end.reason for end in done.values() if isinstance(end, RejectedError))
        if self.counts and reasons.total() > self._limit * self._planned:
            why = ", ".join(f"{n} ({reason})" for reason, n in reasons.most_common(5))
            raise DataError(
                f"{reasons.total():,} of {self._planned:,} dialogues came to nothing, more than synthesize.max_rejected "
                f"({self._limit:.0%}) allows: {why}; use a stronger teacher, mend the prompts, or raise the limit: all answers are kept"
            )


def side_by_side(label: str, steps: Mapping[str, Steps[T]], hearing: Hearing, aside: Aside) -> dict[str, T | RejectedError]:
    """All of them to their end, with a line of progress: how many are done, and how many replies are awaited just now."""
    with bar(label, len(steps), "dialogues") if aside.counts else nullcontext() as progress:
        seen = 0

        def each_time(done: Mapping[str, T | RejectedError]) -> None:
            nonlocal seen
            aside.look(done)
            if progress is not None:
                progress.advance(len(done) - seen)
                seen = len(done)

        def heard(left: int) -> None:
            if progress is not None:
                progress.advance(0, f"{left:,} replies awaited {aside.status(left)}".rstrip())

        hearing.heard = heard
        return together(steps, hearing, each_time=each_time)
