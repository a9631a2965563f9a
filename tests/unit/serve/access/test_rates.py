"""The token bucket: what passes, what waits, and how long."""

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.access.rates import Rates


class Seconds:
    """A time that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(
    gaps=st.lists(st.floats(0, 3), min_size=1, max_size=60),
    rate=st.floats(0.1, 50),
    burst=st.integers(1, 20),
)
def test_no_stretch_of_time_lets_more_through_than_burst_and_rate(gaps: list[float], rate: float, burst: int) -> None:
    seconds = Seconds()
    rates = Rates(rate_per_s=rate, burst=burst, clock=seconds)
    passed = []
    for at in accumulate(gaps):
        seconds.now = at
        if not rates.take("a"):
            passed.append(at)
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            assert last - first + 1 <= burst + (passed[last] - passed[first]) * rate + 1e-6


def test_who_waits_as_told_passes() -> None:
    seconds = Seconds()
    rates = Rates(rate_per_s=2, burst=3, clock=seconds)
    assert [rates.take("a") for _ in range(3)] == [0, 0, 0]
    wait_s = rates.take("a")
    assert wait_s == pytest.approx(0.5)
    seconds.now += wait_s - 0.01
    assert rates.take("a") > 0
    seconds.now += 0.01 + 1e-9
    assert rates.take("a") == 0


def test_callers_do_not_spend_each_others_share() -> None:
    rates = Rates(rate_per_s=1, burst=1, clock=Seconds())
    assert rates.take("a") == 0
    assert rates.take("a") > 0
    assert rates.take("b") == 0


def test_zero_is_no_limit() -> None:
    rates = Rates(rate_per_s=0, burst=1, clock=Seconds())
    assert not any(rates.take("a") for _ in range(1_000))


def test_memory_is_bounded() -> None:
    rates = Rates(rate_per_s=1, burst=1, clock=Seconds())
    for number in range(10_100):
        rates.take(str(number))
    assert len(rates._held) == 10_000
    assert rates.take("10099") > 0
