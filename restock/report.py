"""The report: one self-contained HTML file that a planner can mail."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from restock.charts import CostRow, ForecastExample, draw_costs, draw_curves, draw_forecasts

Curves = Mapping[str, Sequence[tuple[float, float]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportContent:
    """Everything that the report shows.

    Parameters
    ----------
    summary
        The main job's JSON object: figures are shown from it, so that the report and the JSON cannot disagree.
    policy_curves
        Validation cost against simulated series-periods, per category and algorithm.
    model_curves
        Loss against epochs, per trained model.
    plan_rows
        Lines of the plan to show, as dictionaries.
    """

    summary: Mapping[str, Any]
    examples: Sequence[ForecastExample]
    costs: Sequence[CostRow]
    policy_curves: Curves
    model_curves: Curves
    plan_rows: Sequence[Mapping[str, Any]]


def write_report(content: ReportContent, path: Path) -> None:
    """Write the HTML file, aside first and then renamed."""
    environment = Environment(
        loader=PackageLoader("restock"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template("report.html").render(
        summary=content.summary,
        plan_rows=content.plan_rows,
        forecasts_svg=Markup(draw_forecasts(content.examples)),
        costs_svg=Markup(draw_costs(content.costs)),
        policy_curves_svg=Markup(
            draw_curves(
                content.policy_curves,
                xlabel="simulated series-periods",
                ylabel="validation cost / best textbook rule",
            )
        ),
        model_curves_svg=Markup(
            draw_curves(content.model_curves, xlabel="epoch", ylabel="loss / loss of the first epoch")
        ),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".tmp")
    beside.write_text(html, encoding="utf-8")
    beside.replace(path)
