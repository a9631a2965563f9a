"""The order plan: quantities, ledgers, reasons, and files written whole."""

from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inventory_cases import make_forecast, make_index, make_state, make_terms, normal_forecast, poisson_forecast
from scipy import stats

from cluster.errors import ConfigError, PlanningError
from cluster.panel import Calendar
from cluster.sealing import KEYS_VARIABLE, make_export_key, open_file
from rl.constraints import Reason, feasible_quantity_S, is_review_period_S
from rl.ordering import ask_policies, expected_shortage_S, make_order_plan
from rl.orders import PLAN_SCHEMA
from rl.policies.classical import BaseStock, ReorderPoint, StaticMinMax

DAILY = Calendar(start_on=date(2024, 1, 1), period_days=1)
TODAY = date(2024, 1, 11)


@dataclass(frozen=True)
class Wishes:
    """Wishes a given number of units of each series, by its on hand (used as a label)."""

    wishes: tuple[float, ...]
    name: str = "wishes"

    def order_quantity_S(self, state, forecast, terms):
        return np.float32(self.wishes)[state.on_hand_S.astype(int)]


def plan_by(policies, *, state, forecast, terms, **plan):
    wishes = ask_policies(policies, state=state, forecast=forecast, terms=terms)
    return make_order_plan(state=state, forecast=forecast, terms=terms, wishes=wishes, **plan)


def plan_one(wish, *, on_hand=0, on_order=None, expected=10.0, calendar=DAILY, on_date=TODAY, driver=None, **terms):
    return plan_by(
        [Wishes((wish,) * 100)],
        index=make_index("dairy"),
        state=make_state(on_hand=on_hand, on_order=on_order),
        forecast=normal_forecast(expected, 2.0),
        terms=make_terms(**terms),
        on_date=on_date,
        calendar=calendar,
        driver_S=None if driver is None else [driver],
    )


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        (
            plan_one(0, on_hand=34, on_order=[[12]], expected=6.2, lead_time=4),
            "No order: 34 units on hand and 12 on order cover the 5-day protection interval, in which 31 are expected.",
        ),
        (
            plan_one(0, on_hand=1, expected=1.0),
            "No order: 1 unit on hand covers the 1-day protection interval, in which 1 is expected.",
        ),
        (
            plan_one(0, on_hand=3, expected=5.0),
            "No order: 3 units on hand do not cover the 1-day protection interval, in which 5 are expected, but the "
            "wishes policy wishes nothing yet.",
        ),
        (
            plan_one(13.4, on_hand=2, expected=5.0, lead_time=2, pack=3, minimum=15),
            "Order 15 units: 2 units on hand against 15 expected in the 3-day protection interval; the wishes policy "
            "wishes 13.5, raised to the minimum of 15.",
        ),
        (
            plan_one(50, pack=6, storage=20),
            "Order 18 units: 0 units on hand against 10 expected in the 1-day protection interval; the wishes policy "
            "wishes 50, rounded up to packs of 6, cut to the room left in storage for 20.",
        ),
        (
            plan_one(5, minimum=15, cap=12),
            "No order: 5 wished, but the smallest order of 15 exceeds the cap of 12; 0 units on hand against 10 "
            "expected in the 1-day protection interval.",
        ),
        (
            plan_one(5, on_hand=18, storage=20, pack=6),
            "No order: 5 wished, but storage for 20 has no room for the smallest order; 18 units on hand against 10 "
            "expected in the 1-day protection interval.",
        ),
        (
            plan_one(5, review=7, phase=0),
            "No order: 5 wished, but today is not an order day, the next one is 2024-01-15; 0 units on hand against 70 "
            "expected in the 7-day protection interval.",
        ),
        (
            plan_one(12, driver="18 % above usual: promotions +2 units"),
            "Order 12 units: 0 units on hand against 10 expected in the 1-day protection interval (18 % above usual: "
            "promotions +2 units); the wishes policy wishes 12.",
        ),
        (
            plan_one(0, on_hand=34, driver="40 % below usual: holidays -7 units"),
            "No order: 34 units on hand cover the 1-day protection interval, in which 10 are expected (40 % below "
            "usual: holidays -7 units).",
        ),
        (
            plan_one(5, driver=""),
            "Order 5 units: 0 units on hand against 10 expected in the 1-day protection interval; the wishes policy "
            "wishes 5.",
        ),
    ],
)
def test_reasons(plan, reason):
    assert plan.lines[0].reason == reason


