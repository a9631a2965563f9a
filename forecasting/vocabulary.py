"""Names that a fitted forecaster knows, and how an unknown one is read.

Shapes: S series, R reference series, X history and announced periods, P promotion channels.
"""

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import DataError
from cluster.panel import DemandPanel, FloatArray, IntArray, SeriesIndex
from forecasting.features import KnownRows
from forecasting.new_items import ItemTraits, SimilarItems

_SIMILAR_SCALARS = ("traits", "mean_log", "offset", "greatest", "log_spread", "dispersion", "mean_factor")


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """What the forecaster knows by name: series and their prior level, categories, promotion channels, calendar.

    Parameters
    ----------
    prior_levels
        What series similar to each one sold, units per period.
    similar
        From which series the prior level of an unknown one is read.
    """

    item_ids: tuple[str, ...]
    location_ids: tuple[str, ...]
    prior_levels: tuple[float, ...]
    category_ids: tuple[str, ...]
    similar: SimilarItems = field(compare=False)
    promotion_names: tuple[str, ...]
    period_days: int
    yearly: bool

    def rows(self, index: SeriesIndex, *, price_S: FloatArray | None = None) -> KnownRows:
        """Translate the ids of a panel; unknown ones get row 0 and a prior level from similar series.

        Parameters
        ----------
        price_S
            Listed price of each series, for how similar it is to others; read of unknown series only.
        """
        series_of = {pair: row for row, pair in enumerate(zip(self.item_ids, self.location_ids, strict=True), start=1)}
        category_of = {category: row for row, category in enumerate(self.category_ids, start=1)}
        pairs = zip(index.item_ids_S.tolist(), index.location_ids_S.tolist(), strict=True)
        series_row_S = np.array([series_of.get(pair, 0) for pair in pairs], dtype=np.int64)
        return KnownRows(
            series_row_S=series_row_S,
            category_row_S=np.array([category_of.get(c, 0) for c in index.category_ids_S.tolist()], dtype=np.int64),
            prior_level_S=self._prior_level_S(make_traits(index, price_S=price_S), series_row_S=series_row_S),
        )

    def _prior_level_S(self, traits: ItemTraits, *, series_row_S: IntArray) -> FloatArray:
        """The stored level of a known series; that of an unknown one is worked out from its traits."""
        level_S = np.array([0.0, *self.prior_levels], dtype=np.float32)[series_row_S]
        unknown_S = np.flatnonzero(series_row_S == 0)
        if len(unknown_S):
            level_S[unknown_S] = self.similar.prior(traits.take(unknown_S)).level_S
        return level_S

    def document(self) -> dict[str, Any]:
        """What :meth:`restore` needs besides the table of series, as plain JSON values."""
        per_series = {"item_ids", "location_ids", "prior_levels", "similar"}
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in per_series}
        return own | {"similar": {name: getattr(self.similar, name) for name in _SIMILAR_SCALARS}}

    def series_table(self) -> pa.Table:
        """Ids and prior level of every series; price, category and weight of those that unknown ones are read from."""
        index, weight_R = self.similar.known.index, self.similar.weight_R
        rows = zip(index.item_ids_S.tolist(), index.location_ids_S.tolist(), range(len(index)), strict=True)
        reference_of = {(item, location): row for item, location, row in rows}
        reference = pa.array(map(reference_of.get, zip(self.item_ids, self.location_ids, strict=True)), pa.int64())
        given = {
            "similar_category": pa.array(index.category_ids_S.tolist(), pa.string()),
            "similar_price": pa.array(self.similar.known.price_S.tolist(), pa.float64()),
            "similar_weight": pa.array(weight_R.tolist(), pa.float64()),
        }
        columns = {"item_id": self.item_ids, "location_id": self.location_ids}
        return pa.table(
            {name: pa.array(values, pa.string()) for name, values in columns.items()}
            | {"prior_level": pa.array(self.prior_levels, pa.float64())}
            | {name: values.take(reference) for name, values in given.items()}
        )

    @classmethod
    def restore(cls, document: dict[str, Any], *, series: pa.Table) -> "Vocabulary":
        """Undo :meth:`document` and :meth:`series_table`."""
        own: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in document.items()}
        references = series.filter(pc.is_valid(series["similar_weight"]))
        index = SeriesIndex(
            item_ids_S=np.array(references["item_id"].to_pylist(), dtype=np.str_),
            location_ids_S=np.array(references["location_id"].to_pylist(), dtype=np.str_),
            category_ids_S=np.array(references["similar_category"].to_pylist(), dtype=np.str_),
        )
        scalars = own.pop("similar")
        return cls(
            item_ids=tuple(series["item_id"].to_pylist()),
            location_ids=tuple(series["location_id"].to_pylist()),
            prior_levels=tuple(series["prior_level"].to_pylist()),
            similar=SimilarItems(
                known=make_traits(index, price_S=references["similar_price"].to_numpy().astype(np.float32)),
                weight_R=references["similar_weight"].to_numpy(),
                left_out_level_R=references["prior_level"].to_numpy().astype(np.float32),
                **(scalars | {"traits": tuple(scalars["traits"])}),
            ),
            **own,
        )

    def check_periods(self, panel: DemandPanel) -> None:
        """Refuse a panel whose periods have another length than those of training.

        Raises
        ------
        DataError
            Naming both lengths.
        """
        if panel.calendar.period_days != self.period_days:
            raise DataError(
                f"the panel has periods of {panel.calendar.period_days} days, the forecaster was trained on "
                f"{self.period_days}; set data.frequency to match, or train again"
            )

    def aligned(self, panel: DemandPanel) -> DemandPanel:
        """Promotion channels in the order of training; a channel that the panel lacks is 0, a new one is not read."""
        if panel.promotion_names == self.promotion_names:
            return panel
        S, X, _ = panel.promotion_SXP.shape
        promotion_SXP = np.zeros((S, X, len(self.promotion_names)), dtype=np.float32)
        for column, name in enumerate(self.promotion_names):
            if name in panel.promotion_names:
                promotion_SXP[:, :, column] = panel.promotion_SXP[:, :, panel.promotion_names.index(name)]
        return replace(panel, promotion_SXP=promotion_SXP, promotion_names=self.promotion_names)


def make_traits(index: SeriesIndex, *, price_S: FloatArray | None) -> ItemTraits:
    """What the prior level of a series is read from. Announced promotions are not: the network reads them itself."""
    return ItemTraits(
        index=index,
        price_S=np.zeros(len(index), dtype=np.float32) if price_S is None else price_S,
        promotion_SP=np.zeros((len(index), 0), dtype=np.float32),
    )
