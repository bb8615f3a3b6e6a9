"""Examples to batches: flat streams without padding, within a budget of tokens."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from zephyr.records import seeded_unit

T = TypeVar("T")


@dataclass(frozen=True)
class Example:
    """One sequence: its ids, and which of them are learnt (the first never is: nothing stands before it)."""

    ids: tuple[int, ...]
    learnt: tuple[bool, ...]

    @property
    def targets(self) -> int:
        """How many of its tokens are predicted."""
        return sum(self.learnt[1:])


@dataclass(frozen=True)
class Stream:
    """Several sequences end to end: T tokens in all, N of them predicted, S sequences.

    `at_N` is the position whose hidden state predicts `target_N`, and `owner_N` the sequence it belongs to.
    """

    ids_T: Tensor
    positions_T: Tensor
    lengths: list[int]
    at_N: Tensor
    target_N: Tensor
    owner_N: Tensor


def flatten(examples: Sequence[Example], device: str = "cpu") -> Stream:
    """The stream of some sequences, positions restarting at each."""
    ids: list[int] = []
    positions: list[int] = []
    at: list[int] = []
    target: list[int] = []
    owner: list[int] = []
    for index, example in enumerate(examples):
        start = len(ids)
        ids += example.ids
        positions += range(len(example.ids))
        for i in range(1, len(example.ids)):
            if example.learnt[i]:
                at.append(start + i - 1)
                target.append(example.ids[i])
                owner.append(index)

    def tensor(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=device)

    return Stream(tensor(ids), tensor(positions), [len(e.ids) for e in examples], tensor(at), tensor(target), tensor(owner))


def micro_batches(items: Sequence[T], size: Callable[[T], int], budget: int) -> Iterator[list[T]]:
    """Items in order, as many at a time as fit the budget of tokens (one at least)."""
    group: list[T] = []
    used = 0
    for item in items:
        n = size(item)
        if group and used + n > budget:
            yield group
            group, used = [], 0
        group.append(item)
        used += n
    if group:
        yield group


def pack(sizes: Sequence[int], capacity: int) -> list[list[int]]:
    """Indices into bins of at most `capacity`; every index is in exactly one bin, what is larger in one of its own.

    Best-fit decreasing, or the given order where that happens to need fewer bins. Indices in a bin are in order, bins
    in the order of their first index, so equal input gives equal bins.
    """
    in_order = list(micro_batches(range(len(sizes)), sizes.__getitem__, capacity))
    best = _best_fit(sizes, capacity)
    return in_order if len(in_order) < len(best) else sorted(sorted(b) for b in best)


def _best_fit(sizes: Sequence[int], capacity: int) -> list[list[int]]:
    """Largest first, each into the bin that it fills best."""
    room: list[tuple[int, int]] = []  # (free, bin), sorted
    bins: list[list[int]] = []
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        size = sizes[index]
        at = bisect.bisect_left(room, (size, -1))
        free, number = room.pop(at) if at < len(room) else (capacity, len(bins))
        if number == len(bins):
            bins.append([])
        bins[number].append(index)
        bisect.insort(room, (free - size, number))
    return bins


def shuffled(ids: Sequence[str], seed: int, epoch: int) -> list[int]:
    """The order of one epoch: by a hash of seed, epoch and id, so it does not depend on how the rows lay."""
    return sorted(range(len(ids)), key=lambda i: (seeded_unit(seed, "order", epoch, ids[i]), ids[i]))
