"""The textbook rules: what a planner would order without learning.

All are vectorised over rows and see a period's forecast, never its demand. L + R is the protection interval; quantiles
are of demand summed over it.

Shapes: S series (or simulated rows). One page on formulas, sources and tuning: ``docs/policies/classical.md``.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri
from scipy.stats import nbinom

from cluster.errors import ArtifactError
from forecasting.forecast import Forecast
from rl.inventory import FloatArray, InventoryState, SupplyTerms
from rl.policies.protocol import Policy

# A forecast says nothing about a chance of 0 or 1.
_LEVEL_BOUNDS = (1e-3, 1 - 1e-5)
# Quantiles whose distance tells the spread of a forecast: wide enough to be about demand, not its rarest spike.
_SPREAD_LEVELS = (0.1, 0.9)
# A negative binomial is at least a little wider than a Poisson law.
_LEAST_DISPERSION = 1.01


class ClassicalPolicy(Policy, Protocol):
    """A textbook rule: a policy whose parameters fit into a JSON object."""

    def to_dict(self) -> dict[str, Any]:
        """Its rule and parameters, for ``policy_from_dict``."""
        ...


def base_stock_level_S(
    forecast: Forecast, terms: SupplyTerms, *, cycle_service_level: npt.NDArray[np.floating] | float
) -> FloatArray:
    """Order-up-to level that covers the protection interval.

    The ``cycle_service_level`` quantile of demand summed over lead time + review period (Snyder & Shen 2019, section
    4.3.4: the newsvendor solution with lead-time demand).

    Parameters
    ----------
    cycle_service_level
        Chance of no stockout per order cycle, in (0, 1). Not a fill rate. One number, or one per series.

    Returns
    -------
    Units, shape (S,).
    """
    level = np.clip(cycle_service_level, *_LEVEL_BOUNDS)
    return forecast.quantile_over_S(terms.protection_interval_S, level_S=level)


def mean_demand_S(forecast: Forecast, terms: SupplyTerms) -> FloatArray:
    """Expected demand per period, averaged over the protection interval. Units, shape (S,)."""
    interval_S = terms.protection_interval_S
    return np.asarray(forecast.mean_over_S(interval_S) / interval_S, dtype=np.float32)


def _shortfall_S(level_S: FloatArray, state: InventoryState) -> FloatArray:
    return np.maximum(level_S - state.inventory_position_S, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Newsvendor:
    """Order up to the quantile that balances a lost sale against a period's holding. Nothing to tune.

    The level is the p / (p + h) quantile of demand over L + R (Snyder & Shen 2019, eq. 4.25 with lead-time demand).

    >>> one = np.ones(1, dtype=np.float32)
    >>> from scipy.stats import norm
    >>> levels = np.array([0.5, 0.9], dtype=np.float32)
    >>> demand = norm(50, 8).ppf(levels).astype(np.float32).reshape(1, 1, 2)
    >>> forecast = Forecast(levels_Q=levels, mean_SH=50 * one[:, None], marginal_SHQ=demand, cumulative_SHQ=demand)
    >>> from rl.inventory import CostRates
    >>> costs = CostRates(holding_S=0.18 * one, lost_sale_S=0.7 * one, fixed_order_S=0 * one, unit_cost_S=one)
    >>> zero = np.zeros(1, dtype=np.int64)
    >>> terms = SupplyTerms(
    ...     lead_time_S=zero, review_period_S=zero + 1, review_phase_S=zero, min_order_qty_S=0 * one, pack_size_S=one,
    ...     order_cap_S=np.inf * one, storage_capacity_S=np.inf * one, mean_demand_S=50 * one, costs=costs,
    ... )
    >>> empty = InventoryState(on_hand_S=0 * one, on_order_SL=0 * one[:, None], backorder_S=0 * one, reserved_S=0 * one)
    >>> [round(float(x), 1) for x in Newsvendor().order_quantity_S(empty, forecast, terms)]  # example 4.3: 56.6
    [56.6]
    """

    rule: ClassVar[str] = "newsvendor"

    @property
    def name(self) -> str:
        """``newsvendor``."""
        return self.rule

    def order_quantity_S(self, state: InventoryState, forecast: Forecast, terms: SupplyTerms) -> FloatArray:
        """Units up to the critical-ratio quantile of demand over L + R."""
        level_S = base_stock_level_S(forecast, terms, cycle_service_level=terms.costs.critical_ratio_S)
        return _shortfall_S(level_S, state)

    def to_dict(self) -> dict[str, Any]:
        """Its rule; it has no parameters."""
        return {"rule": self.rule}


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseStock:
    """Order up to a level in every review period (Snyder & Shen 2019, section 4.3).

    Parameters
    ----------
    cycle_service_level
        The level is this quantile of demand over L + R; in (0, 1).
    """

    rule: ClassVar[str] = "base_stock"
    cycle_service_level: float

    def __post_init__(self) -> None:
        _check_level(self.cycle_service_level)

    @property
    def name(self) -> str:
        """``base_stock``."""
        return self.rule

    def order_quantity_S(self, state: InventoryState, forecast: Forecast, terms: SupplyTerms) -> FloatArray:
        """Units up to the base-stock level."""
        return _shortfall_S(base_stock_level_S(forecast, terms, cycle_service_level=self.cycle_service_level), state)

    def to_dict(self) -> dict[str, Any]:
        """Its rule and parameters."""
        return {"rule": self.rule, **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class CappedBaseStock:
    """A base-stock rule that never orders more than a cap (Xin 2021: near-optimal for lost sales).

    Parameters
    ----------
    cycle_service_level
        As in ``BaseStock``; in (0, 1).
    cap_periods
        The cap over the expected demand of one review period; > 0.
    """

    rule: ClassVar[str] = "capped_base_stock"
    cycle_service_level: float
    cap_periods: float

    def __post_init__(self) -> None:
        _check_level(self.cycle_service_level)
        if not self.cap_periods > 0:
            raise ValueError(f"cap_periods must be > 0, got {self.cap_periods}")

    @property
    def name(self) -> str:
        """``capped_base_stock``."""
        return self.rule

    def order_quantity_S(self, state: InventoryState, forecast: Forecast, terms: SupplyTerms) -> FloatArray:
        """Units up to the base-stock level, or the cap if that is less."""
        level_S = base_stock_level_S(forecast, terms, cycle_service_level=self.cycle_service_level)
        cap_S = self.cap_periods * terms.review_period_S * mean_demand_S(forecast, terms)
        return np.minimum(_shortfall_S(level_S, state), cap_S).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Its rule and parameters."""
        return {"rule": self.rule, **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReorderPoint:
    """The (s, S) rule: at or below s, order up to S (Snyder & Shen 2019, section 4.4).

    Parameters
    ----------
    cycle_service_level
        s is this quantile of demand over L + R; in (0, 1).
    order_periods
        S = s + this many periods of expected demand; >= 0.
    """

    rule: ClassVar[str] = "reorder_point"
    cycle_service_level: float
    order_periods: float

    def __post_init__(self) -> None:
        _check_level(self.cycle_service_level)
        if not self.order_periods >= 0:
            raise ValueError(f"order_periods must be >= 0, got {self.order_periods}")

    @property
    def name(self) -> str:
        """``reorder_point``."""
        return self.rule

    def order_quantity_S(self, state: InventoryState, forecast: Forecast, terms: SupplyTerms) -> FloatArray:
        """Units up to S where the inventory position is at or below s, else 0."""
        reorder_S = base_stock_level_S(forecast, terms, cycle_service_level=self.cycle_service_level)
        level_S = reorder_S + self.order_periods * mean_demand_S(forecast, terms)
        return _order_up_to_S(state, reorder_S=reorder_S, level_S=level_S)

    def to_dict(self) -> dict[str, Any]:
        """Its rule and parameters."""
        return {"rule": self.rule, **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class NegativeBinomial:
    """The newsvendor for counts that vary more than a Poisson law: order up to a quantile of a negative binomial.

    Its mean is the forecast's over L + R, its variance that of a normal law as wide as the forecast between its 10 %
    and 90 % quantiles, at least 1.01 times the mean; fitted by moments (Agrawal & Smith 1996): n = mean^2 / (variance
    - mean) successes of chance mean / variance. Each series has the level of its own costs, moved by one tuned shift.

    Parameters
    ----------
    score_shift
        Added to the normal score of the critical ratio p / (p + h); 0 is the newsvendor's solution.
    """

    rule: ClassVar[str] = "negative_binomial"
    score_shift: float = 0.0

    def __post_init__(self) -> None:
        if not np.isfinite(self.score_shift):
            raise ValueError(f"score_shift must be finite, got {self.score_shift}")

    @property
    def name(self) -> str:
        """``negative_binomial``."""
        return self.rule

    def order_quantity_S(self, state: InventoryState, forecast: Forecast, terms: SupplyTerms) -> FloatArray:
        """Units up to the quantile of a negative binomial fitted to demand over L + R."""
        interval_S = terms.protection_interval_S
        mean_S = np.maximum(forecast.mean_over_S(interval_S).astype(np.float64), 1e-6)
        low_S, high_S = (forecast.quantile_over_S(interval_S, level_S=level) for level in _SPREAD_LEVELS)
        low_score, high_score = ndtri(_SPREAD_LEVELS)
        deviation_S = (high_S - low_S).astype(np.float64) / (high_score - low_score)
        variance_S = np.maximum(deviation_S**2, _LEAST_DISPERSION * mean_S)
        score_S = ndtri(terms.costs.critical_ratio_S.astype(np.float64)) + self.score_shift
        level_S = np.clip(ndtr(score_S), *_LEVEL_BOUNDS)
        quantile_S = nbinom.ppf(level_S, mean_S**2 / (variance_S - mean_S), mean_S / variance_S)
        return _shortfall_S(quantile_S.astype(np.float32), state)

    def to_dict(self) -> dict[str, Any]:
        """Its rule and parameters."""
        return {"rule": self.rule, **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticMinMax:
    """The fixed minimum and maximum that ERPs ship: set once from history, blind to the forecast.

    Both are periods of ``terms.mean_demand_S``, the series' mean demand when its master data were set, so that one pair
    of parameters serves a category and every series that joins it.

    Parameters
    ----------
    safety_periods
        Minimum = (L + R + this) periods of mean demand.
    order_periods
        Maximum = minimum + this many periods of mean demand; >= 0.
    """

    rule: ClassVar[str] = "static_min_max"
    safety_periods: float
    order_periods: float

    def __post_init__(self) -> None:
        if not self.order_periods >= 0:
            raise ValueError(f"order_periods must be >= 0, got {self.order_periods}")

    @property
    def name(self) -> str:
        """``static_min_max``."""
        return self.rule

    def order_quantity_S(self, state: InventoryState, forecast: Forecast, terms: SupplyTerms) -> FloatArray:
        """Units up to the maximum where the inventory position is at or below the minimum, else 0."""
        minimum_S = np.maximum(terms.protection_interval_S + self.safety_periods, 0) * terms.mean_demand_S
        maximum_S = minimum_S + self.order_periods * terms.mean_demand_S
        return _order_up_to_S(state, reorder_S=minimum_S.astype(np.float32), level_S=maximum_S.astype(np.float32))

    def to_dict(self) -> dict[str, Any]:
        """Its rule and parameters."""
        return {"rule": self.rule, **asdict(self)}


RULES: dict[str, type[Newsvendor | BaseStock | CappedBaseStock | ReorderPoint | NegativeBinomial | StaticMinMax]] = {
    kind.rule: kind for kind in (Newsvendor, BaseStock, CappedBaseStock, ReorderPoint, NegativeBinomial, StaticMinMax)
}
"""Every textbook rule by its name in reports and artifacts."""


def policy_from_dict(tree: Mapping[str, Any]) -> ClassicalPolicy:
    """Make the rule that ``to_dict`` described.

    Raises
    ------
    ArtifactError
        If the rule is unknown or its parameters do not fit.

    >>> policy_from_dict({"rule": "base_stock", "cycle_service_level": 0.95})
    BaseStock(cycle_service_level=0.95)
    """
    parameters = dict(tree)
    rule = parameters.pop("rule", None)
    if rule not in RULES:
        raise ArtifactError(f"policy rule {rule!r} is unknown; this version knows {', '.join(RULES)}: train again")
    try:
        return RULES[rule](**parameters)
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"policy {rule}: parameters do not fit ({error}); train again") from error


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"cycle_service_level must be in (0, 1), got {level}")


def _order_up_to_S(state: InventoryState, *, reorder_S: FloatArray, level_S: FloatArray) -> FloatArray:
    position_S = state.inventory_position_S
    return np.where(position_S <= reorder_S, np.maximum(level_S - position_S, 0.0), 0.0).astype(np.float32)
