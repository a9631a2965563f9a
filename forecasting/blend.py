"""A blend of forecasts: weights per segment of demand, found on a validation window that no member was fitted to.

Quantiles are averaged level by level (Vincent 1912; Lichtendahl, Grushka-Cockayne & Winkler 2013): an average of
sharp, honest forecasts stays sharp, where a mixture of their distributions is wider than each.

Shapes: S series, H horizon, Q quantile levels, W members, N observations.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from cluster.panel import DemandPanel, FloatArray
from forecasting.calibration import Calibration, calibrate
from forecasting.forecast import Forecast
from forecasting.segments import SEGMENTS, segment_of_S

_LEAST_SERIES = 20
"""A segment with fewer takes the weights of all series."""
_SHRINKAGE_SERIES = 50.0
"""A segment's weights are pulled towards those of all series as if these held so many of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blend:
    """Weights of each member in each segment, and the calibration of the result.

    Parameters
    ----------
    single_GW, summed_GW
        Weights for single periods and for sums, one row per entry of :data:`forecasting.segments.SEGMENTS`; rows sum
        to 1. A member that knows how errors of following days go together may know little of any one day.
    in_whole_units
        Quantiles of single periods are rounded: where whole units are sold, each quantile of demand is one.
    """

    members: tuple[str, ...]
    single_GW: npt.NDArray[np.float64]
    summed_GW: npt.NDArray[np.float64]
    calibration: Calibration | None
    in_whole_units: bool

    def combine(self, forecasts: Mapping[str, Forecast], *, segment_S: npt.NDArray[np.int64]) -> Forecast:
        """One forecast out of the members' forecasts of the same series."""
        parts = [forecasts[name] for name in self.members]
        single_SW, summed_SW = self.single_GW[segment_S], self.summed_GW[segment_S]
        cumulative_SHQ = _weighted([part.cumulative_SHQ for part in parts], summed_SW)
        blended = Forecast(
            levels_Q=parts[0].levels_Q,
            mean_SH=_weighted([part.mean_SH for part in parts], single_SW),
            marginal_SHQ=_weighted([part.marginal_SHQ for part in parts], single_SW),
            cumulative_SHQ=cumulative_SHQ,
        )
        if self.calibration is not None:
            blended = self.calibration.apply(blended)
        return replace(blended, marginal_SHQ=np.round(blended.marginal_SHQ)) if self.in_whole_units else blended

    def document(self) -> dict[str, Any]:
        """What :meth:`restore` needs, as plain JSON values."""
        calibration = self.calibration
        return {
            "members": list(self.members),
            "single": self.single_GW.tolist(),
            "summed": self.summed_GW.tolist(),
            "calibration": None
            if calibration is None
            else {"single": calibration.single_Q.tolist(), "summed": calibration.summed_Q.tolist()},
            "in_whole_units": self.in_whole_units,
        }

    @classmethod
    def restore(cls, document: Mapping[str, Any]) -> "Blend":
        """Undo :meth:`document`."""
        levels = document["calibration"]
        return cls(
            members=tuple(document["members"]),
            single_GW=np.array(document["single"], dtype=np.float64),
            summed_GW=np.array(document["summed"], dtype=np.float64),
            calibration=None
            if levels is None
            else Calibration(
                single_Q=np.array(levels["single"], dtype=np.float32),
                summed_Q=np.array(levels["summed"], dtype=np.float32),
            ),
            in_whole_units=document.get("in_whole_units", False),
        )

    def table(self) -> list[dict[str, Any]]:
        """What each member earns: one row per segment, for single periods and for sums."""
        return [
            {"of": of, "segment": segment, **dict(zip(self.members, map(float, weight_W), strict=True))}
            for of, weight_GW in (("periods", self.single_GW), ("sums", self.summed_GW))
            for segment, weight_W in zip(SEGMENTS, weight_GW, strict=True)
        ]


def _weighted(values: Sequence[FloatArray], weight_SW: npt.NDArray[np.float64]) -> FloatArray:
    tail = (1,) * (values[0].ndim - 1)
    shares = [weight_S.reshape(-1, *tail).astype(np.float32) for weight_S in weight_SW.T]
    total = values[0] * shares[0]
    for value, share in zip(values[1:], shares[1:], strict=True):
        total += value * share
    return total


def sells_whole_units(panel: DemandPanel) -> bool:
    """Whether no period sold a fraction of a unit."""
    return bool((panel.sales_ST == np.round(panel.sales_ST)).all())


def equal_blend(members: Sequence[str], *, in_whole_units: bool) -> Blend:
    """Equal weights: hard to beat, and all that can be said without validation."""
    weight_GW = np.full((len(SEGMENTS), len(members)), 1.0 / len(members))
    return Blend(
        members=tuple(members),
        single_GW=weight_GW,
        summed_GW=weight_GW,
        calibration=None,
        in_whole_units=in_whole_units,
    )


