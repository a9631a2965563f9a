"""What clients send and get about forecasts, and the changes that a request may suppose."""

from datetime import date
from typing import Annotated

from pydantic import Field, model_validator

from serve.schemas.fields import (
    MAX_EVENTS,
    MAX_ROWS,
    AnswerBody,
    AsOf,
    Day,
    Id,
    Level,
    RequestBody,
    Series,
    Units,
    example,
)


class PromotionRow(RequestBody):
    """A promotion that is planned and that history does not know of."""

    item_id: Id
    location_id: Annotated[Id | None, Field(description="place where it runs; default: everywhere")] = None
    promotion_type: Annotated[Id, Field(description="channel, one that history has: display, mailer, price, ...")]
    start_on: Day
    end_on: Annotated[Day, Field(description="last day")]
    intensity: Annotated[
        float, Field(strict=True, ge=0, le=1, allow_inf_nan=False, description="share of the audience reached")
    ] = 1.0

    @model_validator(mode="after")
    def _in_order(self) -> "PromotionRow":
        if self.end_on < self.start_on:
            raise ValueError("end_on lies before start_on")
        return self


class LateOrderRow(Series):
    """Units sold that history does not hold yet."""

    sold_on: Annotated[Day, Field(description="a day of history")]
    sold_qty: Units


Promotions = Annotated[
    list[PromotionRow], Field(max_length=MAX_EVENTS, description="planned promotions: forecasts follow them")
]
LateOrders = Annotated[
    list[LateOrderRow], Field(max_length=MAX_EVENTS, description="orders that came late: forecasts follow them")
]


class ForecastRequest(RequestBody):
    """Which series to forecast, how far and at which quantile levels."""

    model_config = example(
        {"series": [{"item_id": "1082185", "location_id": "main"}], "horizon": 7, "levels": [0.1, 0.5, 0.9]}
    )

    series: Annotated[list[Series], Field(min_length=1, max_length=MAX_ROWS, description="series to forecast")]
    horizon: Annotated[
        int | None, Field(strict=True, ge=1, le=1000, description="periods ahead; default and most: the model's own")
    ] = None
    levels: Annotated[
        list[Level] | None,
        Field(min_length=1, max_length=50, description="quantile levels within the model's own; default: those"),
    ] = None
    as_of: AsOf = None
    promotions: Promotions = Field(default=[])
    late_orders: LateOrders = Field(default=[])


class SeriesForecast(AnswerBody):
    """Demand of one series, units per period; quantile rows have one entry per level."""

    item_id: str
    location_id: str
    mean: Annotated[list[float], Field(description="expected demand of each period")]
    marginal: Annotated[list[list[float]], Field(description="quantiles of the demand of each single period")]
    cumulative: Annotated[
        list[list[float]], Field(description="quantiles of demand summed from the first period to this one")
    ]


class ForecastAnswer(AnswerBody):
    """Forecasts of all requested series, in the order of the request."""

    as_of: date
    period_days: Annotated[int, Field(description="1: one period is a day; 7: a week")]
    dates: Annotated[list[date], Field(description="first day of each period")]
    levels: list[float]
    model_version: str
    is_fallback: Annotated[
        bool, Field(description="true: the forecaster does not answer, these are its last stored forecasts")
    ]
    series: list[SeriesForecast]
