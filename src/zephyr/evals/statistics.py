"""Means with intervals, for measurements that come in groups; differences between two models on the same questions."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

# the point of the normal distribution that 80% lie below: the power with which a difference is to be shown
Z_80 = 0.8416212335729143
BOOTSTRAP_DRAWS = 2000
# said where the differences have no spread, from which an interval could come
ALL_EQUAL = "no interval: all differences are equal"

Key = TypeVar("Key", bound=Hashable)

# (sum of the values, number of items) of a group
Group = tuple[float, int]


@dataclass(frozen=True)
class Estimate:
    """A ratio of sums over groups, with a 95% interval in which the groups, not the items, are independent."""

    value: float
    low: float
    high: float
    items: int
    groups: int

    @property
    def ci95(self) -> list[float] | None:
        """[low, high], or None where there is one group only, from which no spread can be told."""
        return [self.low, self.high] if self.groups > 1 else None

    def within(self, low: float, high: float) -> Estimate:
        """The same with an interval that ends where the scale ends."""
        return replace(self, low=max(self.low, low), high=min(self.high, high))

    def times(self, factor: float) -> Estimate:
        """The same in another unit: percent, say."""
        return replace(self, value=self.value * factor, low=self.low * factor, high=self.high * factor)


@dataclass(frozen=True)
class Difference:
    """How far the first of two models is above the second on the groups (questions) that both have, with its 95% interval.

    Attributes:
        value: mean of the first minus mean of the second.
        low: lower end of the interval of the paired difference.
        high: its upper end.
        paired_se: standard error, each group's difference being one observation.
        unpaired_se: what it would be if the two had been measured on different groups.
        smallest: the smallest true difference that this many groups show four times in five (two-sided 5% level, 80% power).
        groups: those that both have.

    Where the difference is the same in every group, `paired_se` is 0 and nothing tells how far it would move in others: there is no
    interval, and the two are not told apart.
    """

    value: float
    low: float
    high: float
    paired_se: float
    unpaired_se: float
    smallest: float
    groups: int

    @property
    def ci95(self) -> list[float] | None:
        """[low, high], or None where all differences are equal."""
        return [self.low, self.high] if self.paired_se else None

    @property
    def told_apart(self) -> bool:
        """Whether there is an interval, and nought lies outside."""
        return bool(self.paired_se) and (self.low > 0 or self.high < 0)

    def within(self, span: float) -> Difference:
        """The same with an interval that ends where differences do: at 1 to each side for two shares, at 100 for two percentages."""
        return replace(self, low=max(self.low, -span), high=min(self.high, span))

    def times(self, factor: float) -> Difference:
        """The same in another unit: percentage points, say."""
        numbers = ("value", "low", "high", "paired_se", "unpaired_se", "smallest")
        return replace(self, **{name: getattr(self, name) * factor for name in numbers})

    def words(self, first: str, second: str, *, what: str = "questions", digits: int = 2) -> str:
        """The difference as a sentence, with what could have been shown at all."""
        if not self.value and not self.paired_se:
            return f"{first} and {second} cannot be told apart: they have the same value on each of {self.groups} {what}"
        if self.ci95 is None:
            return f"{first} and {second} differ by {self.value:.{digits}f} on each of {self.groups} {what}; {ALL_EQUAL}"
        span = f"[{self.low:.{digits}f}, {self.high:.{digits}f}]"
        if self.told_apart:
            better, worse, by = (first, second, self.value) if self.value > 0 else (second, first, -self.value)
            ends = sorted(abs(end) for end in (self.low, self.high))
            return (
                f"{better} is better than {worse} by {by:.{digits}f} [{ends[0]:.{digits}f}, {ends[1]:.{digits}f}], on {self.groups} {what}"
            )
        return (
            f"{first} and {second} cannot be told apart with {self.groups} {what}: the difference is {self.value:.{digits}f} {span}; "
            f"one of {self.smallest:.{digits}f} or more could have been shown"
        )

    @classmethod
    def of_json(cls, found: Mapping[str, Any]) -> Difference:
        """What `json` has written; other keys are passed over."""
        value, ends, smallest = found["difference"], found["ci95"], found["smallest_that_could_be_shown"]
        low, high = ends or (value, value)
        return cls(value, low, high, found["paired_se"], found["unpaired_se"], smallest or 0.0, found["n"])

    def json(self) -> dict[str, float | int | bool | list[float] | None]:
        """As one object; what cannot be told where all differences are equal is None."""
        return {
            "difference": self.value,
            "ci95": self.ci95,
            "paired_se": self.paired_se,
            "unpaired_se": self.unpaired_se,
            "smallest_that_could_be_shown": self.smallest if self.paired_se else None,
            "told_apart": self.told_apart,
            "n": self.groups,
        }


def student_t_975(df: int) -> float:
    """The 97.5% point of Student's t with `df` >= 1 degrees of freedom, to 1e-9.

    Sources: Abramowitz & Stegun 26.7.3 and 26.7.4, inverted by bisection; beyond 100 degrees of freedom the expansion 26.7.5.
    """
    z = 1.959963984540054
    if df > 100:
        terms = [
            z,
            (z**3 + z) / 4,
            (5 * z**5 + 16 * z**3 + 3 * z) / 96,
            (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
            (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
        ]
        return sum(term / float(df) ** power for power, term in enumerate(terms))
    low, high = 0.0, math.pi / 2  # the angle atan(t / sqrt(df))
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _central(middle, df) < 0.95 else (low, middle)
    return math.tan(low) * math.sqrt(df)


def _central(angle: float, df: int) -> float:
    """The probability that |t| < sqrt(df) * tan(angle)."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = df % 2
    term = cosine if odd else 1.0
    total = term if df > 1 else 0.0
    for k in range(2 + odd, df, 2):
        term *= cosine**2 * (k - 1) / k
        total += term
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def ratio(groups: Sequence[Group]) -> Estimate | None:
    """Sum of values / sum of items over independent groups, with its interval by linearisation.

    Args:
        groups: (sum of the values, number of items) of each group, a prompt or a dialogue; groups without items are left out.

    Returns:
        None where there are no items; an interval of NaN bounds never: with one group it is the whole line.
    """
    used = [(value, n) for value, n in groups if n]
    if not used:
        return None
    mean, variance, items = _linearised(used)
    if len(used) < 2:
        return Estimate(mean, -math.inf, math.inf, items, len(used))
    half = student_t_975(len(used) - 1) * math.sqrt(variance)
    return Estimate(mean, mean - half, mean + half, items, len(used))


