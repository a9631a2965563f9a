"""The main job: load, train, replay, gate, plan, report. One function, one summary."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from cluster.config import Settings
from cluster.dataset import Dataset
from cluster.feature_store import publish_features
from cluster.loading import load_dataset
from cluster.manifest import code_digest, digest_of
from cluster.progress import stage
from cluster.runtime import connect
from cluster.schema import Col
from forecasting.backtest import evaluate_forecasts, make_contenders, make_origins
from forecasting.forecast import Forecast
from forecasting.levels import at_levels, within
from restock.charts import CostRow, ForecastExample
from restock.meter import Meter
from restock.planning import PlanFiles, plan_orders
from restock.report import Curves, ReportContent, write_report
from restock.training import (
    Forecasters,
    JudgedRecommender,
    PolicyOutcome,
    Workbench,
    open_workbench,
    train_forecasters,
    train_policies,
    train_recommender,
)
from rl.orders import OrderPlan
from rl.policy_report import PolicyReport
from rl.stock import make_stock_tables

_NUM_EXAMPLES = 4
_PLAN_ROWS = 25
_STATISTICAL_SERIES = 50
_PAST_SHOWN = 56
_STOCK_ASSUMED = (
    "Stock and open orders of the plan are assumed: what would be there if the policies that serve had ordered through "
    "the held-out periods."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MainJob:
    """What the main job made: the JSON summary, the plan, and the folder of the files that it wrote."""

    summary: dict[str, Any]
    plan: OrderPlan
    dataset: Dataset
    recommender: JudgedRecommender | None
    folder: Path


def run_main_job(settings: Settings) -> MainJob:
    """Run every stage on the configured data and write report, plan and summary below ``home/report``."""
    with Meter() as meter, connect(settings.runtime):
        with meter.stage("load"):
            dataset = load_dataset(settings)
        bench = open_workbench(dataset, settings=settings)
        with meter.stage("features"), stage("Compute user and item features"):
            publish_features(dataset, panel=bench.panel, period=bench.split.test)
        with meter.stage("forecaster"):
            forecasters = train_forecasters(bench)
        with meter.stage("forecast backtest"):
            forecast_rows = _backtest(bench, forecasters)
        with meter.stage("recommender"):
            recommender = train_recommender(bench)
        with meter.stage("policies"):
            outcome = train_policies(bench, forecasters, resume=True)
        folder = settings.home / "report"
        with meter.stage("plan"), stage("Plan today's orders"):
            files = _write_stock(bench, outcome, folder=folder)
            plan = plan_orders(dataset, settings=settings, files=files)
    summary = {
        **_describe_data(bench),
        "forecast": forecast_rows,
        "recommender": [] if recommender is None else list(recommender.rows),
        "policies": {name: _describe_policy(outcome, name) for name in outcome.study.reports},
        "promoted_learned": sum(decision.is_learned for decision in outcome.study.decisions.values()),
        "assumed": list(dict.fromkeys((*outcome.assumed, _STOCK_ASSUMED, *plan.notes))),
        "plan": _describe_plan(plan),
        "seconds": meter.seconds,
        "peak_memory_mb": round(meter.peak_memory_mb),
        "seed": settings.seed,
        "digests": {
            "config": digest_of(settings.model_dump(mode="json")),
            "data": dataset.digest,
            "code": code_digest(),
        },
    }
    job = MainJob(summary=summary, plan=plan, dataset=dataset, recommender=recommender, folder=folder)
    _write(job, bench=bench, forecasters=forecasters, outcome=outcome)
    return job


def _write_stock(bench: Workbench, outcome: PolicyOutcome, *, folder: Path) -> PlanFiles:
    """The stock that the plan starts from, as the files that a shop would export."""
    tables = make_stock_tables(
        outcome.study.end,
        index=bench.panel.index,
        calendar=bench.panel.calendar,
        on_date=bench.date_on(bench.split.end),
    )
    folder.mkdir(parents=True, exist_ok=True)
    files = PlanFiles(stock=folder / "stock.csv", open_orders=folder / "open_orders.csv")
    for table, path in zip(tables, (files.stock, files.open_orders), strict=True):
        pa.csv.write_csv(table, path)
    return files


def _backtest(bench: Workbench, forecasters: Forecasters) -> list[dict[str, Any]]:
    """Score the refitted forecaster and the baselines on the test periods."""
    horizon = min(forecasters.current.horizon, bench.split.end - bench.split.test)
    origins = make_origins(bench.panel, num_origins=2, horizon=horizon, first=bench.split.test)
    models = make_contenders(forecasters.current, seed=bench.settings.seed, max_statistical_series=_STATISTICAL_SERIES)
    # ETS and ARIMA are scored on a sample: so that they can be compared, the forecaster is too.
    ours = next(iter(models))
    models[f"{ours}, on their sample"] = replace(models[ours], max_series=_STATISTICAL_SERIES)
    with stage("Compare forecasts with the baselines", total=len(models)) as running:
        return evaluate_forecasts(
            bench.panel,
            models=models,
            origins=origins,
            horizon=horizon,
            on_model=lambda name: running.advance(note=name),
        )


def _describe_data(bench: Workbench) -> dict[str, Any]:
    panel, report = bench.panel, bench.dataset.report
    return {
        "dataset": {
            "name": bench.settings.data.name,
            "first_on": panel.calendar.start_on.isoformat(),
            "last_on": (bench.date_on(bench.split.end) - timedelta(days=1)).isoformat(),
            "test_on": bench.date_on(bench.split.test).isoformat(),
            "test_periods": bench.split.end - bench.split.test,
            "period_days": panel.calendar.period_days,
        },
        "rows": {
            name: sum(getattr(counts, f"rows_{name}") for counts in report.tables)
            for name in ("in", "kept", "merged", "quarantined")
        }
        | {"tables": [asdict(counts) for counts in report.tables]},
        "series": panel.num_series,
        "categories": len(np.unique(panel.index.category_ids_S)),
    }


def _describe_policy(outcome: PolicyOutcome, category: str) -> dict[str, Any]:
    report, decision = outcome.study.reports[category], outcome.study.decisions[category]
    return {
        "series": report.num_series,
        "costs": {score.name: round(score.cost, 2) for score in report.scores}
        | {"perfect_foresight": round(report.bound_cost, 2)},
        "fill_rates": {score.name: round(score.fill_rate, 4) for score in report.scores},
        "against_textbook": {
            score.name: [round(value, 4) for value in (interval.estimate, interval.low, interval.high)]
            for score in report.scores
            if (interval := score.against_baseline) is not None
        },
        "best_textbook": report.baseline,
        "promoted": decision.policy_name,
        "is_learned": decision.is_learned,
        "reason": decision.reason,
    }


def _describe_plan(plan: OrderPlan) -> dict[str, Any]:
    totals = plan.totals
    return {
        "on_date": plan.on_date.isoformat(),
        "lines": totals.num_lines,
        "lines_to_order": totals.num_orders,
        "units": totals.order_qty,
        "value": round(totals.order_value, 2),
        "digest": plan.digest,
    }


def _write(job: MainJob, *, bench: Workbench, forecasters: Forecasters, outcome: PolicyOutcome) -> None:
    names = _names(bench.dataset.table("items"))
    job.plan.write(job.folder / "plan.csv")
    job.plan.write(job.folder / "plan.parquet")
    content = ReportContent(
        summary=job.summary,
        examples=_examples(bench, forecasters, names=names),
        costs=_cost_rows(outcome),
        policy_curves=_policy_curves(outcome),
        model_curves=_model_curves(forecasters, job.recommender),
        plan_rows=_plan_rows(job.plan, names=names),
    )
    write_report(content, job.folder / "report.html")


def _names(items: pa.Table | None) -> dict[str, str]:
    if items is None:
        return {}
    pairs = zip(items[Col.ITEM_ID].to_pylist(), items[Col.NAME].to_pylist(), strict=True)
    return {item_id: name for item_id, name in pairs if name}


def _examples(bench: Workbench, forecasters: Forecasters, *, names: Mapping[str, str]) -> list[ForecastExample]:
    """Forecasts from the start of the test for series across the range of sales, each beside what happened."""
    panel, test, end = bench.panel, bench.split.test, bench.split.end
    by_sales = np.argsort(-panel.sales_ST[:, :test].sum(axis=1), kind="stable")
    places = np.linspace(0, len(by_sales) - 1, min(_NUM_EXAMPLES, len(by_sales))).round().astype(int)
    rows = by_sales[places]
    forecast = forecasters.current.predict(panel.take(rows).until(test))
    ahead = min(forecast.horizon, end - test)
    band_SHQ = _band(forecast)[:, :ahead]
    first = max(0, test - _PAST_SHOWN)
    calendar = panel.calendar
    return [
        ForecastExample(
            title=f"{names.get(item_id, item_id)} ({item_id})",
            dates=[calendar.date_on(t) for t in range(first, test + ahead)],
            actual=panel.sales_ST[row, first : test + ahead].tolist(),
            forecast_dates=[calendar.date_on(t) for t in range(test, test + ahead)],
            low=band_SHQ[place, :, 0].tolist(),
            mid=band_SHQ[place, :, 1].tolist(),
            high=band_SHQ[place, :, 2].tolist(),
        )
        for place, row in enumerate(rows)
        for item_id in [str(panel.index.item_ids_S[row])]
    ]


def _band(forecast: Forecast) -> np.ndarray[Any, Any]:
    wanted = within((0.1, 0.5, 0.9), levels_Q=forecast.levels_Q)
    return at_levels(forecast.marginal_SHQ, levels_Q=forecast.levels_Q, wanted=wanted)


def _cost_rows(outcome: PolicyOutcome) -> list[CostRow]:
    """Categories with learned policies only: elsewhere there is nothing to compare with the rules."""
    study = outcome.study
    learned = list(dict.fromkeys(category for category, _ in study.trained))
    return [row for category in learned for row in _category_rows(study.reports[category], outcome)]


def _category_rows(report: PolicyReport, outcome: PolicyOutcome) -> list[CostRow]:
    baseline = report.score(report.baseline).cost
    promoted = outcome.study.decisions[report.category_id].policy_name
    return [
        CostRow(
            category=report.category_id,
            policy=score.name,
            percent=100 * (score.cost / baseline - 1),
            low=None if score.against_baseline is None else 100 * score.against_baseline.low,
            high=None if score.against_baseline is None else 100 * score.against_baseline.high,
            is_promoted=score.name == promoted,
        )
        for score in report.scores
    ]


def _policy_curves(outcome: PolicyOutcome) -> Curves:
    return {
        f"{category} {algorithm}": [(point.steps, point.validation_cost) for point in trained.curve]
        for (category, algorithm), trained in outcome.study.trained.items()
    }


def _model_curves(forecasters: Forecasters, recommender: JudgedRecommender | None) -> Curves:
    """Losses over the first one, so that different losses fit one picture."""
    learning_curve = [] if recommender is None else recommender.model.learning_curve
    curves = {
        "forecaster": [(row.epoch, row.validation_loss) for row in forecasters.past.history],
        "recommender": [(row["epoch"], row["loss"]) for row in learning_curve if row["phase"] == "learn"],
    }
    return {name: relative for name, points in curves.items() if (relative := _relative(points))}


def _relative(points: Sequence[tuple[float, float | None]]) -> list[tuple[float, float]]:
    known = [(x, y) for x, y in points if y is not None]
    return [(x, y / known[0][1]) for x, y in known]


def _plan_rows(plan: OrderPlan, *, names: Mapping[str, str]) -> list[dict[str, Any]]:
    rows = plan.table.sort_by([("order_value", "descending")]).slice(0, _PLAN_ROWS).to_pylist()
    return [row | {"name": names.get(row["item_id"], row["item_id"])} for row in rows]
