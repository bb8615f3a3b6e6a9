"""Where a step's time goes, by kind of work, from torch's profiler."""

from __future__ import annotations

from collections import Counter
from typing import Any

SCOPES = {"bench.head": "head", "Optimizer.step#AdamW.step": "optimizer", "bench.clip": "clipping"}
PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::addmm_")
ONE_PASS = ("Norm", "Rotation", "Gated")  # of zephyr.train.fused
MOVES = ("aten::copy_", "aten::cat", "aten::index_select", "aten::index", "aten::fill_", "aten::zero_", "aten::embedding_dense_backward")


def shares(profiler: Any) -> dict[str, float]:
    """Share of the time by kind of work, the largest first.

    What happens inside the head, the optimizer or the clipping counts as theirs, products included.
    """
    spent: Counter[str] = Counter()
    for event in profiler.events():
        if event.self_cpu_time_total > 0:
            spent[_kind(event)] += event.self_cpu_time_total
    whole = sum(spent.values())
    return {kind: round(time / whole, 4) for kind, time in spent.most_common()}


def operators(profiler: Any, count: int = 15) -> dict[str, float]:
    """Share of the time by operator, the largest first."""
    spent: Counter[str] = Counter()
    for event in profiler.events():
        spent[event.name] += event.self_cpu_time_total
    whole = sum(spent.values())
    return {name: round(time / whole, 4) for name, time in spent.most_common(count)}


def _kind(event: Any) -> str:
    above = event
    while above is not None:
        if above.name in SCOPES:
            return SCOPES[above.name]
        if "attention" in above.name.lower():
            return "attention, backward" if "backward" in above.name.lower() else "attention, forward"
        above = above.cpu_parent
    if event.name in PRODUCTS:
        return "matrix products of the layers"
    if event.name.removesuffix("Backward") in ONE_PASS:
        return "norms, rotations, activations, additions"
    if event.name in MOVES:
        return "copies, gathers, fills"
    return "norms, rotations, activations, additions" if event.name.startswith("aten::") else "python and autograd"
