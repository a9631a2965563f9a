"""The stock book as the planner reads it: from the database, or as it was last read while the database is down."""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa

from cluster.config import Settings
from cluster.dataset import Dataset
from cluster.schema import OPEN_ORDERS, STOCK, Col
from serve.store.database import DatabaseDownError, open_database
from serve.store.history import SeriesKey
from serve.store.intake import adopt_stock
from serve.store.stock_book import read_book

_log = logging.getLogger("restock.serve")


@dataclass(frozen=True, slots=True, kw_only=True)
class BookRows:
    """Stock and open orders of some series; ``known_at`` where they are as of an earlier moment.

    Parameters
    ----------
    counted_on
        Day of the latest count of any series; None where nobody has counted, and ``stock`` is None.
    """

    counted_on: date | None
    stock: pa.Table | None
    open_orders: pa.Table
    known_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    stock: list[dict[str, Any]]
    open_orders: list[dict[str, Any]]


class BookView:
    """Reads the book of one dataset's series; its stock is taken into the book first, unless that is newer."""

    def __init__(self, settings: Settings, dataset: Dataset) -> None:
        self._database = open_database(settings)
        self._dataset = dataset
        self._is_adopted = False
        self._known: dict[SeriesKey, _Known] = {}
        self._known_at: datetime | None = None
        self._counted_on: date | None = None
        self._lock = threading.Lock()

    def read(self, keys: Sequence[SeriesKey]) -> BookRows:
        """Rows of the given series now; if the database does not answer, as they were last read."""
        try:
            with self._lock:
                return self._read(keys)
        except DatabaseDownError as error:
            _log.warning("planner: %s; the stock that was last read is used", error)
            found = [self._known[key] for key in keys if key in self._known]
            return self._remembered(found)

    def adopt(self) -> None:
        """Take the dataset's stock into the book, if that was not done.

        Raises
        ------
        DatabaseDownError
            If the database does not answer.
        """
        if not self._is_adopted:
            adopt_stock(self._database, self._dataset)
            self._is_adopted = True

    def close(self) -> None:
        """Close idle connections."""
        self._database.close()

    def _read(self, keys: Sequence[SeriesKey]) -> BookRows:
        self.adopt()
        with self._database.reading() as session:
            book = read_book(session, keys)
        self._known_at, self._counted_on = datetime.now(UTC), book.counted_on
        self._known |= {key: _Known(stock=[], open_orders=[]) for key in keys}
        for row in book.stock.to_pylist() if book.stock is not None else ():
            self._known[row[Col.ITEM_ID], row[Col.LOCATION_ID]].stock.append(row)
        for row in book.open_orders.to_pylist():
            self._known[row[Col.ITEM_ID], row[Col.LOCATION_ID]].open_orders.append(row)
        return BookRows(counted_on=book.counted_on, stock=book.stock, open_orders=book.open_orders, known_at=None)

    def _remembered(self, found: Sequence[_Known]) -> BookRows:
        stock = [row for known in found for row in known.stock]
        orders = [row for known in found for row in known.open_orders]
        return BookRows(
            counted_on=self._counted_on,
            stock=None if self._counted_on is None else pa.Table.from_pylist(stock, STOCK),
            open_orders=pa.Table.from_pylist(orders, OPEN_ORDERS),
            known_at=self._known_at or datetime.now(UTC),
        )
