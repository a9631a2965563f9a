"""What to expect of a series that has little or no history: what similar series sold since their own first sale.

Log levels of known series are a common mean, a part that series share as far as they are similar, and a part of their
own. The prior of a new series is the best linear prediction of its log level from those of the known ones (kriging;
Rasmussen & Williams 2006, equations 2.25 and 5.12): a similarity-weighted geometric mean, shrunk to that of all as far
as similar series differ among themselves. Pure NumPy.

Shapes: S series, R known (reference) series, T history periods, P promotion channels, A ages (periods since the first
sale), I items, K neighbours, X history and announced periods.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cluster.panel import DemandPanel, FloatArray, IntArray, SeriesIndex

Matrix = npt.NDArray[np.float64]

MAX_REFERENCES = 1_000
_PRICE_SCALE = 0.5
_PROMOTION_SCALE = 0.3
_OFFSET_SHARE = 0.05
_OWN_SHARES = (0.2, 0.4, 0.6, 0.8, 0.95)
_PERIODS_RANGE = (0.5, 56.0)
_WIDEST = 3.0
_LEAST_WEEKS = 4


class NeighbourLists(Protocol):
    """Neighbours found elsewhere, for instance by who buys them or by what they are called; -1 is no neighbour."""

    @property
    def item_ids_I(self) -> npt.NDArray[np.str_]:
        """Items that have a list, in row order."""
        ...

    @property
    def item_IK(self) -> npt.NDArray[np.int32]:
        """Rows of each item's neighbours."""
        ...

    @property
    def score_IK(self) -> npt.NDArray[np.float32]:
        """How near each neighbour is."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemTraits:
    """What is known of series before they sell.

    Parameters
    ----------
    price_S
        Listed unit price; NaN or 0 where there is none.
    promotion_SP
        Share of the periods on promotion, per channel: announced for new series, past for known ones.
    """

    index: SeriesIndex
    price_S: FloatArray
    promotion_SP: FloatArray

    def take(self, rows: IntArray) -> "ItemTraits":
        """Keep the given series, in the given order."""
        return ItemTraits(index=self.index.take(rows), price_S=self.price_S[rows], promotion_SP=self.promotion_SP[rows])


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """The level to assume of each series, units per period, and what it weighs, in periods of history."""

    level_S: FloatArray
    periods_S: FloatArray

    def combined_level_S(self, *, sold_S: FloatArray, periods: float) -> FloatArray:
        """Level after ``periods`` periods in which ``sold_S`` units were sold: the own mean, shrunk to the prior.

        >>> prior = Prior(level_S=np.array([4.0]), periods_S=np.array([7.0]))
        >>> prior.combined_level_S(sold_S=np.array([14.0]), periods=7).tolist()
        [3.0]
        """
        return (sold_S + self.periods_S * self.level_S) / (periods + self.periods_S)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimilarItems:
    """Known series and what each says about a similar one.

    Parameters
    ----------
    traits
        Which traits are read: those that differ between the known series.
    weight_R
        Log level that a series gains per unit of similarity to each known one.
    left_out_level_R
        Prior of each known series from all the others.
    log_spread
        Root mean squared error of the log prior, each known series left out in turn.
    dispersion
        Variance over mean of sales, per period.
    mean_factor
        From a prior level, which is the middle of what to expect, to the mean: what the known series sold in total
        over what each was expected to, left out (the smearing of Duan 1983, as a ratio).
    """

    known: ItemTraits
    traits: tuple[str, ...]
    weight_R: Matrix
    left_out_level_R: FloatArray
    mean_log: float
    offset: float
    greatest: float
    log_spread: float
    dispersion: float
    mean_factor: float

    def prior(self, items: ItemTraits, *, neighbours: NeighbourLists | None = None) -> Prior:
        """Expect of each item what similar ones sold; the less there are, the nearer to the mean of all."""
        similarity = similarity_SR(items, self.known, traits=self.traits, neighbours=neighbours)
        log_S = self.mean_log + similarity @ self.weight_R
        return self._weighed(_units(log_S, offset=self.offset, greatest=self.greatest))

    @property
    def left_out_prior(self) -> Prior:
        """What would have been expected of each known series, had only the others been known."""
        return self._weighed(self.left_out_level_R)

    def _weighed(self, level_S: FloatArray) -> Prior:
        least = max(self.offset, 1e-6)
        return make_prior(level_S, dispersion=self.dispersion, log_spread=self.log_spread, least_level=least)


def make_prior(level_S: FloatArray, *, dispersion: float, log_spread: float, least_level: float) -> Prior:
    """Give levels the weight of a gamma prior: dispersion / (level x relative variance of the level), periods.

    Parameters
    ----------
    log_spread
        Standard deviation of the log level about the prior.
    least_level
        A level below it weighs as if it were so high.
    """
    variance_S = np.maximum(level_S, least_level) * np.expm1(min(log_spread, _WIDEST) ** 2)
    periods_S = np.clip(dispersion / np.maximum(variance_S, 1e-9), *_PERIODS_RANGE)
    return Prior(level_S=level_S, periods_S=periods_S.astype(np.float32))


def fit_similar_items(
    known: ItemTraits, *, level_S: FloatArray, dispersion: float = 1.0, neighbours: NeighbourLists | None = None
) -> SimilarItems:
    """Learn from known series how far similar ones sell alike.

    The share of the spread that each series has for itself is that of 0.2, 0.4, 0.6, 0.8 and 0.95 which predicts the
    known series best, each left out in turn.

    Parameters
    ----------
    level_S
        Units per period of each known series: :func:`forecasting.launch_curves.launch_level_S`.
    """
    offset = _OFFSET_SHARE * float(np.median(level_S[level_S > 0])) if (level_S > 0).any() else 1.0
    log_S = np.log(level_S.astype(np.float64) + offset)
    mean_log = float(log_S.mean()) if len(log_S) else float(np.log(offset))
    traits = _telling_traits(known, neighbours=neighbours)
    similarity_SS = similarity_SR(known, known, traits=traits, neighbours=neighbours)
    weight_S, error_S = _left_out(similarity_SS, rest_S=log_S - mean_log)
    greatest = float(level_S.max(initial=0.0))
    left_out_S = _units(log_S - error_S, offset=offset, greatest=greatest)
    return SimilarItems(
        known=known,
        traits=traits,
        weight_R=weight_S,
        left_out_level_R=left_out_S,
        mean_log=mean_log,
        offset=offset,
        greatest=greatest,
        log_spread=float(np.sqrt(np.mean(error_S**2))) if len(error_S) else 1.0,
        dispersion=dispersion,
        mean_factor=float(level_S.sum() / left_out_S.sum()) if left_out_S.sum() > 0 else 1.0,
    )


def _left_out(similarity_SS: Matrix, *, rest_S: Matrix) -> tuple[Matrix, Matrix]:
    """Weights of the best share, and the errors of predicting each series from the others, without refitting."""
    value_S, vector_SS = np.linalg.eigh(similarity_SS)
    turned_S = vector_SS.T @ rest_S
    best: tuple[float, Matrix, Matrix] | None = None
    for own in _OWN_SHARES:
        inverse_S = 1.0 / ((1 - own) * np.maximum(value_S, 0.0) + own)
        solved_S = vector_SS @ (inverse_S * turned_S)
        error_S = solved_S / (vector_SS**2 @ inverse_S)
        total = float((error_S**2).sum())
        if best is None or total < best[0]:
            best = total, (1 - own) * solved_S, error_S
    assert best is not None
    return best[1], best[2]


def _units(log_S: Matrix, *, offset: float, greatest: float) -> FloatArray:
    """Never below zero, and never above what any known series sold."""
    return np.clip(np.exp(np.minimum(log_S, 80.0)) - offset, 0.0, greatest).astype(np.float32)


def similarity_SR(
    items: ItemTraits, known: ItemTraits, *, traits: tuple[str, ...], neighbours: NeighbourLists | None = None
) -> Matrix:
    """Mean over the traits of how alike each item and each known series are, in [0, 1]; an unknown trait is unlike."""
    total_SR = np.zeros((len(items.index), len(known.index)))
    for trait in traits:
        if trait == "category":
            total_SR += items.index.category_ids_S[:, None] == known.index.category_ids_S
        elif trait == "location":
            total_SR += items.index.location_ids_S[:, None] == known.index.location_ids_S
        elif trait == "price":
            total_SR += _near_SR(_log_price_S1(items), _log_price_S1(known), scale=_PRICE_SCALE)
        elif trait == "promotion":
            total_SR += _near_SR(items.promotion_SP, known.promotion_SP, scale=_PROMOTION_SCALE)
        elif neighbours is not None:
            total_SR += _shared_neighbours_SR(items.index, known.index, neighbours=neighbours)
    return total_SR / max(len(traits), 1)


def _telling_traits(known: ItemTraits, *, neighbours: NeighbourLists | None) -> tuple[str, ...]:
    log_S1 = _log_price_S1(known)
    given = {
        "category": len(np.unique(known.index.category_ids_S)) > 1,
        "location": len(np.unique(known.index.location_ids_S)) > 1,
        "price": len(np.unique(log_S1[np.isfinite(log_S1)])) > 1,
        "promotion": bool(len(known.promotion_SP)) and bool((known.promotion_SP != known.promotion_SP[:1]).any()),
        "neighbours": neighbours is not None,
    }
    return tuple(trait for trait, tells in given.items() if tells)


def _log_price_S1(items: ItemTraits) -> Matrix:
    price_S = items.price_S.astype(np.float64)
    known_S = np.isfinite(price_S) & (price_S > 0)
    return np.where(known_S, np.log(np.where(known_S, price_S, 1.0)), np.nan)[:, None]


def _near_SR(value_SP: npt.NDArray[np.floating], known_RP: npt.NDArray[np.floating], *, scale: float) -> Matrix:
    square_SR = sum(
        (np.subtract.outer(value_S, known_R) / scale) ** 2
        for value_S, known_R in zip(value_SP.T, known_RP.T, strict=True)
    )
    return np.nan_to_num(np.exp(-0.5 * np.asarray(square_SR, dtype=np.float64)), nan=0.0)


def _shared_neighbours_SR(index: SeriesIndex, known: SeriesIndex, *, neighbours: NeighbourLists) -> Matrix:
    """Cosine of the items' lists of neighbours, each its own first: a direct neighbour or a common one counts."""
    columns, row_of = np.unique(known.item_ids_S), {item: i for i, item in enumerate(neighbours.item_ids_I.tolist())}
    column_I = np.full(len(neighbours.item_ids_I) + 1, -1)  # the last entry stands for "no neighbour"
    place_I = np.minimum(np.searchsorted(columns, neighbours.item_ids_I), len(columns) - 1)
    column_I[:-1] = np.where(columns[place_I] == neighbours.item_ids_I, place_I, -1)

    def lists_SC(part: SeriesIndex) -> Matrix:
        out_SC = np.zeros((len(part), len(columns) + 1))
        for s, item in enumerate(part.item_ids_S.tolist()):
            if item in row_of:
                out_SC[s, column_I[neighbours.item_IK[row_of[item]]]] = neighbours.score_IK[row_of[item]]
                out_SC[s, -1] = 0.0
                out_SC[s, column_I[row_of[item]]] = 1.0  # in the last column if it is not known itself
        length_S1 = np.sqrt((out_SC**2).sum(axis=1, keepdims=True))
        return out_SC[:, :-1] / np.maximum(length_S1, 1e-9)

    return lists_SC(index) @ lists_SC(known).T


