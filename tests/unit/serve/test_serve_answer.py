"""How answers become bytes."""

import json

import pytest
from starlette.responses import JSONResponse

from serve.routes.answers import Answer

CONTENT = {
    "series": [{"item_id": 'NaN \u2028 é "\\', "mean": [0.1, 1e-7, 12345678.9012, 0.0], "levels": []}],
    "is_fallback": False,
    "due": None,
    "Infinity": 3,
}


def test_an_answer_says_what_pythons_own_encoder_says() -> None:
    for content in (CONTENT, CONTENT["series"]):
        answer = Answer(content)
        assert json.loads(answer.body) == json.loads(JSONResponse(content).body) == content
        assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_an_error_and_not_json_that_nobody_reads(number: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        Answer({"mean": [1.0, number]})
