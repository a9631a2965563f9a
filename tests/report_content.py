"""A small report's content, for tests of the report and of the page in a browser."""

from datetime import date, timedelta

from restock.charts import CostRow, ForecastExample
from restock.report import ReportContent

DAYS = [date(2017, 11, 1) + timedelta(days=i) for i in range(10)]

SUMMARY = {
    "dataset": {"name": "shop <b>&", "first_on": "2017-01-01", "last_on": "2017-12-31", "test_periods": 56},
    "rows": {"in": 1000, "kept": 900, "merged": 60, "quarantined": 40},
    "series": 12,
    "categories": 2,
    "promoted_learned": 1,
    "assumed": ["Unit cost is 70 % of the price."],
    "plan": {"on_date": "2018-01-01", "lines": 12, "lines_to_order": 7, "units": 123.0, "value": 456.0},
    "policies": {
        "MILK": {
            "promoted": "ppo",
            "is_learned": True,
            "best_textbook": "base_stock",
            "costs": {"ppo": 90.0, "base_stock": 100.0, "perfect_foresight": 40.0},
            "reason": "PPO costs 10 % less.",
        },
    },
    "forecast": [
        {
            "model": "lstm",
            "wql": 0.5,
            "wql_sum": 0.2,
            "rmsse": 0.7,
            "bias": 0.01,
            "coverage_80_pit": 0.8,
            "num_series": 12,
        }
    ],
    "recommender": [{"model": "blend", "recall_at_10": 0.1, "ndcg_at_10": 0.2, "num_users": 1200}],
    "seconds": {"load": 20.0},
    "peak_memory_mb": 1234.0,
    "seed": 0,
    "digests": {"config": "c", "data": "d", "code": "e"},
}


def make_content(**changes):
    example = ForecastExample(
        title="Milk, 1 l",
        dates=DAYS,
        actual=[float(i) for i in range(10)],
        forecast_dates=DAYS[5:],
        low=[1.0] * 5,
        mid=[2.0] * 5,
        high=[3.0] * 5,
    )
    rows = [
        CostRow(category="MILK", policy="ppo", percent=-10, low=-15, high=-5, is_promoted=True),
        CostRow(category="MILK", policy="static_min_max", percent=80, low=None, high=None, is_promoted=False),
    ]
    line = {
        "name": "<script>alert(1)</script>",
        "category_id": "MILK",
        "on_hand_qty": 3.0,
        "on_order_qty": 0.0,
        "wish_qty": 4.2,
        "order_qty": 6.0,
        "reason": "Six cover five days.",
    }
    values = {
        "summary": SUMMARY,
        "examples": [example],
        "costs": rows,
        "policy_curves": {"MILK ppo": [(0.0, 1.2), (100.0, 0.9)]},
        "model_curves": {"forecaster": [(1.0, 1.0), (2.0, 0.8)]},
        "plan_rows": [line],
    }
    return ReportContent(**(values | changes))
