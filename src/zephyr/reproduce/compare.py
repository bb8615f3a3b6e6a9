"""Differences between models, over prompts and over trainings.

Every training (seed) is measured on the same prompts. What was found could be otherwise for two reasons: other prompts, other trainings.
Both are in the interval. With D(s, p) what is found for seed s at prompt p, and r_p the residual of prompt p after the mean over the seeds,

    V = P / (P - 1) * sum over prompts of (r_p / N)^2  +  sample variance of the seeds' values / S

The first part is that of a ratio over clusters (Cochran, Sampling Techniques, 6.4), as in `evals.statistics`. What prompts and trainings
do together is in both parts, so V is rather too large. The degrees of freedom are Satterthwaite's (1946); of few seeds there are few, and
where they spread, the interval is wide. With one seed the second part is not known and left out, which `seeds` says.

Where all prompts are alike, V is 0 and tells nothing of what other prompts would be: there is no interval (`ci95` is None, its ends are at
infinity, so that nothing can be decided by it), but for a share, which has Wilson's, and for a difference of two shares, which has that of
the widest spread that there can be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from zephyr.errors import DataError
from zephyr.evals.statistics import Z_80, student_t_975
from zephyr.reproduce.scores import Cells


@dataclass(frozen=True)
class Found:
    """A value, or a difference of two, with its 95% interval.

    Attributes:
        value: over all seeds.
        low: lower end; minus infinity where all prompts are alike, which tells no interval.
        high: upper end; infinity there.
        error: standard error; 0 where all prompts are alike.
        smallest: least true difference from nought that so many prompts and seeds show four times in five (5% level); infinity there.
        prompts: how many.
        items: how many in all: pairs, tokens, answers.
        by_seed: the value of each.
    """

    value: float
    low: float
    high: float
    error: float
    smallest: float
    prompts: int
    items: int
    by_seed: tuple[float, ...]

    @property
    def seeds(self) -> int:
        """How many trainings."""
        return len(self.by_seed)

    @property
    def ci95(self) -> tuple[float, float] | None:
        """(low, high), or None where all prompts are alike, from which no interval can be told."""
        return (self.low, self.high) if math.isfinite(self.low) else None

    def json(self) -> dict[str, object]:
        """As one object."""
        return {
            "value": self.value,
            "ci95": list(self.ci95) if self.ci95 else None,
            "se": self.error or None,
            "smallest_that_could_be_shown": self.smallest if self.error else None,
            "prompts": self.prompts,
            "items": self.items,
            "by_seed": list(self.by_seed),
        }


@dataclass(frozen=True)
class _Parts:
    """A mean over prompts and seeds, and the two variances it has."""

    by_seed: tuple[float, ...]
    of_prompts: float
    prompts: int
    items: int

    @property
    def value(self) -> float:
        return sum(self.by_seed) / len(self.by_seed)


def level(seeds: Sequence[Cells]) -> Found:
    """The value of one model, a mapping of prompts for each seed.

    Raises:
        DataError: fewer than two prompts.
    """
    parts = _parts(seeds)
    return _found(parts.by_seed, [(parts.of_prompts, parts.prompts - 1)], parts.prompts, parts.items)


def share_of(seeds: Sequence[Cells]) -> Found:
    """`level` of values from 0 to 1, with an interval that stays there and has a width even where all prompts are alike.

    It is Wilson's at p (1 - p) / V items, at most as many as there are in all seeds, and Satterthwaite's t; with one seed that is
    `evals.statistics.share`, whose sources hold here. Where all prompts are alike, as many items as prompts: they are what is independent.

    Raises:
        DataError: fewer than two prompts.
    """
    found = level(seeds)
    p, t = found.value, student_t_975(found.prompts - 1)
    n = float(found.prompts)
    if found.error:
        t = (found.high - found.value) / found.error
        n = min(p * (1 - p) / found.error**2, found.items * found.seeds)
    low, high = _wilson(p, n, t)
    return replace(found, low=low, high=high)


def of_shares(found: Found, independent: int | None = None) -> Found:
    """A difference of two shares, with an interval that ends at -1 and 1 and is there even where all prompts are alike.

    Where they are, nothing tells how far others spread, but that no values from -1 to 1 with this mean spread more than those that lie at
    both ends. So it is what Wilson's of the share (d + 1) / 2 is on that scale: [0.906, 1] of 1 at 80 prompts, 0.217 to either side of 0.

    Args:
        found: the difference.
        independent: how many prompts it is worth; those it is of, where they are the same for both.
    """
    if found.ci95:
        return replace(found, low=max(found.low, -1.0), high=min(found.high, 1.0))
    n = independent or found.prompts
    low, high = _wilson((found.value + 1) / 2, n, student_t_975(n - 1))
    return replace(found, low=2 * low - 1, high=2 * high - 1)


def _wilson(p: float, n: float, t: float) -> tuple[float, float]:
    """Wilson's interval of a share at n items."""
    t2 = t**2
    middle, half = p + t2 / (2 * n), math.sqrt(t2 * (max(0.0, p * (1 - p)) / n + t2 / (4 * n**2)))
    low, high = ((middle + side) / (1 + t2 / n) for side in (-half, half))
    return max(low, 0.0), min(high, 1.0)


