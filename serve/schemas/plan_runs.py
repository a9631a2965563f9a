"""What clients send and get about stored plans."""

from datetime import date
from typing import Annotated

from pydantic import AwareDatetime, Field

from serve.schemas.fields import MAX_ROWS, AnswerBody, AsOf, Cursor, Limit, Next, RequestBody, Series, example
from serve.store.tables import LineState, RunState


class PlanRunRequest(RequestBody):
    """Which series to plan, as of which day."""

    model_config = example({})

    as_of: AsOf = None
    series: Annotated[
        list[Series] | None, Field(min_length=1, max_length=MAX_ROWS, description="series to plan; default: all")
    ] = None


class PlanRun(AnswerBody):
    """A plan of many series, and how far it is."""

    run_id: str
    state: RunState
    on_date: Annotated[date, Field(description="day of the orders")]
    num_series: int
    num_planned: Annotated[int, Field(description="series whose lines are stored")]
    counted_on: Annotated[date | None, Field(description="day of the stock; null: it was assumed")]
    model_versions: dict[str, str]
    notes: Annotated[list[str], Field(description="what was assumed, late or unknown")]
    failure: Annotated[str | None, Field(description="why there is no plan")]
    created_at: AwareDatetime
    created_by: str
    finished_at: AwareDatetime | None


class PlanRunAsked(PlanRun):
    """A plan that was asked for; ``is_known``: with these very inputs, before."""

    is_known: bool


class RunTotals(AnswerBody):
    """Sums over a run's lines, as they are now."""

    num_lines: int
    num_orders: int
    order_qty: float
    order_value: float
    money_at_risk: float
    num_stockout_risk: int
    num_overstock: int
    num_over_budget: int
    num_new_item: int


class PlanRunDetail(PlanRun):
    """A plan, and what its lines come to."""

    totals: RunTotals
    states: Annotated[dict[LineState, int], Field(description="lines in each state")]


class PlanRuns(AnswerBody):
    """Plans, newest first."""

    runs: list[PlanRun]
    next: Next


class RunQuery(RequestBody):
    """Which runs."""

    state: RunState | None = None
    limit: Limit = 100
    after: Cursor = None
