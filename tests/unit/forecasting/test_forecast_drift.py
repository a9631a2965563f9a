"""Drift is nought where nothing changed, and seen where something did."""

from dataclasses import replace

import numpy as np
import pytest
from forecast_panels import make_panel

from cluster.panel import DemandPanel
from forecasting.baselines import seasonal_naive
from forecasting.drift import input_drift, population_stability, promises_kept, promises_of


@pytest.fixture(scope="module")
def panel() -> DemandPanel:
    return make_panel(num_series=40, num_periods=120)


def by_category(panel: DemandPanel) -> dict[str, dict]:
    return {row["category_id"]: row for row in input_drift(panel, since=80)}


def test_stability_is_symmetric_nought_for_equals_and_grows() -> None:
    rng = np.random.default_rng(0)
    one, other, far = (rng.poisson(mean, 5_000).astype(np.float32) for mean in (4.0, 4.0, 6.0))
    assert population_stability(one, one) == 0.0
    assert population_stability(one, other) < 0.02
    assert population_stability(one, far) > 0.25


def test_stability_of_two_bins_is_the_formula() -> None:
    reference, recent = np.float32([0, 0, 1, 1]), np.float32([0, 1, 1, 1])
    # Bins: nothing; up to one (the only amount sold); above it.
    wanted = (0.25 - 0.5) * np.log(0.25 / 0.5) + (0.75 - 0.5) * np.log(0.75 / 0.5)
    assert population_stability(reference, recent) == pytest.approx(wanted)


def test_demand_that_goes_on_is_stable(panel: DemandPanel) -> None:
    rows = by_category(panel)
    assert set(rows) == {"all", "c0", "c1"}
    assert rows["all"]["num_series"] == 40
    assert rows["all"]["stability"] < 0.1
    assert rows["all"]["demand_change"] == pytest.approx(0.0, abs=0.1)


def test_a_category_that_sells_twice_as_much_stands_out(panel: DemandPanel) -> None:
    sales_ST = panel.sales_ST.copy()
    doubled_S = panel.index.category_ids_S == "c1"
    sales_ST[doubled_S, 80:] *= 2
    rows = by_category(replace(panel, sales_ST=sales_ST))
    assert rows["c1"]["stability"] > 0.25
    assert rows["c1"]["demand_change"] == pytest.approx(1.0, abs=0.2)
    assert rows["c0"]["stability"] < 0.1


def test_days_out_of_stock_are_no_drift(panel: DemandPanel) -> None:
    sales_ST, in_stock_ST = panel.sales_ST.copy(), panel.in_stock_ST.copy()
    sales_ST[:, 90:95], in_stock_ST[:, 90:95] = 0.0, False
    rows = by_category(replace(panel, sales_ST=sales_ST, in_stock_ST=in_stock_ST))
    assert rows["all"]["stability"] < 0.1
    assert rows["all"]["empty_change"] < 0.05


def test_a_category_without_sales_has_no_drift(panel: DemandPanel) -> None:
    nothing = replace(panel, sales_ST=np.zeros_like(panel.sales_ST))
    assert by_category(nothing)["all"]["stability"] is None


def test_too_short_a_stretch_is_refused(panel: DemandPanel) -> None:
    with pytest.raises(ValueError, match="7 periods"):
        input_drift(panel, since=115)


def test_promises_stand_beside_what_was_kept(panel: DemandPanel) -> None:
    forecasts = [seasonal_naive(panel.until(origin), horizon=7) for origin in (90, 97)]
    promised = promises_of(panel, forecasts=forecasts, origins=[90, 97])
    rows = promises_kept(panel, forecasts=forecasts, origins=[90, 97], promised=promised)
    assert [row["score"] for row in rows] == list(promised)
    assert all(row["promised"] == row["kept"] for row in rows)
    (missing, *_) = promises_kept(panel, forecasts=forecasts, origins=[90, 97], promised={})
    assert missing["promised"] is None
