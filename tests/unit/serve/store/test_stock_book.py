"""The stock book: counts, sales and receipts in any order, each told once; on SQLite and PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from planned_shop import TODAY, Shop, count_stock, tomorrow
from sqlalchemy import delete, func, select

from cluster.errors import ConflictError, DataError, StaleInputError
from serve.store.database import Database
from serve.store.intake import take_once
from serve.store.stock_book import (
    Count,
    Counted,
    Ordered,
    Received,
    Sold,
    book_receipts,
    book_sales,
    cancel_order,
    read_book,
    take_count,
)
from serve.store.tables import AuditRow, Batch, Movement, OpenOrder, OrderState, Stock

ITEM = "item-000"
SHOP = Shop(num_series=2)
ORDER = Ordered(open_order_id="po-1", item_id=ITEM, location_id="main", open_qty=10, expected_on=tomorrow())


def sell(database: Database, qty: float, *, on: date = TODAY, item_id: str = ITEM) -> dict[str, Any]:
    with database.writing() as session:
        sold = Sold(item_id=item_id, location_id="main", sold_qty=qty, sold_on=on)
        return book_sales(session, [sold], actor="till", source="batch")


def receive(database: Database, qty: float, *, on: date = TODAY, order_id: str = "po-1") -> dict[str, Any]:
    with database.writing() as session:
        receipt = Received(open_order_id=order_id, received_qty=qty, received_on=on)
        return book_receipts(session, [receipt], actor="dock", source="delivery")


def stock_of(database: Database, item_id: str = ITEM) -> tuple[float, float]:
    with database.reading() as session:
        row = session.get_one(Stock, (item_id, "main"))
        return row.on_hand_qty, row.backorder_qty


def order_of(database: Database, order_id: str = "po-1") -> OpenOrder:
    with database.reading() as session:
        return session.get_one(OpenOrder, order_id)


def test_a_sale_lowers_stock_and_what_is_not_there_is_owed(database: Database) -> None:
    count_stock(database, SHOP, on_hand_qty=5)
    assert sell(database, 3) == {"num_rows": 1, "num_series_changed": 1, "num_series_uncounted": 0}
    assert stock_of(database) == (2, 0)
    sell(database, 3)
    assert stock_of(database) == (0, 1)
    sell(database, -2)
    assert stock_of(database) == (1, 0)
    assert stock_of(database, "item-001") == (5, 0)


def test_a_receipt_moves_units_from_order_to_shelf(database: Database) -> None:
    count_stock(database, SHOP, on_hand_qty=1, open_orders=[ORDER])
    receive(database, 4)
    assert (stock_of(database), order_of(database).open_qty) == ((5, 0), 6)
    receive(database, 7)
    assert (stock_of(database), order_of(database).open_qty) == ((12, 0), 0)
    assert order_of(database).state == OrderState.RECEIVED
    with pytest.raises(ConflictError, match="is received"):
        receive(database, 1)
    with pytest.raises(DataError, match="no order 'po-9'"):
        receive(database, 1, order_id="po-9")


def test_sales_before_the_count_are_in_it(database: Database) -> None:
    count_stock(database, SHOP, on_hand_qty=5)
    assert sell(database, 3, on=tomorrow(-1))["num_series_changed"] == 0
    assert stock_of(database) == (5, 0)


def test_a_late_count_is_followed_by_what_moved_since(database: Database) -> None:
    count_stock(database, SHOP, on_hand_qty=9, counted_on=tomorrow(-1), open_orders=[ORDER])
    sell(database, 1, on=tomorrow(-1))
    sell(database, 2)
    receive(database, 3)
    receive(database, 1, on=tomorrow())
    sell(database, 1, on=tomorrow())
    assert stock_of(database) == (9, 0)
    count_stock(database, SHOP, on_hand_qty=20)
    # Today's receipt is in today's count; today's sales are not, nor is anything of tomorrow.
    assert stock_of(database) == (20 - 2 + 1 - 1, 0)


def test_a_part_of_a_count_leaves_the_rest(database: Database) -> None:
    count_stock(database, SHOP, on_hand_qty=5)
    part = Counted(item_id=ITEM, location_id="main", on_hand_qty=8, reserved_qty=1)
    with database.writing() as session:
        count = Count(counted_on=tomorrow(), stock=[part], open_orders=None, is_complete=False)
        take_count(session, count, actor="ann", source="cycle count")
    assert stock_of(database) == (8, 0)
    assert stock_of(database, "item-001") == (5, 0)
    count = Count(counted_on=TODAY, stock=[part], open_orders=None, is_complete=False)
    with pytest.raises(StaleInputError, match="send the count of 2024-05-01 or later"), database.writing() as session:
        take_count(session, count, actor="ann", source="cycle count")


def test_a_series_named_twice_is_refused_and_nothing_changes(database: Database) -> None:
    count_stock(database, SHOP, on_hand_qty=5)
    row = Counted(item_id=ITEM, location_id="main", on_hand_qty=8)
    count = Count(counted_on=tomorrow(), stock=[row, row], open_orders=None, is_complete=True)
    with pytest.raises(DataError, match="named twice"), database.writing() as session:
        take_count(session, count, actor="ann", source="test")
    assert stock_of(database) == (5, 0)


def test_orders_that_are_no_longer_reported_are_dropped(database: Database) -> None:
    count_stock(database, SHOP, open_orders=[ORDER])
    count_stock(database, SHOP)
    assert order_of(database).state == OrderState.OPEN
    count_stock(database, SHOP, open_orders=[])
    assert order_of(database).state == OrderState.CANCELLED
    with database.reading() as session:
        assert read_book(session).open_orders.num_rows == 0


def test_a_cancelled_order_does_not_count(database: Database) -> None:
    count_stock(database, SHOP, open_orders=[ORDER])
    with database.writing() as session:
        cancel_order(session, "po-1", actor="ann", reason="supplier has none")
    assert order_of(database).open_qty == 0
    with pytest.raises(ConflictError), database.writing() as session:
        cancel_order(session, "po-1", actor="ann", reason="again")


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    sales=st.lists(st.tuples(st.integers(-3, 9), st.integers(-1, 2)), max_size=6),
    counted=st.integers(0, 12),
    told_after=st.integers(0, 6),
)
def test_it_does_not_matter_when_the_count_is_told(
    database: Database, sales: list[tuple[int, int]], counted: int, told_after: int
) -> None:
    with database.writing() as session:
        for table in (Movement, Stock):
            session.execute(delete(table))
    for number, (qty, days) in enumerate(sales):
        if number == told_after:
            count_stock(database, SHOP, on_hand_qty=counted)
        sell(database, qty, on=TODAY + timedelta(days=days))
    if told_after >= len(sales):
        count_stock(database, SHOP, on_hand_qty=counted)
    on_hand, backorder = stock_of(database)
    assert on_hand >= 0
    assert backorder >= 0
    assert on_hand - backorder == counted - sum(qty for qty, days in sales if days >= 0)


def test_fifty_clients_tell_the_same_batches_at_once(database: Database) -> None:
    count_stock(database, SHOP, on_hand_qty=1_000, open_orders=[ORDER])
    sales = [Sold(item_id=ITEM, location_id="main", sold_qty=1, sold_on=TODAY)]
    receipts = [Received(open_order_id="po-1", received_qty=2, received_on=TODAY)]

    def tell(client: int) -> list[bool]:
        repeats = []
        for number in range(3):
            with database.writing() as session:
                _, is_repeat = take_once(
                    session,
                    kind="orders",
                    key=f"sale-{number}",
                    content=[number],
                    actor=f"c{client}",
                    act=lambda session=session: book_sales(session, sales, actor="till", source="batch"),
                )
            repeats.append(is_repeat)
            with database.writing() as session:
                _, is_repeat = take_once(
                    session,
                    kind="receipts",
                    key=f"receipt-{number}",
                    content=[number],
                    actor=f"c{client}",
                    act=lambda session=session: book_receipts(session, receipts, actor="dock", source="batch"),
                )
            repeats.append(is_repeat)
        return repeats

    with ThreadPoolExecutor(50) as clients:
        repeats = [is_repeat for row in clients.map(tell, range(50)) for is_repeat in row]
    assert repeats.count(False) == 6
    assert stock_of(database) == (1_000 - 3 + 6, 0)
    assert order_of(database).open_qty == 4
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Batch)) == 6
        taken = select(func.count()).where(AuditRow.action == "take")
        assert session.scalar(taken) == 6


def test_a_key_is_for_one_content(database: Database) -> None:
    with database.writing() as session:
        told = {"kind": "orders", "key": "k", "actor": "till"}
        first = take_once(session, content=[1], act=lambda: {"num": 1}, **told)
        again = take_once(session, content=[1], act=lambda: pytest.fail("done twice"), **told)
        assert (first, again) == (({"num": 1}, False), ({"num": 1}, True))
        with pytest.raises(ConflictError, match="give new content a new key"):
            take_once(session, content=[2], act=dict, **told)
