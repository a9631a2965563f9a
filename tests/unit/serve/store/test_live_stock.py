"""What is on the shelf, as changes since the last look; on SQLite and PostgreSQL."""

from planned_shop import TODAY

from serve.store.database import Database
from serve.store.intake import take_once
from serve.store.live_stock import StockReader
from serve.store.stock_book import Count, Counted, Sold, book_sales, take_count


def count(database: Database, units: dict[tuple[str, str], tuple[float, float]], *, is_complete: bool = True) -> None:
    stock = [
        Counted(item_id=item_id, location_id=place, on_hand_qty=on_hand, reserved_qty=reserved)
        for (item_id, place), (on_hand, reserved) in units.items()
    ]
    told = Count(counted_on=TODAY, stock=stock, open_orders=None, is_complete=is_complete)
    with database.writing() as session:
        take_once(
            session,
            kind="stock",
            key=str(units),
            content=str(units),
            actor="till",
            act=lambda: take_count(session, told, actor="till", source="count"),
        )


def sell(database: Database, item_id: str, qty: float) -> None:
    with database.writing() as session:
        sold = Sold(item_id=item_id, location_id="main", sold_qty=qty, sold_on=TODAY)
        book_sales(session, [sold], actor="till", source="batch")


def look(database: Database, reader: StockReader) -> dict[str, bool]:
    with database.reading() as session:
        return reader.read(session)


def test_nothing_is_said_of_what_nobody_counted(database: Database) -> None:
    reader = StockReader()
    assert look(database, reader) == {}
    sell(database, "a", 1)
    assert look(database, reader) == {}


def test_units_of_all_places_count_and_reserved_ones_do_not(database: Database) -> None:
    reader = StockReader()
    count(database, {("a", "main"): (0, 0), ("a", "north"): (2, 0), ("b", "main"): (3, 3), ("c", "main"): (3, 2)})
    assert look(database, reader) == {"a": True, "b": False, "c": True}
    assert look(database, reader) == {}


def test_a_sale_tells_of_its_items_only(database: Database) -> None:
    reader = StockReader()
    count(database, {("a", "main"): (2, 0), ("b", "main"): (1, 0)})
    look(database, reader)
    sell(database, "a", 1)
    assert look(database, reader) == {"a": True}
    sell(database, "a", 1)
    assert look(database, reader) == {"a": False}


def test_a_new_count_counts_and_what_it_does_not_name_is_not_there(database: Database) -> None:
    reader = StockReader()
    count(database, {("a", "main"): (2, 0), ("b", "main"): (0, 0)})
    look(database, reader)
    count(database, {("b", "main"): (5, 0)})
    assert look(database, reader) == {"a": False, "b": True}
    count(database, {("a", "main"): (1, 0)}, is_complete=False)
    assert look(database, reader) == {"a": True, "b": True}
