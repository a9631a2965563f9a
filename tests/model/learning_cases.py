"""Small categories to learn on, shared by model and integration tests of the learned policies."""

import numpy as np
import torch
from scipy import stats

from forecasting.forecast import Forecast
from rl.inventory import CostRates, InventoryState, SupplyTerms
from rl.network import OBSERVATION_NAMES, make_mlp
from rl.observation import ActionGrid
from rl.scenarios import ReplayScenario

LEVELS = np.array([0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99])


def make_terms(rng, rows):
    mean_S = rng.uniform(0.3, 8, rows)
    return SupplyTerms(
        lead_time_S=rng.integers(0, 6, rows),
        review_period_S=rng.integers(1, 4, rows),
        review_phase_S=np.zeros(rows, dtype=np.int64),
        min_order_qty_S=rng.choice([0.0, 6.0], rows).astype(np.float32),
        pack_size_S=rng.choice([1.0, 3.0, 12.0], rows).astype(np.float32),
        order_cap_S=rng.choice([50.0, np.inf], rows).astype(np.float32),
        storage_capacity_S=rng.choice([100.0, np.inf], rows).astype(np.float32),
        mean_demand_S=mean_S.astype(np.float32),
        costs=CostRates(
            holding_S=rng.uniform(0.005, 0.5, rows).astype(np.float32),
            lost_sale_S=rng.uniform(0.2, 5, rows).astype(np.float32),
            fixed_order_S=rng.choice([0.0, 0.25, 2.0], rows).astype(np.float32),
            unit_cost_S=np.ones(rows, dtype=np.float32),
        ),
    )


def make_forecast(rng, rows, horizon=12, mean_S=None):
    mean_S = rng.uniform(0.05, 8, rows) if mean_S is None else mean_S
    mean_SH = mean_S[:, None] * rng.uniform(0.6, 1.4, (rows, horizon))
    marginal_SHQ = stats.poisson(mean_SH[:, :, None]).ppf(LEVELS).astype(np.float32)
    cumulative_SHQ = stats.poisson(mean_SH.cumsum(axis=1)[:, :, None]).ppf(LEVELS).astype(np.float32)
    return Forecast(
        levels_Q=LEVELS.astype(np.float32),
        mean_SH=mean_SH.astype(np.float32),
        marginal_SHQ=marginal_SHQ,
        cumulative_SHQ=cumulative_SHQ,
    )


def make_state(rng, rows, columns=6):
    return InventoryState(
        on_hand_S=rng.integers(0, 60, rows).astype(np.float32),
        on_order_SL=(rng.integers(0, 12, (rows, columns)) * rng.integers(0, 2, (rows, columns))).astype(np.float32),
        backorder_S=rng.integers(0, 3, rows).astype(np.float32),
        reserved_S=rng.integers(0, 3, rows).astype(np.float32),
    )


def make_category(*, rows=12, periods=40, seed=0, fixed=1.0):
    """Poisson demand with a weekly rhythm that the forecast knows; a fixed cost makes ordering daily a mistake."""
    rng = np.random.default_rng(seed)
    base_S = rng.uniform(0.5, 6, rows)
    week = np.array([0.6, 0.7, 0.8, 1.0, 1.2, 1.6, 1.1])
    rate_ST = base_S[:, None] * week[np.arange(periods + 12) % 7]
    terms = SupplyTerms(
        lead_time_S=np.full(rows, 2),
        review_period_S=np.ones(rows, dtype=np.int64),
        review_phase_S=np.zeros(rows, dtype=np.int64),
        min_order_qty_S=np.zeros(rows, dtype=np.float32),
        pack_size_S=np.ones(rows, dtype=np.float32),
        order_cap_S=np.full(rows, np.inf, dtype=np.float32),
        storage_capacity_S=np.full(rows, np.inf, dtype=np.float32),
        mean_demand_S=base_S.astype(np.float32),
        costs=CostRates(
            holding_S=np.full(rows, 0.05, dtype=np.float32),
            lost_sale_S=np.ones(rows, dtype=np.float32),
            fixed_order_S=np.full(rows, fixed, dtype=np.float32),
            unit_cost_S=np.ones(rows, dtype=np.float32),
        ),
    )
    forecasts = []
    for period in range(periods):
        mean_SH = rate_ST[:, period : period + 12]
        cumulative_SHQ = stats.poisson(mean_SH.cumsum(axis=1)[:, :, None]).ppf(LEVELS).astype(np.float32)
        forecasts.append(
            Forecast(
                levels_Q=LEVELS.astype(np.float32),
                mean_SH=mean_SH.astype(np.float32),
                marginal_SHQ=cumulative_SHQ,
                cumulative_SHQ=cumulative_SHQ,
            )
        )
    none_S = np.zeros(rows, dtype=np.float32)
    return ReplayScenario(
        first_period=0,
        demand_NT=rng.poisson(rate_ST[:, :periods]).astype(np.float32),
        lead_time_NT=rng.integers(1, 4, (rows, periods)),
        forecasts=forecasts,
        start=InventoryState(
            on_hand_S=np.ceil(base_S * 3).astype(np.float32),
            on_order_SL=np.zeros((rows, 1), dtype=np.float32),
            backorder_S=none_S,
            reserved_S=none_S.copy(),
        ),
        terms=terms,
    )


def random_network(seed, grid=None, hidden=32):
    """A network whose actions vary: the initial one of training would always choose the same."""
    grid = grid or ActionGrid()
    torch.manual_seed(seed)
    return make_mlp(len(OBSERVATION_NAMES), hidden=hidden, num_outputs=grid.num_actions, output_gain=3.0)
