"""What the deployments answer one another and the ingress: dataclasses of arrays, and their JSON form.

Shapes: S series, H horizon periods, Q quantile levels, U users, K items.
"""

from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.panel import Calendar
from forecasting.forecast import Forecast
from rl.inventory import FloatArray
from rl.ordering import Wishes
from rl.orders import OrderLine, OrderPlan

_DECIMALS = 4
StrArray = npt.NDArray[np.str_]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModelInfo:
    """One model version that a replica answers from. No path, no configuration, no metric."""

    name: str
    version: str
    kind: str
    created_at: datetime
    trained_until_on: date

    def to_json(self) -> dict[str, Any]:
        """JSON form, as the schema ``ServedModel``."""
        return {
            "name": self.name,
            "version": self.version,
            "kind": self.kind,
            "created_at": self.created_at.isoformat(),
            "trained_until_on": self.trained_until_on.isoformat(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What a request knows beyond history: tables by ``cluster.schema``, None where it tells nothing.

    Parameters
    ----------
    promotions
        Promotions that are planned, of the schema ``PROMOTIONS``.
    late_orders
        Units sold that history does not hold: ``item_id``, ``location_id``, ``sold_on`` and ``sold_qty``.
    """

    promotions: pa.Table | None
    late_orders: pa.Table | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesForecasts:
    """Forecasts of series, in the order in which they were asked for; ``is_fallback`` where they are stored ones."""

    item_ids_S: StrArray
    location_ids_S: StrArray
    as_of: date
    period_days: int
    dates_H: tuple[date, ...]
    forecast: Forecast
    model_version: str
    is_fallback: bool

    def to_json(self) -> dict[str, Any]:
        """JSON form, as the schema ``ForecastAnswer``."""
        forecast = self.forecast
        rows = zip(
            self.item_ids_S.tolist(),
            self.location_ids_S.tolist(),
            _numbers(forecast.mean_SH),
            _numbers(forecast.marginal_SHQ),
            _numbers(forecast.cumulative_SHQ),
            strict=True,
        )
        names = ("item_id", "location_id", "mean", "marginal", "cumulative")
        return {
            "as_of": self.as_of.isoformat(),
            "period_days": self.period_days,
            "dates": [day.isoformat() for day in self.dates_H],
            "levels": _numbers(forecast.levels_Q),
            "model_version": self.model_version,
            "is_fallback": self.is_fallback,
            "series": [dict(zip(names, row, strict=True)) for row in rows],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRecommendations:
    """The K best items of each user; ``''`` where a user has fewer.

    Parameters
    ----------
    interests, due_items
        Per user: categories with their expected share of what comes next, and items bought before with the chance that
        they are bought again within ``due_within_days``; None where the recommender was stored without them.
    """

    user_ids: tuple[str, ...]
    item_ids_UK: StrArray
    score_UK: FloatArray
    reason_UK: StrArray
    is_fallback_U: BoolArray
    interests: list[list[tuple[str, float]]] | None
    due_items: list[list[tuple[str, float]]] | None
    due_within_days: int | None
    model_version: str

    def of(self, users: slice) -> "UserRecommendations":
        """The same answer for some of the users."""
        return replace(
            self,
            user_ids=self.user_ids[users],
            item_ids_UK=self.item_ids_UK[users],
            score_UK=self.score_UK[users],
            reason_UK=self.reason_UK[users],
            is_fallback_U=self.is_fallback_U[users],
            interests=None if self.interests is None else self.interests[users],
            due_items=None if self.due_items is None else self.due_items[users],
        )

    def to_json(self, user: int) -> dict[str, Any]:
        """JSON form of one user's row, as the schema ``RecommendationAnswer``."""
        rows = zip(
            self.item_ids_UK[user].tolist(), self.score_UK[user].tolist(), self.reason_UK[user].tolist(), strict=True
        )
        return {
            "user_id": self.user_ids[user],
            "is_fallback": bool(self.is_fallback_U[user]),
            "model_version": self.model_version,
            "items": [
                # Scores of strangers are tiny, so that significant digits count.
                {"item_id": item_id, "score": float(f"{score:.6g}"), "reason": reason}
                for item_id, score, reason in rows
                if item_id
            ],
            "interests": [
                {"category_id": category_id, "share": round(share, _DECIMALS)}
                for category_id, share in (self.interests[user] if self.interests else ())
            ],
            "due_items": [
                {"item_id": item_id, "probability": round(probability, _DECIMALS)}
                for item_id, probability in (self.due_items[user] if self.due_items else ())
            ],
            "due_within_days": self.due_within_days,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitIntent:
    """Chance that a visit ends in a purchase; None where the model was stored without it."""

    probability: float | None
    model_version: str

    def to_json(self) -> dict[str, Any]:
        """JSON form, as the schema ``IntentAnswer``."""
        chance = None if self.probability is None else round(self.probability, _DECIMALS)
        return {"probability": chance, "model_version": self.model_version}


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredWishes(Wishes):
    """What the policies want, which versions they are, and where a textbook rule stood in."""

    is_fallback_S: BoolArray
    model_versions: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanQuestion:
    """What a plan is asked for; ``stock`` and ``open_orders`` are tables by ``cluster.schema``.

    ``series`` None asks for the first ``limit`` of the dataset, ``stock`` None for the shop's own stock table if it is
    of that day, else for an assumed opening stock. ``patience_s`` is how long each model may take before it is answered
    for; None: as long as the settings say. ``with_drivers`` has reasons say what moves demand.
    """

    series: list[tuple[str, str]] | None
    limit: int
    as_of: date | None
    stock: pa.Table | None
    open_orders: pa.Table | None
    changes: Changes | None = None
    patience_s: float | None = None
    with_drivers: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOutline:
    """What a plan of a day would be of: the series that can be planned, and which history says so.

    Parameters
    ----------
    is_new_S
        Series whose first sale is less old than ``plan.new_item_days``.
    """

    on_date: date
    data: str
    calendar: Calendar
    item_ids_S: StrArray
    location_ids_S: StrArray
    is_new_S: BoolArray


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanAnswer:
    """An order plan, and what a reader must know to trust it; ``is_degraded`` where a model did not answer."""

    plan: OrderPlan
    is_fallback_S: BoolArray
    stock_is_assumed: bool
    num_series_left_out: int
    model_versions: dict[str, str]
    is_degraded: bool = False

    def to_json(self) -> dict[str, Any]:
        """JSON form, as the schema ``OrderPlanAnswer``."""
        return {
            "as_of": self.plan.on_date.isoformat(),
            "num_series_left_out": self.num_series_left_out,
            "stock_is_assumed": self.stock_is_assumed,
            "notes": list(self.plan.notes),
            "model_versions": self.model_versions,
            "lines": [
                _line(line) | {"is_fallback": is_fallback}
                for line, is_fallback in zip(self.plan.lines, self.is_fallback_S.tolist(), strict=True)
            ],
        }


def _line(line: OrderLine) -> dict[str, Any]:
    names = ("item_id", "location_id", "category_id", "policy", "wish_qty", "order_qty", "reason", "remark")
    quantities = ("on_hand_qty", "on_order_qty", "forecast_qty", "order_value", "money_at_risk")
    ledger = [
        {"reason": entry.reason.value, "change_qty": entry.change_qty, "sentence": entry.sentence}
        for entry in line.ledger
    ]
    values = {name: getattr(line, name) for name in (*names, *quantities)}
    return values | {"arrives_on": line.arrives_on.isoformat(), "ledger": ledger}


def _numbers(array: FloatArray) -> list[Any]:
    # float32 prints as 0.10000000149011612 otherwise.
    return np.round(array.astype(np.float64), _DECIMALS).tolist()
