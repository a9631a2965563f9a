from datetime import UTC, date, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_shop import TODAY, load

from cluster.quality import QualityReport, RuleContext, TableCounts, Tally, check_rows, make_report
from cluster.schema import TABLES
from cluster.settings.data import TableSource
from cluster.sources.mapping import map_rows

CONTEXT = RuleContext(today=TODAY, item_ids=pl.Series(["a"]), location_ids=pl.Series(["main"]))
GOOD = {
    "orders": {"order_id": "1", "item_id": "a", "ordered_at": datetime(2024, 1, 1), "sold_qty": 1.0, "amount": 2.0},
    "events": {"item_id": "a", "occurred_at": datetime(2024, 1, 1), "event_type": "view", "rating": 5.0},
    "items": {"item_id": "a"},
    "locations": {"location_id": "main", "storage_capacity_qty": 5.0},
    "stock": {"item_id": "a", "on_hand_qty": 0.0, "snapshot_on": date(2024, 1, 1)},
    "open_orders": {"item_id": "a", "open_qty": 1.0, "expected_on": date(2030, 1, 1)},
    "supply_terms": {"item_id": "a", "lead_time_days": 0.0, "pack_size_qty": 1.0, "min_order_qty": 0.0},
    "promotions": {"item_id": "a", "promotion_type": "x", "start_on": date(2024, 1, 2), "end_on": date(2024, 1, 2)},
    "market": {"date_on": date(2024, 1, 1), "signal": "holiday", "value": 1.0},
}
BAD = [
    ("orders", {"order_id": None}, "order_id_given"),
    ("orders", {"item_id": "  "}, "item_id_given"),
    ("orders", {"item_id": "unheard"}, "item_id_known"),
    ("orders", {"location_id": "moon"}, "location_id_known"),
    ("orders", {"ordered_at": None}, "ordered_at_given"),
    ("orders", {"ordered_at": datetime(1900, 1, 1)}, "ordered_at_plausible"),
    ("orders", {"ordered_at": datetime(2024, 6, 3)}, "ordered_at_not_in_future"),
    ("orders", {"sold_qty": 0.0}, "sold_qty_not_zero"),
    ("orders", {"sold_qty": float("nan")}, "sold_qty_given"),
    ("orders", {"sold_qty": float("inf")}, "sold_qty_finite"),
    ("orders", {"unit_price": -0.01}, "unit_price_not_negative"),
    ("orders", {"amount": -1.0}, "amount_of_sale_not_negative"),
    ("events", {"event_type": "stare"}, "event_type_known"),
    ("events", {"rating": 5.5}, "rating_in_range"),
    ("events", {"rating": 0.0}, "rating_in_range"),
    ("items", {"item_id": None}, "item_id_given"),
    ("locations", {"storage_capacity_qty": -1.0}, "storage_capacity_qty_not_negative"),
    ("stock", {"on_hand_qty": -1.0}, "on_hand_qty_not_negative"),
    ("stock", {"snapshot_on": date(2025, 1, 1)}, "snapshot_on_not_in_future"),
    ("open_orders", {"open_qty": 0.0}, "open_qty_positive"),
    ("supply_terms", {"pack_size_qty": 0.0}, "pack_size_qty_positive"),
    ("supply_terms", {"lead_time_days": -1.0}, "lead_time_days_not_negative"),
    ("supply_terms", {"unit_cost": float("inf")}, "unit_cost_finite"),
    ("promotions", {"end_on": date(2024, 1, 1)}, "end_not_before_start"),
    ("promotions", {"intensity": 1.01}, "intensity_in_range"),
    ("market", {"signal": "mood"}, "signal_known"),
]


def check(table, *rows):
    columns = dict.fromkeys(name for row in rows for name in row)
    frame = pl.DataFrame({name: [row.get(name) for row in rows] for name in columns}, strict=False)
    mapped = map_rows(
        frame.to_arrow(),
        table=table,
        source=TableSource(uri="x"),
        found={name: name for name in frame.columns},
        timezone="UTC",
        where="x",
    )
    return check_rows(mapped.frame, table=table, context=CONTEXT, unreadable=mapped.unreadable)