def share(groups: Sequence[Group]) -> Estimate | None:
    """The same for values from 0 to 1, with an interval that stays there and has a width even if all values are equal.

    It is Wilson's interval at the effective number of items n and the point t of Student's t with (groups - 1) degrees of freedom::

        (p + t^2 / 2n +- t sqrt(p (1 - p) / n + t^2 / 4n^2)) / (1 + t^2 / n)

    n = p (1 - p) / V, which is the number of items over the design effect, with V the linearised variance of `ratio`; at most the
    number of items. Where V is 0 (every group has the same share) it tells nothing of the spread, and n is the number of groups.

    Sources: Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference"; the effective number of items
    in it: Korn & Graubard 1998, "Confidence Intervals for Proportions with Small Expected Number of Positive Counts Estimated
    From Survey Data"; Franco, Little, Louis & Slud 2019, "Comparative Study of Confidence Intervals for Proportions in Complex
    Sample Surveys".

    Args:
        groups: (sum of the values, number of items) of each group; groups without items are left out.

    Returns:
        None where there are no items; with one group, the interval is all of 0 to 1.
    """
    used = [(value, n) for value, n in groups if n]
    if not used:
        return None
    p, variance, items = _linearised(used)
    if len(used) < 2:
        return Estimate(p, 0.0, 1.0, items, 1)
    n = min(p * (1 - p) / variance, items) if variance > 0 else len(used)
    t2 = student_t_975(len(used) - 1) ** 2
    middle, half = p + t2 / (2 * n), math.sqrt(t2 * (p * (1 - p) / n + t2 / (4 * n**2)))
    low, high = ((middle + side) / (1 + t2 / n) for side in (-half, half))
    return Estimate(p, max(low, 0.0), min(high, 1.0), items, len(used))  # Wilson's ends are within 0 and 1 but for rounding


