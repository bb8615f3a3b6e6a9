"""Which messages of many are worth a closer look for a benchmark's items: by hashes, all at once.

What may match is handed to `zephyr.text.contamination`, which decides and says which item it is; this only saves asking about the rest.
"""

from __future__ import annotations

import numpy as np

from zephyr.curation.hashing import U64, Words, fold
from zephyr.text.contamination import Benchmarks, Hit

_BATCH_BYTES = 1 << 20


class Gate:
    """The items of benchmarks, sought in messages."""

    def __init__(self, benchmarks: Benchmarks) -> None:
        self._benchmarks = benchmarks
        wholes, runs = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
        batch: list[bytes] = []
        size = 0
        for text in [*benchmarks.items, None]:
            if text is None or size > _BATCH_BYTES:
                found = Words.of(batch or [b""])
                wholes.append(found.whole(len(batch)))
                runs.append(found.runs(benchmarks.n, short=False).hashes)
                batch, size = [], 0
            if text is not None:
                batch.append(fold(text))
                size += len(batch[-1])
        self._wholes, self._runs = np.unique(np.concatenate(wholes)), np.unique(np.concatenate(runs))

    def suspects(self, messages: Words, count: int) -> list[int]:
        """Which of `count` messages may be an item or hold one: the same words, or a run in common. One without words is, too."""
        whole = messages.whole(count)
        runs = messages.runs(self._benchmarks.n, short=False)
        shared = np.unique(runs.texts[_among(runs.hashes, self._runs)])
        return sorted({*np.flatnonzero(_among(whole, self._wholes) | (whole == 0)).tolist(), *shared.tolist()})

    def of(self, text: str) -> Hit | None:
        """What a text is, if it is an item of a benchmark."""
        return self._benchmarks.find(text)


def _among(values: U64, known: U64) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which of the values are among others that are sorted."""
    if not len(known):
        return np.zeros(len(values), np.bool_)
    at = np.searchsorted(known, values)
    at[at == len(known)] = 0
    found: np.ndarray[tuple[int], np.dtype[np.bool_]] = known[at] == values
    return found
