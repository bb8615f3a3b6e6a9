"""Items through the model, forward and backward, in micro-batches and over all processes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

import torch

from zephyr import world
from zephyr.errors import NonFiniteError
from zephyr.train.batches import flatten, share
from zephyr.train.parallel import Learner
from zephyr.train.tasks import ItemT, Stats, Task, names_of, tokens_of


def through(learner: Learner, items: Sequence[ItemT], task: Task[ItemT], dtype: torch.dtype, budget: int, *, learn: bool) -> Stats:
    """Mean loss and statistics over some items; with `learn`, the gradients of the mean loss are added to the weights'.

    Every micro-batch is divided by the weight of all items, so that how they are split, over micro-batches and over
    processes, does not matter.

    Args:
        learner: the model.
        items: the same in every process, which takes its share of them.
        task: turns log-probabilities into a loss.
        dtype: of the products.
        budget: tokens that go through the model at once, in each process.
        learn: go back, too.

    Raises:
        NonFiniteError: in all processes after the same pass, where a loss in any of them is not finite.
    """
    weight, here = sum(item.weight for item in items), world.current()
    sums: Counter[str] = Counter()
    groups = share(items, tokens_of, budget, here.rank, here.size)
    for number, (group, counts) in enumerate(groups, 1):
        stream = flatten([e for item in group for e in item.examples], learner.device)
        learner.communicate(number == len(groups))
        loss, sums_S = learner(stream, group, task, counts / weight, dtype)
        if learn:
            loss.backward()
        learner.heap.settle()
        bad: list[tuple[str, float]] = []
        if counts:
            total = float(loss.detach()) * weight
            sums.update({"loss": total, **task.stats(sums_S, group)})
            if not math.isfinite(total):
                owners = [item.id for item in group for e in item.examples for _ in e.targets]
                culprits = [owner for owner, value in zip(owners, sums_S.tolist(), strict=True) if not math.isfinite(value)]
                bad = [(name, total) for name in culprits or [item.id for item in group]]
        # not at the end of the batch, which may be hours away; all have as many passes
        if found := [pair for pairs in world.gather(bad) for pair in pairs]:
            names = names_of([name for name, _ in found])
            raise NonFiniteError(f"the loss is {found[0][1]}; stopped before the update. Rows: {names}")
    if not learn:
        learner.put_away()
    means: Counter[str] = Counter()
    for part in world.gather(sums):
        means.update({name: value / weight for name, value in part.items()})
    return dict(means)


def narrowed(items: Sequence[ItemT], finite: Callable[[Sequence[ItemT]], bool]) -> Sequence[ItemT]:
    """Of items whose gradient is not finite the first that make it so by themselves: one, or up to eight; else all of them.

    Args:
        items: of a batch.
        finite: is the gradient of some of them finite?
    """
    for size in (8, 1):
        parts = [items[i : i + size] for i in range(0, len(items), size)]
        items = next((part for part in parts if not finite(part)), items)
    return items
