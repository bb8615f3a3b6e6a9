"""Replies on their way from the thread that asks to the one that asked for them."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Generator

from zephyr.teachers import Reply


class Outbox:
    """Replies on their way to the thread that asked for them, as many at once as there are: each handing over costs a switch of threads."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[list[tuple[str, Reply]] | None] = queue.SimpleQueue()
        self._waiting: list[tuple[str, Reply]] = []

    def put(self, name: str, reply: Reply) -> None:
        """From the loop's thread."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        self._waiting.append((name, reply))

    def flush(self) -> None:
        """Hand over what there is."""
        if self._waiting:
            self._queue.put(self._waiting)
            self._waiting = []

    def end(self) -> None:
        """There will be no more."""
        self.flush()
        self._queue.put(None)

    def __iter__(self) -> Generator[tuple[str, Reply]]:
        while (batch := self._queue.get()) is not None:
            yield from batch
