"""How good a forecast was. utilsforecast computes what it has; the pooled ratios are made from its numbers.

Shapes: S series, H horizon, Q quantile levels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from utilsforecast import losses

from cluster.panel import DemandPanel, FloatArray
from forecasting.forecast import Forecast
from forecasting.levels import at_levels, within
from forecasting.pit import share_between, step_of_counts

DECILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_HIGHS = (0.9, 0.95)
_LEVELS = tuple(sorted({*DECILES, *_HIGHS}))
_SHORT_OVER_SURPLUS = 9.0
"""Cost of a unit short over that of a unit left, behind ``order_cost``: the 0.9 quantile is then the best order."""


def score_forecasts(
    panel: DemandPanel, *, forecasts: Sequence[Forecast], origins: Sequence[int]
) -> dict[str, float | None]:
    """Score forecasts of the same series from several origins against what was sold.

    Periods out of stock, and those beyond the end of the panel, are not counted.

    Parameters
    ----------
    forecasts
        One per origin, for all series of ``panel``.

    Returns
    -------
    ``wql`` (twice the mean pinball loss over levels 0.1..0.9, over mean demand), ``wql_90`` (level 0.9 alone),
    ``wql_95``, ``wql_sum`` (as ``wql``, of demand summed over a quarter, half and all of the horizon, averaged),
    ``wql_sum_90``, ``order_cost`` (of ordering the 0.9 quantile of those sums where a unit short costs 9 and a unit
    left 1, over demand),
    ``rmsse`` (mean over series and origins), ``wape``, ``bias`` (over demand, positive if too much is forecast),
    ``coverage_80`` (of the 0.1..0.9 band), ``coverage_80_pit`` (the same, of counts: see :mod:`forecasting.pit`). A
    ratio to no demand at all is None.
    """
    pairs = list(zip(forecasts, origins, strict=True))
    single = _pooled_wql([_single_rows(panel, forecast=forecast, origin=origin) for forecast, origin in pairs])
    horizon = forecasts[0].horizon
    sums = [
        _pooled_wql([_sum_rows(panel, forecast=forecast, origin=origin, periods=periods) for forecast, origin in pairs])
        for periods in _sum_periods(horizon)
    ]
    rmsse = [_rmsse(panel, forecast=forecast, origin=origin) for forecast, origin in pairs]
    return {
        "wql": single["wql"],
        "wql_90": single["wql_90"],
        "wql_95": single["wql_95"],
        "wql_sum": _mean([row["wql"] for row in sums]),
        "wql_sum_90": _mean([row["wql_90"] for row in sums]),
        "order_cost": _order_cost([row["wql_90"] for row in sums]),
        "rmsse": _mean(rmsse),
        "wape": single["wape"],
        "bias": single["bias"],
        "coverage_80": single["coverage_80"],
        "coverage_80_pit": _coverage_of_counts(panel, pairs),
    }


def loss_by_series(
    panel: DemandPanel, *, forecasts: Sequence[Forecast], origins: Sequence[int], summed: bool
) -> FloatArray:
    """Pinball loss of each series, units: twice the mean over levels 0.1..0.9, of periods or (``summed``) of sums.

    Sums count over a quarter, half and all of the horizon, each divided by its number of periods. Divided by demand
    this is a WQL; by series it can be resampled.
    """
    loss_S = np.zeros(panel.num_series)
    for forecast, origin in zip(forecasts, origins, strict=True):
        until = min(origin + forecast.horizon, panel.num_periods)
        truth_SH, counts_SH = panel.sales_ST[:, origin:until], panel.in_stock_ST[:, origin:until]
        quantile_SHQ = forecast.marginal_SHQ[:, : until - origin]
        if summed:
            ends = [end for end in _sum_periods(forecast.horizon) if end <= until - origin]
            columns = np.array(ends, dtype=np.int64) - 1
            truth_SH = (truth_SH.cumsum(axis=1)[:, columns] / (columns + 1)).astype(np.float32)
            counts_SH = np.logical_and.accumulate(counts_SH, axis=1)[:, columns]
            quantile_SHQ = (forecast.cumulative_SHQ[:, columns] / (columns + 1)[:, None]).astype(np.float32)
        read_SHQ = _read(quantile_SHQ, levels_Q=forecast.levels_Q, wanted=DECILES)
        short_SHQ = truth_SH[..., None] - read_SHQ
        level_Q = np.asarray(DECILES)
        each_SH = 2.0 * np.maximum(level_Q * short_SHQ, (level_Q - 1.0) * short_SHQ).mean(axis=-1)
        loss_S += (each_SH * counts_SH).sum(axis=1)
    return loss_S.astype(np.float32)


def _coverage_of_counts(panel: DemandPanel, pairs: Sequence[tuple[Forecast, int]]) -> float | None:
    """Mean share of each period's count that lies in the 0.1..0.9 band."""
    shares = []
    for forecast, origin in pairs:
        until = min(origin + forecast.horizon, panel.num_periods)
        quantile_SHQ = forecast.marginal_SHQ[:, : until - origin]
        low_SH, high_SH = step_of_counts(panel.sales_ST[:, origin:until], quantile_SHQ, levels_Q=forecast.levels_Q)
        share_SH = share_between(low_SH, high_SH, least=DECILES[0], most=DECILES[-1])
        shares.append(share_SH[panel.in_stock_ST[:, origin:until]])
    share_N = np.concatenate(shares)
    return float(share_N.mean()) if len(share_N) else None


