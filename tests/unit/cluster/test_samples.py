from datetime import date, datetime

import polars as pl

from cluster.sources.samples import find_weeks, make_promotions


def test_the_intensity_is_the_share_of_stores_per_channel():
    rows = pl.DataFrame(
        [(1, 10, "0", "A", 1), (1, 11, "3", "A", 1), (1, 11, "5", "0", 1), (2, 12, "0", "0", 1), (1, 13, "0", "D", 2)],
        schema=["product_id", "store_id", "display_location", "mailer_location", "week"],
        orient="row",
    )
    weeks = pl.DataFrame({"week": [1, 2], "start_on": [date(2017, 1, 1), date(2017, 1, 2)]})
    made = make_promotions(rows.lazy(), weeks=weeks)
    assert made.rows() == [
        ("1", "display", date(2017, 1, 1), date(2017, 1, 1), 0.25),
        ("1", "mailer", date(2017, 1, 1), date(2017, 1, 1), 0.5),
        ("1", "mailer", date(2017, 1, 2), date(2017, 1, 8), 0.25),
    ]


def test_a_week_starts_on_the_first_day_that_is_mostly_its_own(tmp_path):
    days = [(1, 1), (2, 2), (2, 2), (1, 2), (2, 8), (2, 9), (3, 9), (3, 9)]
    orders = pl.DataFrame(
        {"week": [week for week, _ in days], "transaction_timestamp": [datetime(2017, 1, day, 5) for _, day in days]}
    )
    orders.write_parquet(tmp_path / "transactions.parquet")
    assert find_weeks(tmp_path / "transactions.parquet").rows() == [
        (1, date(2017, 1, 1)),
        (2, date(2017, 1, 2)),
        (3, date(2017, 1, 9)),
    ]
