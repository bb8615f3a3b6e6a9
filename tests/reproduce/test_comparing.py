"""Differences over prompts and trainings: what is known exactly, and what an interval promises."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from zephyr.errors import DataError
from zephyr.evals.statistics import paired, share
from zephyr.reproduce import compare
from zephyr.reproduce.scores import Scores


def cells(values: list[float]) -> dict[str, tuple[float, int]]:
    return {f"p{i}": (value, 1) for i, value in enumerate(values)}


def test_with_one_seed_it_is_the_paired_difference_of_the_evaluations() -> None:
    rng = np.random.default_rng(1)
    counts = rng.integers(1, 6, 40)
    first, second = ({f"p{i}": (float(rng.uniform(0, n)), int(n)) for i, n in enumerate(counts)} for _ in range(2))
    found, known = compare.difference([first], [second]), paired(first, second)
    assert known is not None
    assert (found.value, found.error) == pytest.approx((known.value, known.paired_se))
    assert (found.low, found.high, found.smallest) == pytest.approx((known.low, known.high, known.smallest))


@pytest.mark.parametrize("spread", [0.0, 0.2])
def test_the_interval_holds_the_truth_nineteen_times_in_twenty(spread: float) -> None:
    # prompts and trainings are drawn anew each time; with a spread between trainings, an interval over prompts alone would fail most often
    rng = np.random.default_rng(2)
    holds = alone = 0
    for _ in range(400):
        of_seed, of_prompt = rng.normal(0, spread, 3), rng.normal(0.1, 0.5, 60)
        seeds = [cells(list(of_prompt + s + rng.normal(0, 0.3, 60))) for s in of_seed]
        found = compare.level(seeds)
        holds += found.low <= 0.1 <= found.high
        one = compare.level([cells([sum(c[p][0] for c in seeds) / 3 for p in seeds[0]])])
        alone += one.low <= 0.1 <= one.high
    assert holds >= 0.92 * 400
    assert (alone < 0.75 * 400) == (spread > 0)


def test_a_difference_of_the_smallest_size_that_could_be_shown_is_shown_four_times_in_five() -> None:
    rng = np.random.default_rng(3)
    smallest = compare.level([cells(list(rng.normal(0, 1, 200)))]).smallest
    shown = sum(compare.level([cells(list(rng.normal(smallest, 1, 200)))]).low > 0 for _ in range(400)) / 400
    assert 0.72 < shown < 0.88


def test_what_is_equal_everywhere_has_no_interval_and_other_rows_are_refused() -> None:
    for first in ([1.0, 0.0, 1.0], [1.1, 0.1, 1.1]):  # the second differs by rounding from prompt to prompt
        same = compare.difference([cells(first)] * 3, [cells([1.0, 0.0, 1.0])])
        assert (same.value, same.ci95, same.seeds) == (pytest.approx(first[1]), None, 3)
        # no verdict can come of it, on whichever side and with whatever margin
        assert same.low < -1e9 and same.high > 1e9
        shown = same.json()
        assert (shown["ci95"], shown["se"], shown["smallest_that_could_be_shown"], shown["prompts"]) == (None, None, None, 3)
    with pytest.raises(DataError, match="different rows"):
        compare.difference([cells([1.0, 0.0])], [cells([1.0, 0.0, 1.0])])
    with pytest.raises(DataError, match="1 prompts: too few"):
        compare.level([cells([1.0])])


@pytest.mark.parametrize(("value", "prompts", "low", "high"), [(1, 80, 0.906, 1), (-1, 80, -1, -0.906), (0, 80, -0.217, 0.217)])
def test_shares_that_differ_by_the_same_everywhere_differ_by_that_within_the_widest_interval(
    value: float, prompts: int, low: float, high: float
) -> None:
    found = compare.of_shares(compare.difference([cells([float(value > 0)] * prompts)] * 3, [cells([float(value < 0)] * prompts)]))
    assert (found.value, found.low, found.high) == pytest.approx((value, low, high), abs=1e-3)
    assert found.json()["ci95"] is not None and found.json()["smallest_that_could_be_shown"] is None
    # of two sets of prompts the smaller one counts
    assert compare.of_shares(replace(found, low=-math.inf, prompts=300), prompts).low == pytest.approx(found.low)


def test_train_and_test_rows_differ_by_both_variances() -> None:
    rng = np.random.default_rng(4)
    train, test = [cells(list(rng.normal(1, 1, 50)))], [cells(list(rng.normal(0, 1, 80)))]
    gap = compare.apart(train, test)
    assert gap.error == pytest.approx(math.hypot(compare.level(train).error, compare.level(test).error))
    assert gap.prompts == 130


def scores(logps: list[tuple[float, float]], tokens: tuple[int, int] = (10, 2)) -> Scores:
    pairs = [
        {
            "set": "s",
            "prompt_id": f"p{i // 2}",
            "pair_id": str(i),
            "chosen_logp": c,
            "rejected_logp": r,
            "chosen_tokens": tokens[0],
            "rejected_tokens": tokens[1],
        }
        for i, (c, r) in enumerate(logps)
    ]
    return Scores(pairs, [], [])


def test_accuracy_is_of_the_change_from_the_base_and_counts_ties_half() -> None:
    base = scores([(-100.0, -5.0)] * 4)
    model = scores([(-99.0, -5.0), (-100.0, -5.0), (-98.0, -4.5), (-101.0, -5.5)])
    # though each rejected answer is likelier by far: won, tied; won, lost
    assert model.accuracy("s", base) == {"p0": (1.5, 2), "p1": (1.0, 2)}
    # per token 2 / 10 is less than 0.5 / 2, and -1 / 10 more than -0.5 / 2
    assert model.accuracy("s", base, per_token=True) == {"p0": (1.5, 2), "p1": (1.0, 2)}
    third_and_fourth = scores([(-98.0, -4.5), (-101.0, -5.5)])
    against = scores([(-100.0, -5.0)] * 2)
    assert third_and_fourth.accuracy("s", against) == {"p0": (1.0, 2)}
    assert scores([(-98.0, -4.5)]).accuracy("s", scores([(-100.0, -5.0)])) == {"p0": (1.0, 1)}
    assert scores([(-98.0, -4.5)]).accuracy("s", scores([(-100.0, -5.0)]), per_token=True) == {"p0": (0.0, 1)}
    assert base.longer("s") == {"p0": (2.0, 2), "p1": (2.0, 2)}


def test_a_share_that_is_the_same_everywhere_has_an_interval_all_the_same() -> None:
    found = compare.share_of([cells([1.0] * 40)] * 3)
    assert (found.value, found.high) == (1.0, 1.0)
    assert 0.88 < found.low < 0.95  # the rule of three says 1 - 3 / 40


def test_with_one_seed_a_share_is_that_of_the_evaluations_and_several_are_in_it() -> None:
    rng = np.random.default_rng(5)
    one = {f"p{i}": (float(rng.binomial(3, 0.95)), 3) for i in range(50)}
    found, known = compare.share_of([one]), share(list(one.values()))
    assert known is not None and (found.low, found.high) == pytest.approx((known.low, known.high), rel=1e-9)
    assert found.high < 1.0  # a plain interval would end above
    apart = compare.share_of([cells([0.0] * 20 + [1.0] * 20), cells([1.0] * 40), cells([1.0] * 40)])
    assert apart.low < compare.share_of([cells([1 / 3] * 0 + [2 / 3] * 20 + [1.0] * 20)]).low  # trainings that differ widen it
