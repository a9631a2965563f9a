"""Which inputs moved a forecast, in units: integrated gradients from usual demand. Imports torch, never Ray.

The answer is a sum: usual demand, plus what each group of inputs adds or takes, is the forecast. See
docs/models/forecaster.md for the baseline and what each group holds.

Shapes: S series, G groups of inputs, N nodes of the path; B crops (one per series), K origins per crop (one), L crop
periods, H horizon, C known-ahead channels, E embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.func import functional_call

from cluster.panel import DemandPanel, IntArray
from forecasting.features import NUM_WEEKDAY, PRICE_CHANNEL, SeriesFeatures, plain_level_S
from forecasting.model import UNKNOWN_ROW, DemandNetwork
from forecasting.predict import Forecaster
from forecasting.windows import AheadChannels, Batch, Windows

WideArray = npt.NDArray[np.float64]

RECENT_SALES: Final = "recent sales"
CALENDAR: Final = "calendar"
PROMOTIONS: Final = "promotions"
HOLIDAYS: Final = "holidays"
PRICE: Final = "price"
NAMES: Final = "item and category"
GROUPS: Final = (RECENT_SALES, CALENDAR, PROMOTIONS, HOLIDAYS, PRICE, NAMES)
"""What moves a forecast, in the words of a planner."""

_NUM_NODES = 4
"""Two miss by 0.01 % of what moved on a trained network, four by as little as float32 can tell."""
GROUP_SERIES = 128
"""Series explained at once: bounds the memory that gradients need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """What moved the expected demand of each series, summed over its first periods. Units.

    Parameters
    ----------
    groups
        Names of the columns of ``units_SG``.
    base_S
        Usual demand: the series' plain level (:func:`forecasting.features.plain_level_S`) times the number of periods.
    units_SG
        What each group adds to usual demand (negative: takes from it).
    remainder_S
        What numerical integration missed; already spread over ``units_SG``, so that the sum is the forecast.
    """

    groups: tuple[str, ...]
    base_S: WideArray
    units_SG: WideArray
    remainder_S: WideArray

    @property
    def forecast_S(self) -> WideArray:
        """Expected demand: usual demand and all contributions."""
        return np.asarray(self.base_S + self.units_SG.sum(axis=1), dtype=np.float64)


class _Inputs(NamedTuple):
    """The inputs that move along the path; the rest of the batch stays as it is."""

    ahead_BKHC: torch.Tensor
    price_BL: torch.Tensor
    series_BE: torch.Tensor
    category_BE: torch.Tensor


def explain_forecast(
    forecaster: Forecaster, view: DemandPanel, *, periods: int | IntArray, num_nodes: int = _NUM_NODES
) -> Attribution:
    """Split the expected demand after a view into usual demand and what each group of inputs adds.

    Integrated gradients (Sundararajan, Taly & Yan 2017, equation 1) of the mean summed over ``periods``, from neutral
    inputs: no promotion, no holiday, every period at the level of the series, prices as usual, a name that training
    has not seen. History stays: what it makes the network expect of such neutral periods, less usual demand, is
    "recent sales".

    Parameters
    ----------
    periods
        Periods to sum over, from the first one on: one number, or one per series (such as protection intervals).
    num_nodes
        Gauss-Legendre nodes of the path integral.

    Raises
    ------
    ValueError
        If periods are not within 1 and the horizon of training.
    DataError
        As :meth:`forecasting.predict.Forecaster.predict`.
    """
    periods_S = periods_of_series(periods, num_series=view.num_series, horizon=forecaster.horizon)
    parts = [
        explain_group(forecaster.network, features, periods_S=periods_S[rows], num_nodes=num_nodes)
        for rows, features in forecaster.read(view, group_series=GROUP_SERIES)
    ]
    return join_attributions(parts)


def periods_of_series(periods: int | IntArray, *, num_series: int, horizon: int) -> IntArray:
    """One number of periods per series.

    Raises
    ------
    ValueError
        If one is not within 1 and the horizon of training.
    """
    periods_S = np.broadcast_to(np.asarray(periods, dtype=np.int64), (num_series,))
    if num_series and not 1 <= periods_S.min() <= periods_S.max() <= horizon:
        raise ValueError(
            f"periods must be in 1..{horizon}, the horizon of training; got {periods_S.min()}..{periods_S.max()}"
        )
    return periods_S


