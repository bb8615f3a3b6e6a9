"""Ratios with intervals: against known values, against a table, against a bootstrap."""

from __future__ import annotations

import math

import numpy as np
import pytest

from zephyr.evals.statistics import bootstrap, paired, rate, ratio, share, standard_error, student_t_975

# Student's t, 97.5% point: any printed table
TABLE = {
    1: 12.7062,
    2: 4.3027,
    3: 3.1824,
    4: 2.7764,
    5: 2.5706,
    6: 2.4469,
    8: 2.3060,
    10: 2.2281,
    15: 2.1314,
    20: 2.0860,
    30: 2.0423,
    39: 2.0227,
    60: 2.0003,
    120: 1.9799,
    1000: 1.9623,
}


@pytest.mark.parametrize("df", TABLE)
def test_students_t_against_a_table(df: int) -> None:
    assert student_t_975(df) == pytest.approx(TABLE[df], abs=1e-4)


def test_students_t_falls_to_the_normal() -> None:
    values = [student_t_975(df) for df in range(1, 400)]
    assert values == sorted(values, reverse=True)
    assert student_t_975(10**9) == pytest.approx(1.959963984540054, abs=1e-8)


def test_one_item_a_group_is_the_textbook_interval_of_a_mean() -> None:
    values = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]
    estimate = ratio([(v, 1) for v in values])
    assert estimate is not None
    half = 2.364624 * np.std(values, ddof=1) / math.sqrt(8)
    assert estimate.value == 5.0
    assert estimate.ci95 == pytest.approx([5 - half, 5 + half], rel=1e-5)
    assert (estimate.items, estimate.groups) == (8, 8)


def test_groups_not_items_are_independent() -> None:
    """The same items in fewer groups that agree within themselves: a wider interval, and the same as of the groups alone."""
    apart = ratio([(float(i % 2), 1) for i in range(40)])
    together = ratio([(6.0 * (i % 2), 6) for i in range(40)])
    assert apart is not None and together is not None
    assert together.value == apart.value == 0.5
    assert together.ci95 == pytest.approx(apart.ci95)
    as_if = ratio([(float(i % 2), 1) for i in range(240)])
    assert as_if is not None and as_if.high - as_if.low < 0.5 * (together.high - together.low)


