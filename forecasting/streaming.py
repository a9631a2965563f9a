"""Forecasts of more series than fit in memory, written to Parquet as they are made.

Shapes: S series, H horizon, Q quantile levels.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.panel import DemandPanel, FloatArray
from forecasting.predict import groups_of
from forecasting.team import ServedForecaster

_GROUP_SERIES = 4_096
DEFAULT_LEVELS = (0.5, 0.9)


def write_forecasts(
    forecaster: ServedForecaster,
    panels: Iterable[DemandPanel],
    path: Path,
    *,
    levels: Sequence[float] = DEFAULT_LEVELS,
    horizon: int | None = None,
) -> int:
    """Forecast the periods after each panel and write one row per series; returns their number.

    Memory holds one panel and the forecasts of 4,096 of its series at a time. The file appears when it is complete.

    Parameters
    ----------
    panels
        Parts of a shop, each taken when the one before is written.
    levels
        Quantile levels of sums to write, within the forecaster's own.

    Returns
    -------
    Rows written. Columns: ``item_id``, ``location_id``, ``from_on`` (first day), ``mean_qty`` (of each period) and, for
    each level, ``sum_<level>_qty`` (quantile of demand summed up to each period); the last ones are lists over periods.

    Raises
    ------
    ValueError, DataError
        As :meth:`forecasting.predict.Forecaster.predict` and :meth:`forecasting.forecast.Forecast.at_levels`.
    """
    schema = _schema(levels)
    beside = path.with_name(f".{path.name}.tmp")
    written = 0
    try:
        with pq.ParquetWriter(beside, schema, compression="zstd") as writer:
            for panel in panels:
                for rows in groups_of(panel.num_series, size=_GROUP_SERIES):
                    part = panel.take(rows)
                    writer.write_table(_table(forecaster, part, levels=levels, horizon=horizon, schema=schema))
                    written += part.num_series
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return written


def _schema(levels: Sequence[float]) -> pa.Schema:
    ids = [("item_id", pa.string()), ("location_id", pa.string()), ("from_on", pa.date32())]
    quantities = ["mean_qty", *(f"sum_{level:g}_qty" for level in levels)]
    return pa.schema([*ids, *((name, pa.list_(pa.float32())) for name in quantities)])


def _table(
    forecaster: ServedForecaster,
    panel: DemandPanel,
    *,
    levels: Sequence[float],
    horizon: int | None,
    schema: pa.Schema,
) -> pa.Table:
    forecast = forecaster.predict(panel, horizon=horizon).at_levels(levels)
    from_on = panel.calendar.date_on(panel.num_periods)
    columns = [
        pa.array(panel.index.item_ids_S.tolist(), pa.string()),
        pa.array(panel.index.location_ids_S.tolist(), pa.string()),
        pa.array([from_on] * panel.num_series, pa.date32()),
        _lists(forecast.mean_SH),
        *(_lists(forecast.cumulative_SHQ[:, :, q]) for q in range(len(levels))),
    ]
    return pa.table(columns, schema=schema)


def _lists(value_SH: FloatArray) -> pa.Array:
    S, H = value_SH.shape
    return pa.ListArray.from_arrays(
        np.arange(S + 1, dtype=np.int32) * H, pa.array(np.ascontiguousarray(value_SH).reshape(-1), pa.float32())
    )
