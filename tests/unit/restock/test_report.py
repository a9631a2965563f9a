import re
from datetime import date, timedelta
from html.parser import HTMLParser

import pytest
from jinja2 import UndefinedError

from restock.charts import CostRow, ForecastExample
from restock.report import ReportContent, write_report

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
            "coverage_80": 0.8,
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


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)


def test_the_report_stands_alone_and_shows_what_it_was_given(tmp_path):
    path = tmp_path / "out" / "report.html"
    write_report(make_content(), path)
    html = path.read_text()
    parser = Tags()
    parser.feed(html)
    assert parser.tags.count("svg") == 4
    assert not {"script", "link", "img"} & set(parser.tags)
    assert not re.search(r"""(src|href)=["']https?:""", html)
    for shown in ("PPO costs 10 % less.", "Unit cost is 70 % of the price.", "Six cover five days.", "0.500", "1,234"):
        assert shown in html
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_the_same_content_gives_the_same_file(tmp_path):
    write_report(make_content(), tmp_path / "a.html")
    write_report(make_content(), tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_a_figure_that_is_missing_is_an_error_not_a_blank(tmp_path):
    with pytest.raises(UndefinedError):
        write_report(make_content(summary={k: v for k, v in SUMMARY.items() if k != "rows"}), tmp_path / "a.html")
    assert not list(tmp_path.iterdir())
