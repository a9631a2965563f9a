"""What a learned policy is shown and what it may answer: plain arrays, so that serving needs no torch.

The arithmetic on these arrays (scaling, observation, order formula) is in :mod:`rl.network`, once, for training and for
the exported graph.

Shapes: S series, H horizon periods, Q quantile levels, L periods until arrival, A actions, Z scores of the grid,
V supply-term columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.special import ndtri

from forecasting.forecast import Forecast
from rl.inventory import FloatArray, InventoryState, SupplyTerms
from rl.policies.classical import Newsvendor
from rl.policies.protocol import Policy

TERM_COLUMNS = (
    "min_order_qty",
    "pack_size",
    "order_cap",
    "storage_capacity",
    "holding",
    "lost_sale",
    "fixed_order",
    "mean_demand",
)
"""Columns of ``terms_SV``, in order."""

OBSERVED_SCORES = (-1.0, 1.0, 2.0, 3.0)
"""Normal scores whose quantiles every policy sees; it sees its anchor's too."""

_ANCHOR_BOUNDS = (0.05, 0.999)

UNLIMITED_QTY = 1e9
"""Stands for "no limit" inside the graph: infinity times zero is not a number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionGrid:
    """The orders that a learned policy chooses from, in terms of the forecast, so that one policy serves all series.

    Action 0 orders nothing. Then come fixed quantities, in whole units and in review periods of mean demand, whatever
    the stock. The others order up to ::

        S[a] = quantile(score[a]) + batches[a] * batch + periods[a] * mean

    where ``quantile(z)`` is the forecast's quantile, at the normal score z, of demand summed over lead time + review
    period; ``mean`` the expected demand per period over that interval; ``batch`` the economic order quantity sqrt(2 K
    d / h), at least one review period's mean demand. The levels are all pairs of ``scores`` and ``batches``, and last
    the anchor. A constant action without batches is a base-stock rule; choosing 0 above a reorder point is an (s, S)
    rule. The anchor makes the tuned textbook rule one of the policies in reach.

    Parameters
    ----------
    scores
        Standard normal scores of the forecast quantile, increasing.
    batches
        Economic order quantities ordered on top, increasing.
    units, fractions
        Quantities: whole units, and multiples of a review period's expected demand; increasing, > 0.
    anchor_score, anchor_periods
        ``score`` and ``periods`` of the tuned textbook rule.
    """

    scores: tuple[float, ...] = (-0.5, 0.25, 1.0, 1.5, 2.0, 2.5, 3.25)
    batches: tuple[float, ...] = (0.0, 0.75, 1.5, 2.5)
    units: tuple[float, ...] = ()
    fractions: tuple[float, ...] = ()
    anchor_score: float = 2.0
    anchor_periods: float = 0.0

    def __post_init__(self) -> None:
        for name in ("scores", "batches", "units", "fractions"):
            values = getattr(self, name)
            if any(b <= a for a, b in pairwise(values)):
                raise ValueError(f"{name} must increase, got {values}")
        if min((*self.units, *self.fractions), default=1.0) <= 0:
            raise ValueError(f"quantities must be > 0, got units {self.units} and fractions {self.fractions}")

    @property
    def seen_scores(self) -> tuple[float, ...]:
        """Normal scores of the quantiles that the policy is given: those that it observes, then those it offers."""
        return (*OBSERVED_SCORES, self.anchor_score, *self.scores)

    @property
    def num_actions(self) -> int:
        """A: order nothing, the quantities, and with scores every pair of a score and a batch and the anchor."""
        levels = len(self.scores) * len(self.batches) + 1 if self.offers_anchor else 0
        return 1 + len(self.units) + len(self.fractions) + levels

    @property
    def offers_anchor(self) -> bool:
        """Whether the anchor is an action.

        Among quantities alone it would be the one action that is right, or nearly, in most states: a learner would stay
        with it.
        """
        return bool(self.scores and self.batches)

    @property
    def anchor_action(self) -> int:
        """The action that orders up to the anchor's level, where it is one."""
        return self.num_actions - 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can write."""
        return {
            "scores": list(self.scores),
            "batches": list(self.batches),
            "units": list(self.units),
            "fractions": list(self.fractions),
            "anchor_score": self.anchor_score,
            "anchor_periods": self.anchor_periods,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ActionGrid":
        """Inverse of :meth:`to_dict`."""
        return cls(
            scores=tuple(values["scores"]),
            batches=tuple(values["batches"]),
            units=tuple(values["units"]),
            fractions=tuple(values["fractions"]),
            anchor_score=values["anchor_score"],
            anchor_periods=values["anchor_periods"],
        )


def anchored_grid(policy: Policy | None, terms: SupplyTerms) -> ActionGrid:
    """Grid whose anchor is what a tuned textbook rule orders up to; the default anchor for rules without a quantile."""
    level = getattr(policy, "cycle_service_level", None)
    if isinstance(policy, Newsvendor):
        level = float(np.median(terms.costs.critical_ratio_S))
    if level is None:
        return ActionGrid()
    score = float(ndtri(np.clip(level, *_ANCHOR_BOUNDS)))
    return ActionGrid(anchor_score=score, anchor_periods=float(getattr(policy, "order_periods", 0.0)))


def make_score_weights_QZ(levels_Q: FloatArray, scores: Sequence[float]) -> FloatArray:
    """Weights that turn a forecast's quantiles into quantiles at the given normal scores: ``q_SQ @ weights_QZ``.

    Linear in the score between neighbouring levels and on the outermost segment beyond them, as
    :meth:`forecasting.forecast.Forecast.quantile_over_S`.
    """
    score_Q = ndtri(np.asarray(levels_Q, dtype=np.float64))
    score_Z, column_Z = np.asarray(scores, dtype=np.float64), np.arange(len(scores))
    right_Z = np.clip(np.searchsorted(score_Q, score_Z), 1, len(score_Q) - 1)
    share_Z = (score_Z - score_Q[right_Z - 1]) / (score_Q[right_Z] - score_Q[right_Z - 1])
    weights_QZ = np.zeros((len(score_Q), len(scores)), dtype=np.float32)
    weights_QZ[right_Z - 1, column_Z] = 1 - share_Z
    weights_QZ[right_Z, column_Z] = share_Z
    return weights_QZ


def make_terms_SV(terms: SupplyTerms) -> FloatArray:
    """Supply terms and cost rates as one array, in the order of :data:`TERM_COLUMNS`."""
    costs = terms.costs
    columns = (
        terms.min_order_qty_S,
        terms.pack_size_S,
        terms.order_cap_S,
        terms.storage_capacity_S,
        costs.holding_S,
        costs.lost_sale_S,
        costs.fixed_order_S,
        terms.mean_demand_S,
    )
    return np.minimum(np.stack(columns, axis=1), UNLIMITED_QTY).astype(np.float32)


def make_forecast_inputs(forecast: Forecast, terms: SupplyTerms, *, grid: ActionGrid) -> dict[str, Any]:
    """The part of the policy's input that does not depend on stock.

    Raises
    ------
    ValueError
        If a protection interval is longer than the forecast's horizon.
    """
    longest = int(terms.protection_interval_S.max(initial=0))
    if longest > forecast.horizon:
        raise ValueError(
            f"lead time + review period is {longest} periods, the forecast covers {forecast.horizon}; "
            "raise forecast.horizon and train again"
        )
    return {
        "mean_SH": np.ascontiguousarray(forecast.mean_SH, dtype=np.float32),
        "cumulative_SHQ": np.ascontiguousarray(forecast.cumulative_SHQ, dtype=np.float32),
        "weights_QZ": make_score_weights_QZ(forecast.levels_Q, grid.seen_scores),
        "lead_time_S": np.ascontiguousarray(terms.lead_time_S, dtype=np.int64),
        "review_period_S": np.ascontiguousarray(terms.review_period_S, dtype=np.int64),
        "terms_SV": make_terms_SV(terms),
    }


def make_state_inputs(state: InventoryState) -> dict[str, Any]:
    """The part of the policy's input that changes with stock."""
    on_order_SL = state.on_order_SL if state.on_order_SL.shape[1] else np.zeros((len(state.on_hand_S), 1))
    return {
        "net_S": (state.on_hand_S - state.backorder_S - state.reserved_S).astype(np.float32),
        "on_order_SL": np.ascontiguousarray(on_order_SL, dtype=np.float32),
    }
