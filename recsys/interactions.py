"""What users did, as one flat sequence per user in time order: what every recommender model reads.

Shapes: U users, I items, E events (all users one after the other), J some items.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from cluster.errors import DataError
from cluster.schema import Col
from cluster.settings.models import RecommenderSettings

IntArray = npt.NDArray[np.int64]
RowArray = npt.NDArray[np.int32]
CodeArray = npt.NDArray[np.int8]
StrArray = npt.NDArray[np.str_]

BEHAVIOURS: Final = ("view", "click", "cart", "purchase", "review", "poor review")
VIEW: Final = BEHAVIOURS.index("view")
PURCHASE: Final = BEHAVIOURS.index("purchase")
POOR_REVIEW: Final = BEHAVIOURS.index("poor review")
POOR_RATING: Final = 2.0
DAY_SECONDS: Final = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemAttributes:
    """What items are: categories, brand, any codes.

    Parameters
    ----------
    offset_I1, code_A
        Codes of item ``i`` are ``code_A[offset_I1[i]:offset_I1[i + 1]]``, numbered from 0.
    """

    offset_I1: IntArray
    code_A: IntArray

    @property
    def num_codes(self) -> int:
        """Different codes."""
        return int(self.code_A.max(initial=-1)) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Interactions:
    """Events of many users over one set of items, oldest first within a user.

    This class is the only place that knows which row is which user; models see row numbers.

    Parameters
    ----------
    user_ids_U, item_ids_I
        External ids, sorted. An item that is not here cannot be recommended.
    offset_U1
        Events of user ``u`` are ``offset_U1[u]:offset_U1[u + 1]``; shape (U + 1,).
    item_E, behaviour_E
        Row of the item, and position in :data:`BEHAVIOURS`.
    basket_E
        Number of the basket; grows along the events. An event outside an order is a basket of its own.
    time_E
        Seconds since 1970 in UTC; never decreases within a user.
    now_U
        Instant, in the same seconds, that ages count back from.
    attributes
        Of the items, where the shop tells them.
    """

    user_ids_U: StrArray
    item_ids_I: StrArray
    offset_U1: IntArray
    item_E: RowArray
    behaviour_E: CodeArray
    basket_E: RowArray
    time_E: IntArray
    now_U: IntArray
    attributes: ItemAttributes | None = None

    def __post_init__(self) -> None:
        if len(self.offset_U1) != self.num_users + 1 or len(self.now_U) != self.num_users:
            raise ValueError("offset_U1 must have one entry more than users, now_U one per user")
        lengths = {len(self.item_E), len(self.behaviour_E), len(self.basket_E), len(self.time_E)}
        if lengths != {int(self.offset_U1[-1])}:
            raise ValueError("item_E, behaviour_E, basket_E and time_E must have offset_U1[-1] entries each")

    @property
    def num_users(self) -> int:
        """Users, with or without events."""
        return len(self.user_ids_U)

    @property
    def num_items(self) -> int:
        """Items that may be recommended."""
        return len(self.item_ids_I)

    @property
    def num_events(self) -> int:
        """Events of all users."""
        return len(self.item_E)

    @property
    def user_E(self) -> IntArray:
        """Row of the user of each event."""
        return np.repeat(np.arange(self.num_users), np.diff(self.offset_U1))

    @property
    def age_days_E(self) -> npt.NDArray[np.float32]:
        """Days from each event to its user's ``now``; not negative."""
        seconds = self.now_U[self.user_E] - self.time_E
        return np.maximum(seconds / DAY_SECONDS, 0.0).astype(np.float32)

    @property
    def basket_start_E(self) -> npt.NDArray[np.bool_]:
        """Whether an event is the first of its basket."""
        return np.diff(self.basket_E, prepend=-1) != 0

    def user_rows(self, user_ids: Sequence[str] | StrArray) -> IntArray:
        """Row of each user, -1 for users that are not here."""
        return rows_of(self.user_ids_U, user_ids)

    def item_rows(self, item_ids: Sequence[str] | StrArray) -> IntArray:
        """Row of each item, -1 for items that are not here."""
        return rows_of(self.item_ids_I, item_ids)

    def take(self, rows: IntArray) -> "Interactions":
        """Events of the given users, in the given order; row -1 is a user without events."""
        known = rows >= 0
        start = np.where(known, self.offset_U1[rows], 0)
        length = np.where(known, self.offset_U1[rows + 1] - self.offset_U1[rows], 0)
        offset = np.concatenate([[0], np.cumsum(length)])
        picked = np.repeat(start - offset[:-1], length) + np.arange(offset[-1])
        # The same user may be asked for twice, so baskets are numbered anew.
        first = self.basket_start_E[picked]
        first[offset[:-1][length > 0]] = True
        latest = int(self.now_U.max(initial=0))
        return replace(
            self,
            user_ids_U=np.where(known, self.user_ids_U[rows], "") if self.num_users else np.full(len(rows), ""),
            offset_U1=offset,
            item_E=self.item_E[picked],
            behaviour_E=self.behaviour_E[picked],
            basket_E=(np.cumsum(first) - 1).astype(np.int32),
            time_E=self.time_E[picked],
            now_U=np.where(known, self.now_U[rows], latest) if self.num_users else np.zeros(len(rows), np.int64),
        )

    def keep(self, kept_E: npt.NDArray[np.bool_]) -> "Interactions":
        """Drop the events whose entry is False; users without events stay."""
        counts = np.bincount(self.user_E[kept_E], minlength=self.num_users)
        return replace(
            self,
            offset_U1=np.concatenate([[0], np.cumsum(counts)]),
            item_E=self.item_E[kept_E],
            behaviour_E=self.behaviour_E[kept_E],
            basket_E=self.basket_E[kept_E],
            time_E=self.time_E[kept_E],
        )

    def latest(self, limit: int) -> "Interactions":
        """At most the last ``limit`` events of each user."""
        position_E = np.arange(self.num_events)
        return self.keep(position_E >= (self.offset_U1[1:] - limit)[self.user_E])

    def before(self, instant: int) -> "Interactions":
        """What was known at an instant (seconds): earlier events, ages counted from it."""
        return replace(self.keep(self.time_E < instant), now_U=np.full(self.num_users, instant, dtype=np.int64))