def rate(groups: Sequence[Group]) -> Estimate | None:
    """`ratio` for points from 0 to 1 that may lie between (a draw, a probability), with an interval that stays there.

    `share` would take the points for wins and losses, which spread more. Where all groups have the same points the spread tells
    nothing, and the interval is that of `share`.
    """
    found = ratio(groups)
    return found.within(0.0, 1.0) if found is not None and found.low < found.high < math.inf else share(groups)


def _linearised(groups: Sequence[Group]) -> tuple[float, float, int]:
    """(ratio of the sums, its variance by linearisation, number of items); of one group alone no variance can be told: 0.

    Residuals of the group sums around the ratio: Cochran, Sampling Techniques, 6.4.
    """
    count, items = len(groups), sum(n for _, n in groups)
    mean = sum(value for value, _ in groups) / items
    if count < 2:
        return mean, 0.0, items
    residuals = [value - mean * n for value, n in groups]
    if max(map(abs, residuals)) < 1e-12 * items:  # nought but for rounding
        return mean, 0.0, items
    return mean, count / (count - 1) * sum(r**2 for r in residuals) / items**2, items


def standard_error(groups: Sequence[Group]) -> float | None:
    """Standard error of `ratio`'s value, groups being independent; None with fewer than two groups.

    With one item a group it is the sample's standard deviation (n - 1) over the root of n.
    """
    used = [(value, n) for value, n in groups if n]
    return math.sqrt(_linearised(used)[1]) if len(used) > 1 else None


def bootstrap(groups: Sequence[Group], *, draws: int = BOOTSTRAP_DRAWS, seed: int = 0) -> list[float] | None:
    """The 95% interval of `ratio`'s value by drawing groups with replacement: the 2.5% and 97.5% points of the draws.

    It assumes no shape of the distribution, and beside the analytic interval shows where that one's assumption matters. It is
    somewhat too short for few groups. The draws depend on the seed and the number of groups alone.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap, 13.3; of clusters: Davison & Hinkley 1997, 3.8.

    Returns:
        [low, high], or None with fewer than two groups.
    """
    import numpy as np

    used = [(value, n) for value, n in groups if n]
    if len(used) < 2:
        return None
    sums, counts = (np.array(column, dtype=np.float64) for column in zip(*used, strict=True))
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(draws):  # one by one: thousands of groups times thousands of draws need not be in memory
        drawn = rng.integers(0, len(used), len(used))
        values.append(sums[drawn].sum() / counts[drawn].sum())
    low, high = np.quantile(values, [0.025, 0.975])
    return [float(low), float(high)]


def paired(first: Mapping[Key, Group], second: Mapping[Key, Group]) -> Difference | None:
    """Mean of the first minus mean of the second, over the groups that both have.

    The residuals of both ratios are subtracted group by group, so that what makes a question hard for both cancels:
    V = k / (k - 1) * sum over groups of (r1 / N1 - r2 / N2)^2, where r is a group's sum less the mean times its items and N all items.

    Sources: Cochran, Sampling Techniques, 6.4 (the linearisation) and 2.11 (differences); Miller 2024, "Adding Error Bars to Evals".

    Returns:
        None with fewer than two groups in common.
    """
    keys = [key for key in first if key in second and first[key][1] and second[key][1]]
    k = len(keys)
    if k < 2:
        return None
    one, other = [first[key] for key in keys], [second[key] for key in keys]
    (mean1, variance1, n1), (mean2, variance2, n2) = _linearised(one), _linearised(other)
    influences = [
        (value1 - mean1 * items1) / n1 - (value2 - mean2 * items2) / n2
        for (value1, items1), (value2, items2) in zip(one, other, strict=True)
    ]
    if k * max(map(abs, influences)) < 1e-12 * max(1.0, abs(mean1), abs(mean2)):  # nought but for rounding
        influences = [0.0]
    error = math.sqrt(k / (k - 1) * sum(d**2 for d in influences))
    value, t = mean1 - mean2, student_t_975(k - 1)
    return Difference(value, value - t * error, value + t * error, error, math.sqrt(variance1 + variance2), (t + Z_80) * error, k)
