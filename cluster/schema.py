"""The contract of every table: one Arrow schema each, unit and description on every field.

Columns that are not nullable must be there; nullable ones may be missing and are then filled with nulls.
"""

from typing import Final

import pyarrow as pa

DAY: Final = pa.date32()
INSTANT: Final = pa.timestamp("us", tz="UTC")
TEXT: Final = pa.string()
NUMBER: Final = pa.float64()


class Col:
    """Column names, written once."""

    ORDER_ID = "order_id"
    ITEM_ID = "item_id"
    LOCATION_ID = "location_id"
    USER_ID = "user_id"
    ORDERED_AT = "ordered_at"
    SOLD_QTY = "sold_qty"
    AMOUNT = "amount"
    UNIT_PRICE = "unit_price"
    EVENT_ID = "event_id"
    SESSION_ID = "session_id"
    OCCURRED_AT = "occurred_at"
    EVENT_TYPE = "event_type"
    RATING = "rating"
    TEXT = "text"
    NAME = "name"
    CATEGORY_ID = "category_id"
    BRAND = "brand"
    DESCRIPTION = "description"
    LAUNCHED_ON = "launched_on"
    COUNTRY = "country"
    STORAGE_CAPACITY_QTY = "storage_capacity_qty"
    ON_HAND_QTY = "on_hand_qty"
    RESERVED_QTY = "reserved_qty"
    BACKORDER_QTY = "backorder_qty"
    SNAPSHOT_ON = "snapshot_on"
    OPEN_ORDER_ID = "open_order_id"
    OPEN_QTY = "open_qty"
    EXPECTED_ON = "expected_on"
    SUPPLIER_ID = "supplier_id"
    LEAD_TIME_DAYS = "lead_time_days"
    REVIEW_PERIOD_DAYS = "review_period_days"
    NEXT_REVIEW_ON = "next_review_on"
    MIN_ORDER_QTY = "min_order_qty"
    PACK_SIZE_QTY = "pack_size_qty"
    ORDER_CAP_QTY = "order_cap_qty"
    UNIT_COST = "unit_cost"
    HOLDING_COST = "holding_cost"
    LOST_SALE_COST = "lost_sale_cost"
    FIXED_ORDER_COST = "fixed_order_cost"
    PROMOTION_TYPE = "promotion_type"
    START_ON = "start_on"
    END_ON = "end_on"
    INTENSITY = "intensity"
    ANNOUNCED_ON = "announced_on"
    DATE_ON = "date_on"
    SIGNAL = "signal"
    VALUE = "value"


EVENT_TYPES: Final = ("view", "click", "cart", "purchase", "review")
SIGNALS: Final = ("holiday", "price_index", "feedback")
DEFAULT_LOCATION: Final = "main"
DEFAULT_CATEGORY: Final = "uncategorised"


def _field(name: str, kind: pa.DataType, unit: str, description: str, *, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"unit": unit, "description": description})


def _item(*, nullable: bool = False) -> pa.Field:
    return _field(Col.ITEM_ID, TEXT, "id", "product", nullable=nullable)


def _location(description: str = f"place that holds the stock; '{DEFAULT_LOCATION}' if not given") -> pa.Field:
    return _field(Col.LOCATION_ID, TEXT, "id", description, nullable=True)


ORDERS: Final = pa.schema(
    [
        _field(Col.ORDER_ID, TEXT, "id", "order, basket or invoice; lines of one order share it"),
        _item(),
        _location(),
        _field(Col.USER_ID, TEXT, "id", "customer; null for guests", nullable=True),
        _field(Col.ORDERED_AT, INSTANT, "UTC instant", "when the order was placed"),
        _field(Col.SOLD_QTY, NUMBER, "units", "units sold; negative for a return"),
        _field(Col.AMOUNT, NUMBER, "currency", "paid for the line; quantity x price if not given", nullable=True),
        _field(
            Col.UNIT_PRICE,
            NUMBER,
            "currency per unit",
            "price of one unit; amount / quantity if not given",
            nullable=True,
        ),
    ]
)

EVENTS: Final = pa.schema(
    [
        _field(Col.EVENT_ID, TEXT, "id", "event; makes a repeated delivery recognisable", nullable=True),
        _field(Col.USER_ID, TEXT, "id", "customer; null for visitors", nullable=True),
        _field(Col.SESSION_ID, TEXT, "id", "visit", nullable=True),
        _item(),
        _field(Col.OCCURRED_AT, INSTANT, "UTC instant", "when it happened"),
        _field(Col.EVENT_TYPE, TEXT, "one of " + ", ".join(EVENT_TYPES), "what the user did"),
        _field(Col.RATING, NUMBER, "1..5", "stars of a review", nullable=True),
        _field(Col.TEXT, TEXT, "text", "words of a review", nullable=True),
    ]
)

