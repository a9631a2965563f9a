"""Demand forecasts side by side: the network, gradient-boosted trees, their blend, and what any planner could make.

Every model sees the same history, forecasts from the same origins and is scored on the same periods: single ones, and
sums over a quarter, half and all of the horizon. Network and trees are fitted ``--fits`` times, each time on the days
before the next origin; nothing later is seen but the columns named as known ahead. Intervals are paired over series.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.forecast_panels import DATASETS, SHARED_DATA, TableColumns, load_table
from benchmarks.frame import make_parser, make_target, report
from cluster.config import Settings, load_settings
from cluster.errors import RestockError
from cluster.panel import DemandPanel
from forecasting import baselines
from forecasting.backtest import make_origins
from forecasting.forecast import Forecast
from forecasting.metrics import loss_by_series, score_forecasts
from forecasting.segments import SEGMENTS, segment_of_S
from forecasting.team import Team
from forecasting.team_fit import fit_team
from forecasting.trees import fit_trees

Row = dict[str, Any]
Made = dict[str, list[Forecast]]

_TREES, _OURS = "trees", ("network", "blend")
_SHOWN = ("system", "segment", "wql", "wql_sum", "order_cost", "bias", "coverage_80", "coverage_80_pit")
"""Columns of the table for people; the JSON has all."""
_BOOTSTRAP = 2_000
_STATISTICAL_SERIES = 30
_QUICK = ("forecast.epochs=2", "forecast.windows_per_series=16")


def main() -> None:
    """Compare on the panel that the options name."""
    torch.set_num_threads(1)
    arguments = _parse()
    try:
        panel, notes = _load(arguments)
        weekly = panel.calendar.period_days == 7
        settings = load_settings(
            overrides=[
                f'data.frequency="{"W" if weekly else "D"}"',
                *([f"forecast.horizon={arguments.horizon}"] if arguments.horizon else []),
                *(_QUICK if arguments.quick else ()),
                *arguments.sets,
            ]
        )
        origins = make_origins(panel, num_origins=arguments.origins, horizon=settings.horizon, first=1)
    except RestockError as error:
        raise SystemExit(f"error: {error}") from None
    rows, targets, facts = _compare(panel, settings=settings, origins=origins, arguments=arguments)
    shown = rows if arguments.json else [{name: row[name] for name in _SHOWN} for row in rows]
    report("forecast", shown, targets=targets, arguments=arguments, facts=facts | {"notes": [*notes, *facts["notes"]]})


def _parse() -> argparse.Namespace:
    parser = make_parser(__doc__ or "")
    parser.add_argument("--dataset", choices=list(DATASETS), default="cj", help="a panel of the shared data")
    parser.add_argument("--csv", help="any long-format CSV or Parquet file instead")
    parser.add_argument("--id", default="unique_id", help="column of the series' names")
    parser.add_argument("--time", default="ds", help="column of dates")
    parser.add_argument("--target", default="y", help="column of units sold")
    parser.add_argument("--category", help="column of the series' categories")
    parser.add_argument("--price", help="column of prices; read up to the origin only")
    parser.add_argument("--known", nargs="*", default=[], help="columns that are known ahead, such as promotions")
    parser.add_argument("--freq", choices=["D", "W"], default="D")
    parser.add_argument("--horizon", type=int, help="periods ahead; default 28 days or 8 weeks")
    parser.add_argument("--origins", type=int, default=6, help="origins, one horizon apart, the last one at the end")
    parser.add_argument("--fits", type=int, default=2, help="times that network and trees are fitted, evenly spread")
    parser.add_argument("--seeds", type=int, default=1, help="network and trees are fitted with so many seeds each")
    parser.add_argument("--train-series", type=int, default=2_000, help="series that are learned from, at most")
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE", help="any setting")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.origins, arguments.fits = min(arguments.origins, 2), 1
    return arguments


def _load(arguments: argparse.Namespace) -> tuple[DemandPanel, list[str]]:
    if arguments.csv:
        columns = TableColumns(
            id=arguments.id,
            time=arguments.time,
            target=arguments.target,
            category=arguments.category,
            price=arguments.price,
            known=tuple(arguments.known),
        )
        return load_table(Path(arguments.csv), columns, weekly=arguments.freq == "W")
    file, columns = DATASETS[arguments.dataset]
    panel, notes = load_table(SHARED_DATA / file, columns, weekly=False)
    return (panel.take(np.arange(0, panel.num_series, 5)), notes) if arguments.quick else (panel, notes)


def _compare(
    panel: DemandPanel, *, settings: Settings, origins: list[int], arguments: argparse.Namespace
) -> tuple[list[Row], list[Row], dict[str, Any]]:
    fits = [list(map(int, part)) for part in np.array_split(origins, min(arguments.fits, len(origins)))]
    rows, losses, notes = [], [], []
    weights: list[Row] = []
    for seed in range(arguments.seed, arguments.seed + arguments.seeds):
        made: Made = {name: [] for name in (*_OURS, _TREES)}
        seconds = {name: [0.0, 0.0] for name in made}
        for part in fits:
            weights += _fit_and_forecast(
                panel, part, settings=settings, seed=seed, arguments=arguments, made=made, seconds=seconds
            )
        rows += [_row(panel, name, made[name], origins, seed=seed, seconds=seconds[name]) for name in made]
        losses.append({name: _losses(panel, made[name], origins) for name in made})
        rows += _segment_rows(panel, made, origins, seed=seed)
    rows += _baseline_rows(panel, origins=origins, settings=settings, seed=arguments.seed)
    gains = _gains(panel, losses, origins=origins, seed=arguments.seed)
    notes.append(
        "Baselines see all days before each origin; network and trees those before the first origin of their fit."
    )
    return rows, _targets(rows, gains), {"origins": origins, "gains": gains, "weights": weights, "notes": notes}


def _fit_and_forecast(
    panel: DemandPanel,
    part: list[int],
    *,
    settings: Settings,
    seed: int,
    arguments: argparse.Namespace,
    made: Made,
    seconds: dict[str, list[float]],
) -> list[Row]:
    """Fit on the days before the first of some origins, forecast from all of them; what members weigh."""
    view = panel.until(part[0])
    sample = np.random.default_rng(seed).permutation(panel.num_series)[: arguments.train_series]
    known = view.take(np.sort(sample))
    team = fit_team(known, settings=settings.model_copy(update={"seed": seed}))
    for name in _OURS:
        seconds[name][0] += team.fit_seconds[name]
        began_s = time.process_time()
        made[name] += team.predict_rolling(panel, origins=part, horizon=settings.horizon, member=name)
        seconds[name][1] += time.process_time() - began_s
    _fit_rival(panel, part, known=known, team=team, settings=settings, seed=seed, made=made, seconds=seconds)
    return [{"origin": part[0], "seed": seed, **row} for row in team.blend.table()]


def _fit_rival(
    panel: DemandPanel,
    part: list[int],
    *,
    known: DemandPanel,
    team: Team,
    settings: Settings,
    seed: int,
    made: Made,
    seconds: dict[str, list[float]],
) -> None:
    """Trees with a booster for every level: the team's own are fitted at some and read between them."""
    began_s = time.process_time()
    trees = fit_trees(
        known,
        vocabulary=team.network.vocabulary,
        horizon=settings.horizon,
        levels=settings.forecast.levels,
        seed=seed,
        num_rows=settings.forecast.tree_rows,
    )
    fitted_s = time.process_time()
    made[_TREES] += trees.predict_rolling(panel, origins=part, horizon=settings.horizon)
    seconds[_TREES][0] += fitted_s - began_s
    seconds[_TREES][1] += time.process_time() - fitted_s