def fit_blend(
    panel: DemandPanel,
    *,
    forecasts: Mapping[str, Sequence[Forecast]],
    origins: Sequence[int],
    end: int,
    is_calibrated: bool = True,
) -> Blend:
    """Find weights and calibration on forecasts of targets before period ``end``.

    Parameters
    ----------
    forecasts
        Member -> one forecast per origin, made without knowing anything from its origin on.
    origins
        Origins of the validation window.
    """
    members = tuple(forecasts)
    segments = [segment_of_S(panel.until(origin)) for origin in origins]
    seen = [
        _losses(panel, parts=[forecasts[name][k] for name in members], origin=origin, end=end)
        for k, origin in enumerate(origins)
    ]
    single_GW, summed_GW = (_weight_GW(seen, kind=kind, segments=segments) for kind in (0, 1))
    plain = Blend(members=members, single_GW=single_GW, summed_GW=summed_GW, calibration=None, in_whole_units=False)
    in_whole_units = sells_whole_units(panel)
    if not is_calibrated:
        return replace(plain, in_whole_units=in_whole_units)
    blended = [
        plain.combine({name: forecasts[name][k] for name in members}, segment_S=segments[k])
        for k in range(len(origins))
    ]
    calibration = calibrate(panel, forecasts=blended, origins=origins, end=end)
    return replace(plain, calibration=calibration, in_whole_units=in_whole_units)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """Truth and every member's quantiles at one origin: single periods, and sums per period."""

    truth: tuple[FloatArray, FloatArray]
    quantile: tuple[FloatArray, FloatArray]  # (W, S, H, Q) each
    counts: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]
    levels_Q: FloatArray


def _losses(panel: DemandPanel, *, parts: Sequence[Forecast], origin: int, end: int) -> _Seen:
    until = min(origin + parts[0].horizon, end)
    periods = until - origin
    truth_SH, counts_SH = panel.sales_ST[:, origin:until], panel.in_stock_ST[:, origin:until]
    count_H = np.arange(1, periods + 1, dtype=np.float32)
    return _Seen(
        truth=(truth_SH, (truth_SH.cumsum(axis=1) / count_H).astype(np.float32)),
        quantile=(
            np.stack([part.marginal_SHQ[:, :periods] for part in parts]),
            np.stack([part.cumulative_SHQ[:, :periods] / count_H[:, None] for part in parts]),
        ),
        counts=(counts_SH, np.logical_and.accumulate(counts_SH, axis=1)),
        levels_Q=parts[0].levels_Q,
    )


def _weight_GW(
    seen: Sequence[_Seen], *, kind: int, segments: Sequence[npt.NDArray[np.int64]]
) -> npt.NDArray[np.float64]:
    """Weights of each segment, pulled towards those of all series."""
    everything_W = _best_weights(seen, kind=kind, kept=[np.ones(len(part), dtype=bool) for part in segments])
    weight_GW = np.tile(everything_W, (len(SEGMENTS), 1))
    for g in range(len(SEGMENTS)):
        kept = [segment_S == g for segment_S in segments]
        count = sum(int(rows.sum()) for rows in kept) / len(segments)
        if count >= _LEAST_SERIES:
            own = count / (count + _SHRINKAGE_SERIES)
            weight_GW[g] = own * _best_weights(seen, kind=kind, kept=kept) + (1 - own) * everything_W
    return weight_GW


def _best_weights(
    seen: Sequence[_Seen], *, kind: int, kept: Sequence[npt.NDArray[np.bool_]]
) -> npt.NDArray[np.float64]:
    """Weights on the simplex with the least pinball loss of units, of single periods (0) or of sums (1).

    The loss is convex in the weights; they are the softmax of free numbers, so that no constraint is needed.
    """
    num_members = len(seen[0].quantile[0])
    units = max(sum(float(moment.truth[0].sum()) for moment in seen), 1.0)

    def objective(free_W: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        weight_W = np.exp(free_W - free_W.max())
        weight_W /= weight_W.sum()
        loss, slope_W = 0.0, np.zeros(num_members)
        for moment, rows_S in zip(seen, kept, strict=True):
            value, slope = _pinball(moment, kind=kind, rows_S=rows_S, weight_W=weight_W)
            loss, slope_W = loss + value, slope_W + slope
        # Over demand, so that the search stops at the same precision whatever the size of the panel.
        return loss / units, weight_W * (slope_W - weight_W @ slope_W) / units

    found = minimize(
        objective,
        np.zeros(num_members),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-4.0, 4.0)] * num_members,
        options={"maxiter": 40},
    )
    weight_W = np.exp(found.x - found.x.max())
    return weight_W / weight_W.sum()


def _pinball(
    moment: _Seen, *, kind: int, rows_S: npt.NDArray[np.bool_], weight_W: npt.NDArray[np.float64]
) -> tuple[float, npt.NDArray[np.float64]]:
    """Loss and its slope by the members' weights."""
    counts_SH = moment.counts[kind] & rows_S[:, None]
    truth_N1 = moment.truth[kind][counts_SH][:, None]
    quantile_WNQ = moment.quantile[kind][:, counts_SH]
    short_NQ = truth_N1 - np.tensordot(weight_W, quantile_WNQ, axes=1)
    level_NQ = np.where(short_NQ > 0, moment.levels_Q, moment.levels_Q - 1.0)
    return float((level_NQ * short_NQ).sum()), -np.einsum("nq,wnq->w", level_NQ, quantile_WNQ)