def test_ledger_entries_speak_and_sum():
    line = plan_one(13, pack=6, cap=20, minimum=15).lines[0]
    assert [(entry.reason, entry.change_qty) for entry in line.ledger] == [
        (Reason.WISH, 13),
        (Reason.MINIMUM, 2),
        (Reason.PACK, 3),
    ]
    assert line.ledger[0].sentence == "The wishes policy wishes 13."
    assert line.ledger[1].sentence == "Raised to the minimum of 15."
    assert line.order_qty == sum(entry.change_qty for entry in line.ledger) == 18


def random_plan(seed, *, rows=40):
    rng = np.random.default_rng(seed)
    review_S = rng.integers(1, 4, rows)
    terms = make_terms(
        rows,
        lead_time=rng.integers(0, 4, rows),
        review=review_S,
        phase=rng.integers(0, review_S),
        minimum=rng.integers(0, 20, rows),
        pack=rng.choice([1, 3, 6, 12], rows),
        cap=rng.choice([12, 40, np.inf], rows),
        storage=rng.choice([20, 60, np.inf], rows),
        lost=rng.uniform(1, 5, rows),
        unit_cost=rng.uniform(1, 5, rows),
    )
    state = make_state(
        rows,
        on_hand=rng.integers(0, 30, rows),
        on_order=rng.integers(0, 9, (rows, 2)),
        reserved=rng.integers(0, 3, rows),
    )
    forecast = poisson_forecast(4.0, rows=rows)
    rules = [BaseStock(cycle_service_level=0.9), ReorderPoint(cycle_service_level=0.8, order_periods=3.0)]
    policies = [rules[number] for number in rng.integers(0, 2, rows)]
    plan = plan_by(
        policies,
        index=make_index(*["dairy"] * rows),
        state=state,
        forecast=forecast,
        terms=terms,
        on_date=TODAY,
        calendar=DAILY,
    )
    return plan, (state, forecast, terms, policies)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_line_sums_and_has_a_reason(seed):
    plan, (state, forecast, terms, policies) = random_plan(seed)
    is_review_S = is_review_period_S(terms, period=10)
    for row, line in enumerate(plan.lines):
        one = np.array([row])
        wish_S = policies[row].order_quantity_S(state.take(one), forecast.take(one), terms.take(one))
        quantity_S = feasible_quantity_S(
            wish_S, state=state.take(one), terms=terms.take(one), is_review_S=is_review_S[one]
        )
        assert line.order_qty == quantity_S[0] == sum(entry.change_qty for entry in line.ledger)
        assert line.wish_qty == pytest.approx(wish_S[0], abs=0.126)
        assert line.policy == policies[row].name
        assert line.inventory_position_qty == state.inventory_position_S[row]
        assert line.order_value == pytest.approx(line.order_qty * line.unit_cost, abs=1e-3)
        assert line.reason.startswith("Order " if line.order_qty else "No order: ")
        assert line.reason.endswith(".")


def test_columns_of_a_line():
    plan = plan_by(
        [StaticMinMax(safety_periods=0.0, order_periods=2.0)] * 2,
        index=make_index("dairy", "bread"),
        state=make_state(2, on_hand=np.array([3, 0]), on_order=np.array([[2, 0], [0, 1]])),
        forecast=normal_forecast(10, 2, rows=2),
        terms=make_terms(2, lead_time=np.array([2, 0]), review=3, phase=1, unit_cost=1.4, mean=5),
        on_date=TODAY,
        calendar=DAILY,
        remark_S=["", "late"],
        notes=["assumed"],
    )
    line = plan.lines[0]
    assert (line.item_id, line.location_id, line.category_id) == ("000", "main", "dairy")
    assert (line.on_hand_qty, line.on_order_qty, line.inventory_position_qty) == (3, 2, 5)
    assert (line.lead_time_days, line.protection_days, line.forecast_qty) == (2, 5, 50)
    assert line.arrives_on == date(2024, 1, 13)
    assert plan.lines[1].arrives_on == TODAY
    assert plan.table["next_order_on"].to_pylist() == [date(2024, 1, 14)] * 2
    assert (line.order_qty, line.unit_cost, line.order_value) == (30, 1.4, 42.0)
    assert plan.lines[-1].remark == "late"
    assert [other.item_id for other in plan.lines[:1]] == ["000"]
    assert plan.notes == ("assumed",)
    with pytest.raises(IndexError):
        plan.lines[2]


