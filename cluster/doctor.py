"""What is wrong with an installation, found by trying."""

import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement
from rich.table import Table

from cluster.checks import Check
from cluster.config import Settings
from cluster.errors import RestockError
from cluster.nodes import check_nodes
from cluster.object_storage import ObjectStorage
from cluster.runtime import connect
from cluster.settings.data import TableSource
from cluster.sources.files import find_files
from cluster.sources.samples import find_sample
from cluster.sources.sql import check_connection

_LEAST_FREE_MB = 2_000


def doctor(settings: Settings) -> list[Check]:
    """Try everything that a run needs; never raises for what it finds."""
    checks = (_python, _packages, _home, _storage, _disk, _ray, _gpu, _sources)
    return [check for one in checks for check in _attempt(one, settings)]


def render_checks(checks: list[Check]) -> Table:
    """Checks as a table for a terminal."""
    table = Table("check", "state", "found", "next step")
    colour = {"passed": "green", "warned": "yellow", "failed": "red"}
    for check in checks:
        table.add_row(check.name, f"[{colour[check.state]}]{check.state}[/]", check.found, check.next_step)
    return table


def _attempt(check: Callable[[Settings], list[Check]], settings: Settings) -> list[Check]:
    try:
        return check(settings)
    except Exception as error:
        # Whatever breaks is what the doctor is asked for.
        name = check.__name__.strip("_")
        return [Check(name=name, state="failed", found=f"{type(error).__name__}: {error}", next_step="see the message")]


def _python(settings: Settings) -> list[Check]:
    fits = (3, 11) <= sys.version_info[:2] < (3, 13)
    step = "" if fits else "install Python 3.11 or 3.12 and make the environment anew"
    return [Check(name="python", state="passed" if fits else "failed", found=platform.python_version(), next_step=step)]


def _packages(settings: Settings) -> list[Check]:
    """Installed versions against the pins of the distribution, extras left out."""
    wrong = []
    wanted = [Requirement(line) for line in requires("restock") or ()]
    wanted = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    for one in wanted:
        try:
            installed = version(one.name)
        except PackageNotFoundError:
            installed = "missing"
        if installed == "missing" or not one.specifier.contains(installed, prereleases=True):
            wrong.append(f"{one.name} {installed}, wanted {one.specifier}")
    if wrong:
        step = "pip install -e . in the repository, or 'make install'"
        return [Check(name="packages", state="failed", found="; ".join(wrong), next_step=step)]
    return [Check(name="packages", state="passed", found=f"{len(wanted)} as pinned")]


def _home(settings: Settings) -> list[Check]:
    home = settings.home.absolute()
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        step = "set home to a folder that can be written, e.g. --set home=/data/restock"
        return [Check(name="home folder", state="failed", found=f"{home}: {error.strerror}", next_step=step)]
    return [Check(name="home folder", state="passed", found=str(home))]


def _storage(settings: Settings) -> list[Check]:
    if settings.storage.url is None:
        return [Check(name="storage", state="passed", found="the home folder")]
    storage = ObjectStorage(folder=settings.home, url=settings.storage.url, endpoint=settings.storage.endpoint)
    try:
        storage.check()
    except RestockError as error:
        found, _, step = str(error).partition("; ")
        return [Check(name="storage", state="failed", found=found, next_step=step)]
    return [Check(name="storage", state="passed", found=f"{storage.place}: written, conditions are kept")]


def _disk(settings: Settings) -> list[Check]:
    place = settings.home.absolute()
    while not place.exists():
        place = place.parent
    free_mb = shutil.disk_usage(place).free // 1_000_000
    enough = free_mb >= _LEAST_FREE_MB
    step = "" if enough else f"free space: a load and its models need about {_LEAST_FREE_MB:,} MB"
    return [Check(name="disk", state="passed" if enough else "warned", found=f"{free_mb:,} MB free", next_step=step)]


def _ray(settings: Settings) -> list[Check]:
    import ray

    with connect(settings.runtime):
        resources = ray.cluster_resources()
        # A local Ray is this machine, which the other checks have looked at.
        nodes = [] if settings.runtime.address == "local" else check_nodes(settings)
    cpus, gpus = resources.get("CPU", 0), resources.get("GPU", 0)
    found = f"Ray {ray.__version__} at {settings.runtime.address}: {cpus:g} CPUs, {gpus:g} GPUs"
    return [Check(name="ray", state="passed", found=found), *nodes]


def _gpu(settings: Settings) -> list[Check]:
    trains = settings.forecast.use_gpu or settings.recommender.use_gpu or settings.policy.gpus_per_trial > 0
    wanted = trains or bool(settings.serve.gpus_per_replica)
    if not wanted:
        return [Check(name="gpu", state="passed", found="not asked for")]
    if settings.runtime.address != "local":
        return [Check(name="gpu", state="passed", found="asked for; each node says what it has")]
    import torch

    if torch.cuda.is_available():
        return [Check(name="gpu", state="passed", found=torch.cuda.get_device_name(0))]
    step = "install a CUDA build of torch and a driver, or use the configuration 'laptop'"
    return [Check(name="gpu", state="failed", found="the configuration asks for one, torch sees none", next_step=step)]


def _sources(settings: Settings) -> list[Check]:
    """Every configured input answers."""
    checks = []
    if settings.data.sample is not None:
        checks.append(_answer("sample", lambda: str(find_sample(settings.data.sample or "")["transactions"].parent)))
    for table, source in settings.data.tables.items():
        checks.append(_answer(f"table {table}", partial(_reach, table, source)))
    if not checks:
        step = "use --config demo for the sample, or see docs/data.md for your own tables"
        return [Check(name="tables", state="warned", found="none configured", next_step=step)]
    return checks


def _reach(table: str, source: TableSource) -> str:
    if source.sql_url is not None:
        return check_connection(table, source=source)
    return f"{len(find_files(table, source=source))} files"


def _answer(name: str, attempt: Callable[[], str]) -> Check:
    try:
        return Check(name=name, state="passed", found=attempt())
    except RestockError as error:
        return Check(name=name, state="failed", found=str(error), next_step="see the message")