def usual_dispersion(panel: DemandPanel) -> float:
    """Variance of the sales of a week over their mean, the median over series; at least 1.

    Whole weeks in stock since each series' first sale count. The median, since a few series with bursts of bulk orders
    would make every other one's own history look worthless.
    """
    week = panel.calendar.num_periods(7)
    shape = (panel.num_series, panel.num_periods // week, week)
    cut = slice(0, shape[1] * week)
    counts_ST = (np.arange(panel.num_periods) >= panel.first_sale_S[:, None]) & panel.in_stock_ST
    whole_SW = counts_ST[:, cut].reshape(shape).all(axis=2)
    sums_SW = panel.sales_ST[:, cut].reshape(shape).sum(axis=2) * whole_SW
    count_S = whole_SW.sum(axis=1)
    mean_S = sums_SW.sum(axis=1) / np.maximum(count_S, 1)
    squares_S = (((sums_SW - mean_S[:, None]) * whole_SW) ** 2).sum(axis=1)
    tells_S = (count_S >= _LEAST_WEEKS) & (mean_S > 0)
    return (
        max(float(np.median(squares_S[tells_S] / (count_S - 1)[tells_S] / mean_S[tells_S])), 1.0)
        if tells_S.any()
        else 1.0
    )


def reference_rows(index: SeriesIndex, *, usable_S: npt.NDArray[np.bool_]) -> IntArray:
    """At most 1,000 of the usable series, spread evenly over the ids: the same ones in whatever order they come."""
    rows = np.flatnonzero(usable_S)
    order = np.lexsort((index.location_ids_S[rows], index.item_ids_S[rows]))
    spread = np.linspace(0, len(rows) - 1, min(len(rows), MAX_REFERENCES)).round().astype(np.int64)
    return np.sort(rows[order[spread]]).astype(np.int64)
