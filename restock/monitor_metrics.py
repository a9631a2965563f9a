"""Metrics of ``restock monitor``: the catalogue, and the text that Prometheus reads."""

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Gauge

from serve.watch.metrics import Metric

if TYPE_CHECKING:
    from restock.monitor import Watch

_KINDS = "kept (since training) or promised (when it was trained)"

DATA_AGE = Metric(name="restock_data_age_days", kind="gauge", meaning="Days since the last day of loaded history.")
MODEL_AGE = Metric(
    name="restock_model_age_days",
    kind="gauge",
    labels=("model",),
    meaning="Days since the history ended that the champion was trained on.",
)
DEMAND_STABILITY = Metric(
    name="restock_demand_stability_index",
    kind="gauge",
    labels=("category",),
    meaning="Population stability index of demand since the forecaster's training against as long before; above 0.25 "
    "is called changed.",
)
DEMAND_CHANGE = Metric(
    name="restock_demand_change_ratio",
    kind="gauge",
    labels=("category",),
    meaning="Units per series and period since training over those of as long before, less one.",
)
FORECAST_BIAS = Metric(
    name="restock_forecast_bias_ratio",
    kind="gauge",
    labels=("kind",),
    meaning=f"Sum of forecasts over sum of sales, less one: {_KINDS}.",
)
FORECAST_COVERAGE = Metric(
    name="restock_forecast_coverage_ratio",
    kind="gauge",
    labels=("kind",),
    meaning=f"Share of sales within the forecast's 80 % band: {_KINDS}.",
)
FORECAST_LOSS = Metric(
    name="restock_forecast_loss_ratio",
    kind="gauge",
    labels=("kind",),
    meaning=f"Weighted quantile loss of forecasts, per unit sold: {_KINDS}.",
)
POLICY_COST_RATIO = Metric(
    name="restock_policy_cost_ratio",
    kind="gauge",
    labels=("category", "kind"),
    meaning=f"Cost of the promoted policy's replay over that of perfect foresight: {_KINDS}.",
)
POLICY_FILL_RATE = Metric(
    name="restock_policy_fill_ratio",
    kind="gauge",
    labels=("category", "kind"),
    meaning=f"Share of demanded units that the promoted policy's replay served: {_KINDS}.",
)
FALLBACK_SERIES = Metric(
    name="restock_fallback_series_ratio",
    kind="gauge",
    labels=("model",),
    meaning="Share of series that the forecaster does not know (it answers from similar ones), or whose category has "
    "no policy of its own (the default textbook rule orders).",
)
PART_MISSING = Metric(
    name="restock_monitor_part_missing",
    kind="gauge",
    labels=("part",),
    meaning="1 where a part of the monitor could not be computed; its reason is in the log of the run.",
)
LAST_RUN = Metric(
    name="restock_monitor_last_run_timestamp_seconds",
    kind="gauge",
    meaning="When the monitor ran last, seconds since 1970.",
)

MONITOR_CATALOGUE: Final[tuple[Metric, ...]] = (
    DATA_AGE,
    MODEL_AGE,
    DEMAND_STABILITY,
    DEMAND_CHANGE,
    FORECAST_BIAS,
    FORECAST_COVERAGE,
    FORECAST_LOSS,
    POLICY_COST_RATIO,
    POLICY_FILL_RATE,
    FALLBACK_SERIES,
    PART_MISSING,
    LAST_RUN,
)


def fill_registry(watched: "Watch") -> CollectorRegistry:
    """Everything that was read, and when, for a text file or a push."""
    registry = CollectorRegistry()
    gauges = {
        metric.name: Gauge(metric.name, metric.meaning, metric.labels, registry=registry)
        for metric in MONITOR_CATALOGUE
    }
    for reading in watched.readings:
        gauge = gauges[reading.metric.name]
        (gauge.labels(*reading.labels) if reading.labels else gauge).set(reading.value)
    for part in watched.parts:
        gauges[PART_MISSING.name].labels(part).set(part in watched.missing)
    gauges[LAST_RUN.name].set_to_current_time()
    return registry
