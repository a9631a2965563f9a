"""What clients send and get about stock, receipts, customers' orders and orders to suppliers."""

from datetime import date
from typing import Annotated

from pydantic import Field, model_validator

from serve.schemas.fields import (
    MAX_ROWS,
    MAX_TOLD,
    MAX_UNITS,
    AnswerBody,
    Cursor,
    Day,
    Id,
    Limit,
    Moment,
    Next,
    RequestBody,
    Series,
    Units,
    example,
)
from serve.store.tables import OrderState


class CountedRow(Series):
    """Units of one series at the start of the day, receipts in."""

    on_hand_qty: Units
    reserved_qty: Units = 0.0
    backorder_qty: Units = 0.0


class ReportedOrder(Series):
    """An order that is still to come."""

    open_order_id: Id
    open_qty: Units
    expected_on: Annotated[Day, Field(description="on the shelf at the start of this day")]


class StockRequest(RequestBody):
    """A count of stock, and the orders that the shop's own system still expects."""

    model_config = example(
        {
            "counted_on": "2018-01-01",
            "stock": [{"item_id": "1082185", "on_hand_qty": 12}],
            "open_orders": [
                {"item_id": "1082185", "open_order_id": "po-17", "open_qty": 6, "expected_on": "2018-01-02"}
            ],
        }
    )

    counted_on: Annotated[Day, Field(description="older than what is known: 409")]
    stock: Annotated[list[CountedRow], Field(max_length=MAX_ROWS)]
    open_orders: Annotated[
        list[ReportedOrder] | None, Field(max_length=MAX_ROWS, description="null: nothing is said of them")
    ] = None
    is_complete: Annotated[
        bool, Field(strict=True, description="true: series without a row have no stock, orders without one are closed")
    ] = True


class SaleRow(Series):
    """Units that a customer bought; negative: brought back."""

    sold_qty: Annotated[
        float, Field(strict=True, ge=-MAX_UNITS, le=MAX_UNITS, allow_inf_nan=False, description="units")
    ]
    ordered_at: Annotated[Moment | None, Field(description="default: now")] = None
    user_id: Annotated[Id | None, Field(description="customer: the next recommendations follow it")] = None


class OrdersRequest(RequestBody):
    """Customers' orders."""

    model_config = example({"orders": [{"item_id": "1082185", "sold_qty": 2, "user_id": "1"}]})

    orders: Annotated[list[SaleRow], Field(min_length=1, max_length=MAX_TOLD)]


class ReceiptRow(RequestBody):
    """Units of an order that are on the shelf now."""

    open_order_id: Id
    received_qty: Annotated[float, Field(strict=True, gt=0, le=MAX_UNITS, allow_inf_nan=False, description="units")]
    received_on: Annotated[Day | None, Field(description="default: today")] = None


class ReceiptsRequest(RequestBody):
    """Deliveries."""

    receipts: Annotated[list[ReceiptRow], Field(min_length=1, max_length=MAX_TOLD)]

    @model_validator(mode="after")
    def _each_once(self) -> "ReceiptsRequest":
        names = [row.open_order_id for row in self.receipts]
        if len(set(names)) < len(names):
            raise ValueError("an order is named twice; add its units up")
        return self


class StockTaken(AnswerBody):
    """What is known after a count."""

    counted_on: date
    num_series: int
    on_hand_qty: float
    open_qty: float
    is_repeat: Annotated[bool, Field(description="true: told before under this key; nothing was changed")]


class MovesTaken(AnswerBody):
    """What sales or receipts changed."""

    num_rows: int
    num_series_changed: int
    num_series_uncounted: Annotated[int, Field(description="series whose stock nobody has counted")]
    is_repeat: Annotated[bool, Field(description="true: told before under this key; nothing was changed")]


class StockLevel(AnswerBody):
    """Units of a series now."""

    item_id: str
    location_id: str
    on_hand_qty: float
    reserved_qty: float
    backorder_qty: float
    counted_on: Annotated[date, Field(description="day of the count that later moves were added to")]


class StockLevels(AnswerBody):
    """Stock by series."""

    stock: list[StockLevel]
    next: Next


class StockQuery(RequestBody):
    """Whose stock."""

    item_id: Id | None = None
    limit: Limit = 100
    after: Cursor = None


class OpenOrder(AnswerBody):
    """An order to a supplier."""

    open_order_id: str
    line_id: Annotated[str | None, Field(description="plan line that it was approved as; null: of the shop's system")]
    item_id: str
    location_id: str
    state: OrderState
    open_qty: float
    received_qty: float
    expected_on: date


class OpenOrders(AnswerBody):
    """Orders by name."""

    open_orders: list[OpenOrder]
    next: Next


class OpenOrderQuery(RequestBody):
    """Which orders; by default those that are still to come."""

    item_id: Id | None = None
    state: OrderState | None = None
    limit: Limit = 100
    after: Cursor = None


class OrderCancelled(AnswerBody):
    """An order that will not come."""

    open_order_id: str
    state: OrderState
    open_qty: float
    expected_on: date