def driver_phrases(attribution: Attribution, *, least_share: float = 0.1, least_qty: float = 1.0) -> list[str]:
    """Name what moves each series' demand most, such as "18 % above usual: promotions +14 units".

    The driver is the group that pulls hardest in the direction in which the forecast lies.

    Returns
    -------
    One phrase per series; empty where demand, or what its driver pulls, is less than ``least_share`` of usual demand or
    less than ``least_qty`` units away from usual.
    """
    change_S = attribution.units_SG.sum(axis=1)
    pull_SG = attribution.units_SG * np.sign(change_S)[:, None]
    rows = np.arange(len(change_S))
    driver_S = pull_SG.argmax(axis=1)
    least_S = np.maximum(least_share * attribution.base_S, least_qty)
    is_told_S = np.minimum(pull_SG[rows, driver_S], np.abs(change_S)) >= least_S
    units_S = attribution.units_SG[rows, driver_S]
    columns = (change_S / attribution.base_S, driver_S, units_S, is_told_S)
    return [
        _phrase(share, driver=attribution.groups[driver], units=units) if is_told else ""
        for share, driver, units, is_told in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _phrase(share: float, *, driver: str, units: float) -> str:
    percent = f"{100 * abs(share):.0f} % {'above' if share > 0 else 'below'} usual"
    far = f"{1 + share:.1f} times usual" if share >= 1 else percent
    return f"{far}: {driver} {units:+,.0f} {'unit' if round(abs(units)) == 1 else 'units'}"


class _Demand:
    """Expected demand of one batch in units, as a function of the inputs that move."""

    def __init__(self, network: DemandNetwork, batch: Batch, *, periods_S: IntArray) -> None:
        rows_B = torch.arange(len(periods_S), device=batch.level_BK.device)
        # Every crop has embedding tables to itself, so that its names can move apart from those of its neighbours.
        self._batch = replace(batch, series_row_B=rows_B, category_row_B=rows_B)
        self._network = network
        horizon_H = torch.arange(batch.ahead_BKHG.shape[2], device=rows_B.device)
        counts_BH = horizon_H < torch.from_numpy(np.array(periods_S)).to(rows_B.device)[:, None]
        self._weight_BKH = counts_BH[:, None] * batch.level_BK[:, :, None]

    def __call__(self, at: _Inputs) -> torch.Tensor:
        tables = {"series.weight": at.series_BE, "category.weight": at.category_BE}
        history_BLF = torch.cat(
            [
                self._batch.history_BLF[..., :PRICE_CHANNEL],
                at.price_BL[..., None],
                self._batch.history_BLF[..., PRICE_CHANNEL + 1 :],
            ],
            dim=-1,
        )
        batch = replace(self._batch, history_BLF=history_BLF, ahead_BKHG=at.ahead_BKHC)
        mean_BKH = functional_call(self._network, tables, (batch,)).mean_BKH
        return (mean_BKH * self._weight_BKH).sum(dim=(1, 2))


def explain_group(
    network: DemandNetwork, features: SeriesFeatures, *, periods_S: IntArray, num_nodes: int = _NUM_NODES
) -> Attribution:
    """As :func:`explain_forecast`, from the inputs of some series."""
    batch, plain = (
        _cut(network, features=given, horizon=int(periods_S.max())) for given in (features, unannounced(features))
    )
    own, neutral = _own_inputs(network, batch), _neutral_inputs(network, plain)
    demand = _Demand(network, batch, periods_S=periods_S)
    # cuDNN has no gradient of an LSTM outside training.
    with torch.backends.cudnn.flags(enabled=False):
        with torch.no_grad():
            forecast_S, neutral_S = _wide(demand(own)), _wide(demand(neutral))
        moved = _integrate(demand, own=own, neutral=neutral, num_nodes=num_nodes)
    moved_SG = _grouped(moved, channels=AheadChannels.of(network.shape.num_promotions))
    remainder_S = forecast_S - neutral_S - moved_SG.sum(axis=1)
    units_SG = moved_SG + _shares_SG(moved_SG) * remainder_S[:, None]
    base_S = plain_level_S(features).astype(np.float64) * periods_S
    units_SG[:, GROUPS.index(RECENT_SALES)] += neutral_S - base_S
    return Attribution(groups=GROUPS, base_S=base_S, units_SG=units_SG, remainder_S=remainder_S)


def _cut(network: DemandNetwork, *, features: SeriesFeatures, horizon: int) -> Batch:
    """All series at the end of history, one crop each."""
    num_series, num_periods = features.demand_ST.shape
    device = next(network.parameters()).device
    windows = Windows(features, context=network.shape.context, horizon=horizon, device=device)
    (plan,) = windows.plans_at(np.array([num_periods]), batch_size=num_series)
    return windows.cut(plan, target_end=0)


def unannounced(features: SeriesFeatures) -> SeriesFeatures:
    """The same history with no promotion after it."""
    promotion_SXP = features.promotion_SXP.copy()
    promotion_SXP[:, features.demand_ST.shape[1] :] = 0.0
    return replace(features, promotion_SXP=promotion_SXP)


def _own_inputs(network: DemandNetwork, batch: Batch) -> _Inputs:
    return _Inputs(
        ahead_BKHC=batch.ahead_BKHG,
        price_BL=batch.history_BLF[..., PRICE_CHANNEL],
        series_BE=network.series.weight.detach()[batch.series_row_B],
        category_BE=network.category.weight.detach()[batch.category_row_B],
    )


def _neutral_inputs(network: DemandNetwork, batch: Batch) -> _Inputs:
    """No holiday either, every period an average one at the level, prices as usual, and no name."""
    channels = AheadChannels.of(network.shape.num_promotions)
    ahead_BKHC = batch.ahead_BKHG.clone()
    weekday = slice(channels.calendar.start, channels.calendar.start + NUM_WEEKDAY)
    # A seventh of every weekday; weekly panels have none, and keep zeros.
    any_day_BKH1 = ahead_BKHC[..., weekday].mean(dim=-1, keepdim=True)
    for group in (channels.holidays, channels.calendar):
        ahead_BKHC[..., group] = 0.0
    ahead_BKHC[..., weekday] = any_day_BKH1
    series_EE, category_EE = network.series.weight.detach(), network.category.weight.detach()
    return _Inputs(
        ahead_BKHC=ahead_BKHC,
        price_BL=torch.zeros_like(batch.history_BLF[..., PRICE_CHANNEL]),
        series_BE=series_EE[UNKNOWN_ROW].expand(len(batch.series_row_B), -1),
        # Training hides series, never categories: their unknown row has learned nothing.
        category_BE=category_EE[UNKNOWN_ROW + 1 :].mean(dim=0).expand(len(batch.category_row_B), -1),
    )


def _integrate(demand: _Demand, *, own: _Inputs, neutral: _Inputs, num_nodes: int) -> _Inputs:
    """Contribution of every single input: its way from neutral times the mean gradient along the path."""
    mean_gradient = [torch.zeros_like(value) for value in own]
    point_N, weight_N = np.polynomial.legendre.leggauss(num_nodes)  # on (-1, 1), the weights sum to 2
    for point, weight in zip(point_N.tolist(), (weight_N / 2).tolist(), strict=True):
        pairs = zip(neutral, own, strict=True)
        at = _Inputs(*(torch.lerp(start, end, (point + 1) / 2).requires_grad_() for start, end in pairs))
        for total, gradient in zip(mean_gradient, torch.autograd.grad(demand(at).sum(), at), strict=True):
            total += weight * gradient
    triples = zip(neutral, own, mean_gradient, strict=True)
    return _Inputs(*((end - start) * gradient for start, end, gradient in triples))


def _grouped(moved: _Inputs, *, channels: AheadChannels) -> WideArray:
    """Contributions summed over inputs of the same group; none of history's, which does not move."""
    units_of = {
        CALENDAR: moved.ahead_BKHC[..., channels.calendar],
        PROMOTIONS: moved.ahead_BKHC[..., channels.promotions],
        HOLIDAYS: moved.ahead_BKHC[..., channels.holidays],
        PRICE: moved.price_BL,
        NAMES: torch.cat([moved.series_BE, moved.category_BE], dim=-1),
    }
    out_SG = np.zeros((len(moved.price_BL), len(GROUPS)))
    for group, value in units_of.items():
        out_SG[:, GROUPS.index(group)] = _wide(value.flatten(start_dim=1).sum(dim=1))
    return out_SG


def _shares_SG(units_SG: WideArray) -> WideArray:
    """Share of each group in the units moved, whatever their sign; 0 for a series that nothing moves."""
    size_SG = np.abs(units_SG)
    return np.asarray(size_SG / np.maximum(size_SG.sum(axis=1, keepdims=True), 1e-30), dtype=np.float64)


def _wide(value: torch.Tensor) -> WideArray:
    return value.detach().cpu().numpy().astype(np.float64)


def join_attributions(parts: Sequence[Attribution]) -> Attribution:
    """One attribution of the series of several, in their order."""
    return Attribution(
        groups=GROUPS,
        base_S=np.concatenate([np.empty(0), *(part.base_S for part in parts)]),
        units_SG=np.concatenate([np.empty((0, len(GROUPS))), *(part.units_SG for part in parts)]),
        remainder_S=np.concatenate([np.empty(0), *(part.remainder_S for part in parts)]),
    )