ITEMS: Final = pa.schema(
    [
        _item(),
        _field(Col.NAME, TEXT, "text", "title that users see", nullable=True),
        _field(Col.CATEGORY_ID, TEXT, "id", f"product category; '{DEFAULT_CATEGORY}' if not given", nullable=True),
        _field(Col.BRAND, TEXT, "text", "brand or maker", nullable=True),
        _field(Col.DESCRIPTION, TEXT, "text", "longer text", nullable=True),
        _field(Col.LAUNCHED_ON, DAY, "date", "first day of sale", nullable=True),
    ]
)

LOCATIONS: Final = pa.schema(
    [
        _field(Col.LOCATION_ID, TEXT, "id", "place that holds stock"),
        _field(Col.NAME, TEXT, "text", "its name", nullable=True),
        _field(Col.COUNTRY, TEXT, "ISO 3166", "country, for holidays", nullable=True),
        _field(Col.STORAGE_CAPACITY_QTY, NUMBER, "units", "most that it can hold", nullable=True),
    ]
)

STOCK: Final = pa.schema(
    [
        _item(),
        _location(),
        _field(Col.ON_HAND_QTY, NUMBER, "units", "on the shelf, including reserved units"),
        _field(Col.RESERVED_QTY, NUMBER, "units", "promised, not for sale", nullable=True),
        _field(Col.BACKORDER_QTY, NUMBER, "units", "owed to customers", nullable=True),
        _field(Col.SNAPSHOT_ON, DAY, "date", "counted at the start of this day, after receipts"),
    ]
)

OPEN_ORDERS: Final = pa.schema(
    [
        _field(Col.OPEN_ORDER_ID, TEXT, "id", "purchase order line", nullable=True),
        _item(),
        _location(),
        _field(Col.OPEN_QTY, NUMBER, "units", "ordered and not yet received"),
        _field(Col.EXPECTED_ON, DAY, "date", "on the shelf at the start of this day"),
    ]
)

SUPPLY_TERMS: Final = pa.schema(
    [
        _item(),
        _location(),
        _field(Col.SUPPLIER_ID, TEXT, "id", "who delivers", nullable=True),
        _field(Col.LEAD_TIME_DAYS, NUMBER, "days", "from order to shelf", nullable=True),
        _field(Col.REVIEW_PERIOD_DAYS, NUMBER, "days", "between two orders", nullable=True),
        _field(
            Col.NEXT_REVIEW_ON,
            DAY,
            "date",
            "an order day; others follow every review period; any if null",
            nullable=True,
        ),
        _field(Col.MIN_ORDER_QTY, NUMBER, "units", "minimum order quantity", nullable=True),
        _field(Col.PACK_SIZE_QTY, NUMBER, "units", "orders are multiples of it", nullable=True),
        _field(Col.ORDER_CAP_QTY, NUMBER, "units", "most per order", nullable=True),
        _field(Col.STORAGE_CAPACITY_QTY, NUMBER, "units", "most on hand and on order", nullable=True),
        _field(Col.UNIT_COST, NUMBER, "currency per unit", "purchase price", nullable=True),
        _field(Col.HOLDING_COST, NUMBER, "currency per unit and day", "keeping one unit for one day", nullable=True),
        _field(Col.LOST_SALE_COST, NUMBER, "currency per unit", "one unit of demand not met", nullable=True),
        _field(
            Col.FIXED_ORDER_COST, NUMBER, "currency per order line", "placing and receiving one line", nullable=True
        ),
    ]
)

PROMOTIONS: Final = pa.schema(
    [
        _item(),
        _location("place where it runs; everywhere if not given"),
        _field(Col.PROMOTION_TYPE, TEXT, "text", "channel: display, mailer, price, ..."),
        _field(Col.START_ON, DAY, "date", "first day"),
        _field(Col.END_ON, DAY, "date", "last day"),
        _field(Col.INTENSITY, NUMBER, "0..1", "share of the audience reached; 1 if not given", nullable=True),
        _field(
            Col.ANNOUNCED_ON, DAY, "date", "known from this day; data.notice_periods ahead if not given", nullable=True
        ),
    ]
)

MARKET: Final = pa.schema(
    [
        _field(Col.DATE_ON, DAY, "date", "day that the signal speaks of"),
        _field(Col.SIGNAL, TEXT, "one of " + ", ".join(SIGNALS), "kind of signal"),
        _field(Col.VALUE, NUMBER, "1 for a holiday, index, or score", "its value"),
    ]
)

TABLES: Final[dict[str, pa.Schema]] = {
    "orders": ORDERS,
    "events": EVENTS,
    "items": ITEMS,
    "locations": LOCATIONS,
    "stock": STOCK,
    "open_orders": OPEN_ORDERS,
    "supply_terms": SUPPLY_TERMS,
    "promotions": PROMOTIONS,
    "market": MARKET,
}
