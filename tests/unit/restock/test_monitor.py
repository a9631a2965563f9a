"""What is watched after the launch, on a tiny shop whose demand is left alone, or tripled after training."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import polars as pl
import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving_home import TRAINED_UNTIL_ON, Home, make_home
from typer.testing import CliRunner

from cluster.dataset import open_dataset
from cluster.errors import ConfigError
from cluster.loading import load_dataset
from cluster.manifest import make_manifest, slug_of
from cluster.shards import run_here
from forecasting.team import load_forecaster
from restock.cli import app
from restock.monitor import Watch, watch
from restock.monitor_metrics import MONITOR_CATALOGUE, fill_registry
from rl.assumptions import make_supply_terms
from rl.evaluate import perfect_foresight_cost_S, replay
from rl.policies.classical import BaseStock
from rl.policies.store import save_policy
from rl.policy_report import make_policy_report
from rl.scenarios import make_replay

CATEGORY = "dairy"
POLICY = BaseStock(cycle_service_level=0.9)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A shop whose policy of one category was promoted for its replay on the two weeks before."""
    home = make_home(tmp_path_factory.mktemp("shop"))
    _, report = replay_report(home, first=92, end=106)
    metrics = {"category_id": CATEGORY, "decision": {"policy_name": POLICY.name}, "test": report}
    name = f"policy/{slug_of(CATEGORY)}"
    manifest = make_manifest(
        name, kind="base_stock", seed=0, trained_until_on=TRAINED_UNTIL_ON, config={}, data_digest="", metrics=metrics
    )
    with home.store.writing(name) as draft:
        save_policy(POLICY, draft)
        home.store.promote(name, home.store.publish(draft, manifest).version)
    return home


def replay_report(home: Home, *, first: int, end: int) -> tuple[float, dict]:
    """Cost over perfect foresight's, computed apart from the monitor, and the report that a manifest keeps."""
    panel = open_dataset(home.settings).panel()
    terms, _ = make_supply_terms(None, panel=panel.until(first), settings=home.settings)
    forecaster = load_forecaster(home.store.load("forecaster").folder)
    scenario = make_replay(
        panel,
        first=first,
        num_periods=end - first,
        forecasts=forecaster.predict_rolling(panel, origins=range(first, end), horizon=forecaster.horizon),
        terms=terms,
        seed=home.settings.seed,
        jitter_periods=1,
    ).take(np.flatnonzero(panel.index.category_ids_S == CATEGORY))
    result, bound_S = replay(POLICY, scenario), perfect_foresight_cost_S(scenario)
    report = make_policy_report(
        {POLICY.name: result}, category_id=CATEGORY, baseline=POLICY.name, bound_cost_S=bound_S, seed=0
    )
    return float(result.cost_S.sum() / bound_S.sum()), json.loads(json.dumps(report.to_dict()))


def values(watched: Watch) -> dict[tuple[str, ...], float]:
    return {(one.metric.name, *one.labels): one.value for one in watched.readings}


def test_policies_and_forecasts_stand_beside_what_they_promised(home: Home) -> None:
    watched = watch(open_dataset(home.settings), settings=home.settings)
    assert watched.missing == {}
    found = values(watched)
    assert found["restock_policy_cost_ratio", CATEGORY, "kept"] == pytest.approx(
        replay_report(home, first=106, end=120)[0]
    )
    assert found["restock_policy_cost_ratio", CATEGORY, "promised"] == pytest.approx(
        replay_report(home, first=92, end=106)[0]
    )
    assert 0 <= found["restock_policy_fill_ratio", CATEGORY, "kept"] <= 1
    assert found["restock_forecast_coverage_ratio", "kept"] <= 1
    assert found["restock_fallback_series_ratio", "policy"] == pytest.approx(2 / 8)  # the items of 'odds'
    assert found["restock_fallback_series_ratio", "forecaster"] == 0
    assert found["restock_model_age_days", "forecaster"] == found["restock_data_age_days",] + 14