def _row(
    panel: DemandPanel,
    name: str,
    forecasts: Sequence[Forecast],
    origins: Sequence[int],
    *,
    seed: int,
    seconds: Sequence[float],
) -> Row:
    return {
        "system": name,
        "seed": seed,
        "segment": "all",
        "series": panel.num_series,
        **score_forecasts(panel, forecasts=forecasts, origins=origins),
        "fit_cpu_seconds": round(seconds[0], 1),
        "predict_cpu_seconds": round(seconds[1], 2),
    }


def _segment_rows(panel: DemandPanel, made: Made, origins: Sequence[int], *, seed: int) -> list[Row]:
    """Scores by kind of demand, as it stood at the first origin."""
    segment_S = segment_of_S(panel.until(origins[0]))
    rows = []
    for number, segment in enumerate(SEGMENTS):
        kept = np.flatnonzero(segment_S == number)
        for name in made if len(kept) else ():
            forecasts = [forecast.take(kept) for forecast in made[name]]
            row = _row(panel.take(kept), name, forecasts, origins, seed=seed, seconds=(0.0, 0.0))
            rows.append(row | {"segment": segment, "fit_cpu_seconds": None, "predict_cpu_seconds": None})
    return rows


def _baseline_rows(panel: DemandPanel, *, origins: Sequence[int], settings: Settings, seed: int) -> list[Row]:
    def weekday(view: DemandPanel, *, horizon: int) -> Forecast:
        return baselines.weekday_quantiles(view, horizon=horizon, seed=seed)

    models: dict[str, tuple[Callable[..., Forecast], int]] = {
        "seasonal-naive": (baselines.seasonal_naive, panel.num_series),
        "weekday-quantiles": (weekday, panel.num_series),
        "croston": (baselines.croston, 10 * _STATISTICAL_SERIES),
        "tsb": (baselines.tsb, 10 * _STATISTICAL_SERIES),
        "ets": (baselines.ets, _STATISTICAL_SERIES),
        "arima": (baselines.arima, _STATISTICAL_SERIES),
    }
    rows = []
    for name, (model, most) in models.items():
        count = min(most, panel.num_series)
        scored = panel.take(np.linspace(0, panel.num_series - 1, count).round().astype(np.int64))
        began_s = time.process_time()
        forecasts = [model(scored.until(origin), horizon=settings.horizon) for origin in origins]
        rows.append(_row(scored, name, forecasts, origins, seed=seed, seconds=(time.process_time() - began_s, 0.0)))
    return rows


