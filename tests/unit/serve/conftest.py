"""The whole composition in this process: real replicas behind local handles, no Ray."""

import logging
import time
from collections.abc import Iterator

import pytest
from ray import serve
from serving_home import Home, make_home
from starlette.testclient import TestClient

from serve.app import build_services
from serve.ingress import make_api
from serve.routes.context import Services


def _wait_until_ready(client: TestClient) -> None:
    # Local handles load their models beside the first requests.
    end = time.monotonic() + 60
    while client.get("/readyz").status_code != 200:
        assert time.monotonic() < end, client.get("/readyz").text
        time.sleep(0.05)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return make_home(tmp_path_factory.mktemp("shop"), overrides=("serve.max_series_per_request=7",))


@pytest.fixture(scope="session")
def services(home: Home) -> Services:
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    return Services(
        **{
            name: serve.run(application, name=name, _local_testing_mode=True)
            for name, application in build_services(home.settings).items()
        }
    )


@pytest.fixture(scope="session")
def client(home: Home, services: Services) -> Iterator[TestClient]:
    with TestClient(make_api(services, settings=home.settings), raise_server_exceptions=False) as client:
        _wait_until_ready(client)
        yield client
