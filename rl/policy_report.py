"""Policies of a category side by side: what each replay cost, against the baseline, and how sure that is.

Shapes: S series.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rl.evaluate import ReplayResult, WideArray

# Resampled indices held in memory at once.
_BOOTSTRAP_CHUNK = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A relative difference in total cost: -0.05 means that the first costs 5 % less than the second."""

    estimate: float
    low: float
    high: float
    confidence: float

    @property
    def is_cheaper(self) -> bool:
        """Whether the first is cheaper with its interval clear of zero."""
        return self.high < 0


def paired_interval(
    cost_a_S: npt.NDArray[np.floating],
    cost_b_S: npt.NDArray[np.floating],
    *,
    seed: int,
    samples: int = 2_000,
    confidence: float = 0.95,
) -> Interval:
    """Bootstrap interval of sum(a) / sum(b) - 1, resampling series with both of their costs.

    Percentile bootstrap (Efron & Tibshirani 1993, ch. 13). It speaks of other series in the same periods, not of other
    periods; under about 10 series it is too narrow.
    """
    a_S, b_S = np.asarray(cost_a_S, dtype=np.float64), np.asarray(cost_b_S, dtype=np.float64)
    if a_S.shape != b_S.shape or a_S.ndim != 1 or not len(a_S):
        raise ValueError("costs must be two arrays with one entry per series")
    rng = np.random.default_rng(seed)
    chunk = max(_BOOTSTRAP_CHUNK // len(a_S), 1)
    ratios = []
    for first in range(0, samples, chunk):
        rows = rng.integers(len(a_S), size=(min(chunk, samples - first), len(a_S)))
        ratios.append(_relative(a_S[rows].sum(axis=1), b_S[rows].sum(axis=1)))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(ratios), [tail, 1 - tail])
    estimate = _relative(a_S.sum(keepdims=True), b_S.sum(keepdims=True))[0]
    return Interval(estimate=float(estimate), low=float(low), high=float(high), confidence=confidence)


def _relative(a: WideArray, b: WideArray) -> WideArray:
    # Two costs of nothing are equal; without that a category that nothing happens to would have no interval.
    return np.where(b > 0, a / np.maximum(b, 1e-12) - 1, np.where(a > 0, np.inf, 0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyScore:
    """One policy's replay in a category. Money over all series and periods; rates are 0..1.

    ``fill_rate`` is over units, ``in_stock_rate`` over series and periods, ``stock_value`` the mean value on the shelf,
    ``against_baseline`` the cost relative to the report's baseline (None for the baseline itself), and ``write_down``
    the part of the cost that units left at the end have where salvage rates are given.
    """

    name: str
    cost: float
    holding_cost: float
    lost_sale_cost: float
    fixed_cost: float
    fill_rate: float
    in_stock_rate: float
    stock_value: float
    num_orders: int
    ordered_qty: float
    against_baseline: Interval | None
    write_down: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyReport:
    """All policies of a category on the same replay, the cheapest first.

    ``baseline`` names the textbook rule that was the cheapest on the tuning window; ``bound_cost`` is that of perfect
    foresight.
    """

    category_id: str
    num_series: int
    num_periods: int
    baseline: str
    bound_cost: float
    scores: tuple[PolicyScore, ...]

    def score(self, name: str) -> PolicyScore:
        """The score of one policy."""
        return next(score for score in self.scores if score.name == name)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def make_policy_report(
    results: Mapping[str, ReplayResult],
    *,
    category_id: str,
    baseline: str,
    bound_cost_S: WideArray,
    seed: int,
    samples: int = 2_000,
    confidence: float = 0.95,
) -> PolicyReport:
    """Compare replays of one category, by policy name, with the baseline among them.

    Parameters
    ----------
    bound_cost_S
        ``perfect_foresight_cost_S`` of the same scenario.
    seed, samples, confidence
        Of the paired bootstrap intervals.
    """
    base = results[baseline]

    def make_score(name: str, result: ReplayResult) -> PolicyScore:
        interval = paired_interval(result.cost_S, base.cost_S, seed=seed, samples=samples, confidence=confidence)
        return PolicyScore(
            name=name,
            cost=float(result.cost_S.sum()),
            holding_cost=float(result.holding_cost_S.sum()),
            lost_sale_cost=float(result.lost_sale_cost_S.sum()),
            fixed_cost=float(result.fixed_cost_S.sum()),
            fill_rate=result.fill_rate,
            in_stock_rate=float(result.in_stock_rate_S.mean()),
            stock_value=float(result.stock_value_S.sum()),
            num_orders=int(result.num_orders_S.sum()),
            ordered_qty=float(result.ordered_S.sum()),
            against_baseline=None if name == baseline else interval,
            write_down=float(result.write_down_S.sum()),
        )

    scores = [make_score(name, result) for name, result in results.items()]
    return PolicyReport(
        category_id=category_id,
        num_series=len(bound_cost_S),
        num_periods=base.num_periods,
        baseline=baseline,
        bound_cost=float(bound_cost_S.sum()),
        scores=tuple(sorted(scores, key=lambda score: score.cost)),
    )
