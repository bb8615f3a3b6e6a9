"""How numbers are written."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from zephyr.report import numbers


@pytest.mark.parametrize(
    ("form", "value", "expected"),
    [
        (numbers.fixed, 1234.5678, "1,234.568"),
        (numbers.fixed, -0.0001, "0.000"),
        (numbers.fixed, -0.5, "−0.500"),
        (numbers.percent, 0.6352, "63.5%"),
        (numbers.percent, -0.00001, "0.0%"),
        (numbers.count, 12345, "12,345"),
        (numbers.short, 999, "999"),
        (numbers.short, 12345, "12.3 k"),
        (numbers.short, 999_949, "1.0 M"),
        (numbers.short, 134_515_008, "135 M"),
        (numbers.short, 7_241_732_096, "7.2 B"),
        (numbers.general, 5e-7, "5e-07"),
        (numbers.general, 512, "512"),
        (numbers.general, 20231016, "20231016"),
        (numbers.general, -1, "-1"),
        (numbers.general, True, "not measured"),
        (numbers.duration, 0.04, "0.0 s"),
        (numbers.duration, 59.96, "1 min 00 s"),
        (numbers.duration, 192, "3 min 12 s"),
        (numbers.duration, 3599.7, "1 h 00 min"),
        (numbers.duration, 7500, "2 h 05 min"),
        (numbers.memory, 2_912_000_000, "2.9 GB"),
        (numbers.memory, 512_000_000, "512 MB"),
        (numbers.fixed, None, "not measured"),
        (numbers.count, True, "not measured"),
        (numbers.count, "7", "not measured"),
        (numbers.duration, math.nan, "not finite"),
        (numbers.short, -math.inf, "not finite"),
    ],
)
def test_numbers_as_people_read_them(form: Callable[[object], str], value: object, expected: str) -> None:
    assert form(value) == expected


@pytest.mark.parametrize("pair", [None, [], [1.0], [None, 1.0], [-math.inf, math.inf], [math.nan, 1.0], "ab"])
def test_interval_without_two_ends_was_not_measured(pair: object) -> None:
    assert numbers.bounds(pair) is None
    assert numbers.interval(pair, numbers.percent) == "not measured"


def test_interval_is_not_broken_over_lines() -> None:
    assert numbers.interval([0.571, 0.699], numbers.percent) == "[57.1%,\N{NO-BREAK SPACE}69.9%]"
