"""The commands on a small shop; training itself runs in this process, without Ray."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from forecast_panels import SMALL
from small_shop import load, make_orders
from typer.testing import CliRunner

import forecasting.cli
import forecasting.drift_cli
import forecasting.stream_cli
from cluster.artifacts import ArtifactStore
from cluster.config import Settings
from cluster.errors import ConfigError, DataError, StaleInputError
from cluster.panel import DemandPanel
from cluster.storage import FolderStorage
from forecasting.predict import Forecaster
from forecasting.preparation import fit_and_hold_out
from forecasting.team import ServedForecaster, Team, load_forecaster, network_of
from forecasting.team_fit import fit_team


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Overrides that open a loaded shop of three items and 60 days."""

    def fit(
        panel: DemandPanel, *, settings: Settings, warm_start: ServedForecaster | None, items: pa.Table | None
    ) -> ServedForecaster:
        earlier = None if warm_start is None else network_of(warm_start)
        network = fit_and_hold_out(panel, settings=settings, warm_start=earlier, items=items)
        return (
            network[0] if settings.forecast.serve == "network" else fit_team(panel, settings=settings, network=network)
        )

    monkeypatch.setattr(forecasting.cli, "_fit", fit)
    short = ["split.test_days=7", "split.policy_days=21", "split.validation_days=7", "data.holidays=", *SMALL]
    load(tmp_path, *short, orders=make_orders())
    given = [
        f'home="{tmp_path / "home"}"',
        "data.num_shards=3",
        f'data.tables.orders.uri="{tmp_path / "orders.parquet"}"',
    ]
    return [part for override in [*given, *short] for part in ("--set", override)]


def run(command: Any, arguments: list[str]) -> str:
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_training_publishes_a_champion_that_knows_its_day(shop: list[str], tmp_path: Path) -> None:
    answer = json.loads(
        run(forecasting.cli.train_forecaster, [*shop, "--until", "2024-02-20", "--json"]).splitlines()[-1]
    )
    assert answer["trained_until_on"] == "2024-02-20"
    stored = ArtifactStore(FolderStorage(folder=tmp_path / "home" / "models")).load("forecaster")
    assert stored.version == answer["version"] == "v0001"
    assert str(stored.manifest.trained_until_on) == "2024-02-20"
    served = load_forecaster(stored.folder)
    assert isinstance(served, Team)
    assert stored.manifest.kind == "blend"
    assert list(served.blend.members) == answer["members"] == stored.manifest.metrics["members"]
    assert len(served.history) == len(answer["learning_curve"])
    assert "v0002" in run(forecasting.cli.train_forecaster, [*shop, "--refit"])
    with pytest.raises(DataError, match="would know the future"):
        run(forecasting.cli.train_forecaster, [*shop, "--refit", "--until", "2024-02-20"])


def test_a_network_alone_is_published_if_asked_for(shop: list[str], tmp_path: Path) -> None:
    output = run(forecasting.cli.train_forecaster, [*shop, "--set", "forecast.serve=network"])
    assert "members: network\n" in output
    stored = ArtifactStore(FolderStorage(folder=tmp_path / "home" / "models")).load("forecaster")
    assert stored.manifest.kind == "network"
    assert isinstance(load_forecaster(stored.folder), Forecaster)


def test_a_backtest_scores_the_forecaster_beside_its_baselines(shop: list[str]) -> None:
    output = run(forecasting.cli.backtest_forecast, [*shop, "--origins", "2", "--statistical-series", "1", "--json"])
    answer = json.loads(output.splitlines()[-1])
    assert len(answer["origins_on"]) == 2
    assert answer["trained_until_on"] == answer["origins_on"][0]
    rows = {row["model"]: row for row in answer["rows"]}
    assert list(rows) == [
        "blend",
        "network",
        "trees",
        "seasonal-naive",
        "weekday-quantiles",
        "croston",
        "tsb",
        "ets",
        "arima",
    ]
    assert rows["seasonal-naive"]["wql"] == 0.0  # every item sells the same every day
    assert rows["arima"]["num_series"] == 1
    assert {"segment", "network", "trees"} <= set(answer["weights"][0])
    fewer = [*shop, "--origins", "1", "--statistical-series", "1"]
    assert "what each member weighs" in run(forecasting.cli.backtest_forecast, fewer)
    assert "trees" not in run(forecasting.cli.backtest_forecast, [*fewer, "--set", "forecast.serve=network"])


