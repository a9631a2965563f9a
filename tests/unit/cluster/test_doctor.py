import io
from importlib.metadata import PackageNotFoundError

import pytest
from rich.console import Console
from small_shop import make_orders, make_settings

from cluster import doctor as doctor_module
from cluster.config import load_settings
from cluster.doctor import doctor, render_checks


@pytest.fixture(autouse=True)
def no_ray(monkeypatch):
    def ray(settings):
        raise RuntimeError("Ray is not asked for here")

    monkeypatch.setattr(doctor_module, "_ray", ray)


def states(settings):
    return {check.name: check.state for check in doctor(settings)}


def test_a_good_installation_passes(tmp_path):
    make_orders().write_csv(tmp_path / "orders.csv")
    found = states(make_settings(tmp_path, orders=tmp_path / "orders.csv"))
    assert found["python"] == found["home folder"] == found["disk"] == found["gpu"] == "passed"
    assert found["table orders"] == "passed"


def test_what_breaks_is_a_failed_check_and_not_an_error(tmp_path):
    checks = {check.name: check for check in doctor(make_settings(tmp_path))}
    assert checks["ray"].state == "failed"
    assert "Ray is not asked for here" in checks["ray"].found
    assert checks["tables"].state == "warned"


def test_a_home_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    settings = load_settings(overrides=[f'home="{tmp_path}/file/home"'])
    checks = {check.name: check for check in doctor(settings)}
    assert checks["home folder"].state == "failed"
    assert "--set home=" in checks["home folder"].next_step


def test_missing_and_wrong_packages_are_named_with_their_pin(tmp_path, monkeypatch):
    def version(name):
        if name == "numpy":
            return "1.0"
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor_module, "requires", lambda name: ["numpy>=2", "gone==3", "extra; extra == 'dev'"])
    monkeypatch.setattr(doctor_module, "version", version)
    packages = next(check for check in doctor(make_settings(tmp_path)) if check.name == "packages")
    assert packages.found == "numpy 1.0, wanted >=2; gone missing, wanted ==3"
    assert packages.state == "failed"


def test_sources_that_do_not_answer(tmp_path):
    settings = make_settings(
        tmp_path,
        "data.tables.items.sql_url=sqlite:////no/such/folder/shop.db",
        "data.tables.items.query=items",
        orders=tmp_path / "nowhere.csv",
    )
    found = states(settings)
    assert found["table orders"] == "failed"
    assert found["table items"] == "failed"


def test_a_full_disk_is_warned_of(tmp_path, monkeypatch):
    usage = type("usage", (), {"free": 10_000_000})
    monkeypatch.setattr(doctor_module.shutil, "disk_usage", lambda place: usage)
    assert states(make_settings(tmp_path))["disk"] == "warned"


def test_the_result_is_a_table(tmp_path):
    stream = io.StringIO()
    Console(file=stream, width=300).print(render_checks(doctor(make_settings(tmp_path))))
    assert "next step" in stream.getvalue()
    assert "Ray is not asked for here" in stream.getvalue()
