"""The application that a Serve config file names."""

from pathlib import Path

import pytest
from ray.serve._private.build_app import build_app
from serving_home import Home, make_home, publish_forecaster

from cluster.errors import ConfigError, DataError
from serve.app import build
from serve.builder import BuildArguments, application


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return make_home(tmp_path_factory.mktemp("own"))


def arguments(home: Home, folder: Path, *, revision: str = "1") -> BuildArguments:
    """A TOML file with half of the settings, and the other half as overrides."""
    config = folder / "shop.toml"
    config.write_text(f'home = "{home.settings.home}"\n[forecast]\nhorizon = 14\ncontext = 16\n')
    overrides = [f"forecast.levels={list(home.settings.forecast.levels)}", "forecast.hidden=8", "data.num_shards=1"]
    return BuildArguments(config=str(config), overrides=tuple(overrides), revision=revision)


def user_configs(app: object) -> dict[str, object]:
    built = build_app(app, name="restock")
    return {deployment.name: deployment._deployment_config.user_config for deployment in built.deployments}


def test_it_is_the_application_of_the_command_line(home: Home, tmp_path: Path) -> None:
    assert user_configs(application(arguments(home, tmp_path))) == user_configs(build(home.settings))


def test_built_again_it_takes_the_champions_of_that_moment(home: Home, tmp_path: Path) -> None:
    before = user_configs(application(arguments(home, tmp_path)))
    version = publish_forecaster(home, seed=1)
    after = user_configs(application(arguments(home, tmp_path, revision="2")))
    assert before["forecaster"]["version"] != after["forecaster"]["version"] == version
    assert before["recommender"] == after["recommender"]


def test_what_is_wrong_is_said_before_a_replica_starts(home: Home, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        application(BuildArguments(config=str(tmp_path / "nowhere.toml")))
    elsewhere = arguments(home, tmp_path).model_copy(update={"overrides": (f'home="{tmp_path}"',)})
    with pytest.raises(DataError, match="no dataset"):
        application(elsewhere)
