"""Differences between models, over prompts and over trainings.

Every training (seed) is measured on the same prompts. What was found could be otherwise for two reasons: other prompts, other trainings.
Both are in the interval. With D(s, p) what is found for seed s at prompt p, and r_p the residual of prompt p after the mean over the seeds,

    V = P / (P - 1) * sum over prompts of (r_p / N)^2  +  sample variance of the seeds' values / S

The first part is that of a ratio over clusters (Cochran, Sampling Techniques, 6.4), as in `evals.statistics`. What prompts and trainings
do together is in both parts, so V is rather too large. The degrees of freedom are Satterthwaite's (1946); of few seeds there are few, and
where they spread, the interval is wide. With one seed the second part is not known and left out, which `seeds` says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from zephyr.errors import DataError
from zephyr.evals.statistics import Z_80, share, student_t_975
from zephyr.reproduce.scores import Cells


@dataclass(frozen=True)
class Found:
    """A value, or a difference of two, with its 95% interval.

    Attributes:
        value: over all seeds.
        low: lower end.
        high: upper end.
        error: standard error.
        smallest: the smallest true difference from nought that so many prompts and seeds show four times in five (5% level).
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

    def within(self, low: float, high: float) -> Found:
        """The same with an interval that ends where the scale ends."""
        return replace(self, low=max(self.low, low), high=min(self.high, high))

    def json(self) -> dict[str, object]:
        """As one object."""
        return {
            "value": self.value, "ci95": [self.low, self.high], "se": self.error, "smallest_that_could_be_shown": self.smallest,
            "prompts": self.prompts, "items": self.items, "by_seed": list(self.by_seed),
        }  # fmt: skip


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


def as_share(found: Found, seeds: Sequence[Cells]) -> Found:
    """A share's interval ends where the scale does. Where all prompts have the same, it is that of `share`."""
    if not found.error and (even := share([(sum(c[name][0] for c in seeds) / len(seeds), n) for name, (_, n) in seeds[0].items()])):
        found = replace(found, low=even.low, high=even.high)
    return found.within(0.0, 1.0)


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
    if total <= 0.0:
        return Found(value, value, value, 0.0, 0.0, prompts, items, by_seed)
    freedom = total**2 / sum(variance**2 / df for variance, df in parts if variance)  # Satterthwaite 1946
    error, t = math.sqrt(total), student_t_975(max(1, math.floor(freedom + 1e-9)))
    return Found(value, value - t * error, value + t * error, error, (t + Z_80) * error, prompts, items, by_seed)
