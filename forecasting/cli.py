"""``restock train forecaster``, ``backtest forecast`` and ``explain forecast``; the root mounts these functions."""

import json
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
import typer
from rich.console import Console
from rich.table import Table

from cluster.artifacts import StoredVersion, open_store, publish_model
from cluster.config import Settings, load_settings
from cluster.dataset import Dataset, open_dataset
from cluster.errors import ConfigError, DataError
from cluster.options import ConfigOption, JsonOption, SetOption, UntilOption, day_of
from cluster.panel import DemandPanel, IntArray
from cluster.progress import Stage, stage
from cluster.runtime import connect
from cluster.schema import DEFAULT_LOCATION
from forecasting.learning_curve import EpochRow

if TYPE_CHECKING:
    from forecasting.explain import Attribution
    from forecasting.team import ServedForecaster

NAME = "forecaster"
_CURVE_COLUMNS = ("epoch", "phase", "seconds", "train_loss", "validation_loss", "validation_wql")
_SCORE_COLUMNS = (
    "model",
    "num_series",
    "wql",
    "wql_90",
    "wql_sum",
    "rmsse",
    "bias",
    "coverage_80",
    "coverage_80_pit",
    "order_cost",
    "seconds",
)


def train_forecaster(
    config: ConfigOption = None,
    overrides: SetOption = None,
    until: UntilOption = None,
    refit: Annotated[bool, typer.Option("--refit", help="Start from the champion's weights: fewer passes.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train the demand forecaster on all history before a day, publish it and make it champion."""
    settings = load_settings(config, overrides=overrides or ())
    dataset = open_dataset(settings)
    end = dataset.period_until(day_of(until, option="--until"))
    panel = dataset.panel(until=end, selection_end=end)
    until_on = panel.calendar.date_on(end)
    earlier = _champion(settings, until_on=until_on) if refit else None
    fitted = _fit(panel, settings=settings, warm_start=earlier, items=dataset.table("items"))
    stored = _publish(fitted, settings=settings, dataset=dataset, until_on=until_on)
    facts = stored.manifest.metrics
    if as_json:
        print(json.dumps({"version": stored.version, "trained_until_on": str(until_on)} | facts))
        return
    title = f"{NAME} {stored.version}, trained on {panel.num_series} series until {until_on}"
    _show(facts["learning_curve"], columns=_CURVE_COLUMNS, title=title)
    print(f"members: {', '.join(facts['members'])}{_without_trees(settings, members=facts['members'])}")


def backtest_forecast(
    config: ConfigOption = None,
    overrides: SetOption = None,
    until: UntilOption = None,
    origins: Annotated[int, typer.Option(min=1, help="Origins, one horizon apart, the last one at the end.")] = 3,
    statistical_series: Annotated[
        int, typer.Option(min=1, help="Series that ETS and ARIMA are fitted to; they take long.")
    ] = 50,
    as_json: JsonOption = False,
) -> None:
    """Train on the days before the first origin, forecast from each origin, and score beside the baselines."""
    from forecasting.backtest import evaluate_forecasts, make_contenders, make_origins  # here: torch takes seconds too
    from forecasting.team import training_facts

    settings = load_settings(config, overrides=overrides or ())
    dataset = open_dataset(settings)
    end, horizon = dataset.period_until(day_of(until, option="--until")), settings.horizon
    first = max(1, end - origins * horizon)
    panel = dataset.panel(until=end, selection_end=first)
    at = make_origins(panel, num_origins=origins, horizon=horizon, first=first)
    known = panel.until(at[0])
    fitted = _fit(known, settings=settings, warm_start=None, items=dataset.table("items"))
    models = make_contenders(fitted, seed=settings.seed, max_statistical_series=statistical_series)
    with stage("Backtest", total=len(models)) as running:
        rows = evaluate_forecasts(
            panel,
            models=models,
            origins=at,
            horizon=horizon,
            on_model=lambda name: running.advance(note=name),
        )
    facts = training_facts(fitted)
    origin_dates = [str(panel.calendar.date_on(origin)) for origin in at]
    if as_json:
        answer = {"origins_on": origin_dates, "trained_until_on": origin_dates[0], "rows": rows}
        print(json.dumps(answer | {"weights": facts["weights"]}))
        return
    _show(rows, columns=_SCORE_COLUMNS, title=f"forecasts from {', '.join(origin_dates)}")
    if facts["weights"]:
        columns = ("of", "segment", *facts["members"])
        _show(facts["weights"], columns=columns, title="what each member weighs in the blend")


def explain_series(
    item: Annotated[str, typer.Option("--item", help="Item to explain.")],
    location: Annotated[str, typer.Option("--location", help="Its location.")] = DEFAULT_LOCATION,
    periods: Annotated[
        int | None, typer.Option("--periods", min=1, help="Periods to sum over; default: the forecaster's horizon.")
    ] = None,
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="First day to forecast, YYYY-MM-DD; default: the one after history.")
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Split a series' forecast into usual demand and what each input adds to it."""
    from forecasting.explain_blend import explain_served  # here: torch takes seconds to import
    from forecasting.team import load_forecaster

    settings = load_settings(config, overrides=overrides or ())
    dataset = open_dataset(settings)
    day = day_of(as_of, option="--as-of")
    view = dataset.panel(until=dataset.num_periods if day is None else dataset.calendar.period_of(day))
    view = view.take(_row_of(view, item=item, location=location))
    on_date = day or dataset.calendar.date_on(view.num_periods)
    stored = open_store(settings).load_as_of(NAME, on_date)
    forecaster = load_forecaster(stored.folder)
    asked = _periods_within(periods, horizon=forecaster.horizon)
    attribution = explain_served(forecaster, view, periods=asked)
    facts = {"item_id": item, "location_id": location, "as_of": str(on_date), "periods": asked}
    _show_attribution(attribution, facts=facts | {"version": stored.version}, as_json=as_json)


def _row_of(view: DemandPanel, *, item: str, location: str) -> IntArray:
    rows = view.index.positions([item], [location])
    if rows[0] < 0:
        raise DataError(
            f"no item {item!r} at location {location!r} among the {view.num_series} series of the dataset; "
            "check both ids, or raise data.max_series"
        )
    return rows


def _periods_within(periods: int | None, *, horizon: int) -> int:
    if periods is not None and periods > horizon:
        raise ConfigError(
            f"--periods {periods}: the forecaster looks {horizon} periods ahead; ask for at most {horizon}"
        )
    return periods or horizon


def _show_attribution(attribution: "Attribution", *, facts: dict[str, Any], as_json: bool) -> None:
    usual, forecast = float(attribution.base_S[0]), float(attribution.forecast_S[0])
    added = dict(zip(attribution.groups, attribution.units_SG[0].tolist(), strict=True))
    if as_json:
        print(json.dumps(facts | {"usual_qty": usual, "added_qty": added, "forecast_qty": forecast}))
        return
    title = "item {item_id} at {location_id}, {periods} periods from {as_of}, forecaster {version}".format(**facts)
    table = Table()
    for column in ("what", "units", "of usual"):
        table.add_column(column, no_wrap=True, justify="left" if column == "what" else "right")
    table.add_row("usual demand", f"{usual:.1f}", "")
    for group, units in added.items():
        table.add_row(group, f"{units:+z.1f}", f"{100 * units / usual:+z.0f} %")
    table.add_row("forecast", f"{forecast:.1f}", f"{100 * forecast / usual:.0f} %")
    console = Console(highlight=False)
    console.print(title, markup=False, soft_wrap=True)
    console.print(table)


def _champion(settings: Settings, *, until_on: date) -> "ServedForecaster":
    from forecasting.team import load_forecaster

    stored = open_store(settings).load(NAME)
    if stored.manifest.trained_until_on > until_on:
        raise DataError(
            f"the champion {stored.version} was trained until {stored.manifest.trained_until_on}, after {until_on}: a "
            "refit would know the future; leave out --refit to train from scratch"
        )
    return load_forecaster(stored.folder)


def _fit(
    panel: DemandPanel, *, settings: Settings, warm_start: "ServedForecaster | None", items: pa.Table | None
) -> "ServedForecaster":
    from forecasting.train import fit_served  # here: importing Ray takes seconds, and 'restock --help' needs none

    epochs = settings.forecast.epochs if warm_start is None else settings.forecast.refit_epochs
    with connect(settings.runtime), stage("Train the forecaster", total=epochs + 1) as running:
        return fit_served(
            panel,
            settings=settings,
            warm_start=warm_start,
            items=items,
            on_epoch=lambda row: _advance(running, row),
        )


def _without_trees(settings: Settings, *, members: Sequence[str]) -> str:
    if settings.forecast.serve == "network" or "trees" in members:
        return ""
    return " (no trees: LightGBM is not installed; install the extra 'trees')"


def _advance(running: Stage, row: EpochRow) -> None:
    running.advance(note=None if row.validation_wql is None else f"validation WQL {row.validation_wql:.3f}")


def _publish(fitted: "ServedForecaster", *, settings: Settings, dataset: Dataset, until_on: date) -> StoredVersion:
    from forecasting.team import training_facts

    stored = publish_model(
        NAME,
        kind=settings.forecast.serve,
        settings=settings,
        trained_until_on=until_on,
        data_digest=dataset.digest,
        metrics=training_facts(fitted),
        write=fitted.save,
    )
    open_store(settings).promote(NAME, stored.version, reason="restock train forecaster")
    return stored


def _show(rows: list[dict[str, Any]], *, columns: tuple[str, ...], title: str) -> None:
    table = Table(title=title)
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*(_text(row[column]) for column in columns))
    Console().print(table)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
