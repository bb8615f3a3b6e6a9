"""Progress on stderr: what is being done, how fast, how long it will take. Nothing goes to stdout."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress, TaskID

QUIET_S = 2.0
RATE_S = 600.0  # the rate is of the last ten minutes: rich has 30 s, and where a step takes longer than that, no rate and no time left

_muted = False


def mute() -> None:
    """Say nothing more: of several processes at the same work one speaks."""
    global _muted
    _muted = True


class Bar(Protocol):
    """One line of progress."""

    def advance(self, amount: float = 1, text: str = "") -> None:
        """`amount` more is done; `text` says how it goes (loss, rate)."""


class _Nothing:
    def advance(self, amount: float = 1, text: str = "") -> None:
        pass


class _Rich:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self, amount: float = 1, text: str = "") -> None:
        fields: dict[str, Any] = {"text": text} if text else {}
        self._progress.update(self._task, advance=amount, **fields)


class _Lines:
    """Where stderr is not a terminal: a line at every tenth, a few seconds apart at least, so that a log stays readable."""

    def __init__(self, label: str, total: float, unit: str, done: float) -> None:
        self._label, self._total, self._unit, self._done, self._earlier = label, total, unit, done, done
        self._said = int(10 * done / total) if total else 0
        self._start = self._last = time.monotonic()

    def advance(self, amount: float = 1, text: str = "") -> None:
        self._done += amount
        tenth = int(10 * self._done / self._total) if self._total else 10
        now = time.monotonic()
        if tenth > self._said and now - self._last >= QUIET_S:
            self._said, self._last = tenth, now
            seconds = now - self._start
            rate = (self._done - self._earlier) / seconds
            left = (self._total - self._done) / rate if rate else 0
            text = f", {text}" if text else ""
            print(
                f"  {self._label}: {self._done:,.0f}/{self._total:,.0f} {self._unit}, {rate:,.1f}/s, {left:,.0f} s left{text}",
                file=sys.stderr,
                flush=True,
            )


@contextmanager
def bar(label: str, total: float, unit: str = "", *, done: float = 0) -> Iterator[Bar]:
    """A progress line with rate and time left, for as long as the body runs; `done` was done before, and is not in the rate."""
    if _muted:
        yield _Nothing()
        return
    if not sys.stderr.isatty():
        yield _Lines(label, total, unit, done)
        return
    from rich.console import Console
    from rich.padding import Padding
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.table import Column
    from rich.text import Text

    whole = Column(no_wrap=True)  # where the terminal is narrow, the bar alone gives way
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(table_column=whole),
        TextColumn(unit),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(table_column=whole),
        TextColumn("left"),
        TimeRemainingColumn(table_column=whole),
    )

    class WithRate(Progress):
        """Rate on the line; the text, which is as long as the line again, below it."""

        def get_renderables(self) -> Iterator[RenderableType]:
            for task in self.tasks:
                task.fields["rate"] = f"{task.speed:,.1f}/s" if task.speed else ""
            yield from super().get_renderables()
            for task in self.tasks:
                if task.fields["text"]:
                    yield Padding(Text(task.fields["text"]), (0, 0, 0, 4))

    with WithRate(*columns, console=Console(stderr=True), speed_estimate_period=RATE_S) as progress:
        yield _Rich(progress, progress.add_task(label, total=total, completed=int(done), text="", rate=""))


def say(text: str) -> None:
    """A line on stderr."""
    if _muted:
        return
    print(text, file=sys.stderr, flush=True)