@pytest.mark.parametrize("table", list(TABLES))
def test_a_good_row_passes_every_rule(table):
    checked = check(table, GOOD[table])
    assert checked.broken.height == 0
    assert checked.passed.height == 1
    assert checked.tally == Tally(rows_in=1)


@pytest.mark.parametrize(("table", "change", "rule"), BAD)
def test_a_bad_row_breaks_its_rule_and_no_other(table, change, rule):
    checked = check(table, GOOD[table], GOOD[table] | change)
    assert checked.broken["rule"].to_list() == [rule]
    assert checked.broken["position"].to_list() == [1]
    assert checked.tally.broken == {rule: 1}
    assert checked.passed.height == 1


def test_a_return_may_have_a_negative_amount():
    assert check("orders", GOOD["orders"] | {"sold_qty": -1.0, "amount": -2.0}).broken.height == 0


def test_a_row_that_breaks_two_rules_is_quarantined_once_and_counted_under_both():
    checked = check("orders", GOOD["orders"], GOOD["orders"] | {"sold_qty": 0.0, "item_id": None})
    assert checked.broken["rule"].to_list() == ["item_id_given; sold_qty_not_zero"]
    assert checked.tally.rows_quarantined == 1
    assert sum(checked.tally.broken.values()) == 2


def test_an_unreadable_cell_breaks_the_type_rule_only():
    checked = check("orders", *[{**GOOD["orders"], "sold_qty": text} for text in ("1", "two", "3")])
    assert checked.broken.select("position", "rule").rows() == [(1, "sold_qty_type")]


def test_a_report_that_loses_a_row_cannot_be_made():
    with pytest.raises(AssertionError, match="3 rows came in, 2 are accounted for"):
        TableCounts(table="orders", rows_in=3, rows_kept=1, rows_merged=1, rows_quarantined=0)


def test_a_report_survives_json_and_lists_the_worst_rule_first():
    tally = Tally(
        rows_in=5, rows_kept=2, rows_quarantined=3, broken={"x": 1, "y": 2}, reasons={"x": "no x", "y": "no y"}
    )
    report = make_report({"orders": tally}, notes=("said",))
    assert [rule.rule for rule in report.rules] == ["y", "x"]
    assert QualityReport.from_dict(report.to_dict()) == report


rows = st.fixed_dictionaries(
    {
        "order_id": st.sampled_from(["1", "2", None]),
        "item_id": st.sampled_from(["a", "b", ""]),
        "user_id": st.sampled_from(["u", "v", None]),
        "ordered_at": st.datetimes(datetime(2024, 1, 1), datetime(2024, 1, 9)).map(
            lambda at: at.replace(microsecond=0)
        ),
        "sold_qty": st.sampled_from([-3.0, -1.0, 0.0, 1.0, 2.0, 5.0, float("nan"), float("inf")]),
        "unit_price": st.sampled_from([1.0, 2.0, -1.0, None]),
    }
)


@settings(max_examples=25, deadline=None)
@given(st.lists(rows, min_size=1, max_size=40), st.sampled_from(["repeat", "sum"]), st.randoms())
def test_every_row_is_kept_merged_or_quarantined(tmp_path_factory, lines, identical, random):
    lines = lines + random.choices(lines, k=5) + [GOOD["orders"] | {"unit_price": 1.0, "user_id": "w"}]
    frame = pl.DataFrame(lines, schema_overrides={"unit_price": pl.Float64})
    folder = tmp_path_factory.mktemp("shop")
    dataset = load(folder, "data.max_quarantine_share=1", f"data.identical_lines={identical}", orders=frame)
    counts = dataset.report.tables[0]
    assert counts.rows_in == len(lines)
    assert counts.rows_kept == dataset.table("orders").num_rows
    files = list((dataset.quarantine_folder / "orders").glob("*.parquet"))
    assert counts.rows_quarantined == sum(pl.read_parquet(file).height for file in files)
    assert counts.rows_in == counts.rows_kept + counts.rows_merged + counts.rows_quarantined
    kept = pl.DataFrame(pl.from_arrow(dataset.table("orders")))
    assert (kept["sold_qty"] > 0).all()
    assert kept["ordered_at"].dtype == pl.Datetime("us", "UTC")
    assert kept["ordered_at"].min() >= datetime(2024, 1, 1, tzinfo=UTC)
