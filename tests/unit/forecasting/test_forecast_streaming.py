"""Forecasts written part by part are those of the whole, and no part is taken before the one before is written."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from forecast_panels import make_panel, untrained_forecaster

import forecasting.streaming
from cluster.panel import DemandPanel
from forecasting.streaming import write_forecasts


def test_rows_are_the_forecasts_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecasting.streaming, "_GROUP_SERIES", 4)
    panel = make_panel(num_series=11)
    forecaster = untrained_forecaster(panel)
    parts = [panel.take(np.arange(6)), panel.take(np.arange(6, 11))]
    path = tmp_path / "out.parquet"
    assert write_forecasts(forecaster, parts, path, levels=(0.3, 0.9), horizon=5) == 11
    table, wanted = pq.read_table(path), forecaster.predict(panel, horizon=5).at_levels([0.3, 0.9])
    assert table["item_id"].to_pylist() == panel.index.item_ids_S.tolist()
    np.testing.assert_allclose(table["mean_qty"].to_pylist(), wanted.mean_SH, rtol=1e-5)
    np.testing.assert_allclose(table["sum_0.9_qty"].to_pylist(), wanted.cumulative_SHQ[:, :, 1], rtol=1e-5)
    assert pq.ParquetFile(path).num_row_groups == 4  # of 4, 2, 4 and 1 series
    assert [file.name for file in tmp_path.iterdir()] == ["out.parquet"]


def test_a_part_is_taken_when_the_one_before_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    panel, seen = make_panel(num_series=6), []
    forecaster = untrained_forecaster(panel)
    predict = forecaster.predict

    def predicted(view: DemandPanel, *, horizon: int | None = None):
        seen.append("predicted")
        return predict(view, horizon=horizon)

    def parts() -> Iterator[DemandPanel]:
        for rows in (np.arange(3), np.arange(3, 6)):
            seen.append("taken")
            yield panel.take(rows)

    monkeypatch.setattr(forecaster, "predict", predicted)
    write_forecasts(forecaster, parts(), tmp_path / "out.parquet")
    assert seen == ["taken", "predicted"] * 2


def test_nothing_is_left_where_a_part_fails(tmp_path: Path) -> None:
    panel = make_panel(num_series=3)

    def parts() -> Iterator[DemandPanel]:
        yield panel
        raise OSError("a shard is gone")

    with pytest.raises(OSError, match="shard is gone"):
        write_forecasts(untrained_forecaster(panel), parts(), tmp_path / "out.parquet")
    assert list(tmp_path.iterdir()) == []
