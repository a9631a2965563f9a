"""Small logs of what users did, as the tables that the data plane hands over."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from cluster.schema import EVENTS, ORDERS
from cluster.settings.models import RecommenderSettings
from recsys.interactions import Interactions, make_interactions

DAY_ZERO = datetime(2026, 1, 1, tzinfo=UTC)
ANYTHING = RecommenderSettings(min_item_users=1)


def at(day: float) -> datetime:
    return DAY_ZERO + timedelta(days=day)


def orders_of(
    lines: Iterable[tuple[str | None, str, str, float] | tuple[str | None, str, str, float, float]],
) -> pa.Table:
    """Rows (user, order, item, day) or (user, order, item, day, quantity)."""
    rows = [
        {
            "user_id": user,
            "order_id": order,
            "item_id": item,
            "ordered_at": at(day),
            "sold_qty": rest[0] if rest else 1.0,
        }
        for user, order, item, day, *rest in lines
    ]
    return pa.Table.from_pylist(rows, schema=ORDERS)


def events_of(
    rows: Iterable[tuple[str | None, str, float, str] | tuple[str | None, str, float, str, float]],
) -> pa.Table:
    """Rows (user, item, day, type) or (user, item, day, type, rating)."""
    filled = [
        {
            "user_id": user,
            "item_id": item,
            "occurred_at": at(day),
            "event_type": kind,
            "rating": rest[0] if rest else None,
        }
        for user, item, day, kind, *rest in rows
    ]
    return pa.Table.from_pylist(filled, schema=EVENTS)


def read(orders: pa.Table, events: pa.Table | None = None, *, until: float = 1_000) -> Interactions:
    return make_interactions(orders, events, until=at(until), settings=ANYTHING)


def random_orders(*, seed: int, num_users: int = 30, num_items: int = 12, num_baskets: int = 6) -> pa.Table:
    """Baskets of 1 to 4 items, one a week, with favourites per user."""
    rng = np.random.default_rng(seed)
    lines = []
    for user in range(num_users):
        favourites = rng.permutation(num_items)[:5]
        for basket in range(num_baskets):
            for item in rng.choice(favourites, size=rng.integers(1, 5), replace=False):
                lines.append((f"u{user:02d}", f"o{user}-{basket}", f"i{item:02d}", 7.0 * basket + rng.random()))
    return orders_of(lines)


def cycle_orders(*, num_users: int, num_items: int, length: int, seed: int) -> pa.Table:
    """Users who take item after item in a circle, each starting somewhere: only the order tells what comes next."""
    starts = np.random.default_rng(seed).integers(0, num_items, num_users)
    return orders_of(
        (f"u{user:03d}", f"o{user}-{step}", f"i{(start + step) % num_items:02d}", float(step))
        for user, start in enumerate(starts)
        for step in range(length)
    )
