"""One JSON line per thing said, with the request's id wherever the request went in this process."""

import json
import logging

import pytest
from starlette.testclient import TestClient

from serve.watch.log import JsonLines, bind_request_id, request_id


def lines_of(caplog: pytest.LogCaptureFixture, name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in caplog.messages if line.startswith("{") and f'"log": "{name}"' in line]


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Formatted as a replica formats: at the moment and in the thread where it is said."""
    formatter = JsonLines()
    filters = []
    for name in ("restock.access", "restock.hops", "restock.serve"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)

        def write(record: logging.LogRecord) -> bool:
            record.msg, record.args = formatter.format(record), ()
            return True

        logger.addFilter(write)
        filters.append((logger, write))
    yield caplog
    for logger, write in filters:
        logger.removeFilter(write)
        logger.setLevel(logging.NOTSET)


def test_every_step_of_a_plan_is_written_under_the_id_of_its_request(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    body = {"series": [{"item_id": "item-1"}]}
    assert client.post("/v1/order-plans", json=body, headers={"x-request-id": "mine-7"}).status_code == 200
    assert client.post("/v1/order-plans", json=body, headers={"x-request-id": "mine-8"}).status_code == 200
    steps = [line for line in lines_of(caplog, "hops") if line["request_id"] == "mine-7"]
    assert {step["deployment"] for step in steps} == {"planner", "forecaster", "policy"}
    assert all(step["milliseconds"] >= 0 for step in steps)
    (request,) = [line for line in lines_of(caplog, "access") if line["request_id"] == "mine-7"]
    assert (request["route"], request["status"], request["actor"]) == ("/v1/order-plans", 200, "development")


def test_hostile_text_stays_on_its_line_and_a_trace_in_its_field() -> None:
    try:
        raise ValueError("first\nsecond \u2028 \ud800")
    except ValueError as error:
        exc_info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("restock.serve", logging.ERROR, "x.py", 1, "said %s", ("a\n{}\u202e",), exc_info)
    text = JsonLines().format(record)
    assert text.isascii()
    assert "\n" not in text
    line = json.loads(text)
    assert line["message"] == "said a\n{}\u202e"
    assert "ValueError: first" in line["trace"]


def test_the_id_goes_on_to_what_a_handle_calls() -> None:
    """Serve sends the id of its own context with every call: a replaced id must be there too."""
    from contextvars import copy_context

    from ray.serve import context

    def scenario() -> tuple[str, str, str]:
        context._serve_request_context.set(context._RequestContext(request_id="bad id", app_name="restock"))
        before = request_id()
        bind_request_id("good-id")
        after = context._serve_request_context.get()
        return before, after.request_id, after.app_name

    assert copy_context().run(scenario) == ("bad id", "good-id", "restock")
    assert request_id() == ""
