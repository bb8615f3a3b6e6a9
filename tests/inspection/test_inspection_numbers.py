"""Distributions: every value is in one bin, in whatever order they come."""

from __future__ import annotations

import math
import random
import statistics

from hypothesis import example, given, settings
from hypothesis import strategies as st

from zephyr.inspection import figures
from zephyr.inspection.distributions import NAMES, Names, Numbers

NUMBERS = st.one_of(st.integers(-(10**7), 10**7), st.integers(0, 12), st.floats(-1e12, 1e12), st.sampled_from([math.nan, math.inf, 1e300]))


@settings(max_examples=150, deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=40), st.randoms())
@example([500.4999, 500.5001], random.Random(0))
def test_every_value_is_in_one_bin(values: list[float], luck: object) -> None:
    numbers, others = Numbers("things"), Numbers("things")
    shuffled = values[:]
    luck.shuffle(shuffled)  # type: ignore[attr-defined]
    for value, other in zip(values, shuffled, strict=True):
        numbers.add(value)
        others.add(other)
    kept = [value for value in values if math.isfinite(value) and abs(value) <= 1e15]
    bins = numbers.bins()
    assert sum(b.count for b in bins) == numbers.count == len(kept)
    assert len(bins) <= 16 and numbers.json() == others.json()
    if not kept:
        assert numbers.mean is None and figures.described(numbers) == "no values"
        return
    assert (numbers.low, numbers.high) == (min(kept), max(kept))
    assert numbers.mean is not None and numbers.median is not None
    scale = max(map(abs, kept))
    assert abs(numbers.mean - statistics.fmean(kept)) <= 1e-6 + 1e-9 * scale
    assert abs(numbers.median - statistics.median_low(kept)) <= 1e-9 + 0.006 * scale
    assert len({b.label for b in bins}) == len(bins) or scale < 1e-3
    picture = figures.histogram("name", numbers)
    assert picture.count("<rect") == len(bins) and "nan" not in picture and "inf" not in picture


def test_bins_that_double_and_bins_of_one_value() -> None:
    lengths, scores = Numbers("texts", "doubling"), Numbers("scores")
    for value in (0, 1, 1023, 1024, 5000):
        lengths.add(value)
    for value in (1, 3, 3):
        scores.add(value)
    assert {b.label: b.count for b in lengths.bins() if b.count} == {"0": 1, "1": 1, "512–1,023": 1, "1,024–2,047": 1, "4,096–8,191": 1}
    assert [(b.label, b.count) for b in scores.bins()] == [("1", 1), ("2", 0), ("3", 2)]


def test_names_that_are_identifiers_are_not_counted() -> None:
    names = Names("rows")
    for i in range(NAMES):
        names.add(f"n{i}", 2.0)
    assert len(names.counts()) == NAMES and names.means()["n7"] == 2
    names.add("one more")
    assert names.too_many and names.counts() == {} and names.json()["counts"] is None