def rows_of(sorted_ids: StrArray, ids: Sequence[str] | StrArray) -> IntArray:
    """Row of each id in a sorted array, -1 where it is not there."""
    wanted = np.asarray(ids, dtype=str)
    if not len(sorted_ids):
        return np.full(len(wanted), -1)
    rows = np.minimum(np.searchsorted(sorted_ids, wanted), len(sorted_ids) - 1)
    return np.where(sorted_ids[rows] == wanted, rows, -1)


def seconds_of(moment: date | datetime) -> int:
    """Seconds since 1970: a date means its midnight, a datetime without zone is UTC."""
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def make_interactions(
    orders: pa.Table,
    events: pa.Table | None = None,
    *,
    until: date | datetime,
    settings: RecommenderSettings,
) -> Interactions:
    """Sequences of all identified users from order lines and behaviour events before ``until``.

    Guests form no sequences, returns (negative quantity) are no purchases, a line written twice counts once and a
    purchase event that repeats an order line of the same day is dropped. A review of at most 2 stars becomes the
    behaviour 'poor review'. Items that fewer than ``settings.min_item_users`` users dealt with are left out.

    Parameters
    ----------
    orders, events
        Tables of the schemas ``ORDERS`` and ``EVENTS``.
    until
        First instant that is **not** read; a date means its midnight in UTC.

    Raises
    ------
    DataError
        If nothing is left to learn from.
    """
    cut = seconds_of(until)
    frame = read_behaviour(orders, events, until=cut)
    if frame.is_empty():
        raise DataError(
            f"no order line or event before {until} names a user, so there is nothing to recommend from; "
            "map user_id in [data.tables], or choose a later date"
        )
    users = frame.group_by("item").agg(pl.col("user").n_unique())
    known = users.filter(pl.col("user") >= settings.min_item_users)["item"]
    if known.is_empty():
        raise DataError(
            f"no item was dealt with by {settings.min_item_users} users before {until}; "
            "lower recommender.min_item_users or bring more history"
        )
    return index_behaviour(frame, item_ids=known.sort().to_numpy().astype(str), now=cut)


