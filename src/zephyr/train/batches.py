"""Examples to batches: flat streams without padding, within a budget of tokens."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from zephyr.records import seeded_unit

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Example:
    """One sequence: its ids, and which of them are learnt (the first never is: nothing stands before it).

    With `branches` it is several sequences that begin alike: `ids` is their common beginning, of which nothing is learnt,
    and each branch, all of it learnt, is the end of one. What they share goes through the model once.
    """

    ids: tuple[int, ...]
    learnt: tuple[bool, ...]
    branches: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        assert not self.branches or (self.ids and not any(self.learnt)), "branches grow from a trunk that is not learnt"

    @property
    def targets(self) -> tuple[int, ...]:
        """How many tokens are predicted in each of its sequences."""
        return tuple(map(len, self.branches)) or (sum(self.learnt[1:]),)

    @property
    def tokens(self) -> int:
        """How many go through the model."""
        return len(self.ids) + sum(map(len, self.branches))


def branching(prompt: Sequence[int], *answers: Sequence[int]) -> Example:
    """A prompt and its answers, which are learnt."""
    return Example(tuple(prompt), (False,) * len(prompt), tuple(map(tuple, answers)))


@dataclass(frozen=True)
class Stream:
    """Several examples end to end: T tokens in all, N of them predicted, in S sequences.

    `at_N` is the position whose hidden state predicts `target_N`, and `owner_N` the sequence it belongs to. `segments`
    holds for each example the length of its trunk, then of its branches.
    """

    ids_T: Tensor
    positions_T: Tensor
    segments: list[tuple[int, ...]]
    at_N: Tensor
    target_N: Tensor
    owner_N: Tensor
    sequences: int


def flatten(examples: Sequence[Example], device: str = "cpu") -> Stream:
    """The stream of some examples; positions restart at each, and branches go on where their trunk ends."""
    import torch  # not above: where dialogues are prepared, nobody needs it

    ids: list[int] = []
    positions: list[int] = []
    at: list[int] = []
    target: list[int] = []
    owner: list[int] = []
    sequences = 0
    for example in examples:
        start, trunk = len(ids), len(example.ids)
        ids += example.ids
        positions += range(trunk)
        for i in range(1, trunk):
            if example.learnt[i]:
                at.append(start + i - 1)
                target.append(example.ids[i])
                owner.append(sequences)
        for branch in example.branches:
            at += [start + trunk - 1, *range(len(ids), len(ids) + len(branch) - 1)][: len(branch)]
            target += branch
            owner += [sequences] * len(branch)
            sequences += 1
            ids += branch
            positions += range(trunk, trunk + len(branch))
        sequences += not example.branches

    def tensor(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=device)

    segments = [(len(e.ids), *map(len, e.branches)) for e in examples]
    return Stream(tensor(ids), tensor(positions), segments, tensor(at), tensor(target), tensor(owner), sequences)


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


def share(items: Sequence[T], size: Callable[[T], int], budget: int, rank: int, ranks: int) -> list[tuple[list[T], bool]]:
    """The micro-batches of one process of several, and whether each counts.

    All have the same number of them, since sharded models compute in step: one that has less to do goes through the smallest
    item again, without its counting. Items are dealt out by their size, the largest first to who has least.
    """
    if not items:
        return []
    parts: list[list[int]] = [[] for _ in range(ranks)]
    loads = [0] * ranks
    for index in sorted(range(len(items)), key=lambda i: (-size(items[i]), i)):
        least = min(range(ranks), key=lambda r: (loads[r], r))
        parts[least].append(index)
        loads[least] += size(items[index])
    groups = [list(micro_batches([items[i] for i in sorted(part)], size, budget)) for part in parts]
    idle = max(map(len, groups)) - len(groups[rank])
    return [(group, True) for group in groups[rank]] + [([min(items, key=size)], False)] * idle


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
