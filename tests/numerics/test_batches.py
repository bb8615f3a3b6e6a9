"""Streams, micro-batches, packing and order."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zephyr.train.batches import Example, branching, flatten, micro_batches, pack, shuffled

SIZES = st.lists(st.integers(1, 40), max_size=60)


def next_fit(sizes: list[int], capacity: int) -> int:
    """How many bins it takes to fill one after the other in the given order."""
    bins, room = 0, 0
    for size in sizes:
        if bins == 0 or size > room:
            bins, room = bins + 1, capacity
        room -= size
    return bins


@settings(max_examples=300, deadline=None)
@given(SIZES, st.integers(1, 60))
def test_pack_puts_every_index_in_one_bin_within_capacity(sizes: list[int], capacity: int) -> None:
    bins = pack(sizes, capacity)
    assert sorted(i for b in bins for i in b) == list(range(len(sizes)))
    assert all(len(b) == 1 or sum(sizes[i] for i in b) <= capacity for b in bins)
    assert all(b == sorted(b) for b in bins) and [b[0] for b in bins] == sorted(b[0] for b in bins)
    assert len(bins) <= next_fit(sizes, capacity)
    assert len(bins) >= -(-sum(min(s, capacity) for s in sizes) // capacity)
    assert pack(tuple(sizes), capacity) == bins


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=60), st.integers(20, 60))
def test_pack_leaves_no_two_bins_that_fit_into_one(sizes: list[int], capacity: int) -> None:
    fills = sorted(sum(sizes[i] for i in b) for b in pack(sizes, capacity))
    if len(fills) > 1 and len(fills) < next_fit(sizes, capacity):
        assert fills[0] + fills[1] > capacity


def test_pack_examples() -> None:
    assert pack([], 10) == []
    assert pack([11], 10) == [[0]]
    assert pack([5, 11, 5], 10) == [[0, 2], [1]]
    assert pack([6, 5, 4, 5], 10) == [[0, 2], [1, 3]]
    # largest first needs three bins here (4 4, 3 3 3, 3); as they lie, two
    assert pack([4, 3, 3, 4, 3, 3], 10) == [[0, 1, 2], [3, 4, 5]]


def test_pack_is_tight_on_lengths_like_real_ones() -> None:
    rng = random.Random(0)
    sizes = [min(2048, int(rng.lognormvariate(5.8, 0.8)) + 1) for _ in range(4000)]
    bins = pack(sizes, 2048)
    assert sum(sizes) / (len(bins) * 2048) > 0.995
    assert next_fit(sizes, 2048) > 1.1 * len(bins)


@settings(max_examples=300, deadline=None)
@given(SIZES, st.integers(1, 60))
def test_micro_batches_keep_order_and_budget(sizes: list[int], budget: int) -> None:
    groups = list(micro_batches(list(enumerate(sizes)), lambda item: item[1], budget))
    assert [item for group in groups for item in group] == list(enumerate(sizes))
    assert all(groups) and all(len(g) == 1 or sum(n for _, n in g) <= budget for g in groups)
    assert len(groups) == next_fit(sizes, budget)
    # no group could have taken the first of the next
    assert all(sum(n for _, n in a) + b[0][1] > budget for a, b in pairwise(groups))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.text(max_size=5), max_size=40, unique=True),
    st.lists(st.text(min_size=6, max_size=8), max_size=20, unique=True),
    st.integers(0, 5),
)
def test_shuffled_is_a_permutation_that_new_rows_do_not_disturb(ids: list[str], more: list[str], seed: int) -> None:
    order = shuffled(ids, seed, 0)
    assert sorted(order) == list(range(len(ids)))
    names = [ids[i] for i in order]
    mixed = more[::2] + ids[::-1] + more[1::2]
    assert [name for name in (mixed[i] for i in shuffled(mixed, seed, 0)) if name in set(ids)] == names


def test_shuffled_changes_with_seed_and_epoch_and_moves_every_row_about() -> None:
    ids = [f"row {i}" for i in range(200)]
    orders = {(seed, epoch): shuffled(ids, seed, epoch) for seed in range(20) for epoch in range(20)}
    assert len({tuple(order) for order in orders.values()}) == 400
    places = [order.index(0) for order in orders.values()]
    assert sum(places) / 400 == pytest.approx(99.5, abs=4 * 57.7 / 20)  # uniform on 0..199: standard deviation 57.7
    assert shuffled(ids, 3, 4) == orders[3, 4]


def test_flatten() -> None:
    stream = flatten([Example((5, 6, 7), (True, False, True)), Example((8,), (True,)), Example((9, 10), (False, True))])
    assert stream.ids_T.tolist() == [5, 6, 7, 8, 9, 10]
    assert stream.positions_T.tolist() == [0, 1, 2, 0, 0, 1]
    assert stream.segments == [(3,), (1,), (2,)]
    # a first token is never predicted, whatever its mask says
    assert (stream.at_N.tolist(), stream.target_N.tolist(), stream.owner_N.tolist()) == ([1, 4], [7, 10], [0, 2])


def test_flatten_of_branches() -> None:
    """The first token of each branch is predicted by the last of the trunk; positions go on from there."""
    stream = flatten([branching((5, 6), (7, 8), (9,)), Example((1, 2), (True, True)), branching((3,), (4,), ())])
    assert stream.ids_T.tolist() == [5, 6, 7, 8, 9, 1, 2, 3, 4]
    assert stream.positions_T.tolist() == [0, 1, 2, 3, 2, 0, 1, 0, 1]
    assert stream.segments == [(2, 2, 1), (2,), (1, 1, 0)]
    assert stream.at_N.tolist() == [1, 2, 1, 5, 7]
    assert stream.target_N.tolist() == [7, 8, 9, 2, 4]
    assert stream.owner_N.tolist() == [0, 0, 1, 2, 3]
    assert stream.sequences == 5


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 99), st.booleans()), min_size=1, max_size=9), max_size=6))
def test_flatten_counts_what_the_examples_count(rows: list[list[tuple[int, bool]]]) -> None:
    examples = [Example(tuple(i for i, _ in row), tuple(learnt for _, learnt in row)) for row in rows]
    stream = flatten(examples)
    assert [stream.owner_N.tolist().count(s) for s in range(len(rows))] == [e.targets[0] for e in examples]
    assert stream.ids_T[stream.at_N + 1].tolist() == stream.target_N.tolist()
    assert sum(map(sum, stream.segments)) == len(stream.ids_T) == len(stream.positions_T)
