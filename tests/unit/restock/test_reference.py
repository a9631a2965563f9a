from pathlib import Path

from cluster.config import Settings, load_settings
from restock.reference import list_settings, make_configuration_page

PAGE = Path(__file__).resolve().parents[3] / "docs" / "configuration.md"


def test_the_page_is_what_the_settings_say():
    assert PAGE.read_text() == make_configuration_page(), "run: restock config --markdown > docs/configuration.md"


def test_every_leaf_is_listed_and_can_be_set():
    rows = list_settings(Settings())
    keys = {row.key for row in rows}
    assert {"home", "seed", "split.test_days", "serve.port"} <= keys
    assert load_settings(None, overrides=["split.test_days=7"]).split.test_days == 7


def test_values_are_those_of_the_settings_given():
    settings = load_settings(None, overrides=["forecast.epochs=9"])
    assert next(row.value for row in list_settings(settings) if row.key == "forecast.epochs") == 9