@pytest.mark.parametrize(("until", "error"), [("yesterday", ConfigError), ("1999-01-01", DataError)])
def test_a_day_that_cannot_be_is_refused(shop: list[str], until: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"--until {until}"):
        run(forecasting.cli.train_forecaster, [*shop, "--until", until])


def test_an_explanation_sums_to_the_forecast(shop: list[str]) -> None:
    run(forecasting.cli.train_forecaster, shop)
    asked = [*shop, "--item", "c", "--periods", "3"]
    answer = json.loads(run(forecasting.cli.explain_series, [*asked, "--json"]).splitlines()[-1])
    assert (answer["item_id"], answer["location_id"], answer["periods"]) == ("c", "main", 3)
    assert (answer["as_of"], answer["version"]) == ("2024-03-01", "v0001")
    assert answer["usual_qty"] == pytest.approx(9.0, rel=0.05)  # three units every day
    assert answer["usual_qty"] + sum(answer["added_qty"].values()) == pytest.approx(answer["forecast_qty"])
    table = run(forecasting.cli.explain_series, asked)
    assert "item c at main, 3 periods from 2024-03-01" in table
    for what in ("usual demand", "recent sales", "calendar", "promotions", "forecast"):
        assert what in table


def test_what_cannot_be_explained_is_refused(shop: list[str]) -> None:
    run(forecasting.cli.train_forecaster, shop)
    with pytest.raises(DataError, match="no item 'z' at location 'main'"):
        run(forecasting.cli.explain_series, [*shop, "--item", "z"])
    with pytest.raises(ConfigError, match="--periods 8: the forecaster looks 7 periods ahead"):
        run(forecasting.cli.explain_series, [*shop, "--item", "a", "--periods", "8"])
    with pytest.raises(StaleInputError, match="has seen history from 2024-02-20"):
        run(forecasting.cli.explain_series, [*shop, "--item", "a", "--as-of", "2024-02-20"])


def test_drift_is_measured_since_training(shop: list[str]) -> None:
    run(forecasting.cli.train_forecaster, [*shop, "--until", "2024-02-16"])
    answer = json.loads(run(forecasting.drift_cli.backtest_drift, [*shop, "--json"]).splitlines()[-1])
    assert (answer["version"], answer["since"], answer["periods"]) == ("v0001", "2024-02-16", 14)
    assert answer["demand"][0]["stability"] == 0.0  # every item sells the same every day
    assert {row["score"] for row in answer["forecast"]} == {"wql", "wql_sum", "bias", "coverage_80_pit"}
    assert all(row["promised"] is not None for row in answer["forecast"])
    assert "forecaster v0001 since its training" in run(forecasting.drift_cli.backtest_drift, shop)


def test_drift_needs_history_since_training(shop: list[str]) -> None:
    run(forecasting.cli.train_forecaster, shop)
    with pytest.raises(DataError, match="load newer history"):
        run(forecasting.drift_cli.backtest_drift, shop)


def test_every_series_is_forecast_into_a_file(shop: list[str], tmp_path: Path) -> None:
    run(forecasting.cli.train_forecaster, shop)
    out = tmp_path / "forecasts.parquet"
    asked = [*shop, "--out", str(out), "--levels", "0.9,0.5"]
    answer = json.loads(run(forecasting.stream_cli.forecast_series, [*asked, "--json"]).splitlines()[-1])
    assert (answer["series"], answer["version"], answer["levels"]) == (3, "v0001", [0.5, 0.9])
    rows = {row["item_id"]: row for row in pq.read_table(out).to_pylist()}
    assert set(rows) == {"a", "b", "c"}
    assert (str(rows["c"]["from_on"]), len(rows["c"]["sum_0.9_qty"])) == ("2024-03-01", 7)
    assert sum(rows["c"]["mean_qty"]) == pytest.approx(21.0, rel=0.1)  # three units every day
    with pytest.raises(ConfigError, match=r"--levels 0.999: give distinct levels from 0.1 to 0.9"):
        run(forecasting.stream_cli.forecast_series, [*shop, "--out", str(out), "--levels", "0.999"])
