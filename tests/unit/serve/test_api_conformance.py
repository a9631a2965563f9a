"""The whole OpenAPI document, spoken by a machine, with a token and without: answers as documented, never a 5xx."""

from collections.abc import Callable
from datetime import timedelta

import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import ignored_auth, negative_data_rejection, positive_data_acceptance
from serving_home import Home
from test_gate import GUARDED, TABLE

from cluster.config import Settings
from serve.access.roles import Role
from serve.access.tokens import TokenBook
from serve.handles import Services
from serve.ingress import make_api
from serve.releases import Releases
from serve.store.database import open_database

FEW = settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))
# A body of the right form may name what this shop does not have: a documented 422 or 409. And schemathesis takes our
# token for one that it made up: what tokens open is tested in test_gate.
UNFIT = [ignored_auth, positive_data_acceptance]


@pytest.fixture(scope="module")
def closed_settings(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    database = tmp_path_factory.mktemp("database") / "tokens.db"
    serve = {"access": "tokens", "database_url": f"sqlite:///{database}", "rate_per_s": 0.0}
    return home.settings.model_copy(update={"serve": home.settings.serve.model_copy(update=serve)})


@pytest.fixture(scope="module")
def token(closed_settings: Settings) -> str:
    book = TokenBook(open_database(closed_settings))
    return book.create("tester", role=Role.OPERATOR, lasts=timedelta(days=1), actor="test")


@pytest.fixture(scope="module")
def schema(services: Services, releases: Releases, closed_settings: Settings) -> BaseSchema:
    return schemathesis.openapi.from_asgi(
        "/openapi.json", make_api(services, settings=closed_settings, releases=releases)
    )


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize(("method", "path"), TABLE)
def test_with_a_token_every_answer_is_as_documented(
    schema: BaseSchema, token: str, method: str, path: str, mode: GenerationMode
) -> None:
    check(schema, method, path, mode, headers={"authorization": f"Bearer {token}"})


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_without_a_token_nothing_answers_but_a_documented_401(schema: BaseSchema, method: str, path: str) -> None:
    statuses: set[int] = set()
    check(schema, method, path, GenerationMode.POSITIVE, headers={}, note=statuses.add)
    assert statuses == {401}


def check(
    schema: BaseSchema,
    method: str,
    path: str,
    mode: GenerationMode,
    *,
    headers: dict[str, str],
    note: Callable[[int], None] = lambda _: None,
) -> None:
    operation = schema[path][method]
    if mode is GenerationMode.NEGATIVE and not (operation.body or operation.query or operation.path_parameters):
        pytest.skip("nothing to send, nothing to send wrong")

    # In a query all is text: what was made a wrong type arrives as a right string.
    unfit = UNFIT if operation.body else [*UNFIT, negative_data_rejection]

    @FEW
    @seed(1)
    @given(case=operation.as_strategy(generation_mode=mode))
    def run(case: schemathesis.Case) -> None:
        response = case.call(headers=headers)
        note(response.status_code)
        case.validate_response(response, excluded_checks=unfit)

    run()
