from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import DataError
from cluster.panel import Calendar
from cluster.settings.data import SplitSettings
from cluster.split import make_split

DAILY = Calendar(start_on=date(2017, 1, 1), period_days=1)
WEEKLY = Calendar(start_on=date(2017, 1, 1), period_days=7)


def test_a_daily_year_is_cut_where_the_defaults_say():
    split = make_split(365, settings=SplitSettings(), calendar=DAILY)
    assert (split.policy, split.validation, split.test, split.end) == (197, 281, 309, 365)


def test_the_same_days_are_fewer_periods_on_a_weekly_calendar():
    split = make_split(52, settings=SplitSettings(), calendar=WEEKLY)
    assert (split.policy, split.validation, split.test, split.end) == (28, 40, 44, 52)


def test_ten_days_of_history_are_refused_with_what_is_needed():
    with pytest.raises(DataError, match=r"history has 10 days, the split needs at least 172 .*split\.test_days"):
        make_split(10, settings=SplitSettings(), calendar=DAILY)


@given(end=st.integers(30, 800), test=st.integers(1, 90), policy=st.integers(14, 200), weekly=st.booleans())
def test_parts_are_in_order_and_cover_history(end, test, policy, weekly):
    settings = SplitSettings(test_days=test, policy_days=policy, validation_days=7)
    try:
        split = make_split(end, settings=settings, calendar=WEEKLY if weekly else DAILY)
    except DataError:
        return
    assert 0 < split.policy < split.validation < split.test < split.end == end
