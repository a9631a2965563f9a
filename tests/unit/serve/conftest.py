"""The whole composition in this process: real replicas behind local handles, no Ray."""

import asyncio
import tempfile
from collections.abc import Iterator

import pytest
from databases import running_postgres
from serving_home import Home, make_home
from starlette.testclient import TestClient

from benchmarks.postgres import PostgresServer, memory_folder
from cluster.config import Settings, load_settings
from serve.golden import check_release
from serve.handles import Services
from serve.ingress import make_api
from serve.layout import LocalReplicas, Versions
from serve.releases import Releases, serving_versions
from serve.store.database import Database, open_database


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return make_home(tmp_path_factory.mktemp("shop"), overrides=("serve.max_series_per_request=7",))


@pytest.fixture(scope="session")
def replicas(home: Home) -> LocalReplicas:
    made = LocalReplicas(home.settings)
    asyncio.run(made.reconfigure(serving_versions(home.settings)))
    return made


@pytest.fixture(scope="session")
def services(replicas: LocalReplicas) -> Services:
    return replicas.services


@pytest.fixture(scope="session")
def releases(home: Home, replicas: LocalReplicas) -> Releases:
    """Changes what the replicas of this process serve."""

    def deploy(settings: Settings, versions: Versions) -> None:
        asyncio.run(replicas.reconfigure(versions))

    return Releases(home.settings, check=check_release, deploy=deploy)


@pytest.fixture(scope="session")
def client(home: Home, services: Services, releases: Releases) -> Iterator[TestClient]:
    api = make_api(services, settings=home.settings, releases=releases)
    with TestClient(api, raise_server_exceptions=False) as client:
        assert client.get("/readyz").status_code == 200
        yield client


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One PostgreSQL server for all tests of a session."""
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database, on each that is supported."""
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")
        yield server.new_schema()
        return
    with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
        yield f"sqlite:///{folder}/restock.db"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database with the tables."""
    opened = open_database(load_settings(overrides=[f'serve.database_url="{database_url}"']))
    yield opened
    opened.close()
