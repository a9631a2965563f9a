"""What moved a forecast: contributions that sum to it, from a baseline that is known by hand."""

from dataclasses import replace

import numpy as np
import pytest
from forecast_panels import make_panel, small_settings, untrained_forecaster

from cluster.errors import DataError
from cluster.panel import DemandPanel
from forecasting.explain import (
    CALENDAR,
    GROUPS,
    HOLIDAYS,
    NAMES,
    PRICE,
    PROMOTIONS,
    RECENT_SALES,
    Attribution,
    driver_phrases,
    explain_forecast,
)
from forecasting.predict import Forecaster
from forecasting.preparation import fit_in_process

COLUMN = {group: column for column, group in enumerate(GROUPS)}
PERIODS_S = np.array([1, 2, 7, 5, 3, 4])


@pytest.fixture(scope="module")
def trained() -> tuple[Forecaster, DemandPanel]:
    panel = make_panel()
    return fit_in_process(panel, settings=small_settings()), panel


def moved_S(attribution: Attribution, group: str) -> np.ndarray:
    return attribution.units_SG[:, COLUMN[group]]


def announce(panel: DemandPanel, *, promotion: float = 0.0, holiday: float = 0.0) -> DemandPanel:
    """The same history, followed by nothing but what is given."""
    promotion_SXP, holiday_X = panel.promotion_SXP.copy(), panel.holiday_X.copy()
    promotion_SXP[:, panel.num_periods :] = promotion
    # The day before the first one too: the day after a holiday is told to the network.
    holiday_X[panel.num_periods - 1 :] = holiday
    return replace(panel, promotion_SXP=promotion_SXP, holiday_X=holiday_X)


@pytest.mark.parametrize("period_days", [1, 7])
def test_usual_demand_and_contributions_are_the_forecast(period_days: int) -> None:
    panel = make_panel(period_days=period_days, num_promotions=2)
    forecaster = untrained_forecaster(panel)
    attribution = explain_forecast(forecaster, panel, periods=PERIODS_S)
    assert attribution.units_SG.shape == (6, len(attribution.groups))
    np.testing.assert_allclose(
        attribution.base_S + attribution.units_SG.sum(axis=1),
        forecaster.predict(panel).mean_over_S(PERIODS_S),
        rtol=1e-5,
    )
    np.testing.assert_array_equal(attribution.forecast_S, attribution.base_S + attribution.units_SG.sum(axis=1))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_integration_alone_misses_next_to_nothing_on_trained_networks(seed: int) -> None:
    panel = make_panel(seed=seed)
    forecaster = fit_in_process(panel, settings=small_settings(f"seed={seed}", "forecast.epochs=4"))
    for view in (panel, announce(panel, promotion=1.0, holiday=1.0)):
        attribution = explain_forecast(forecaster, view, periods=7)
        difference_S = attribution.units_SG[:, 1:].sum(axis=1)  # all but recent sales lie on the path
        assert np.abs(attribution.remainder_S).max() < 0.02 * np.abs(difference_S).min()
        assert np.abs(attribution.remainder_S).sum() < 1e-4 * np.abs(difference_S).sum()


def test_more_nodes_miss_less(trained: tuple[Forecaster, DemandPanel]) -> None:
    forecaster, panel = trained
    view = announce(panel, promotion=1.0)
    missed = [
        np.abs(explain_forecast(forecaster, view, periods=7, num_nodes=num_nodes).remainder_S).max()
        for num_nodes in (1, 2, 4)
    ]
    assert missed[0] > 10 * missed[1] > 100 * missed[2]


def test_what_is_not_announced_moves_nothing(trained: tuple[Forecaster, DemandPanel]) -> None:
    forecaster, panel = trained
    without = explain_forecast(forecaster, announce(panel), periods=7)
    assert (moved_S(without, PROMOTIONS) == 0).all()
    assert (moved_S(without, HOLIDAYS) == 0).all()
    promoted = explain_forecast(forecaster, announce(panel, promotion=1.0), periods=7)
    assert (moved_S(promoted, PROMOTIONS) > 0).all()
    assert (moved_S(promoted, HOLIDAYS) == 0).all()
    np.testing.assert_array_equal(promoted.base_S, without.base_S)
    np.testing.assert_allclose(moved_S(promoted, RECENT_SALES), moved_S(without, RECENT_SALES), rtol=1e-5)
    holiday = explain_forecast(forecaster, announce(panel, holiday=1.0), periods=7)
    assert (np.abs(moved_S(holiday, HOLIDAYS)) > 1e-3).all()


def test_prices_that_never_change_move_nothing(trained: tuple[Forecaster, DemandPanel]) -> None:
    forecaster, panel = trained
    flat = replace(panel, price_ST=np.full_like(panel.price_ST, 3.0))
    np.testing.assert_allclose(moved_S(explain_forecast(forecaster, flat, periods=7), PRICE), 0, atol=1e-5)
    flat.price_ST[:, -3:] = 2.0
    assert (np.abs(moved_S(explain_forecast(forecaster, flat, periods=7), PRICE)) > 1e-5).all()


