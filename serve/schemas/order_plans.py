"""What clients send and get about order plans that are answered at once."""

from datetime import date
from typing import Annotated

from pydantic import Field, model_validator

from serve.schemas.fields import MAX_ROWS, AnswerBody, AsOf, Day, RequestBody, Series, Units, example
from serve.schemas.forecasts import LateOrders, Promotions


class StockRow(Series):
    """What is on the shelf at the start of the as-of day, receipts in."""

    on_hand_qty: Units
    reserved_qty: Units = 0.0
    backorder_qty: Units = 0.0
    snapshot_on: Annotated[
        Day | None, Field(description="day of the count; another day than the as-of one is refused")
    ] = None


class OpenOrderRow(Series):
    """Units ordered and not received."""

    open_qty: Units
    expected_on: Annotated[Day, Field(description="on the shelf at the start of this day")]


class OrderPlanRequest(RequestBody):
    """Which series to plan, from which stock."""

    model_config = example(
        {
            "series": [{"item_id": "1082185", "location_id": "main"}],
            "stock": [{"item_id": "1082185", "location_id": "main", "on_hand_qty": 12}],
            "open_orders": [{"item_id": "1082185", "location_id": "main", "open_qty": 6, "expected_on": "2018-01-02"}],
        }
    )

    series: Annotated[
        list[Series] | None,
        Field(min_length=1, max_length=MAX_ROWS, description="series to plan; default: all, up to the limit"),
    ] = None
    limit: Annotated[
        int | None, Field(strict=True, ge=1, le=MAX_ROWS, description="most lines, where series are not named")
    ] = None
    as_of: AsOf = None
    stock: Annotated[
        list[StockRow] | None,
        Field(
            min_length=1,
            max_length=MAX_ROWS,
            description="stock of the planned series (0 without a row); if left out, the shop's own table of that "
            "day, else it is assumed, and marked",
        ),
    ] = None
    open_orders: Annotated[
        list[OpenOrderRow], Field(max_length=MAX_ROWS, description="orders on their way; they need the stock too")
    ] = Field(default=[])
    promotions: Promotions = Field(default=[])
    late_orders: LateOrders = Field(default=[])
    drivers: Annotated[
        bool,
        Field(strict=True, description="true: reasons say what moves demand where it is not as usual; takes longer"),
    ] = False

    @model_validator(mode="after")
    def _orders_with_stock(self) -> "OrderPlanRequest":
        if self.open_orders and self.stock is None:
            raise ValueError("open_orders without stock: give both, or neither to have both assumed")
        return self


class LedgerRow(AnswerBody):
    """One step from the wish to the quantity."""

    reason: Annotated[str, Field(description="rule that made this change")]
    change_qty: Annotated[float, Field(description="units added or taken; the ledger sums to the quantity")]
    sentence: str


class PlanLine(AnswerBody):
    """What to order of one series, and why; also where nothing is ordered. Money in account currency."""

    item_id: str
    location_id: str
    category_id: str
    policy: Annotated[str, Field(description="policy that made the wish")]
    is_fallback: Annotated[
        bool,
        Field(description="true: a textbook rule ordered; the category's own policy is missing or does not answer"),
    ]
    wish_qty: Annotated[float, Field(description="what the policy wants, before packs, minimum and storage")]
    order_qty: Annotated[float, Field(description="what to order")]
    arrives_on: Annotated[date, Field(description="on the shelf at the start of this day if ordered now")]
    reason: Annotated[str, Field(description="why this quantity, in one sentence")]
    remark: Annotated[str, Field(description="what to know of the input; empty for most")]
    on_hand_qty: float
    on_order_qty: float
    forecast_qty: Annotated[float, Field(description="expected demand until the next order can arrive")]
    order_value: float
    money_at_risk: Annotated[float, Field(description="expected cost of lost sales if nothing is ordered")]
    ledger: list[LedgerRow]


class OrderPlanAnswer(AnswerBody):
    """The order lines of one day."""

    as_of: date
    num_series_left_out: Annotated[int, Field(description="series of the dataset beyond the limit")]
    stock_is_assumed: Annotated[bool, Field(description="true: nobody gave the stock of that day")]
    notes: Annotated[
        list[str], Field(description="what the shop did not give and was assumed; what is late or unknown")
    ]
    model_versions: dict[str, str]
    lines: list[PlanLine]
