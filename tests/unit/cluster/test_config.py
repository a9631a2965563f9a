import tomllib

import pytest

from cluster.config import CONFIG_FOLDER, Settings, load_settings
from cluster.errors import ConfigError


def test_set_wins_over_the_file_and_the_file_over_the_default(tmp_path):
    path = tmp_path / "shop.toml"
    path.write_text("seed = 3\n[forecast]\nepochs = 2\nhidden = 32\n")
    settings = load_settings(path, overrides=["forecast.epochs=9", "data.name=mine"])
    assert (settings.seed, settings.forecast.epochs, settings.forecast.hidden) == (3, 9, 32)
    assert settings.data.name == "mine"
    assert settings.forecast.batch_size == Settings().forecast.batch_size


def test_a_misspelt_key_is_named_with_its_file(tmp_path):
    path = tmp_path / "shop.toml"
    path.write_text("[forecast]\nepoch = 2\n")
    with pytest.raises(ConfigError, match=r"shop\.toml: forecast\.epoch: Extra inputs"):
        load_settings(path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("forecast.epochs=0", "forecast.epochs"),
        ("forecast.epochs=many", "forecast.epochs"),
        ("nonsense", "section.key=value"),
        ("seed.a=1", "seed"),
        ("split.validation_days=200", "validation_days must be less"),
    ],
)
def test_a_wrong_override_names_its_key(override, message):
    with pytest.raises(ConfigError, match=message):
        load_settings(None, overrides=[override])


def test_a_missing_file_lists_the_shipped_ones():
    with pytest.raises(ConfigError, match="one of: .*demo"):
        load_settings("no-such-file")


def test_broken_toml_is_refused(tmp_path):
    path = tmp_path / "shop.toml"
    path.write_text("seed = \n")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_settings(path)


@pytest.mark.parametrize("path", sorted(CONFIG_FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_file_loads_by_name(path):
    assert load_settings(path.stem) == load_settings(path)


def test_settings_survive_json():
    settings = load_settings("demo")
    assert Settings.model_validate_json(settings.model_dump_json()) == settings


_SIZES = ("laptop", "gpu", "cluster")
_PLACES = {"home", "runtime.address", "runtime.auth", "serve.host"}
"""Where things are and who may call them; everything else that differs is a number, a switch or a precision."""


def _leaves(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@pytest.fixture(scope="module")
def sizes():
    return {name: dict(_leaves(tomllib.loads((CONFIG_FOLDER / f"{name}.toml").read_text()))) for name in _SIZES}


def test_laptop_gpu_and_cluster_have_the_same_keys_and_differ_in_numbers(sizes):
    laptop = sizes["laptop"]
    for name in _SIZES:
        assert list(sizes[name]) == list(laptop), name
        for key, value in sizes[name].items():
            assert type(value) is type(laptop[key]), f"{name}: {key}"
            if value != laptop[key] and not isinstance(value, (int, float)):
                assert key in _PLACES or key.endswith(".precision"), f"{name}: {key}"


@pytest.mark.parametrize("name", _SIZES)
def test_every_key_of_a_size_says_what_it_is(name):
    lines = (CONFIG_FOLDER / f"{name}.toml").read_text().splitlines()
    keys = [line for line in lines if "=" in line.partition("#")[0]]
    assert all(len(line.partition(" # ")[2]) > 5 for line in keys)


def test_sizes_choose_address_authentication_cards_and_precision():
    cluster, gpu, laptop = (load_settings(name) for name in ("cluster", "gpu", "laptop"))
    assert (cluster.runtime.address, cluster.runtime.auth) == ("auto", "token")
    assert cluster.home.is_absolute()
    for settings in (cluster, gpu):
        assert settings.forecast.use_gpu
        assert settings.recommender.use_gpu
        assert settings.policy.gpus_per_trial > 0
        assert settings.forecast.precision == settings.recommender.precision == "bfloat16"
    assert not laptop.forecast.use_gpu
    assert laptop.policy.gpus_per_trial == 0