def read_behaviour(orders: pa.Table, events: pa.Table | None, *, until: int, since: int | None = None) -> pl.DataFrame:
    """Rows ``user, item, time, order, behaviour`` of identified users in ``since <= time < until`` (seconds)."""
    bought = _purchases(orders)
    parts = [bought]
    if events is not None and events.num_rows:
        other = _events(events)
        day = pl.col("time") // DAY_SECONDS
        told = bought.select("user", "item", day.alias("day"), pl.lit(PURCHASE, dtype=pl.Int8).alias("behaviour"))
        parts.append(
            other.with_columns(day.alias("day")).join(told, on=["user", "item", "day", "behaviour"], how="anti")
        )
    frame = pl.concat(parts, how="diagonal").filter(pl.col("time") < until)
    return frame if since is None else frame.filter(pl.col("time") >= since)


def index_behaviour(frame: pl.DataFrame, *, item_ids: StrArray, now: int) -> Interactions:
    """Arrays of the rows that :func:`read_behaviour` gives; items outside ``item_ids`` (sorted) are left out."""
    items = pl.DataFrame({"item": item_ids}).with_row_index("item_row")
    frame = frame.join(items, on="item", how="inner")
    users = frame.select(pl.col("user").unique().sort()).with_row_index("user_row")
    frame = (
        frame.join(users, on="user", how="inner")
        .unique(subset=["user_row", "order", "item_row", "behaviour", "time"])
        .sort("user_row", "time", "order", "item_row", "behaviour", nulls_last=True)
    )
    changed = pl.struct("user_row", "order").ne_missing(pl.struct("user_row", "order").shift())
    first = frame.select(changed | pl.col("order").is_null())
    counts = frame.group_by("user_row").len().sort("user_row")["len"].to_numpy()
    return Interactions(
        user_ids_U=users["user"].to_numpy().astype(str),
        item_ids_I=item_ids,
        offset_U1=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        item_E=frame["item_row"].to_numpy().astype(np.int32),
        behaviour_E=frame["behaviour"].to_numpy().astype(np.int8),
        basket_E=(np.cumsum(first.to_series().to_numpy()) - 1).astype(np.int32),
        time_E=frame["time"].to_numpy().astype(np.int64),
        now_U=np.full(len(users), now, dtype=np.int64),
    )


def _seconds(column: str) -> pl.Expr:
    return pl.col(column).dt.epoch("s")


def _purchases(orders: pa.Table) -> pl.DataFrame:
    wanted = [Col.USER_ID, Col.ITEM_ID, Col.ORDERED_AT, Col.ORDER_ID, Col.SOLD_QTY]
    frame = _frame(orders.select(wanted))
    frame = frame.filter(pl.col(Col.USER_ID).is_not_null() & (pl.col(Col.SOLD_QTY) > 0))
    return frame.select(
        pl.col(Col.USER_ID).alias("user"),
        pl.col(Col.ITEM_ID).alias("item"),
        # Lines of one basket may be scanned over minutes: the basket has one time, so that it stays together.
        _seconds(Col.ORDERED_AT).min().over(Col.USER_ID, Col.ORDER_ID).alias("time"),
        pl.col(Col.ORDER_ID).alias("order"),
        pl.lit(PURCHASE, dtype=pl.Int8).alias("behaviour"),
    )


def _events(events: pa.Table) -> pl.DataFrame:
    frame = _frame(events.select([Col.USER_ID, Col.ITEM_ID, Col.OCCURRED_AT, Col.EVENT_TYPE, Col.RATING]))
    codes = pl.DataFrame({Col.EVENT_TYPE: BEHAVIOURS}).with_columns(pl.int_range(pl.len(), dtype=pl.Int8).alias("code"))
    poor = (pl.col(Col.EVENT_TYPE) == "review") & (pl.col(Col.RATING) <= POOR_RATING)
    return (
        frame.filter(pl.col(Col.USER_ID).is_not_null())
        .join(codes, on=Col.EVENT_TYPE, how="inner")
        .select(
            pl.col(Col.USER_ID).alias("user"),
            pl.col(Col.ITEM_ID).alias("item"),
            _seconds(Col.OCCURRED_AT).alias("time"),
            pl.lit(None, dtype=pl.String).alias("order"),
            pl.when(poor).then(pl.lit(POOR_REVIEW, dtype=pl.Int8)).otherwise(pl.col("code")).alias("behaviour"),
        )
    )


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame
