from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from cluster.errors import ConfigError, DataError
from cluster.history import find_history, make_holidays

FIRST = date(2024, 1, 1)
EVENING = 20 * 3600


def days(count, *, step=1, last_second=EVENING, end=None):
    found = {FIRST + timedelta(days=number * step): last_second for number in range(count)}
    if end is not None:
        found[max(found)] = end
    return found


def test_every_day_from_the_first_to_the_last_order_is_a_period_with_a_week_stored_beyond():
    history = find_history({FIRST: 0, FIRST + timedelta(days=9): 0}, frequency="D")
    assert (history.calendar.start_on, history.num_periods, history.num_stored) == (FIRST, 10, 17)
    assert history.notes == ()


def test_a_last_day_that_stops_hours_early_is_left_out_and_said():
    history = find_history(days(30, end=EVENING - 2 * 3600 - 1), frequency="D")
    assert history.num_periods == 29
    assert history.num_stored == 37
    assert "2024-01-30 is left out" in history.notes[0]


@pytest.mark.parametrize(
    "given",
    [
        days(30, end=EVENING - 2 * 3600),
        days(30, last_second=0),  # dates without a time
        days(5, end=0),  # too few days to tell
    ],
)
def test_a_last_day_that_may_be_complete_counts(given):
    assert find_history(given, frequency="D").num_periods == len(given)


def test_an_incomplete_last_week_is_dropped_and_said():
    history = find_history(days(17), frequency="W")
    assert (history.num_periods, history.calendar.period_days) == (2, 7)
    assert "2024-01-15 to 2024-01-17" in history.notes[0]


def test_orders_on_one_weekday_are_weekly_figures_and_the_last_is_complete():
    history = find_history(days(10, step=7), frequency="W")
    assert history.num_periods == 10
    assert history.notes == ()


def test_less_than_a_week_is_no_weekly_history():
    with pytest.raises(DataError, match="less than one week"):
        find_history(days(6), frequency="W")


def test_holidays_of_the_country_or_of_the_market_table():
    history = find_history(days(14), frequency="D")
    by_country = make_holidays(market=None, country="US", history=history, notice_periods=3)
    assert len(by_country) == history.num_stored + 3
    assert np.flatnonzero(by_country).tolist() == [0, 14]  # New Year and Martin Luther King's day
    market = pl.DataFrame({"date_on": [date(2024, 1, 3)], "signal": ["holiday"], "value": [1.0]})
    own = make_holidays(market=market, country="US", history=history, notice_periods=3)
    assert np.flatnonzero(own).tolist() == [2]
    assert not make_holidays(market=None, country="", history=history, notice_periods=3).any()


def test_a_week_holds_its_share_of_holidays():
    history = find_history(days(14), frequency="W")
    shares = make_holidays(market=None, country="US", history=history, notice_periods=0)
    np.testing.assert_allclose(shares, [1 / 7, 0, 1 / 7])


def test_an_unknown_country_is_named():
    with pytest.raises(ConfigError, match="data.holidays=Narnia"):
        make_holidays(market=None, country="Narnia", history=find_history(days(9), frequency="D"), notice_periods=0)