def _sum_periods(horizon: int) -> list[int]:
    return sorted({max(1, horizon // 4), max(1, horizon // 2), horizon})


def _order_cost(wql_90: Sequence[float | None]) -> float | None:
    """The loss at 0.9 in money: (9 short + 1 surplus) units are 10 times the pinball loss, which WQL counts twice."""
    mean = _mean(wql_90)
    return None if mean is None else mean * (_SHORT_OVER_SURPLUS + 1.0) / 2.0


def _read(quantile_Q: FloatArray, *, levels_Q: FloatArray, wanted: Sequence[float]) -> FloatArray:
    """Quantiles at the levels that are scored; outside a forecast's own, its outermost."""
    return at_levels(quantile_Q, levels_Q=levels_Q, wanted=within(wanted, levels_Q=levels_Q))


def _single_rows(panel: DemandPanel, *, forecast: Forecast, origin: int) -> pl.DataFrame:
    """One row per series and period that counts."""
    periods = np.arange(origin, min(origin + forecast.horizon, panel.num_periods))
    counts_SH = panel.in_stock_ST[:, periods]
    quantile_SHQ = _read(forecast.marginal_SHQ[:, : len(periods)], levels_Q=forecast.levels_Q, wanted=_LEVELS)
    return _frame(
        panel.sales_ST[:, periods][counts_SH], forecast.mean_SH[:, : len(periods)][counts_SH], quantile_SHQ[counts_SH]
    )


def _sum_rows(panel: DemandPanel, *, forecast: Forecast, origin: int, periods: int) -> pl.DataFrame:
    """One row per series whose first ``periods`` periods are all known and in stock."""
    until = origin + periods
    if until > panel.num_periods:
        return _frame(np.empty(0), np.empty(0), np.empty((0, len(_LEVELS))))
    counts_S = panel.in_stock_ST[:, origin:until].all(axis=1)
    quantile_SQ = _read(forecast.cumulative_SHQ[:, periods - 1], levels_Q=forecast.levels_Q, wanted=_LEVELS)
    total_S = panel.sales_ST[:, origin:until].sum(axis=1)
    return _frame(total_S[counts_S], forecast.mean_SH[:, :periods].sum(axis=1)[counts_S], quantile_SQ[counts_S])


def _frame(target: Any, mean: Any, quantile_Q: Any) -> pl.DataFrame:
    columns = {f"q{level}": quantile_Q[..., q] for q, level in enumerate(_LEVELS)}
    return pl.DataFrame({"y": target, "model": mean, **columns}).cast(pl.Float64)


def _pooled_wql(frames: list[pl.DataFrame]) -> dict[str, float | None]:
    """Ratios over all rows together: to utilsforecast they are one series."""
    rows = pl.concat(frames).with_columns(unique_id=pl.lit("all"))
    demand = float(rows["y"].mean() or 0.0)  # type: ignore[arg-type]  # polars types a mean as any literal
    if rows.height == 0 or demand == 0.0:
        return dict.fromkeys(("wql", "wql_90", "wql_95", "wape", "bias", "coverage_80"))
    names = [f"q{level}" for level in DECILES]
    highs = {
        f"wql_{100 * level:.0f}": 2.0
        * _only(losses.quantile_loss(rows, models={"model": f"q{level}"}, q=level))
        / demand
        for level in _HIGHS
    }
    band = rows.rename({"q0.1": "model-lo-80", "q0.9": "model-hi-80"})
    return {
        "wql": 2.0 * _only(losses.mqloss(rows, models={"model": names}, quantiles=np.array(DECILES))) / demand,
        **highs,
        "wape": _only(losses.nd(rows, models=["model"])),
        "bias": _only(losses.bias(rows, models=["model"])) / demand,
        "coverage_80": _only(losses.coverage(band, models=["model"], level=80)),
    }


def _only(frame: pl.DataFrame) -> float:
    return float(frame["model"][0])


def _rmsse(panel: DemandPanel, *, forecast: Forecast, origin: int) -> float | None:
    """Mean over series of the root mean squared error over that of a naive forecast since the first sale."""
    until = min(origin + forecast.horizon, panel.num_periods)
    first_S = panel.until(origin).first_sale_S
    kept = np.flatnonzero(origin - first_S > 2)
    train = _long(panel, rows=kept, start=0, end=origin)
    train = train.filter(pl.Series(np.tile(np.arange(origin), len(kept)) >= np.repeat(first_S[kept], origin)))
    test = _long(panel, rows=kept, start=origin, end=until)
    test = test.with_columns(model=pl.Series(forecast.mean_SH[kept, : until - origin].reshape(-1)).cast(pl.Float64))
    if train.is_empty() or test.is_empty():
        return None
    scored = losses.rmsse(test, models=["model"], seasonality=1, train_df=train)["model"]
    return _mean([value for value in scored.to_list() if value is not None and np.isfinite(value)])


def _long(panel: DemandPanel, *, rows: Any, start: int, end: int) -> pl.DataFrame:
    periods = np.arange(start, end)
    return pl.DataFrame(
        {
            "unique_id": np.repeat(rows, len(periods)).astype(np.int64),
            "ds": np.tile(periods, len(rows)).astype(np.int64),
            "y": panel.sales_ST[rows, start:end].reshape(-1).astype(np.float64),
        }
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
