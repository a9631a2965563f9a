"""The whole composition in this process: real replicas behind local handles, no Ray."""

import asyncio
from collections.abc import Iterator

import pytest
from serving_home import Home, make_home
from starlette.testclient import TestClient

from serve.ingress import make_api
from serve.layout import LocalReplicas
from serve.releases import serving_versions
from serve.routes.context import Services


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return make_home(tmp_path_factory.mktemp("shop"), overrides=("serve.max_series_per_request=7",))


@pytest.fixture(scope="session")
def services(home: Home) -> Services:
    replicas = LocalReplicas(home.settings)
    asyncio.run(replicas.reconfigure(serving_versions(home.settings)))
    return replicas.services


@pytest.fixture(scope="session")
def client(home: Home, services: Services) -> Iterator[TestClient]:
    with TestClient(make_api(services, settings=home.settings), raise_server_exceptions=False) as client:
        assert client.get("/readyz").status_code == 200
        yield client