def _losses(panel: DemandPanel, forecasts: Sequence[Forecast], origins: Sequence[int]) -> np.ndarray:
    """Loss of each series in single periods and in sums, (2, S)."""
    return np.stack(
        [loss_by_series(panel, forecasts=forecasts, origins=origins, summed=summed) for summed in (False, True)]
    )


def _gains(panel: DemandPanel, losses: list[dict[str, np.ndarray]], *, origins: Sequence[int], seed: int) -> list[Row]:
    """Mean over seeds of each model's loss over the trees', less one, with its interval over series."""
    random = np.random.default_rng(seed)
    rows_BS = random.integers(panel.num_series, size=(_BOOTSTRAP, panel.num_series))
    gains = []
    for name in _OURS:
        for kind, what in enumerate(("single", "summed")):
            ours_S = np.mean([loss[name][kind] for loss in losses], axis=0)
            trees_S = np.mean([loss[_TREES][kind] for loss in losses], axis=0)
            drawn = ours_S[rows_BS].sum(axis=1) / trees_S[rows_BS].sum(axis=1)
            low, high = np.quantile(100 * (drawn - 1), [0.025, 0.975])
            gains.append(
                {
                    "system": name,
                    "kind": what,
                    "against_trees_percent": float(100 * (ours_S.sum() / trees_S.sum() - 1)),
                    "low": float(low),
                    "high": float(high),
                    "origins": len(origins),
                }
            )
    return gains


def _targets(rows: list[Row], gains: list[Row]) -> list[Row]:
    targets = [
        make_target(
            f"{row['system']}: WQL of {row['kind']} periods against trees, %",
            value=row["against_trees_percent"],
            target=-3.0,
            at_least=False,
        )
        for row in gains
    ]
    mine = {
        name: [row for row in rows if row["system"] == name and row["segment"] == "all"] for name in (*_OURS, _TREES)
    }
    coverage = float(np.mean([row["coverage_80_pit"] for row in mine["blend"]]))
    spent = {name: sum(row["fit_cpu_seconds"] for row in mine[name]) for name in mine}
    return [
        *targets,
        make_target(
            "blend: 80 % coverage of counts, distance from 0.8", value=abs(coverage - 0.8), target=0.03, at_least=False
        ),
        make_target(
            "blend: CPU-seconds of fitting over the trees'",
            value=spent["blend"] / max(spent[_TREES], 1e-9),
            target=2.0,
            at_least=False,
        ),
    ]


if __name__ == "__main__":
    main()