def difference(first: Sequence[Cells], second: Sequence[Cells]) -> Found:
    """First minus second, on the same prompts, seed by seed.

    One of them may have one mapping for all seeds: the base, which was not trained again.

    Raises:
        DataError: they were not measured on the same items, or on fewer than two prompts.
    """
    count = max(len(first), len(second))
    one, other = (list(seeds) * count if len(seeds) == 1 else list(seeds) for seeds in (first, second))
    return level([_less(a, b) for a, b in zip(one, other, strict=True)])


def apart(first: Sequence[Cells], second: Sequence[Cells]) -> Found:
    """First minus second where they are of different prompts, seed by seed: train rows and test rows."""
    one, other = _parts(first), _parts(second)
    gaps = tuple(a - b for a, b in zip(one.by_seed, other.by_seed, strict=True))
    variances = [(part.of_prompts, part.prompts - 1) for part in (one, other)]
    return _found(gaps, variances, one.prompts + other.prompts, one.items + other.items)


def mean_of(several: Sequence[Sequence[Cells]]) -> list[Cells]:
    """The mean of several models, each seed by seed on the same prompts."""
    seeds: list[Cells] = []
    for cells in zip(*several, strict=True):
        _refuse_others(cells)
        seeds.append({name: (sum(c[name][0] for c in cells) / len(cells), n) for name, (_, n) in cells[0].items()})
    return seeds


def _refuse_others(cells: Sequence[Cells]) -> None:
    counts = [{name: n for name, (_, n) in each.items()} for each in cells]
    if any(other != counts[0] for other in counts):
        raise DataError("models were measured on different rows, so that they cannot be compared; measure them again in one folder")


def _less(first: Cells, second: Cells) -> Cells:
    _refuse_others([first, second])
    return {name: (value - second[name][0], n) for name, (value, n) in first.items()}


def _parts(seeds: Sequence[Cells]) -> _Parts:
    _refuse_others(seeds)
    items = sum(n for _, n in seeds[0].values())
    prompts = [name for name, (_, n) in seeds[0].items() if n]
    if len(prompts) < 2:
        raise DataError(f"measured on {len(prompts)} prompts: too few to say anything")
    by_seed = tuple(sum(value for value, _ in cells.values()) / items for cells in seeds)
    mean = sum(by_seed) / len(by_seed)
    residuals = [sum(cells[name][0] for cells in seeds) / len(seeds) - mean * seeds[0][name][1] for name in prompts]
    squares = sum(r**2 for r in residuals)
    squares = 0.0 if squares < 1e-24 * items**2 else squares  # nought but for rounding
    return _Parts(by_seed, len(prompts) / (len(prompts) - 1) * squares / items**2, len(prompts), items)


def _found(by_seed: tuple[float, ...], variances: Sequence[tuple[float, int]], prompts: int, items: int) -> Found:
    """With the spread between seeds beside the variances (variance, degrees of freedom) of prompts."""
    count, value = len(by_seed), sum(by_seed) / len(by_seed)
    parts = [*variances]
    if count > 1:
        parts.append((sum((x - value) ** 2 for x in by_seed) / (count - 1) / count, count - 1))
    total = sum(variance for variance, _ in parts)
    if total <= 1e-24 * max(1.0, value**2):  # nought but for rounding
        return Found(value, -math.inf, math.inf, 0.0, math.inf, prompts, items, by_seed)
    freedom = total**2 / sum(variance**2 / df for variance, df in parts if variance)  # Satterthwaite 1946
    error, t = math.sqrt(total), student_t_975(max(1, math.floor(freedom + 1e-9)))
    return Found(value, value - t * error, value + t * error, error, (t + Z_80) * error, prompts, items, by_seed)
