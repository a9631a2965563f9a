"""``restock backtest drift``: what has changed since the forecaster was trained; the root mounts this function."""

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cluster.artifacts import open_store
from cluster.config import load_settings
from cluster.dataset import open_dataset
from cluster.errors import DataError
from cluster.options import ConfigOption, JsonOption, SetOption, UntilOption, day_of

NAME = "forecaster"
_LEAST_PERIODS = 7


def backtest_drift(
    config: ConfigOption = None,
    overrides: SetOption = None,
    until: UntilOption = None,
    version: Annotated[str, typer.Option("--version", help="Version of the forecaster, or its alias.")] = "champion",
    as_json: JsonOption = False,
) -> None:
    """Compare demand since a forecaster's training with demand before, and its forecasts with what it promised."""
    from forecasting.drift import input_drift, promises_kept  # here: polars and torch take seconds to import
    from forecasting.team import load_forecaster

    settings = load_settings(config, overrides=overrides or ())
    dataset = open_dataset(settings)
    stored = open_store(settings).load(NAME, version)
    end = dataset.period_until(day_of(until, option="--until"))
    since = dataset.calendar.period_of(stored.manifest.trained_until_on)
    if min(end - since, since) < _LEAST_PERIODS:
        raise DataError(
            f"forecaster {stored.version} was trained until {stored.manifest.trained_until_on}, {max(0, end - since)} "
            f"periods before the end of history; drift needs {_LEAST_PERIODS}: load newer history, or name an earlier "
            "--version"
        )
    panel = dataset.panel(until=end)
    forecaster = load_forecaster(stored.folder)
    origins = list(range(since, end, max(1, forecaster.horizon // 4)))
    forecasts = forecaster.predict_rolling(panel, origins=origins, horizon=forecaster.horizon)
    demand = input_drift(panel, since=since)
    scores = promises_kept(
        panel, forecasts=forecasts, origins=origins, promised=stored.manifest.metrics.get("promised", {})
    )
    facts = {"version": stored.version, "since": str(stored.manifest.trained_until_on), "periods": end - since}
    if as_json:
        print(json.dumps(facts | {"demand": demand, "forecast": scores}))
        return
    _show(demand, title=f"demand since {facts['since']} against as long before")
    _show(scores, title=f"forecaster {stored.version} since its training")


def _show(rows: list[dict[str, Any]], *, title: str) -> None:
    table = Table(*rows[0], title=title)
    for row in rows:
        table.add_row(*("-" if v is None else f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()))
    Console().print(table)
