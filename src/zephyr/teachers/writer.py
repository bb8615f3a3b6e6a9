"""Group commit: what is written to the journal together, and what waits where it cannot be written."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence

from zephyr.teachers.journal import Journal, Sending, Settled

COMMIT_EVERY_S = 0.005  # more goes into each transaction, and other processes come to their turn between two
WRITE_AGAIN_S = 0.5
NOT_SENT = "not sent"  # the fate of a request where the journal cannot be written


class Writer:
    """Group commit: all that is to be written within a few milliseconds goes into one transaction.

    It is done in the loop's own thread, which stands still for it. In a thread beside it every statement would wait for the
    interpreter's lock: measured, that costs more than the waiting for the disk.
    """

    def __init__(self, journal: Journal, on_error: Callable[[], None]) -> None:
        self._journal, self._on_error = journal, on_error
        self._waiting: list[tuple[Sequence[Sending], Sequence[Settled], asyncio.Future[list[str]]]] = []
        self._next = 0.0
        self.error: Exception | None = None  # why the journal could not be written; for that nothing more is sent

    def write(self, sendings: Sequence[Sending] = (), settled: Sequence[Settled] = ()) -> asyncio.Future[list[str]]:
        """Done once it is durable, with the fate of each sending."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[list[str]] = loop.create_future()
        if not self._waiting:
            loop.call_later(max(0.0, self._next - loop.time()), self.flush)
        self._waiting.append((sendings, settled, done))
        return done

    def flush(self) -> None:
        """Write what waits, now. Where that fails nothing is sent, and what came back is kept to be written later."""
        if not self._waiting:
            return
        batch, self._waiting = self._waiting, []
        sendings = [item for part, _, _ in batch for item in part]
        settled = [item for _, part, _ in batch for item in part]
        loop = asyncio.get_running_loop()
        try:
            fates = iter(self._journal.write(sendings, settled))
        except Exception as error:
            self.error = error
            self._on_error()
            fates = iter([NOT_SENT] * len(sendings))
            self._waiting = [((), part, done) for _, part, done in batch if part]
            batch = [item for item in batch if item[0]]
            if self._waiting:
                loop.call_later(WRITE_AGAIN_S, self.flush)
        else:
            self._next = loop.time() + COMMIT_EVERY_S
        for part, _, done in batch:
            mine = list(itertools.islice(fates, len(part)))
            if not done.done():
                done.set_result(mine)