def test_against_a_bootstrap_over_groups() -> None:
    """Groups of unequal size whose means spread: the linearised error is the bootstrap's, within its own noise."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 7, 60)
    sums = rng.binomial(sizes, rng.beta(2, 1, 60)).astype(float)
    estimate = ratio(list(zip(sums.tolist(), sizes.tolist(), strict=True)))
    assert estimate is not None and estimate.value == pytest.approx(sums.sum() / sizes.sum())
    draws = rng.integers(0, 60, (20_000, 60))
    spread = (sums[draws].sum(1) / sizes[draws].sum(1)).std()
    error = (estimate.high - estimate.low) / 2 / student_t_975(59)
    # a bootstrap divides by n, not n - 1; 20,000 draws know a standard deviation to 0.5%
    assert error * math.sqrt(59 / 60) == pytest.approx(spread, rel=0.04)


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(2000):
        level = rng.normal(0.6, 0.2, 20)
        groups = [(float(rng.normal(m, 0.3, 4).sum()), 4) for m in level]
        estimate = ratio(groups)
        assert estimate is not None
        covered += estimate.low <= 0.6 <= estimate.high
    assert covered / 2000 == pytest.approx(0.95, abs=0.02)  # four standard errors


def test_few_groups() -> None:
    assert ratio([]) is None and ratio([(0.0, 0)]) is None
    one = ratio([(3.0, 4), (0.0, 0)])
    assert one is not None and (one.value, one.groups, one.ci95) == (0.75, 1, None)
    two = ratio([(1.0, 1), (0.0, 1)])
    assert two is not None and two.ci95 is not None
    assert two.ci95 == pytest.approx([0.5 - 12.7062 * 0.5, 0.5 + 12.7062 * 0.5], rel=1e-4)


# --- shares ------------------------------------------------------------------------------------------------------


def test_one_item_a_group_is_wilsons_interval() -> None:
    """Independent items: the effective number is the number of items, but for the n - 1 of their variance."""
    estimate = share([(1.0, 1)] * 70 + [(0.0, 1)] * 30)
    assert estimate is not None and (estimate.value, estimate.items, estimate.groups) == (0.7, 100, 100)
    n, t = 99, student_t_975(99)
    middle, half = (0.7 + t**2 / (2 * n)) / (1 + t**2 / n), t / (1 + t**2 / n) * math.sqrt(0.21 / n + t**2 / (4 * n**2))
    assert estimate.ci95 == pytest.approx([middle - half, middle + half])


def test_a_share_of_groups_that_agree_within_is_that_of_the_groups() -> None:
    apart, together = share([(float(i % 4 > 0), 1) for i in range(40)]), share([(6.0 * (i % 4 > 0), 6) for i in range(40)])
    assert apart is not None and together is not None
    assert together.ci95 == pytest.approx(apart.ci95)


@pytest.mark.parametrize(
    ("groups", "effective"),
    [
        ([(6.0, 6)] * 3, 3),  # all right
        ([(0.0, 6)] * 8, 8),
        ([(2.0, 6)] * 7, 7),  # equal shares, a third that no float holds
        ([(6.0, 6)] * 8 + [(4.0, 6)] * 2, 0.9333333 * 0.0666667 / (10 / 9 * (8 * 0.4**2 + 2 * 1.6**2) / 60**2)),
        ([(3.0, 6), (3.0, 6), (3.5, 6)], 18),  # groups more alike than chance would have them: never more than the items
    ],
)
def test_a_share_stays_between_nought_and_one_and_is_never_certain(groups: list[tuple[float, int]], effective: float) -> None:
    estimate = share(groups)
    assert estimate is not None and estimate.ci95 is not None
    assert 0 <= estimate.low < estimate.high <= 1 and estimate.low <= estimate.value <= estimate.high
    t2 = student_t_975(len(groups) - 1) ** 2
    p = estimate.value
    # Wilson's interval: where |p - x| is t standard errors at x
    for end in estimate.ci95:
        assert (p - end) ** 2 == pytest.approx(t2 * end * (1 - end) / effective, rel=1e-5, abs=1e-12)


@pytest.mark.parametrize("p", [0.5, 0.7, 0.95])
def test_the_interval_of_a_share_covers_as_often_as_it_says(p: float) -> None:
    """40 prompts of 6 pairs each, whose shares spread as Beta distributions do; the correlation within a prompt is 0.3."""
    rng = np.random.default_rng(2)
    weight = (1 - 0.3) / 0.3
    covered = 0
    for _ in range(400):
        wins = rng.binomial(6, rng.beta(p * weight, (1 - p) * weight, 40))
        estimate = share([(float(n), 6) for n in wins])
        assert estimate is not None and estimate.low >= 0 and estimate.high <= 1
        covered += estimate.low <= p <= estimate.high
    assert 0.90 <= covered / 400 <= 0.99


def test_a_share_of_few_groups() -> None:
    assert share([]) is None and share([(0.0, 0)]) is None
    one = share([(3.0, 4), (0.0, 0)])
    assert one is not None and (one.value, one.low, one.high, one.groups, one.ci95) == (0.75, 0.0, 1.0, 1, None)


# --- differences and draws -----------------------------------------------------------------------------------------


def test_points_between_loss_and_win() -> None:
    """Probabilities spread less than wins and losses do; at the ends the interval stays within the scale."""
    points = [(0.4 + 0.2 * (i % 2), 1) for i in range(50)]
    found, as_wins = rate(points), share(points)
    assert found is not None and as_wins is not None and found.value == as_wins.value == pytest.approx(0.5)
    assert found.high - found.low == pytest.approx(2 * student_t_975(49) * np.std([v for v, _ in points], ddof=1) / math.sqrt(50))
    assert as_wins.high - as_wins.low > 2 * (found.high - found.low)
    near = rate([(0.0, 1)] * 9 + [(0.2, 1)])
    assert near is not None and near.low == 0 < near.high < 0.1
    assert rate([(0.0, 1)] * 9) == share([(0.0, 1)] * 9) and rate([(1.0, 1)]) == share([(1.0, 1)]) and rate([]) is None


def test_a_bootstrap_of_groups() -> None:
    rng = np.random.default_rng(5)
    groups = [(float(rng.normal(5, 2) * n), n) for n in rng.integers(1, 4, 80).tolist()]
    estimate, drawn = ratio(groups), bootstrap(groups)
    assert estimate is not None and drawn is not None
    assert drawn == pytest.approx([estimate.low, estimate.high], abs=0.1) and bootstrap(groups) == drawn != bootstrap(groups, seed=1)
    assert bootstrap(groups[:1]) is None and standard_error(groups[:1]) is None
    assert standard_error([(v, 1) for v in (1.0, 2.0, 4.0)]) == pytest.approx(np.std([1, 2, 4], ddof=1) / math.sqrt(3))


def test_a_paired_difference_against_the_textbook() -> None:
    """One item a group: the paired t interval; what is hard for both cancels."""
    rng = np.random.default_rng(6)
    hard = rng.normal(0, 2, 60)
    one, other = hard + rng.normal(0.3, 0.5, 60), hard + rng.normal(0, 0.5, 60)
    found = paired({i: (float(v), 1) for i, v in enumerate(one)}, {i: (float(v), 1) for i, v in enumerate(other)} | {99: (9.0, 1)})
    assert found is not None and found.groups == 60
    error = np.std(one - other, ddof=1) / math.sqrt(60)
    assert (found.value, found.paired_se) == (pytest.approx((one - other).mean()), pytest.approx(error))
    assert (
        found.unpaired_se == pytest.approx(math.hypot(np.std(one, ddof=1), np.std(other, ddof=1)) / math.sqrt(60))
        and found.unpaired_se > 3 * error
    )
    assert found.high - found.low == pytest.approx(2 * student_t_975(59) * error)
    assert found.smallest == pytest.approx((student_t_975(59) + 0.8416212) * error)
    assert paired({1: (1.0, 1)}, {1: (2.0, 1)}) is None


def test_a_difference_without_spread_has_no_interval_and_one_of_shares_ends_with_their_scale() -> None:
    """Three prompts that agree are no certainty; that of two shares cannot be more than one."""
    for value in (0.0, -1.0, 0.1):
        found = paired({i: (value + 0.7 * i, 1) for i in range(3)}, {i: (0.7 * i, 1) for i in range(3)})
        assert found is not None and found.value == pytest.approx(value)
        assert (found.ci95, found.told_apart, found.json()["smallest_that_could_be_shown"]) == (None, False, None)
    found = paired({i: (float(i > 0), 6) for i in range(6)}, dict.fromkeys(range(6), (6.0, 6)))
    assert found is not None and found.low < -0.9 and found.within(0.9).ci95 == [-0.9, found.high]
    assert found.within(0.9).paired_se == found.paired_se


def test_the_smallest_difference_is_shown_four_times_in_five() -> None:
    rng = np.random.default_rng(7)
    smallest = (student_t_975(39) + 0.8416212) / math.sqrt(40)
    shown = 0
    for _ in range(400):
        found = paired({i: (float(v), 1) for i, v in enumerate(rng.normal(smallest, 1, 40))}, dict.fromkeys(range(40), (0.0, 1)))
        shown += found is not None and found.told_apart
    assert shown / 400 == pytest.approx(0.8, abs=0.06)  # three standard errors


def test_a_difference_in_words() -> None:
    def words(*differences: float) -> str:
        found = paired({i: (d, 1) for i, d in enumerate(differences)}, {i: (0.0, 1) for i, _ in enumerate(differences)})
        assert found is not None
        return found.words("a", "b")

    assert words(1.0, 2.0, 1.0, 2.0) == "a is better than b by 1.50 [0.58, 2.42], on 4 questions"
    assert words(-1.0, -2.0, -1.0, -2.0) == "b is better than a by 1.50 [0.58, 2.42], on 4 questions"
    assert words(1.0, -1.0, 1.0, -1.0).startswith(
        "a and b cannot be told apart with 4 questions: the difference is 0.00 [-1.84, 1.84]; one of 2.32"
    )
    assert words(0.0, 0.0) == "a and b cannot be told apart: they have the same value on each of 2 questions"
    assert words(0.1, 0.1, 0.1) == "a and b differ by 0.10 on each of 3 questions; no interval: all differences are equal"
