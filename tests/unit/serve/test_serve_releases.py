"""Promotion and roll-back: what passes the check serves, what does not never does."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from serving_home import Home, make_home, publish_forecaster, publish_policy
from starlette.testclient import TestClient

from cluster.errors import ArtifactError, RestockError
from serve.golden import check_release
from serve.ingress import make_api
from serve.layout import LocalReplicas, Versions
from serve.releases import Releases, serving_versions
from serve.schemas.models import PromotionAnswer


class Service:
    """A service in this process whose releases are deployed by reconfiguring its replicas."""

    def __init__(self, home: Home) -> None:
        self.home, self.replicas = home, LocalReplicas(home.settings)
        self.deployed: list[str] = []
        self.fails: set[str] = set()
        asyncio.run(self.replicas.reconfigure(serving_versions(home.settings)))
        releases = Releases(home.settings, check=check_here, deploy=self.deploy)
        api = make_api(self.replicas.services, settings=home.settings, releases=releases)
        self.client = TestClient(api, raise_server_exceptions=False)

    def deploy(self, settings: object, versions: Versions) -> None:
        version = versions["forecaster"]["version"]
        if version in self.fails:
            raise ArtifactError(f"{self.home.settings.home}/models: the disk is full")
        self.deployed.append(version)
        asyncio.run(self.replicas.reconfigure(versions))

    def serves(self, name: str = "forecaster") -> str:
        models = self.client.get("/v1/models").json()["models"]
        return {model["name"]: model["version"] for model in models}[name]

    def champion(self) -> str:
        return self.home.store.aliases("forecaster")["champion"]


def check_here(settings: object, versions: Versions) -> None:
    check_release(settings, versions)  # type: ignore[arg-type]


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(make_home(tmp_path))


def candidate(home: Home, *, seed: int = 1) -> str:
    """A new version that nothing points to yet."""
    version = publish_forecaster(home, seed=seed)
    home.store.promote("forecaster", "v0001")
    return version


def test_a_good_version_is_promoted_and_rolled_back(service: Service) -> None:
    version = candidate(service.home)
    body = {"name": "forecaster", "version": version, "reason": "less bias"}
    answer = service.client.post("/v1/models/promote", json=body)
    assert answer.status_code == 200, answer.text
    moved = PromotionAnswer.model_validate(answer.json())
    assert (moved.version, moved.previous, moved.kind) == (version, "v0001", "promote")
    assert (service.serves(), service.champion()) == (version, version)
    back = service.client.post("/v1/models/roll-back", json={"name": "forecaster"}).json()
    assert (back["version"], back["kind"]) == ("v0001", "roll_back")
    assert (service.serves(), service.champion()) == ("v0001", "v0001")
    assert service.home.store.promotions("forecaster")[-2].reason == "less bias"


def truncate(folder: Path) -> None:
    (path,) = folder.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:100])


def poison(folder: Path) -> None:
    (path,) = folder.glob("*.safetensors")
    save_file({name: np.full_like(value, np.nan) for name, value in load_file(path).items()}, path)


@pytest.mark.parametrize(("spoil", "said"), [(truncate, "cannot be read"), (poison, "not finite")])
def test_a_bad_version_never_has_the_alias(service: Service, spoil: object, said: str) -> None:
    version = candidate(service.home)
    spoil(service.home.store.load("forecaster", version).folder)  # type: ignore[operator]
    response = service.client.post("/v1/models/promote", json={"name": "forecaster", "version": version})
    assert response.status_code == 409
    detail = response.json()["detail"]
    assert f"{version} of 'forecaster' cannot serve, v0001 goes on serving" in detail
    assert said in detail
    assert str(service.home.settings.home) not in detail
    assert (service.serves(), service.champion(), service.deployed) == ("v0001", "v0001", [])


def test_a_version_that_does_not_come_to_serve_gives_the_alias_back(service: Service) -> None:
    version = candidate(service.home)
    service.fails.add(version)
    response = service.client.post("/v1/models/promote", json={"name": "forecaster", "version": version})
    assert response.status_code == 409
    assert "the disk is full" in response.json()["detail"]
    assert (service.serves(), service.champion()) == ("v0001", "v0001")


def test_a_forecaster_that_is_too_short_for_the_plans_fails(service: Service) -> None:
    """It loads and forecasts; only a plan finds that a delivery takes longer than it looks ahead."""
    assumptions = service.home.settings.assumptions.model_copy(update={"lead_time_days": (30,)})
    settings = service.home.settings.model_copy(update={"assumptions": assumptions})
    with pytest.raises((RestockError, ValueError), match="horizon"):
        check_release(settings, serving_versions(settings))


def test_a_broken_policy_is_not_replaced_by_a_textbook_rule_in_the_check(service: Service) -> None:
    publish_policy(service.home, "policy/default", cycle_service_level=0.6)
    service.home.store.promote("policy/default", "v0001")
    folder = service.home.store.load("policy/default", "v0002").folder
    for path in folder.iterdir():
        if path.name != "manifest.json":
            path.write_text("{}")
    response = service.client.post("/v1/models/promote", json={"name": "policy/default", "version": "v0002"})
    assert response.status_code == 409
    assert service.serves("policy/default") == "v0001"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("promote", {"name": "forecaster", "version": "v0099"}),
        ("promote", {"name": "nothing", "version": "v0001"}),
        ("promote", {"name": "../../etc", "version": "v0001"}),
        ("promote", {"name": "forecaster", "version": "champion"}),
        ("promote", {"name": "forecaster"}),
        ("roll-back", {"name": "nothing"}),
        ("roll-back", {"name": "recommender"}),
    ],
)
def test_what_is_not_stored_is_refused(service: Service, path: str, body: dict[str, str]) -> None:
    response = service.client.post(f"/v1/models/{path}", json=body)
    assert response.status_code == 422, response.text
    assert str(service.home.settings.home) not in response.text


def test_promotions_at_once_leave_alias_and_service_alike(service: Service) -> None:
    versions = [candidate(service.home, seed=seed) for seed in (1, 2)]

    def note(settings: object, versions: Versions) -> None:
        service.deployed.append(versions["forecaster"]["version"])

    async def both() -> None:
        releases = Releases(service.home.settings, check=lambda *_: None, deploy=note)
        await asyncio.gather(*(releases.promote("forecaster", version, by="me", reason="") for version in versions))

    asyncio.run(both())
    assert service.deployed[-1] == service.champion()


def test_a_deployment_that_is_overtaken_deploys_again(service: Service) -> None:
    """Two processes may release at once: whoever deploys last must deploy what the aliases say."""
    version = candidate(service.home)
    deployed: list[str] = []

    def overtaken(settings: object, versions: Versions) -> None:
        deployed.append(versions["forecaster"]["version"])
        if len(deployed) == 1:
            service.home.store.promote("forecaster", version)

    Releases(service.home.settings, check=check_here, deploy=overtaken).go_live()
    assert deployed == ["v0001", version]
