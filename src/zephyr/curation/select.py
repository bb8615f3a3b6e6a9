"""Fewer dialogues than there are, with some of everything: strata by topic, turns and length, and how many of each.

Within a stratum those stay whose hashes are the lowest. So a larger target only adds within each stratum, and new rows push out as many
as they are worth: what was chosen before mostly is again.
"""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zephyr.curation.compare import NOT_SELECTED, Fates
from zephyr.curation.hashing import Ints
from zephyr.recipe import SelectConfig

EXCHANGES = (1, 2, 3, 4, 6)  # where a stratum begins: one exchange, two, three, four or five, six and more
CHARS = tuple(2**k for k in range(9, 16))  # 512 … 32,768 characters
_POWER = {"proportional": 1.0, "root": 0.5, "even": 0.0}


def select(fates: Fates, config: SelectConfig) -> dict[str, int]:
    """Leave out what is over the target. Test rows that the user has named stay, and are not counted.

    Returns:
        How many strata there are, the rows that there were to choose from, and those that were taken.
    """
    rows = fates.kept()
    rows = rows[~((fates.column("test")[rows] > 0) & (fates.column("drawn")[rows] == 0))]
    stratum, count = strata(fates, rows, config)
    there = np.bincount(stratum, minlength=count)
    wanted = quotas(there, config.target, _POWER[config.balance])
    # the identity is a hash already; in another order than that of the ids themselves
    luck = fates.column("identity")[rows] * np.uint64(0x9E3779B97F4A7C15)
    order = np.lexsort((rows, luck, stratum))
    starts = np.cumsum(there) - there
    rank = np.arange(len(rows)) - starts[stratum[order]]
    over = order[rank >= wanted[stratum[order]]]
    fates.leave_out(rows[over], NOT_SELECTED)
    return {"strata": count, "from": len(rows), "taken": len(rows) - len(over)}


def strata(fates: Fates, rows: Ints, config: SelectConfig) -> tuple[Ints, int]:
    """(the number of the stratum of each row, how many there are)."""
    features: dict[str, NDArray[Any]] = {
        "topic": fates.column("topic")[rows],
        "turns": np.searchsorted(EXCHANGES, fates.column("turns")[rows] // 2, side="right"),
        "length": np.searchsorted(CHARS, fates.column("chars")[rows], side="right"),
    }
    found = np.zeros(len(rows), np.int64)
    for name in config.by:
        _, number = np.unique(features[name], return_inverse=True)
        _, found = np.unique(found * (int(number.max(initial=0)) + 1) + number, return_inverse=True)
    return found, int(found.max(initial=-1)) + 1


def quotas(there: Ints, target: int, power: float) -> Ints:
    """How many of each stratum are taken: in proportion to how many there are, to that power; never more than there are.

    Rows are given out one by one, each to the stratum with the largest weight / (2 x what it has + 1) (Sainte-Laguë's divisors), of
    equal ones to the first. So a larger target never takes one away, and what small strata cannot fill goes to the others.
    """
    if target >= int(there.sum()):
        return there.astype(np.int64)
    weights = there.astype(np.float64) ** power
    found = np.zeros(len(there), np.int64)
    heap = [(-float(weight), i) for i, weight in enumerate(weights) if there[i]]
    heapq.heapify(heap)
    for _ in range(target):
        _, i = heap[0]
        found[i] += 1
        if found[i] < there[i]:
            heapq.heapreplace(heap, (-float(weights[i]) / (2 * int(found[i]) + 1), i))
        else:
            heapq.heappop(heap)
    return found
