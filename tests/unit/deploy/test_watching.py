"""Dashboards and alerts ask for metrics that the code exports, and alerts ring when they should and not otherwise."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from deployment_files import DEPLOY, ROOT, read_yaml

from restock.monitor_metrics import MONITOR_CATALOGUE
from serve.watch.metrics import CATALOGUE

DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
RULES: list[dict[str, Any]] = [rule for group in read_yaml(ALERTS)["groups"] for rule in group["rules"]]
PAGE = (ROOT / "docs" / "monitoring.md").read_text()
# Labels that Prometheus and the scrape of all processes add.
_ADDED = {"job", "instance", "process", "le", "shop", "__name__"}
LABELS = {
    name: {*metric.labels, *_ADDED} for metric in (*CATALOGUE, *MONITOR_CATALOGUE) for name in metric.sample_names
} | {"up": _ADDED}


def expressions() -> Iterator[tuple[str, str]]:
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{path.stem}: {panel['title']}", target["expr"]
    for rule in RULES:
        yield rule["alert"], rule["expr"]


def check_query(query: str) -> None:
    """Fail on what Prometheus would not parse, and on a metric or label that nothing exports."""
    selected: list[Any] = []
    grouped: list[str] = []

    def visit(node: Any) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            selected.append(node)
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            grouped.extend(node.modifier.labels)
        return True

    promql_parser.walk(promql_parser.parse(query), visit)
    assert selected
    known: set[str] = set()
    for node in selected:
        assert node.name in LABELS, f"no metric {node.name}"
        known |= LABELS[node.name]
        for matcher in node.matchers.matchers:
            assert matcher.name in LABELS[node.name], f"{node.name} has no label {matcher.name}"
    assert set(grouped) <= known, f"nothing here has all of {grouped}"


@pytest.mark.parametrize(("where", "query"), list(expressions()), ids=[where for where, _ in expressions()])
def test_a_query_asks_for_what_is_exported(where: str, query: str) -> None:
    check_query(query)


@pytest.mark.parametrize(
    "query",
    [
        "sum(rate(restock_request_total[5m]))",
        "sum by (rout) (rate(restock_requests_total[5m]))",
        'restock_requests_total{state="500"}',
        "sum(rate(restock_requests_total[5m])",
    ],
)
def test_a_wrong_query_would_be_found(query: str) -> None:
    with pytest.raises((AssertionError, ValueError)):
        check_query(query)


def test_everything_that_is_exported_is_looked_at() -> None:
    asked = " ".join(query for _, query in expressions())
    unseen = [
        metric.name
        for metric in (*CATALOGUE, *MONITOR_CATALOGUE)
        if not any(name in asked for name in metric.sample_names)
    ]
    assert unseen == []


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_can_be_provisioned(path: Path) -> None:
    board = json.loads(path.read_text())
    (source,) = read_yaml(DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yaml")["datasources"]
    assert board["uid"] == f"restock-{path.stem}"
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
        at = panel["gridPos"]
        cells = {(at["x"] + dx, at["y"] + dy) for dx in range(at["w"]) for dy in range(at["h"])}
        assert not cells & taken, f"{panel['title']} lies over another panel"
        assert max(x for x, _ in cells) < 24
        taken |= cells


# Alerts


def test_every_alert_has_its_section_in_the_runbook_and_the_runbook_no_other() -> None:
    sections = re.findall(r"^### (Restock\w+)$", PAGE, flags=re.MULTILINE)
    assert sections == [rule["alert"] for rule in RULES]
    for rule in RULES:
        assert rule["annotations"]["runbook"] == f"docs/monitoring.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("page", "ticket")
        section = PAGE.split(f"### {rule['alert']}\n")[1].split("\n### ")[0]
        assert "**Do:**" in section
        assert "**Means:**" in section


def test_every_metric_of_the_monitor_is_described() -> None:
    rows = dict(re.findall(r"^\| `(restock_\w+)` \| .*?\| (.+) \|$", PAGE, flags=re.MULTILINE))
    assert rows == {metric.name: metric.meaning for metric in MONITOR_CATALOGUE}


# Alert -> series that make it ring, series of a healthy shop that must not, and when to look: in minutes.
_CASES: dict[str, tuple[dict[str, str], dict[str, str], int]] = {
    "RestockDown": ({'up{job="restock"}': "0x30"}, {'up{job="restock"}': "1x30"}, 10),
    "RestockDatabaseDown": ({"restock_database_up": "0x30"}, {"restock_database_up": "1x10 0x1 1x19"}, 11),
    "RestockErrors": (
        {'restock_requests_total{status="200"}': "0+90x60", 'restock_requests_total{status="500"}': "0+10x60"},
        {'restock_requests_total{status="200"}': "0+999x60", 'restock_requests_total{status="500"}': "0+1x60"},
        45,
    ),
    "RestockSlow": (
        {
            'restock_request_seconds_bucket{route="/a",le="10"}': "0+50x60",
            'restock_request_seconds_bucket{route="/a",le="+Inf"}': "0+100x60",
        },
        {
            'restock_request_seconds_bucket{route="/a",le="0.1"}': "0+100x60",
            'restock_request_seconds_bucket{route="/a",le="+Inf"}': "0+100x60",
        },
        50,
    ),
    "RestockFallbacks": (
        {
            'restock_fallback_answers_total{answer="order-plans"}': "0+50x240",
            'restock_answers_total{answer="order-plans"}': "0+100x240",
        },
        {
            'restock_fallback_answers_total{answer="order-plans"}': "0+5x240",
            'restock_answers_total{answer="order-plans"}': "0+100x240",
        },
        200,
    ),
    "RestockForecastBias": (
        {
            'restock_forecast_bias_ratio{kind="kept"}': "-0.3x240",
            'restock_forecast_bias_ratio{kind="promised"}': "-0.02x240",
        },
        # As biased as it was known to be is no news.
        {
            'restock_forecast_bias_ratio{kind="kept"}': "-0.3x240",
            'restock_forecast_bias_ratio{kind="promised"}': "-0.28x240",
        },
        120,
    ),
    "RestockForecastCoverage": (
        {
            'restock_forecast_coverage_ratio{kind="kept"}': "0.6x240",
            'restock_forecast_coverage_ratio{kind="promised"}': "0.8x240",
        },
        {
            'restock_forecast_coverage_ratio{kind="kept"}': "0.75x240",
            'restock_forecast_coverage_ratio{kind="promised"}': "0.8x240",
        },
        120,
    ),
    "RestockDemandChanged": (
        {'restock_demand_stability_index{category="all"}': "0.4x240"},
        {
            'restock_demand_stability_index{category="all"}': "0.1x240",
            'restock_demand_stability_index{category="ice"}': "0.9x240",
        },
        120,
    ),
    "RestockPolicyCost": (
        {
            'restock_policy_cost_ratio{category="ice",kind="kept"}': "3x240",
            'restock_policy_cost_ratio{category="ice",kind="promised"}': "2x240",
        },
        {
            'restock_policy_cost_ratio{category="ice",kind="kept"}': "2.2x240",
            'restock_policy_cost_ratio{category="ice",kind="promised"}': "2x240",
        },
        120,
    ),
    "RestockModelOld": (
        {'restock_model_age_days{model="forecaster"}': "40x240"},
        {'restock_model_age_days{model="forecaster"}': "20x240"},
        120,
    ),
    "RestockDataOld": ({"restock_data_age_days": "5x240"}, {"restock_data_age_days": "1x240"}, 120),
}
# Those that take days: hour by hour.
_SLOW_CASES: dict[str, tuple[dict[str, str], dict[str, str], int]] = {
    "RestockMonitorStale": (
        {"restock_monitor_last_run_timestamp_seconds": "0x96"},
        {"restock_monitor_last_run_timestamp_seconds": "0+3600x96"},
        74,
    ),
    "RestockMonitorAbsent": (
        {'up{job="restock"}': "1x48"},
        {"restock_monitor_last_run_timestamp_seconds": "0+3600x48"},
        47,
    ),
    "RestockMonitorPartMissing": (
        {'restock_monitor_part_missing{part="forecast"}': "1x552"},
        # Two weeks after a training there is nothing to judge policies on yet.
        {'restock_monitor_part_missing{part="policies"}': "1x336 0x216"},
        528,
    ),
}


def test_every_alert_has_a_case() -> None:
    assert {*_CASES, *_SLOW_CASES} == {rule["alert"] for rule in RULES}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
@pytest.mark.parametrize(("cases", "step"), [(_CASES, "m"), (_SLOW_CASES, "h")], ids=["minutes", "hours"])
def test_alerts_ring_when_they_should_and_not_otherwise(cases: dict[str, Any], step: str, tmp_path: Path) -> None:
    def one(alert: str, series: dict[str, str], *, at: int, rings: bool) -> dict[str, Any]:
        firing = [{"value": 1, "labels": "{}"}]
        return {
            "interval": f"1{step}",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})',
                    "eval_time": f"{at}{step}",
                    "exp_samples": firing if rings else [],
                }
            ],
        }

    tests = [
        one(alert, series, at=at, rings=rings)
        for alert, (ill, well, at) in cases.items()
        for series, rings in ((ill, True), (well, False))
    ]
    path = tmp_path / "cases.yml"
    path.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": f"1{step}", "tests": tests}))
    done = subprocess.run(["promtool", "test", "rules", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
