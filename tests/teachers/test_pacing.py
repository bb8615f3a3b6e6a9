"""How fast a server is asked: every rule by itself, on a clock of the test's own."""

from __future__ import annotations

import math
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zephyr.teachers.pacing import (
    BREAKS_AFTER,
    FIRST_WINDOW,
    LONGEST_BACKOFF_S,
    LONGEST_PAUSE_S,
    LONGEST_REST_S,
    Breaker,
    Bucket,
    Window,
    backoff_s,
    pause_asked,
)

TODAY = 1_800_000_000.0


def test_slow_start_doubles_a_round_trip_until_it_is_pushed_back() -> None:
    window = Window(1000)
    for doubling in range(5):
        assert window.size == FIRST_WINDOW * 2**doubling
        for _ in range(int(window.size)):
            window.grow()
    window.cut(sent_at=1.0, now=2.0)
    assert window.size == FIRST_WINDOW * 2**4
    for _ in range(int(window.size)):  # a round trip adds one from now on
        window.grow()
    assert FIRST_WINDOW * 2**4 + 0.9 < window.size <= FIRST_WINDOW * 2**4 + 1


def test_one_cut_an_episode() -> None:
    window = Window(256, size=256)
    window.cut(sent_at=10.0, now=11.0)
    for _ in range(255):  # what was under way then fails too
        window.cut(sent_at=10.5, now=12.0)
    assert window.size == 128
    window.cut(sent_at=11.5, now=13.0)
    assert window.size == 64


def test_a_window_stays_between_one_and_its_limit() -> None:
    window = Window(8)
    for _ in range(100):
        window.grow()
    assert window.size == 8
    for i in range(100):
        window.cut(sent_at=float(i), now=float(i))
    assert window.size == 1
    assert Window(2).size == 2


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0.1, 40)), min_size=1, max_size=200), st.floats(6, 600))
def test_a_limit_is_kept_in_every_minute(asked: list[tuple[float, float]], limit: float) -> None:
    """Requests no larger than the bucket, sent as soon as they may: no 60 seconds see more than the limit."""
    bucket, now, taken = Bucket(limit), 0.0, []
    for pause, amount in asked:
        now += pause
        amount = min(amount, bucket.holds)
        while (wait := bucket.wait(amount, now)) > 0:
            now += wait
        bucket.take(amount)
        taken.append((now, amount))
    for start, _ in taken:
        assert sum(amount for at, amount in taken if start <= at < start + 60) <= limit * (1 + 1e-6)


def test_what_was_reserved_in_excess_is_given_back() -> None:
    bucket = Bucket(1200)
    assert bucket.wait(100, 0.0) == 0
    bucket.take(100)
    wait = bucket.wait(50, 0.0)
    assert wait == pytest.approx(50 / bucket.rate)
    bucket.give_back(100 - 20)
    assert bucket.wait(50, 0.0) == 0
    bucket.give_back(20 - 500)  # it was more than expected: paid back by waiting
    assert bucket.wait(1, 0.0) == pytest.approx((1 + 400) / bucket.rate)


def test_what_is_larger_than_the_bucket_waits_for_a_full_one() -> None:
    bucket = Bucket(60)
    assert bucket.wait(1000, 0.0) == 0
    bucket.take(1000)
    assert bucket.wait(1, 0.0) == pytest.approx((1 + 995) / bucket.rate)


def test_a_breaker_rests_longer_each_time_and_lets_one_try() -> None:
    breaker, now, rests = Breaker(600), 0.0, []
    for _ in range(BREAKS_AFTER - 1):
        breaker.failed(now)
    assert not breaker.is_open and breaker.until == -math.inf
    for _ in range(8):
        breaker.failed(now)
        assert breaker.is_open
        rests.append(breaker.until - now)
        breaker.failed(now)  # what was under way when it opened
        now = breaker.until
    assert rests == [1, 2, 4, 8, 16, LONGEST_REST_S, LONGEST_REST_S, LONGEST_REST_S]
    breaker.well()
    assert not breaker.is_open
    breaker.failed(now)
    assert not breaker.is_open


def test_patience_ends_when_what_was_sent_after_it_fails_too() -> None:
    breaker = Breaker(60)
    assert not breaker.is_dead(1e9)  # never failed
    breaker.failed(100.0)
    breaker.failed(150.0)
    assert not breaker.is_dead(159.0), "sent before patience ran out, however long it hung"
    assert breaker.is_dead(160.0)
    breaker.well()
    breaker.failed(300.0)
    assert not breaker.is_dead(300.0), "patience begins anew after every answer"


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_backoff_is_bounded_and_spread(tries: int, unit: float) -> None:
    assert 0.25 <= backoff_s(tries, unit) <= LONGEST_BACKOFF_S
    assert backoff_s(tries, 0.0) <= backoff_s(tries, unit) < 2 * backoff_s(tries, 0.0) + 1e-9


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "0"}, 0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "2"}, 2),
        ({"retry-after": formatdate(TODAY + 90, usegmt=True)}, 90),
        ({"retry-after": formatdate(TODAY - 90, usegmt=True)}, 0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m30s"}, 90),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20ms"}, 0.02),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1h"}, LONGEST_PAUSE_S),
        ({"x-ratelimit-remaining-requests": "12", "x-ratelimit-reset-requests": "1m30s"}, None),
        ({"retry-after": "1000000000"}, LONGEST_PAUSE_S),
        ({"retry-after": "9" * 400}, 1),
        ({"retry-after": "-5"}, 1),
        ({"retry-after": "nan"}, 1),
        ({"retry-after": "inf"}, 1),
        ({"retry-after": "١٢"}, 1),
        ({"retry-after": "1_0"}, 1),
        ({"retry-after": "soon"}, 1),
        ({"retry-after": ""}, 1),
        ({"retry-after": "Wed, 99 Foo 2026 99:99:99 GMT"}, 1),
        ({}, None),
    ],
)
def test_every_form_of_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    pause = pause_asked(headers, TODAY)
    assert (pause.seconds if pause else None) == (
        None if seconds is None else pytest.approx(seconds, abs=1.0 if "GMT" in str(headers) else 1e-9)
    )
    said = pause is not None and bool(pause.remark)
    assert said == (seconds == LONGEST_PAUSE_S or (seconds == 1 and headers.get("retry-after") not in ("1",)))


@given(st.text(max_size=40))
def test_no_header_breaks_it(text: str) -> None:
    for name in ("retry-after", "retry-after-ms", "x-ratelimit-reset-requests"):
        pause = pause_asked({name: text, "x-ratelimit-remaining-requests": "0"}, TODAY)
        assert pause is not None and 0 <= pause.seconds <= LONGEST_PAUSE_S