def test_a_name_that_training_has_not_seen_moves_nothing() -> None:
    panel = make_panel()
    one_category = replace(panel, index=replace(panel.index, category_ids_S=np.array(["c"] * 6)))
    forecaster = untrained_forecaster(one_category)
    new = replace(one_category.index, item_ids_S=np.array([f"new{s}" for s in range(6)]))
    unseen = replace(one_category, index=new)
    attribution = explain_forecast(forecaster, unseen, periods=7)
    np.testing.assert_allclose(moved_S(attribution, NAMES), 0, atol=1e-5)
    assert (np.abs(moved_S(explain_forecast(forecaster, one_category, periods=7), NAMES)) > 1e-3).all()
    np.testing.assert_allclose(attribution.forecast_S, forecaster.predict(unseen).mean_SH.sum(axis=1), rtol=1e-5)


def test_usual_demand_is_the_level_of_plain_periods() -> None:
    panel = make_panel(num_periods=400)
    forecaster = untrained_forecaster(panel)
    sales_ST = np.where(panel.promotion_SXP[:, :400, 0] > 0, 30.0, 5.0).astype(np.float32)
    constant = replace(panel, sales_ST=sales_ST, in_stock_ST=np.ones_like(panel.in_stock_ST))
    # The level of all days, at about nine, counts as one of the forty days that the average remembers.
    base_S = explain_forecast(forecaster, constant, periods=7).base_S
    np.testing.assert_allclose(base_S, 35, rtol=0.05)
    np.testing.assert_allclose(explain_forecast(forecaster, constant, periods=PERIODS_S).base_S, base_S * PERIODS_S / 7)


def test_a_series_is_explained_alike_in_any_company() -> None:
    panel = make_panel(num_series=130, num_periods=40)
    forecaster = untrained_forecaster(panel)
    everyone = explain_forecast(forecaster, panel, periods=3)
    rows = np.array([129, 2, 127])
    few = explain_forecast(forecaster, panel.take(rows), periods=3)
    np.testing.assert_allclose(few.units_SG, everyone.units_SG[rows], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(few.base_S, everyone.base_S[rows], rtol=1e-5)
    assert explain_forecast(forecaster, panel.take(np.array([], dtype=int)), periods=3).units_SG.shape == (0, 6)


def test_odd_histories_are_explained_in_finite_numbers(trained: tuple[Forecaster, DemandPanel]) -> None:
    forecaster, panel = trained
    sales_ST, in_stock_ST = panel.sales_ST.copy(), panel.in_stock_ST.copy()
    sales_ST[0] = 0
    sales_ST[1] = 4
    sales_ST[2, :-1] = 0
    in_stock_ST[4] = False
    odd = replace(panel, sales_ST=sales_ST, in_stock_ST=in_stock_ST)
    attribution = explain_forecast(forecaster, odd, periods=7)
    assert np.isfinite(attribution.units_SG).all()
    assert (attribution.base_S > 0).all()
    np.testing.assert_allclose(attribution.forecast_S, forecaster.predict(odd).mean_SH.sum(axis=1), rtol=1e-5)


def test_what_cannot_be_explained_is_refused(trained: tuple[Forecaster, DemandPanel]) -> None:
    forecaster, panel = trained
    for periods in (0, 8, np.array([1, 1, 1, 1, 1, 8])):
        with pytest.raises(ValueError, match="periods must be in 1..7"):
            explain_forecast(forecaster, panel, periods=periods)
    with pytest.raises(DataError, match="periods of 7 days"):
        explain_forecast(forecaster, make_panel(period_days=7), periods=1)


@pytest.mark.parametrize(
    ("base", "moved", "phrase"),
    [
        (80.0, {PROMOTIONS: 14.0}, "18 % above usual: promotions +14 units"),
        (80.0, {PROMOTIONS: 14.0, CALENDAR: -30.0}, "20 % below usual: calendar -30 units"),
        (4.0, {PROMOTIONS: 8.4, PRICE: 1.0}, "3.4 times usual: promotions +8 units"),
        (4.0, {HOLIDAYS: -1.2}, "30 % below usual: holidays -1 unit"),
        (8000.0, {RECENT_SALES: 1000.0}, "12 % above usual: recent sales +1,000 units"),
        (80.0, {PROMOTIONS: 7.9}, ""),
        (80.0, {PROMOTIONS: 6.0, CALENDAR: 6.0}, ""),
        (80.0, {PROMOTIONS: 14.0, CALENDAR: -13.0}, ""),
        (4.0, {PROMOTIONS: 0.9}, ""),
        (80.0, {}, ""),
    ],
)
def test_a_phrase_names_the_driver_where_demand_is_not_as_usual(
    base: float, moved: dict[str, float], phrase: str
) -> None:
    units_SG = np.array([[moved.get(group, 0.0) for group in GROUPS]])
    attribution = Attribution(groups=GROUPS, base_S=np.array([base]), units_SG=units_SG, remainder_S=np.zeros(1))
    assert driver_phrases(attribution) == [phrase]
