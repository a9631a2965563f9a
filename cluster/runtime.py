"""Ray, on a laptop or a cluster: one context manager that every verb enters."""

import logging
import os
import secrets
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.config import RuntimeSettings
from cluster.errors import ConfigError

# Read by Ray and by numeric libraries when they are imported, in this process and in its workers.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "RAY_worker_niceness": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_DATA_PARQUET_FOOTER_NUM_ACTORS": "1",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a process more per training, for warnings that nobody asks for
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # how often Train looks whether its workers have finished
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "1",
    "RAY_AUTH_MODE": "disabled",
    "RAY_raylet_start_wait_time_s": "120",  # a busy machine needs longer than Ray's 30
    "RAY_USAGE_STATS_ENABLED": "0",
}
_TOKEN_VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


def set_environment() -> None:
    """Give Ray and the numeric libraries our defaults; what the user has set stays."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


@contextmanager
def connect(settings: RuntimeSettings) -> Iterator[None]:
    """Start a local Ray or join a cluster; leave as it was found.

    A Ray that this process has already started or joined is used and left running.

    Raises
    ------
    ConfigError
        If no cluster answers at ``settings.address``.
    """
    set_environment()
    import ray  # here, so that verbs which need no Ray do not pay for its import

    if ray.is_initialized():
        yield
        return
    with _authentication(settings):
        _begin(settings)
        try:
            yield
        finally:
            ray.shutdown()


def _begin(settings: RuntimeSettings) -> None:
    import ray

    try:
        if settings.address == "local":
            _start_local(settings)
        else:
            ray.init(address=settings.address, log_to_driver=False, logging_level="ERROR")
    except (ray.exceptions.AuthenticationError, ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"runtime.address={settings.address}: Ray does not start or answer there ({error}); check the address, and "
            f"RAY_AUTH_TOKEN if that cluster asks for one (runtime.auth={settings.auth}), or use 'local'; "
            "'restock doctor' says more"
        ) from error
    _quiet()


@contextmanager
def _authentication(settings: RuntimeSettings) -> Iterator[None]:
    """Let Ray ask for a token meanwhile; a local Ray that was given none gets one that nobody else ever sees."""
    if settings.auth == "disabled":
        yield
        return
    before = {name: os.environ.get(name) for name in _TOKEN_VARIABLES}
    os.environ["RAY_AUTH_MODE"] = "token"
    if settings.address == "local" and not (before["RAY_AUTH_TOKEN"] or before["RAY_AUTH_TOKEN_PATH"]):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    _read_authentication()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _read_authentication()


def _read_authentication() -> None:
    """Ray reads these variables when it is imported, which may be long ago."""
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined] # compiled

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def _start_local(settings: RuntimeSettings) -> None:
    import ray

    _stay_on_loopback()
    ray.init(
        address="local",
        num_cpus=settings.num_cpus,
        num_gpus=settings.num_gpus,
        object_store_memory=settings.object_store_mb * 1_000_000,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        # AF_UNIX paths are at most 107 characters: a long TMPDIR would not fit.
        _temp_dir=os.path.join(tempfile.gettempdir(), "restock-ray"),  # noqa: PTH118 - Ray wants a string
        _node_ip_address="127.0.0.1",
    )


def _stay_on_loopback() -> None:
    """Keep a local Ray off the network: its ports unpickle what they are sent.

    Ray replaces a loopback address by this machine's own, except where it takes clusters to be unsupported.
    """
    from ray._private import ray_constants

    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # for the processes that Ray starts
    ray_constants.ENABLE_RAY_CLUSTER = False


def _quiet() -> None:
    """Keep Ray's own progress bars and notices from fighting with ours."""
    from ray.data import DataContext

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    # Ray Train sets an option that Ray Data has deprecated: nothing that a user could change.
    warnings.filterwarnings("ignore", message=".*exclude_resources.*")

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
