"""Series as table rows: how a panel travels through Ray Data to the workers that train on it.

Imports no torch: the tasks that turn rows into features start quickly.

Shapes: S series, T history periods, X = T + periods known ahead, P promotion channels.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from cluster.panel import Calendar, DemandPanel, FloatArray, SeriesIndex
from forecasting.features import KnownRows, SeriesFeatures, make_features

_SHARED_FIELDS = ("holiday_X", "calendar_XK", "notice_periods", "season_periods")
"""Fields of :class:`SeriesFeatures` that are the same for every series."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedInputs:
    """The parts of a panel that all series share; small enough to send to every worker."""

    calendar: Calendar
    holiday_X: FloatArray
    promotion_names: tuple[str, ...]
    notice_periods: int
    yearly: bool


def series_table(panel: DemandPanel, *, known: KnownRows, seed: int) -> pa.Table:
    """One row per series, in random order: what Ray Data streams to the workers."""
    order = np.random.default_rng(seed).permutation(panel.num_series)
    panel, known = panel.take(order), known.take(order)
    columns = {
        "sales": _lists(panel.sales_ST),
        "in_stock": _lists(panel.in_stock_ST),
        "price": _lists(panel.price_ST),
        "promotion": _lists(panel.promotion_SXP.reshape(panel.num_series, -1)),
        "series_row": pa.array(known.series_row_S),
        "category_row": pa.array(known.category_row_S),
        "prior_level": pa.array(known.prior_level_S),
    }
    return pa.table(columns)


def _lists(value_ST: np.ndarray[Any, Any]) -> pa.Array:
    S, T = value_ST.shape
    offsets = pa.array(np.arange(S + 1, dtype=np.int64) * T)
    return pa.LargeListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(value_ST).reshape(-1)))


def features_of_table(rows: pa.Table, *, shared: SharedInputs) -> SeriesFeatures:
    """Inputs of the series in (a part of) a :func:`series_table`."""
    S, X, P = rows.num_rows, len(shared.holiday_X), len(shared.promotion_names)
    nameless = np.full(S, "")
    panel = DemandPanel(
        index=SeriesIndex(item_ids_S=nameless, location_ids_S=nameless, category_ids_S=nameless),
        calendar=shared.calendar,
        sales_ST=_matrix(rows, "sales"),
        in_stock_ST=_matrix(rows, "in_stock"),
        price_ST=_matrix(rows, "price"),
        promotion_SXP=_matrix(rows, "promotion").reshape(S, X, P),
        promotion_names=shared.promotion_names,
        holiday_X=shared.holiday_X,
        notice_periods=shared.notice_periods,
    )
    known = KnownRows(
        series_row_S=rows["series_row"].to_numpy(),
        category_row_S=rows["category_row"].to_numpy(),
        prior_level_S=rows["prior_level"].to_numpy(),
    )
    return make_features(panel, known=known, yearly=shared.yearly)


def _matrix(rows: pa.Table, name: str) -> np.ndarray[Any, Any]:
    column = rows[name].combine_chunks()
    flat = (pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column).flatten()
    return flat.to_numpy(zero_copy_only=False).reshape(rows.num_rows, -1)


def make_columns(rows: pa.Table, *, shared: SharedInputs) -> dict[str, np.ndarray[Any, Any]]:
    """Features of some series as tensor columns; what all series share, or is empty, stays behind."""
    features = features_of_table(rows, shared=shared)
    columns = {name: getattr(features, name) for name in SeriesFeatures.__dataclass_fields__}
    return {name: value for name, value in columns.items() if name not in _SHARED_FIELDS and value.size}


def features_of_columns(columns: dict[str, Any], *, template: SeriesFeatures) -> SeriesFeatures:
    """Undo :func:`make_columns`; ``template`` gives what it left behind."""
    num_series = len(columns["series_row_S"])
    empty: dict[str, Any] = {
        "promotion_SXP": np.zeros((num_series, *template.promotion_SXP.shape[1:]), dtype=np.float32)
    }
    return replace(template, **(empty | columns))
