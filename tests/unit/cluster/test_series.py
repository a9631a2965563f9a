from dataclasses import replace
from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from cluster.panel import Calendar
from cluster.series import PanelSpec, SeriesInput, make_series

START = date(2024, 1, 1)
SPEC = PanelSpec(
    calendar=Calendar(start_on=START, period_days=1),
    num_periods=8,
    notice_periods=2,
    promotion_names=("display", "mailer"),
    timezone="UTC",
)
WEEKLY = replace(SPEC, calendar=Calendar(start_on=START, period_days=7), num_periods=2, notice_periods=1)
NO_PROMOTIONS = replace(SPEC, promotion_names=())


def at(day, hour=12):
    return datetime(2024, 1, 1, hour) + timedelta(days=day)


def given(*lines, returns=(), series=(), **tables):
    """Lines are (item, day, quantity, amount); returns (item, day sold, day returned, quantity)."""
    text, number = pl.String, pl.Float64
    line = pl.DataFrame(
        [(item, "main", at(day), float(qty), float(amount)) for item, day, qty, amount in lines],
        schema={
            "item_id": text,
            "location_id": text,
            "ordered_at": pl.Datetime("us"),
            "sold_qty": number,
            "amount": number,
        },
        orient="row",
    )
    back = pl.DataFrame(
        [(item, "main", at(sold), at(returned), float(qty)) for item, sold, returned, qty in returns],
        schema={
            "item_id": text,
            "location_id": text,
            "sold_at": pl.Datetime("us"),
            "returned_at": pl.Datetime("us"),
            "returned_qty": number,
        },
        orient="row",
    )
    pairs = {"item_id": list(series), "location_id": ["main"] * len(series)}
    return SeriesInput(
        lines=line.with_columns(pl.col("ordered_at").dt.replace_time_zone("UTC")),
        returns=back.with_columns(pl.col("sold_at", "returned_at").dt.replace_time_zone("UTC")),
        categories=pl.DataFrame({"item_id": ["a"], "category_id": ["tools"]}),
        series=pl.DataFrame(pairs, schema=dict.fromkeys(pairs, text)),
        **tables,
    )


def promotions(*rows):
    """Rows are (item, location, channel, first day, last day, intensity, announced day or None)."""
    names = ["item_id", "location_id", "promotion_type", "start_on", "end_on", "intensity", "announced_on"]
    days = [
        (
            item,
            place,
            kind,
            START + timedelta(days=first),
            START + timedelta(days=last),
            intensity,
            None if told is None else START + timedelta(days=told),
        )
        for item, place, kind, first, last, intensity, told in rows
    ]
    return pl.DataFrame(
        days, schema_overrides={"location_id": pl.String, "announced_on": pl.Date}, schema=names, orient="row"
    )


def column(table, name, row=0):
    return table[name][row].as_py()


def test_lines_of_a_day_add_up_and_days_without_are_zero():
    table = make_series(given(("a", 1, 2, 4), ("a", 1, 1, 2), ("a", 5, 4, 8), ("b", 0, 1, 1)), spec=NO_PROMOTIONS)
    assert table["item_id"].to_pylist() == ["a", "b"]
    assert table["category_id"].to_pylist() == ["tools", "uncategorised"]
    assert column(table, "sales") == [0, 3, 0, 0, 0, 4, 0, 0]
    assert table["first_period"].to_pylist() == [1, 0]


def test_lines_outside_the_calendar_are_left_out():
    table = make_series(given(("a", 7, 1, 1), ("a", 8, 5, 5)), spec=NO_PROMOTIONS)
    assert column(table, "sales") == [0] * 7 + [1]


def test_a_day_begins_at_midnight_of_the_shop():
    spec = replace(NO_PROMOTIONS, timezone="America/New_York")
    late = given(("a", 1, 1, 1))
    late = replace(late, lines=late.lines.with_columns(pl.col("ordered_at") - timedelta(hours=8)))  # 4:00 UTC
    assert column(make_series(late, spec=spec), "sales")[0] == 1


