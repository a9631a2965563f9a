"""How long forecasting takes and how much memory it needs: thousands of series to a million, and one that changes.

Made-up series (180 days of sparse sales, a promotion now and then) are forecast part by part and written to Parquet, as
``restock forecast`` does. Weights are barely trained: they cost what trained ones do. Seconds are those of the wall.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.frame import make_parser, make_target, report
from benchmarks.memory import Peak, resident_mb
from cluster.config import Settings, load_settings
from cluster.panel import Calendar, DemandPanel, SeriesIndex
from forecasting.live import LiveForecasts
from forecasting.streaming import write_forecasts
from forecasting.team import ServedForecaster
from forecasting.team_fit import fit_team, has_trees

Row = dict[str, Any]

_NUM_DAYS, _HORIZON = 180, 28
_PART_SERIES = 10_000
_FITTED_SERIES = 400
_UPDATES = 50
_TARGET_S = 3.0
_LIGHT = ("forecast.epochs=1", "forecast.windows_per_series=8", "forecast.tree_rows=20000")


def main() -> None:
    """Forecast more and more series; then one that changes."""
    arguments = _parse()
    torch.set_num_threads(arguments.threads)
    settings = load_settings(overrides=[*_LIGHT, f"seed={arguments.seed}"])
    team = fit_team(make_panel(_FITTED_SERIES, seed=arguments.seed), settings=settings)
    models: dict[str, ServedForecaster] = {"network": team.network, "blend": team}
    rows = [
        _stream(name, models[name], num_series=count, arguments=arguments)
        for name in arguments.models
        for count in arguments.sizes
        if count <= arguments.blend_series or name != "blend"
    ]
    rows += [_update(name, models[name], settings=settings, seed=arguments.seed) for name in arguments.models]
    facts = {"threads": arguments.threads, "notes": [] if has_trees() else ["blend without trees: no LightGBM"]}
    report("forecast_scale", rows, targets=_targets(rows), arguments=arguments, facts=facts)


def _parse() -> argparse.Namespace:
    parser = make_parser(__doc__ or "")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="numbers of series")
    parser.add_argument("--models", nargs="+", choices=["network", "blend"], default=["network", "blend"])
    parser.add_argument("--blend-series", type=int, default=100_000, help="the blend forecasts at most so many")
    parser.add_argument("--threads", type=int, default=2, help="threads that predict")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.sizes = [2_000, 4_000]
    return arguments


def make_panel(num_series: int, *, seed: int, first: int = 0) -> DemandPanel:
    """Sparse Poisson sales of so many series, named from ``first`` on."""
    rng = np.random.default_rng([seed, first])
    promotion_SXP = (rng.random((num_series, _NUM_DAYS + _HORIZON, 1)) < 0.1).astype(np.float32)
    rate_S1 = rng.lognormal(-0.5, 1.0, (num_series, 1))
    sales_ST = rng.poisson(rate_S1 * (1.0 + promotion_SXP[:, :_NUM_DAYS, 0]))
    number = np.arange(first, first + num_series)
    return DemandPanel(
        index=SeriesIndex(
            item_ids_S=number.astype(np.str_),
            location_ids_S=np.full(num_series, "main"),
            category_ids_S=(number % 20).astype(np.str_),
        ),
        calendar=Calendar(start_on=date(2024, 1, 1), period_days=1),
        sales_ST=sales_ST.astype(np.float32),
        in_stock_ST=np.ones(sales_ST.shape, dtype=bool),
        price_ST=np.full(sales_ST.shape, 2.0, dtype=np.float32),
        promotion_SXP=promotion_SXP,
        promotion_names=("offer",),
        holiday_X=np.zeros(_NUM_DAYS + _HORIZON, dtype=np.float32),
        notice_periods=_HORIZON,
    )


def _parts(num_series: int, *, seed: int, clock: "_Clock") -> Iterator[DemandPanel]:
    for first in range(0, num_series, _PART_SERIES):
        with clock.paused():
            part = make_panel(min(_PART_SERIES, num_series - first), seed=seed, first=first)
        yield part


class _Clock:
    """Seconds that forecasting took: without those that making up series takes."""

    def __init__(self) -> None:
        self.wall_s, self.cpu_s = -time.perf_counter(), -time.process_time()

    def paused(self) -> "_Clock":
        return self

    def __enter__(self) -> None:
        self.stop()

    def __exit__(self, *_: object) -> None:
        self.wall_s, self.cpu_s = self.wall_s - time.perf_counter(), self.cpu_s - time.process_time()

    def stop(self) -> None:
        """Count up to now."""
        self.wall_s, self.cpu_s = self.wall_s + time.perf_counter(), self.cpu_s + time.process_time()


def _stream(name: str, model: ServedForecaster, *, num_series: int, arguments: argparse.Namespace) -> Row:
    with tempfile.TemporaryDirectory() as folder, Peak(resident_mb, every_s=0.02) as peak:
        path, clock = Path(folder) / "forecasts.parquet", _Clock()
        write_forecasts(model, _parts(num_series, seed=arguments.seed, clock=clock), path)
        clock.stop()
        return {
            "system": name,
            "what": "forecast and write",
            "series": num_series,
            "seconds": round(clock.wall_s, 2),
            "cpu_seconds": round(clock.cpu_s, 2),
            "peak_mb": round(peak.megabytes),
            "file_mb": round(path.stat().st_size / 1e6, 1),
        }


def _update(name: str, model: ServedForecaster, *, settings: Settings, seed: int) -> Row:
    """Late orders and a new promotion of one series, and its next forecast."""
    live = LiveForecasts(model, make_panel(_FITTED_SERIES, seed=seed))
    rng, took = np.random.default_rng(seed), []
    for _ in range(_UPDATES):
        row = rng.integers(_FITTED_SERIES, size=1)
        offer_RAP = (rng.random((1, settings.horizon, 1)) < 0.2).astype(np.float32)
        began_s = time.process_time()
        live.correct_sales(row, period=_NUM_DAYS - 1, sold_R=rng.poisson(3.0, 1).astype(np.float32))
        live.announce_promotions(row, promotion_RAP=offer_RAP)
        live.forecast(row)
        took.append(1e3 * (time.process_time() - began_s))
    return {
        "system": name,
        "what": "one series changes",
        "series": 1,
        "cpu_ms_median": round(float(np.median(took)), 2),
        "cpu_ms_95": round(float(np.quantile(took, 0.95)), 2),
    }


def _targets(rows: list[Row]) -> list[Row]:
    targets = [
        make_target(f"{row['system']}: 10,000 series, seconds", value=row["seconds"], target=_TARGET_S, at_least=False)
        for row in rows
        if row["series"] == _PART_SERIES
    ]
    for name in dict.fromkeys(row["system"] for row in rows):
        peaks = [row["peak_mb"] for row in rows if row["system"] == name and "peak_mb" in row]
        if len(peaks) > 1:
            what = f"{name}: peak memory of the most series over that of the fewest"
            targets.append(make_target(what, value=round(peaks[-1] / peaks[0], 2), target=1.5, at_least=False))
    return targets


if __name__ == "__main__":
    main()
