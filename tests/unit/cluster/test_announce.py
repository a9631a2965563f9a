from datetime import date

import numpy as np
import pyarrow as pa
import pytest

from cluster.announce import announce
from cluster.errors import DataError
from cluster.panel import Calendar, DemandPanel, SeriesIndex
from cluster.schema import PROMOTIONS


def make_panel(*, period_days=1):
    return DemandPanel(
        index=SeriesIndex(
            item_ids_S=np.array(["a", "a", "b"]),
            location_ids_S=np.array(["north", "south", "north"]),
            category_ids_S=np.array(["c"] * 3),
        ),
        calendar=Calendar(start_on=date(2026, 1, 1), period_days=period_days),
        sales_ST=np.ones((3, 10), dtype=np.float32),
        in_stock_ST=np.ones((3, 10), dtype=bool),
        price_ST=np.ones((3, 10), dtype=np.float32),
        promotion_SXP=np.full((3, 14, 2), 0.2, dtype=np.float32),
        promotion_names=("display", "mailer"),
        holiday_X=np.zeros(14, dtype=np.float32),
        notice_periods=4,
    )


def planned(**changes):
    row = {
        "item_id": "a",
        "location_id": None,
        "promotion_type": "mailer",
        "start_on": date(2026, 1, 9),
        "end_on": date(2026, 1, 12),
        "intensity": 0.7,
        "announced_on": None,
    }
    return pa.Table.from_pylist([row | changes], schema=PROMOTIONS)


def changed(panel, other):
    return np.argwhere(panel.promotion_SXP != other.promotion_SXP).tolist()


def test_only_days_after_history_of_the_item_and_channel_change():
    panel = make_panel()
    assert changed(panel, announce(panel, planned())) == [[s, x, 1] for s in (0, 1) for x in (10, 11)]
    assert changed(panel, announce(panel, planned(location_id="south"))) == [[1, 10, 1], [1, 11, 1]]
    assert changed(panel, announce(panel, planned(item_id="unknown"))) == []


def test_the_stronger_promotion_counts_and_no_intensity_means_all():
    panel = make_panel()
    assert changed(panel, announce(panel, planned(intensity=0.1))) == []
    assert announce(panel, planned(intensity=None)).promotion_SXP[0, 10, 1] == 1.0


def test_days_beyond_what_is_known_ahead_are_left_out():
    panel = make_panel()
    far = announce(panel, planned(start_on=date(2026, 1, 14), end_on=date(2027, 1, 1)))
    assert changed(panel, far) == [[0, 13, 1], [1, 13, 1]]


def test_a_week_that_is_promoted_in_part_counts_in_part():
    panel = make_panel(period_days=7)
    start = panel.calendar.date_on(11)
    part = announce(panel, planned(start_on=start, end_on=start, intensity=1.0 * 7 / 7))
    assert part.promotion_SXP[0, 11, 1] == pytest.approx(0.2)
    half = announce(panel, planned(start_on=panel.calendar.date_on(11), end_on=date.fromordinal(start.toordinal() + 3)))
    assert half.promotion_SXP[0, 11, 1] == pytest.approx(0.7 * 4 / 7)


def test_a_channel_without_a_past_is_refused():
    with pytest.raises(DataError, match="use one of: display, mailer"):
        announce(make_panel(), planned(promotion_type="radio"))
