"""Small supply terms, states, forecasts and scenarios for the tests of this folder."""

from datetime import date

import numpy as np
from scipy import stats

from cluster.panel import Calendar, DemandPanel, SeriesIndex
from forecasting.forecast import Forecast
from rl.inventory import CostRates, InventoryState, SupplyTerms
from rl.scenarios import ReplayScenario

LEVELS = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99])


def row(values, rows, dtype=np.float32):
    return np.broadcast_to(np.asarray(values, dtype=dtype), (rows,)).copy()


def make_terms(
    rows=1,
    *,
    lead_time=0,
    review=1,
    phase=0,
    minimum=0,
    pack=1,
    cap=np.inf,
    storage=np.inf,
    mean=1,
    holding=1,
    lost=4,
    fixed=0,
    unit_cost=1,
    salvage=None,
):
    return SupplyTerms(
        lead_time_S=row(lead_time, rows, np.int64),
        review_period_S=row(review, rows, np.int64),
        review_phase_S=row(phase, rows, np.int64),
        min_order_qty_S=row(minimum, rows),
        pack_size_S=row(pack, rows),
        order_cap_S=row(cap, rows),
        storage_capacity_S=row(storage, rows),
        mean_demand_S=row(mean, rows),
        costs=CostRates(
            holding_S=row(holding, rows),
            lost_sale_S=row(lost, rows),
            fixed_order_S=row(fixed, rows),
            unit_cost_S=row(unit_cost, rows),
            salvage_S=None if salvage is None else row(salvage, rows),
        ),
    )


def make_state(rows=1, *, on_hand=0, on_order=None, backorder=0, reserved=0):
    on_order_SL = np.zeros((rows, 1)) if on_order is None else np.asarray(on_order).reshape(rows, -1)
    return InventoryState(
        on_hand_S=row(on_hand, rows),
        on_order_SL=on_order_SL.astype(np.float32),
        backorder_S=row(backorder, rows),
        reserved_S=row(reserved, rows),
    )


def make_forecast(quantile_HQ, mean_H, rows=1, levels=LEVELS):
    """The same forecast for every row, from cumulative quantiles and means per period."""
    cumulative_SHQ = np.broadcast_to(quantile_HQ, (rows, *quantile_HQ.shape)).astype(np.float32)
    return Forecast(
        levels_Q=np.asarray(levels, dtype=np.float32),
        mean_SH=np.broadcast_to(mean_H, (rows, len(mean_H))).astype(np.float32),
        marginal_SHQ=cumulative_SHQ,
        cumulative_SHQ=cumulative_SHQ,
    )


def poisson_forecast(mean, *, rows=1, horizon=8, levels=LEVELS):
    total_H = mean * np.arange(1, horizon + 1)
    return make_forecast(stats.poisson(total_H[:, None]).ppf(levels), np.full(horizon, mean), rows, levels)


def normal_forecast(mean, deviation, *, rows=1, horizon=8, levels=LEVELS):
    periods = np.arange(1, horizon + 1)[:, None]
    quantile_HQ = stats.norm(mean * periods, deviation * np.sqrt(periods)).ppf(levels)
    return make_forecast(quantile_HQ, np.full(horizon, mean), rows, levels)


def make_scenario(demand_NT, *, terms, forecast, start=None, lead_time_NT=None, first=0):
    demand_NT = np.asarray(demand_NT, dtype=np.float32)
    N, T = demand_NT.shape
    planned_NT = np.broadcast_to(terms.lead_time_S[:, None], (N, T))
    return ReplayScenario(
        first_period=first,
        demand_NT=demand_NT,
        lead_time_NT=(planned_NT if lead_time_NT is None else np.asarray(lead_time_NT)).astype(np.int64),
        forecasts=[forecast] * T,
        start=make_state(N) if start is None else start,
        terms=terms,
    )


def random_scenario(seed, *, rows=20, periods=30):
    """Random terms, stock, demand and lead times that may cross; packs, minimums, caps and storage included."""
    rng = np.random.default_rng(seed)
    lead_S = rng.integers(0, 5, rows)
    review_S = rng.integers(1, 4, rows)
    terms = make_terms(
        rows,
        lead_time=lead_S,
        review=review_S,
        phase=rng.integers(0, review_S),
        minimum=rng.integers(0, 12, rows),
        pack=rng.choice([1, 3, 6], rows),
        cap=rng.choice([10, 40, np.inf], rows),
        storage=rng.choice([30, 100, np.inf], rows),
        mean=rng.uniform(0.5, 6, rows),
        holding=rng.uniform(0.01, 1, rows),
        lost=rng.uniform(0.1, 8, rows),
        fixed=rng.choice([0, 0.5, 5], rows),
        unit_cost=rng.uniform(0.5, 4, rows),
    )
    demand_NT = rng.poisson(terms.mean_demand_S[:, None], (rows, periods))
    jitter_NT = rng.integers(-1, 2, (rows, periods))
    start = make_state(
        rows,
        on_hand=rng.integers(0, 12, rows),
        on_order=rng.integers(0, 5, (rows, 3)),
        reserved=rng.integers(0, 3, rows),
    )
    return make_scenario(
        demand_NT,
        terms=terms,
        forecast=poisson_forecast(3.0, rows=rows),
        start=start,
        lead_time_NT=np.maximum(lead_S[:, None] + jitter_NT, 0),
        first=int(rng.integers(0, 9)),
    )


def make_index(*categories):
    """Items 000, 001, ... at ``main``, one for each category id."""
    return SeriesIndex(
        item_ids_S=np.array([f"{number:03d}" for number in range(len(categories))]),
        location_ids_S=np.full(len(categories), "main"),
        category_ids_S=np.array(categories),
    )


def make_panel(sales_ST, *, price=10.0, period_days=1, categories=None, in_stock_ST=None):
    sales_ST = np.asarray(sales_ST, dtype=np.float32)
    S, T = sales_ST.shape
    return DemandPanel(
        index=make_index(*(categories or ["all"] * S)),
        calendar=Calendar(start_on=date(2024, 1, 1), period_days=period_days),
        sales_ST=sales_ST,
        in_stock_ST=np.ones((S, T), dtype=bool) if in_stock_ST is None else np.asarray(in_stock_ST),
        price_ST=np.broadcast_to(np.asarray(price, dtype=np.float32), (S, T)).copy(),
        promotion_SXP=np.zeros((S, T, 0), dtype=np.float32),
        promotion_names=(),
        holiday_X=np.zeros(T, dtype=np.float32),
        notice_periods=0,
    )