def test_demand_that_triples_after_training_is_seen(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    calm = values(watch(open_dataset(home.settings), settings=home.settings))
    orders = pl.read_parquet(tmp_path / "orders.parquet")
    late = pl.col("ordered_at").dt.date() >= TRAINED_UNTIL_ON
    tripled = pl.when(late).then(3 * pl.col("sold_qty")).otherwise(pl.col("sold_qty")).alias("sold_qty")
    orders.with_columns(tripled).write_parquet(tmp_path / "orders.parquet")
    changed = values(watch(load_dataset(home.settings, run=run_here), settings=home.settings))
    assert abs(calm["restock_demand_change_ratio", "all"]) < 0.25
    assert changed["restock_demand_change_ratio", "all"] == pytest.approx(
        3 * (1 + calm["restock_demand_change_ratio", "all"]) - 1, rel=1e-4
    )
    assert calm["restock_demand_stability_index", "all"] < 0.25 < changed["restock_demand_stability_index", "all"]
    # The forecaster has not learned of it: what it says falls behind.
    assert changed["restock_forecast_bias_ratio", "kept"] < calm["restock_forecast_bias_ratio", "kept"]


def test_too_little_history_since_training_is_a_reason_and_not_a_zero(home: Home) -> None:
    watched = watch(open_dataset(home.settings), settings=home.settings, until=TRAINED_UNTIL_ON)
    assert set(watched.missing) == {"demand", "forecast", "policies"}
    assert "0 periods before the end of history; 14 are needed" in watched.missing["forecast"]
    registry = fill_registry(watched)
    assert registry.get_sample_value("restock_monitor_part_missing", {"part": "forecast"}) == 1
    assert registry.get_sample_value("restock_monitor_part_missing", {"part": "age"}) == 0
    assert registry.get_sample_value("restock_forecast_bias_ratio", {"kind": "kept"}) is None


def test_the_text_file_is_prometheus_text_of_the_catalogue(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "textfile" / "restock.prom"
    result = CliRunner().invoke(app, ["monitor", *settings_of(home, tmp_path), "--textfile", str(path), "--json"])
    assert result.exit_code == 0, result.output
    families = {family.name: family for family in text_string_to_metric_families(path.read_text())}
    assert set(families) == {metric.name for metric in MONITOR_CATALOGUE}
    for row in json.loads(result.output.splitlines()[-1])["readings"]:
        labels = {name: value for name, value in row.items() if name not in ("metric", "value")}
        samples = {tuple(sorted(s.labels.items())): s.value for s in families[row["metric"]].samples}
        assert samples[tuple(sorted(labels.items()))] == pytest.approx(row["value"])
    assert list(path.parent.iterdir()) == [path]


def test_a_pushgateway_is_told(home: Home, tmp_path: Path) -> None:
    with gateway() as (url, told):
        result = CliRunner().invoke(app, ["monitor", *settings_of(home, tmp_path), "--push", url])
    assert result.exit_code == 0, result.output
    ((path, body),) = told
    assert path == "/metrics/job/restock-monitor/shop/shop"
    assert "restock_data_age_days" in body


def test_a_pushgateway_that_is_not_there_is_an_error_that_names_it(home: Home, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["monitor", *settings_of(home, tmp_path), "--push", "http://127.0.0.1:9"])
    assert isinstance(result.exception, ConfigError)
    assert "http://127.0.0.1:9" in str(result.exception)


def settings_of(home: Home, folder: Path) -> list[str]:
    """The home's settings as a file, for the command line."""
    path = folder / "shop.toml"
    tables = {name: source.model_dump(exclude_defaults=True) for name, source in home.settings.data.tables.items()}
    lines = [f'home = "{home.settings.home}"', "[data]", "num_shards = 1"]
    lines += [f'[data.tables.{name}]\nuri = "{source["uri"]}"' for name, source in tables.items()]
    lines += ["[forecast]", "horizon = 14", "context = 16", "hidden = 8", "levels = [0.1, 0.5, 0.9]"]
    path.write_text("\n".join(lines) + "\n")
    return ["--config", str(path)]


@contextmanager
def gateway() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """A server on loopback that keeps what it is told, as a Pushgateway would."""
    told: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            told.append((self.path, body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
