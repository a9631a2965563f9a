"""``restock forecast``: every series' forecast in a file; the root mounts this function."""

import json
from pathlib import Path
from typing import Annotated

import typer

from cluster.artifacts import open_store
from cluster.config import load_settings
from cluster.dataset import open_dataset
from cluster.errors import ConfigError
from cluster.options import ConfigOption, JsonOption, SetOption, day_of
from cluster.progress import stage

NAME = "forecaster"


def forecast_series(
    out: Annotated[Path, typer.Option("--out", help="Parquet file to write: one row per series.")],
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="First day to forecast, YYYY-MM-DD; default: the one after history.")
    ] = None,
    levels: Annotated[
        str, typer.Option("--levels", help="Quantile levels of summed demand, between commas.")
    ] = "0.5,0.9",
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forecast every series with the served forecaster, shard by shard, and write the result to Parquet."""
    from forecasting.streaming import write_forecasts  # here: torch takes seconds to import
    from forecasting.team import load_forecaster

    settings = load_settings(config, overrides=overrides or ())
    dataset = open_dataset(settings)
    day = day_of(as_of, option="--as-of")
    period = dataset.num_periods if day is None else dataset.calendar.period_of(day)
    stored = open_store(settings).load_as_of(NAME, day or dataset.calendar.date_on(period))
    forecaster = load_forecaster(stored.folder)
    asked = _levels_within(levels, given=forecaster.levels)
    with stage("Forecast every series"):
        written = write_forecasts(forecaster, dataset.panels(until=period), out, levels=asked)
    if as_json:
        print(json.dumps({"file": str(out), "series": written, "version": stored.version, "levels": asked}))
        return
    print(f"{written:,} series of forecaster {stored.version} in {out}")


def _levels_within(text: str, *, given: tuple[float, ...]) -> list[float]:
    try:
        levels = [float(level) for level in text.split(",")]
    except ValueError:
        levels = []
    if not levels or not all(given[0] <= level <= given[-1] for level in levels) or len(set(levels)) < len(levels):
        raise ConfigError(
            f"--levels {text}: give distinct levels from {given[0]} to {given[-1]} between commas, such as 0.5,0.9"
        )
    return sorted(levels)
