"""What clients see when something behind the routes breaks: enough to act on, nothing of our insides."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

from cluster.config import Settings, load_settings
from cluster.errors import ArtifactError, ConflictError, DataError
from serve.handles import Services
from serve.ingress import make_api
from serve.problems import make_problem

OPEN = load_settings(overrides=["serve.access=development"])
SECRET = "/home/somebody/models: weights.bin"
BODY = {"series": [{"item_id": "a"}]}


def client_over(error: BaseException | None, *, settings: Settings | None = None) -> TestClient:
    """An API whose every service fails in the given way, or never answers."""

    async def fail(*_: Any, **__: Any) -> None:
        if error is None:
            await asyncio.sleep(60)
        else:
            raise error

    method = SimpleNamespace(remote=fail)
    service = SimpleNamespace(predict=method, recommend=method, plan=method, check=method, describe=method)
    service.stored_forecasts = service.popular = method
    service.options = lambda **_: service
    services = Services(forecaster=service, recommender=service, policy=service, planner=service)
    api = make_api(services, settings=settings or OPEN)
    return TestClient(api, raise_server_exceptions=False)


@pytest.mark.parametrize(
    ("error", "status", "title"),
    [
        (DataError("item 5 is odd; drop it"), 422, "Data error"),
        (ConflictError("somebody was faster; read again"), 409, "Conflict"),
    ],
)
def test_what_a_client_can_mend_is_said(error: Exception, status: int, title: str) -> None:
    problem = client_over(error).post("/v1/forecasts", json=BODY).json()
    assert (problem["status"], problem["title"], problem["detail"]) == (status, title, str(error))


@pytest.mark.parametrize(
    ("error", "status"), [(ArtifactError(SECRET), 503), (KeyError(SECRET), 500), (RuntimeError(SECRET), 500)]
)
def test_what_a_client_cannot_mend_is_in_the_log_only(
    error: Exception, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    response = client_over(error).post("/v1/forecasts", json=BODY, headers={"X-Request-ID": "abc"})
    assert response.status_code == status
    assert "somebody" not in response.text
    assert response.json()["request_id"] == "abc"
    assert "abc" in caplog.text
    assert SECRET in caplog.text


def test_an_error_that_crossed_a_handle_is_told_by_its_cause() -> None:
    class WrappedError(DataError):
        cause = DataError("item 5 is odd; drop it")

    response = client_over(WrappedError("ray::Forecaster.predict() Traceback in /usr/lib/x.py"))
    assert response.post("/v1/forecasts", json=BODY).json()["detail"] == "item 5 is odd; drop it"


def test_a_model_that_does_not_answer_in_time_is_a_504() -> None:
    client = client_over(
        None, settings=load_settings(overrides=["serve.access=development", "serve.request_timeout_s=0.2"])
    )
    for response in (client.post("/v1/forecasts", json=BODY), client.get("/v1/recommendations?user_id=1")):
        assert response.status_code == 504
        assert response.headers["content-type"] == "application/problem+json"


def test_not_ready_names_the_models_that_fail() -> None:
    response = client_over(RuntimeError(SECRET)).get("/readyz")
    assert response.status_code == 503
    assert "no answer from: forecaster, recommender, policy, planner" in response.json()["detail"]
    assert client_over(RuntimeError(SECRET)).get("/healthz").status_code == 200


def test_validation_errors_point_into_the_body_and_do_not_repeat_it() -> None:
    response = client_over(None).post("/v1/forecasts", json={"series": [{"item_id": "a", "pass/word~": "hunter2"}]})
    assert response.json()["errors"] == [
        {"pointer": "/series/0/pass~1word~0", "detail": "Extra inputs are not permitted"}
    ]
    assert "hunter2" not in response.text


def test_many_errors_are_cut() -> None:
    problem = client_over(None).post("/v1/forecasts", json={"series": [{}] * 500}).json()
    assert len(problem["errors"]) == 20
    assert "the first 20 of 500 are listed" in problem["detail"]


def test_hostile_text_stays_ascii() -> None:
    body = make_problem(422, detail="\ud800 \u202e <script>", request_id="x")
    body.decode("ascii")
