"""A year of made-up order lines of any number, the same for the same seed: Parquet files as a shop would export them.

A file holds a slice of the year, so that the lines of every series are spread over all files. Per thousand lines: five
are sent twice, ten are whole returns of a customer's only purchase of the item, and three break a rule.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from cluster.config import Settings, load_settings

START_ON, NUM_DAYS = date(2024, 1, 1), 365
TODAY = date(2025, 6, 1)
_LINES_PER_SERIES = 300
_NUM_LOCATIONS = 5
_FILE_ROWS = 1_000_000
_ROW_GROUP = 250_000
_DAY_S = 86_400
_REPEATED, _RETURNED, _BROKEN = 0.005, 0.010, 0.003


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderLines:
    """How many lines of which seed; files may be smaller than a million lines, for runs of seconds."""

    num_rows: int
    seed: int = 0
    file_rows: int = _FILE_ROWS

    @property
    def num_items(self) -> int:
        """Items, each sold at five locations."""
        return max(self.num_rows // _LINES_PER_SERIES // _NUM_LOCATIONS, 1)

    def write(self, folder: Path) -> None:
        """Write the files; no more than one is in memory."""
        folder.mkdir(parents=True)
        for number, lines in enumerate(self._files()):
            lines.write_parquet(folder / f"orders-{number:05d}.parquet", row_group_size=_ROW_GROUP)

    def _files(self) -> Iterator[pl.DataFrame]:
        num_files = -(-self.num_rows // self.file_rows)
        for number in range(num_files):
            first = number * self.file_rows
            yield self._slice(number, num_files, min(self.file_rows, self.num_rows - first), first)

    def _slice(self, number: int, num_files: int, num_rows: int, first: int) -> pl.DataFrame:
        rng = np.random.default_rng([self.seed, number])
        extra = int(num_rows * _REPEATED), int(num_rows * _RETURNED)
        plain = num_rows - sum(extra)
        item_N = (self.num_items * rng.random(plain) ** 2).astype(np.int64)  # few sell much, many little
        begin_s, end_s = (NUM_DAYS * _DAY_S * part // num_files for part in (number, number + 1))
        quantity_N = 1 + rng.poisson(0.6, plain)
        second_N = rng.integers(begin_s, end_s, plain)
        lines = pl.DataFrame(
            {
                "order": first + np.arange(plain) // 3,
                "item": item_N,
                "location": rng.integers(_NUM_LOCATIONS, size=plain),
                "user": rng.integers(max(self.num_rows // 20, 1), size=plain),
                "second": second_N,
                "quantity": quantity_N.astype(np.float64),
                "price": np.round(1 + item_N % 97 * 0.5, 2) * np.where(second_N // _DAY_S % 30 < 3, 0.8, 1.0),
            }
        )
        lines = _with_returns(lines, rng, num_returns=extra[1], first_user=self.num_rows + first)
        repeated = lines[rng.choice(plain, extra[0], replace=False)]
        return _with_broken(_named(pl.concat([lines, repeated])), rng)


def shop_settings(orders: Path, home: Path, *overrides: str) -> Settings:
    """Settings that load those files. Customers keep their names: peers would have to hash them too."""
    keys = (f'home="{home}"', f'data.tables.orders.uri="{orders}"', "data.user_ids=plain", "data.holidays=")
    return load_settings(overrides=[*keys, *overrides])


def _with_returns(lines: pl.DataFrame, rng: np.random.Generator, *, num_returns: int, first_user: int) -> pl.DataFrame:
    """Give some lines a customer of their own, who brings everything back within twenty days."""
    rows = rng.choice(lines.height, num_returns, replace=False)
    user_N = lines["user"].to_numpy().copy()
    user_N[rows] = first_user + np.arange(num_returns)
    lines = lines.with_columns(pl.Series("user", user_N))
    later = (lines["second"][rows] + rng.integers(1, 20 * _DAY_S, num_returns)).clip(upper_bound=NUM_DAYS * _DAY_S - 1)
    sold = lines[rows]
    returns = sold.with_columns(-pl.col("quantity"), pl.Series("second", later), order=pl.col("order") + 2_000_000_000)
    return pl.concat([lines, returns.filter(later > sold["second"])])


def _named(lines: pl.DataFrame) -> pl.DataFrame:
    instant = pl.lit(START_ON).cast(pl.Datetime("us", "UTC")) + pl.duration(seconds="second")
    return lines.select(
        order_id=pl.format("o{}", "order"),
        item_id=pl.format("i{}", "item"),
        location_id=pl.format("l{}", "location"),
        user_id=pl.format("u{}", "user"),
        ordered_at=instant,
        sold_qty="quantity",
        amount=(pl.col("quantity") * pl.col("price")).round(2),
        unit_price="price",
    )


def _with_broken(lines: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """Break lines in four ways: quantity 0, no item, a negative price, a date before computers."""
    which = pl.Series(np.where(rng.random(lines.height) < _BROKEN, rng.integers(1, 5, lines.height), 0))
    long_ago = pl.lit(date(1970, 1, 1)).cast(pl.Datetime("us", "UTC"))
    return lines.with_columns(
        sold_qty=pl.when(which == 1).then(0.0).otherwise("sold_qty"),
        item_id=pl.when(which == 2).then(None).otherwise("item_id"),
        unit_price=pl.when(which == 3).then(-1.0).otherwise("unit_price"),
        ordered_at=pl.when(which == 4).then(long_ago).otherwise("ordered_at"),
    )
