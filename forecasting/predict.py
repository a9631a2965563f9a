"""The fitted forecaster: predicts any panel, saves and loads itself. Imports torch, never Ray.

Shapes: S series, T history periods, K origins, H horizon, Q quantile levels.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from cluster.errors import ArtifactError
from cluster.panel import DemandPanel, FloatArray, IntArray
from forecasting.features import KnownRows, SeriesFeatures, make_features
from forecasting.forecast import Forecast, join_series
from forecasting.learning_curve import EpochRow
from forecasting.model import NUM_HEADS, DemandNetwork, NetworkShape, Prediction, restore_network
from forecasting.vocabulary import Vocabulary
from forecasting.windows import Windows

_FORMAT = 3

_GROUP_SERIES, _LEAST_GROUP = 512, 64
_BATCH_ELEMENTS = 2_000_000
"""Attention weights held at once: bounds memory whatever the number of series, origins and periods ahead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollingQuestion:
    """From which periods to forecast, in order and each once, and how far ahead."""

    origins: IntArray
    horizon: int


class Forecaster:
    """Quantile forecasts of demand for any series, seen in training or not.

    A series that training has not seen is read by its history, category and covariates. One without any history is
    expected to sell like similar ones; one that has been there for long and never sold fades towards zero.

    Parameters
    ----------
    history
        The learning curve.
    """

    def __init__(self, network: DemandNetwork, *, vocabulary: Vocabulary, history: tuple[EpochRow, ...]) -> None:
        self.network, self.vocabulary, self.history = network.eval(), vocabulary, history

    @property
    def levels(self) -> tuple[float, ...]:
        """Quantile levels of every forecast."""
        return self.network.shape.levels

    @property
    def horizon(self) -> int:
        """The longest horizon, in periods."""
        return self.network.shape.horizon

    def predict(self, view: DemandPanel, *, horizon: int | None = None) -> Forecast:
        """Forecast the periods after a view: column 0 is period T of ``view``.

        Parameters
        ----------
        horizon
            Periods ahead, at most (and by default) that of training.

        Raises
        ------
        DataError
            If the view holds NaN, infinite or negative sales, or has periods of another length than training.
        """
        return self.predict_rolling(view, origins=[view.num_periods], horizon=horizon or self.horizon)[0]

    def predict_rolling(self, panel: DemandPanel, *, origins: Sequence[int], horizon: int) -> list[Forecast]:
        """Forecast from many origins at once; item k equals ``predict(panel.until(origins[k]))`` up to rounding.

        Parameters
        ----------
        origins
            Periods in 1..T at whose start a decision is taken.
        """
        return roll_in_groups(self, panel, origins=origins, horizon=horizon, forecast_group=self.forecast_group)

    def forecast_group(self, view: DemandPanel, features: SeriesFeatures, at: RollingQuestion) -> list[Forecast]:
        """Forecast some series from their inputs, once per origin; ``view`` is not read."""
        device = next(self.network.parameters()).device
        context = self.network.shape.context
        windows = Windows(features, context=context, horizon=at.horizon, device=device)
        out = _Output(len(features.first_sale_S), at=at, levels=self.levels)
        per_crop = min(len(at.origins), context) * at.horizon * 2 * context * NUM_HEADS
        with torch.inference_mode():
            for plan in windows.plans_at(at.origins, batch_size=max(1, _BATCH_ELEMENTS // per_crop)):
                batch = windows.cut(plan, target_end=0)
                place_K = np.searchsorted(at.origins, plan.origin_BK[0])
                out.put(self.network(batch), level_BK=batch.level_BK, rows=plan.row_B, place_K=place_K)
        return [out.forecast(k) for k in range(len(at.origins))]

    def read(self, panel: DemandPanel, *, group_series: int) -> Iterator[tuple[IntArray, SeriesFeatures]]:
        """What the network reads of a panel, so many series at a time: their rows and inputs.

        Raises
        ------
        DataError
            As :meth:`predict`.
        """
        self.vocabulary.check_periods(panel)
        known = self.vocabulary.rows(panel.index, price_S=panel.price_ST[:, 0])
        for rows in groups_of(panel.num_series, size=group_series):
            yield rows, self.features_of(panel.take(rows), known=known.take(rows))

    def features_of(self, panel: DemandPanel, *, known: KnownRows) -> SeriesFeatures:
        """Inputs of all series of a panel, given their rows in the vocabulary."""
        return make_features(self.vocabulary.aligned(panel), known=known, yearly=self.vocabulary.yearly)

    def save(self, folder: Path) -> None:
        """Write weights (safetensors), settings (JSON) and series (Parquet) into an existing folder."""
        document = {
            "format": _FORMAT,
            "shape": asdict(self.network.shape),
            "vocabulary": self.vocabulary.document(),
            "history": [asdict(row) for row in self.history],
        }
        weights = {name: value.detach().cpu().contiguous() for name, value in self.network.state_dict().items()}
        save_file(weights, str(folder / "weights.safetensors"))
        pq.write_table(self.vocabulary.series_table(), folder / "series.parquet")
        (folder / "forecaster.json").write_text(json.dumps(document, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "Forecaster":
        """Read a forecaster that :meth:`save` wrote; nothing is unpickled.

        Raises
        ------
        ArtifactError
            If a file is missing, damaged or of another format.
        """
        try:
            document = json.loads((folder / "forecaster.json").read_text())
            if document["format"] != _FORMAT:
                raise ValueError(f"format {document['format']}, this version reads {_FORMAT}")
            weights = load_file(str(folder / "weights.safetensors"))
            return _restore(document, series=pq.read_table(folder / "series.parquet"), weights=weights)
        except (OSError, SafetensorError, RuntimeError, LookupError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"forecaster in {folder} cannot be read ({type(error).__name__}: {str(error)[:200]}); "
                "name another version, or train it again with 'restock train forecaster'"
            ) from error


def groups_of(num_series: int, *, size: int) -> list[IntArray]:
    """Rows of all series in groups of at most so many."""
    return [np.arange(first, min(first + size, num_series)) for first in range(0, num_series, size)]


def roll_in_groups(
    forecaster: Forecaster,
    panel: DemandPanel,
    *,
    origins: Sequence[int],
    horizon: int,
    forecast_group: Callable[[DemandPanel, SeriesFeatures, RollingQuestion], list[Forecast]],
) -> list[Forecast]:
    """Forecast a panel some series at a time, on as many threads as torch uses; one forecast per origin.

    Parameters
    ----------
    forecaster
        Reads the inputs.
    forecast_group
        From some series and their inputs to one forecast per distinct origin.
    """
    if not origins:
        return []
    wanted = np.asarray(origins, dtype=np.int64)
    if wanted.min() < 1 or wanted.max() > panel.num_periods:
        raise ValueError(f"origins must be in 1..{panel.num_periods}, got {wanted.min()}..{wanted.max()}")
    if not 1 <= horizon <= forecaster.horizon:
        raise ValueError(f"horizon must be in 1..{forecaster.horizon}, the horizon of training; got {horizon}")
    distinct, position = np.unique(wanted, return_inverse=True)
    forecaster.vocabulary.check_periods(panel)
    known = forecaster.vocabulary.rows(panel.index, price_S=panel.price_ST[:, 0])
    at = RollingQuestion(origins=distinct, horizon=horizon)

    def forecast_rows(rows: IntArray) -> list[Forecast]:
        view = panel.take(rows)
        return forecast_group(view, forecaster.features_of(view, known=known.take(rows)), at)

    # A panel without series is one empty group, so that the answer has its shape.
    num_threads = torch.get_num_threads()
    size = min(_GROUP_SERIES, max(_LEAST_GROUP, -(-panel.num_series // num_threads)))
    groups = groups_of(panel.num_series, size=size) or [np.arange(0)]
    with ThreadPoolExecutor(max_workers=num_threads) as pool:
        made = list(pool.map(forecast_rows, groups))
    joined = [join_series([part[k] for part in made]) for k in range(len(distinct))]
    return [joined[int(k)] for k in position]


class _Output:
    """Arrays of all origins, filled batch by batch."""

    def __init__(self, num_series: int, *, at: RollingQuestion, levels: tuple[float, ...]) -> None:
        shape = (len(at.origins), num_series, at.horizon)
        self._levels_Q = np.asarray(levels, dtype=np.float32)
        self._mean_KSH = np.empty(shape, dtype=np.float32)
        self._marginal_KSHQ = np.empty((*shape, len(levels)), dtype=np.float32)
        self._cumulative_KSHQ = np.empty((*shape, len(levels)), dtype=np.float32)

    def put(self, prediction: Prediction, *, level_BK: torch.Tensor, rows: IntArray, place_K: IntArray) -> None:
        scale = level_BK[:, :, None]
        cell = np.ix_(place_K, rows)
        self._mean_KSH[cell] = _units(prediction.mean_BKH * scale)
        self._marginal_KSHQ[cell] = _units(prediction.marginal_BKHQ * scale[..., None])
        self._cumulative_KSHQ[cell] = _units(prediction.cumulative_BKHQ * scale[..., None])

    def forecast(self, k: int) -> Forecast:
        return Forecast(
            levels_Q=self._levels_Q,
            mean_SH=self._mean_KSH[k],
            marginal_SHQ=self._marginal_KSHQ[k],
            cumulative_SHQ=self._cumulative_KSHQ[k],
        )


def _units(value_BK: torch.Tensor) -> FloatArray:
    """Origins first, never below zero."""
    return value_BK.clamp_min(0.0).transpose(0, 1).cpu().numpy()


def _restore(document: dict[str, Any], *, series: pa.Table, weights: dict[str, torch.Tensor]) -> Forecaster:
    vocabulary = Vocabulary.restore(document["vocabulary"], series=series)
    shape = NetworkShape(**(document["shape"] | {"levels": tuple(document["shape"]["levels"])}))
    network = restore_network(shape, weights=weights)
    return Forecaster(network, vocabulary=vocabulary, history=tuple(EpochRow(**row) for row in document["history"]))
