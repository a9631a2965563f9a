"""Requests are refused by their models before any replica sees them."""

import math

import pytest
from pydantic import TypeAdapter, ValidationError

from serve.schemas.fields import Day, Units
from serve.schemas.forecasts import ForecastRequest
from serve.schemas.order_plans import OrderPlanRequest
from serve.schemas.recommendations import RecommendationQuery

SERIES = {"item_id": "a", "location_id": "main"}


def test_the_documented_examples_are_valid() -> None:
    for model in (ForecastRequest, OrderPlanRequest):
        for example in model.model_json_schema()["examples"]:
            model.model_validate(example)


def test_location_and_the_rest_have_defaults() -> None:
    request = OrderPlanRequest.model_validate({"series": [{"item_id": "a"}]})
    assert request.series is not None
    assert request.series[0].location_id == "main"
    assert request.stock is None
    assert request.open_orders == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"series": []},
        {"series": None},
        {"series": [SERIES | {"colour": "red"}]},
        {"series": [SERIES], "horison": 3},
        {"series": [{"item_id": ""}]},
        {"series": [{"item_id": "a" * 201}]},
        {"series": [{"item_id": "a\x00b"}]},
        {"series": [{"item_id": "a\nb"}]},
        {"series": [{"item_id": 5}]},
        {"series": [{"item_id": None}]},
        {"series": [SERIES], "horizon": 0},
        {"series": [SERIES], "horizon": "7"},
        {"series": [SERIES], "horizon": 7.5},
        {"series": [SERIES], "horizon": True},
        {"series": [SERIES], "horizon": 10**400},
        {"series": [SERIES], "levels": []},
        {"series": [SERIES], "levels": [0.0]},
        {"series": [SERIES], "levels": [1.0]},
        {"series": [SERIES], "levels": [math.nan]},
        {"series": [SERIES], "levels": ["0.5"]},
        {"series": [SERIES], "as_of": 5},
        {"series": [SERIES], "as_of": "yesterday"},
        {"series": [SERIES], "as_of": "2017-02-30"},
    ],
)
def test_forecast_request_is_refused(body: object) -> None:
    with pytest.raises(ValidationError):
        ForecastRequest.model_validate(body)


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, -math.inf, 1e10, 10**400, "5", True, None, [1]])
def test_units_are_finite_numbers_of_a_sane_size(value: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Units).validate_python(value)


@pytest.mark.parametrize("value", [0, 1, 2.5, 1e9])
def test_units_in_range_pass(value: float) -> None:
    assert TypeAdapter(Units).validate_python(value) == value


@pytest.mark.parametrize("value", [0, 1.5, 20170101, True, None])
def test_a_day_is_text_only(value: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Day).validate_python(value)


@pytest.mark.parametrize("k", ["0", "101", "x", "1.5", "1e1", ""])
def test_number_of_recommendations_is_bounded(k: str) -> None:
    with pytest.raises(ValidationError):
        RecommendationQuery.model_validate({"user_id": "1", "k": k})