def test_weekly_plans_are_in_days_and_arrive_on_week_starts():
    weekly = Calendar(start_on=date(2024, 1, 1), period_days=7)
    line = plan_one(5, calendar=weekly, on_date=date(2024, 1, 15), lead_time=2).lines[0]
    assert (line.lead_time_days, line.protection_days, line.arrives_on) == (14, 21, date(2024, 1, 29))


def test_money_at_risk_is_the_expected_lost_sale():
    """Normal demand: E[(D - x)+] = sd (phi(z) - z (1 - Phi(z))), Snyder & Shen eq. C.29; 5 % of quadrature error."""
    levels = np.arange(0.01, 1, 0.01)
    forecast = make_forecast(stats.norm(50, 8).ppf(levels)[None], np.array([50.0]), rows=3, levels=levels)
    position_S = np.float32([40, 50, 58])
    z = (position_S - 50) / 8
    exact = 8 * (stats.norm.pdf(z) - z * stats.norm.sf(z))
    shortage_S = expected_shortage_S(forecast, make_terms(3), position_S=position_S)
    np.testing.assert_allclose(shortage_S, exact, rtol=0.05)


def test_totals():
    plan, _ = random_plan(0)
    lines = list(plan.lines)
    totals = plan.totals
    assert totals.num_lines == len(plan.lines) == 40
    assert totals.num_orders == sum(line.order_qty > 0 for line in lines)
    assert totals.order_qty == sum(line.order_qty for line in lines)
    assert totals.order_value == pytest.approx(sum(line.order_value for line in lines))
    assert totals.money_at_risk == pytest.approx(sum(line.money_at_risk for line in lines))


def test_digest_is_of_the_content():
    assert random_plan(1)[0].digest == random_plan(1)[0].digest != random_plan(2)[0].digest


@pytest.mark.parametrize(
    ("name", "read"), [("plan.csv", pyarrow.csv.read_csv), ("plan.parquet", pyarrow.parquet.read_table)]
)
def test_written_plans_read_back_and_still_sum(tmp_path, name, read):
    plan, _ = random_plan(3)
    path = tmp_path / "new" / name
    plan.write(path)
    table = read(path)
    assert table.column_names == PLAN_SCHEMA.names
    assert table["order_qty"].to_pylist() == plan.to_table()["order_qty"].to_pylist()
    ledger = np.stack([table[f"ledger_{reason}_qty"].to_numpy() for reason in Reason])
    np.testing.assert_array_equal(ledger.sum(axis=0), table["order_qty"].to_numpy())
    assert [path.name for path in path.parent.iterdir()] == [name]


def test_a_plan_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "plan.csv"
    path.write_text("old")
    monkeypatch.setattr(
        "pyarrow.csv.write_csv", lambda table, aside: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    with pytest.raises(PlanningError, match=r"plan.csv: cannot be written \(No space left\)"):
        random_plan(3)[0].write(path)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["plan.csv"]


def test_a_sealed_plan_opens_with_its_key_only(tmp_path, monkeypatch):
    plan = random_plan(3)[0]
    path = tmp_path / "plan.parquet.sealed"
    monkeypatch.delenv(KEYS_VARIABLE, raising=False)
    with pytest.raises(ConfigError, match=KEYS_VARIABLE):
        plan.write(path)
    monkeypatch.setenv(KEYS_VARIABLE, make_export_key())
    plan.write(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["plan.parquet.sealed"]
    open_file(path, tmp_path / "plan.parquet")
    assert pyarrow.parquet.read_table(tmp_path / "plan.parquet").equals(plan.table)


def test_other_suffixes_are_refused(tmp_path):
    with pytest.raises(PlanningError, match=r"written as \.csv or \.parquet"):
        random_plan(3)[0].write(tmp_path / "plan.xlsx")


def test_one_policy_per_series():
    with pytest.raises(ValueError, match="one policy for each of 1 series"):
        ask_policies([], state=make_state(), forecast=poisson_forecast(1.0), terms=make_terms())
