"""Small made-up panels with known truth, for tests of the forecaster."""

from datetime import date

import numpy as np

from cluster.config import Settings, load_settings
from cluster.panel import Calendar, DemandPanel, SeriesIndex
from forecasting.model import DemandNetwork
from forecasting.predict import Forecaster
from forecasting.preparation import make_forecasters, make_start

NOTICE = 10
SMALL = (
    "forecast.hidden=16",
    "forecast.context=14",
    "forecast.horizon=7",
    "forecast.epochs=2",
    "forecast.refit_epochs=1",
    "forecast.windows_per_series=16",
    "forecast.batch_size=64",
    "forecast.least_steps=1",
    "forecast.tree_rows=2000",
    "forecast.levels=[0.1,0.5,0.9]",
)


def small_settings(*overrides: str) -> Settings:
    """A network that trains in about a second."""
    return load_settings(overrides=[*SMALL, *overrides])


def make_panel(
    *, num_series: int = 6, num_periods: int = 60, seed: int = 0, period_days: int = 1, num_promotions: int = 1
) -> DemandPanel:
    """Poisson demand with a weekend peak and a promotion that doubles it; half the series start late."""
    rng = np.random.default_rng(seed)
    ahead = num_periods + NOTICE
    promotion_SXP = (rng.random((num_series, ahead, num_promotions)) < 0.15).astype(np.float32)
    holiday_X = (rng.random(ahead) < 0.05).astype(np.float32)
    rate_S = rng.uniform(2, 12, num_series)
    weekend_T = np.where(np.arange(num_periods) % 7 >= 5, 1.6, 1.0)
    rate_ST = rate_S[:, None] * weekend_T * (1 + promotion_SXP[:, :num_periods].sum(axis=2))
    sales_ST = rng.poisson(rate_ST).astype(np.float32)
    for s in range(0, num_series, 2):
        sales_ST[s, : 3 * s] = 0
    return DemandPanel(
        index=SeriesIndex(
            item_ids_S=np.array([f"i{s}" for s in range(num_series)]),
            location_ids_S=np.array(["shop"] * num_series),
            category_ids_S=np.array([f"c{s % 2}" for s in range(num_series)]),
        ),
        calendar=Calendar(start_on=date(2023, 1, 2), period_days=period_days),
        sales_ST=sales_ST,
        in_stock_ST=rng.random((num_series, num_periods)) > 0.05,
        price_ST=rng.uniform(1, 2, (num_series, num_periods)).astype(np.float32),
        promotion_SXP=promotion_SXP,
        promotion_names=tuple(f"promo{p}" for p in range(num_promotions)),
        holiday_X=holiday_X,
        notice_periods=NOTICE,
    )


def untrained_forecaster(panel: DemandPanel, *overrides: str, seed: int = 3) -> Forecaster:
    """Random weights, with heads that depend on everything: what is true of it is true by construction."""
    import torch

    start = make_start(panel, settings=small_settings(*overrides))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = DemandNetwork(start.shape)
        for weight in network.parameters():
            torch.nn.init.normal_(weight, std=0.2)
    return make_forecasters(start, best=network.state_dict(), judged=None, history=[])[0]