def test_the_price_is_the_mean_of_a_day_carried_on_and_back():
    table = make_series(given(("a", 2, 1, 4), ("a", 2, 3, 4), ("a", 4, 9, 0), ("a", 6, 1, 5)), spec=NO_PROMOTIONS)
    assert column(table, "price") == [2, 2, 2, 2, 2, 2, 5, 5]


def test_a_series_without_sales_is_zero_everywhere():
    table = make_series(given(("a", 0, 1, 1), series=("z",)), spec=NO_PROMOTIONS)
    assert table["item_id"].to_pylist() == ["a", "z"]
    assert column(table, "sales", 1) == [0] * 8
    assert column(table, "price", 1) == [0] * 8
    assert column(table, "first_period", 1) == 0


def test_returns_leave_the_day_of_their_sale_and_are_kept_beside():
    table = make_series(given(("a", 1, 5, 5), returns=[("a", 1, 3, 2), ("a", 1, 9, 1)]), spec=NO_PROMOTIONS)
    assert column(table, "sales")[1] == 3  # the one of day 9 has not come back within the calendar
    assert column(table, "returned_period") == [3]
    assert column(table, "returned_sale_period") == [1]
    assert column(table, "returned_qty") == [2]


def test_promotions_take_the_strongest_of_a_day_and_reach_beyond_history():
    table = make_series(
        given(
            ("a", 0, 1, 1),
            ("b", 0, 1, 1),
            promotions=promotions(
                ("a", None, "display", -5, 1, 0.5, None),
                ("a", "main", "display", 1, 2, 0.25, None),
                ("a", "elsewhere", "display", 4, 4, 1.0, None),
                ("a", "main", "mailer", 8, 99, 1.0, None),
                ("unsold", None, "mailer", 0, 99, 1.0, None),
            ),
        ),
        spec=SPEC,
    )
    assert column(table, "promotion.display") == [0.5, 0.5, 0.25] + [0] * 7
    assert column(table, "promotion.mailer") == [0] * 8 + [1, 1]
    assert not any(column(table, "promotion.mailer", 1))


@pytest.mark.parametrize("told", [-9, 3, 4, 5, 6])
def test_no_decision_sees_a_promotion_before_it_is_announced(told):
    rows = promotions(("a", None, "display", 5, 7, 1.0, told))
    shown = np.array(column(make_series(given(("a", 0, 1, 1), promotions=rows), spec=SPEC), "promotion.display"))
    for period in np.flatnonzero(shown):
        first_seen = period - SPEC.notice_periods + 1
        assert first_seen >= told
    full = shown[5:8].sum() == 3
    assert full == (told <= 4)


def test_a_week_averages_its_days():
    table = make_series(
        given(
            ("a", 0, 1, 1),
            ("a", 6, 2, 2),
            ("a", 7, 4, 4),
            promotions=promotions(("a", None, "display", 6, 7, 1.0, None)),
        ),
        spec=WEEKLY,
    )
    assert column(table, "sales") == [3, 4]
    np.testing.assert_allclose(column(table, "promotion.display"), [1 / 7, 1 / 7, 0], rtol=1e-6)


def stock(*rows):
    return pl.DataFrame(
        [(item, "main", START + timedelta(days=day), hand, reserved) for item, day, hand, reserved in rows],
        schema=["item_id", "location_id", "snapshot_on", "on_hand_qty", "reserved_qty"],
        schema_overrides={"on_hand_qty": pl.Float64, "reserved_qty": pl.Float64},
        orient="row",
    )


def test_a_day_is_out_of_stock_if_it_begins_empty_or_sells_all():
    history = stock(("a", 0, 5, None), ("a", 1, 0, None), ("a", 2, 3, 3), ("a", 3, 2, None), ("a", 4, 2, None))
    table = make_series(given(("a", 3, 2, 2), ("a", 4, 1, 1), stock=history), spec=NO_PROMOTIONS)
    assert column(table, "in_stock") == [True, False, False, False, True, True, True, True]


def test_without_snapshots_everything_counts_as_in_stock():
    assert all(column(make_series(given(("a", 3, 2, 2)), spec=NO_PROMOTIONS), "in_stock"))
