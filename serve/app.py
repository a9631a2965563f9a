"""The Ray Serve application, and starting it on this machine.

::

    ingress ──> planner ──> forecaster, policy
       ├──────> forecaster
       ├──────> recommender
       └──────> sessions

Each box is a deployment with its own replicas, each arrow a deployment handle; what needs one model takes one hop.
"""

import io
import logging
import re
import socket
from collections.abc import Mapping
from contextlib import ExitStack, redirect_stdout
from typing import Any

from ray import serve

from cluster import errors
from cluster.artifacts import code_digest, digest_of, open_store
from cluster.config import ServeSettings, Settings
from cluster.dataset import open_dataset
from cluster.errors import ConfigError, ConflictError, RestockError
from cluster.runtime import connect
from serve.deployments import forecaster, policy, recommender
from serve.deployments.forecaster import ForecasterReplica
from serve.deployments.planner import PlannerReplica
from serve.deployments.policy import PolicyReplica
from serve.deployments.recommender import RecommenderReplica
from serve.deployments.sessions import SessionReplica
from serve.guard import Limits, proxy_environment
from serve.ingress import Ingress

APPLICATION = "restock"
# The proxy gives up a little after the ingress has answered that it is late.
_PROXY_GRACE_S = 5.0
_OUR_ERROR = re.compile(r"^cluster\.errors\.(\w+): (.*?)\s*(?=\n\S*Error|\Z)", re.MULTILINE | re.DOTALL)
_QUIET = {"log_level": "ERROR", "enable_access_log": False}


def build(settings: Settings) -> serve.Application:
    """The application over the champions of the model store and the current dataset.

    Raises
    ------
    ArtifactError
        If there is no champion of the forecaster, the recommender or the default policy.
    DataError
        If no dataset has been loaded.
    """
    return _deploy(serve.ingress()(Ingress), "ingress", settings).bind(build_services(settings), settings)


def build_services(settings: Settings) -> dict[str, serve.Application]:
    """The deployments behind the ingress, named as in ``routes.context.Services``; raises as :func:`build`."""
    configs = serving_versions(settings)
    forecasts = _deploy(ForecasterReplica, "forecaster", settings, configs).bind(settings)
    policies = _deploy(PolicyReplica, "policy", settings, configs).bind(settings)
    planner_deployment = _deploy(PlannerReplica, "planner", settings, configs)
    return {
        "forecaster": forecasts,
        "recommender": _deploy(RecommenderReplica, "recommender", settings, configs).bind(settings),
        "sessions": _deploy(SessionReplica, "sessions", settings).options(num_replicas=1).bind(settings),
        "policy": policies,
        "planner": planner_deployment.bind(settings, forecaster=forecasts, policy=policies),
    }


def _deploy(
    replica: type, name: str, settings: Settings, configs: Mapping[str, dict[str, Any]] | None = None
) -> serve.Deployment:
    return serve.deployment(replica).options(
        name=name,
        # A fixed version says that the code is the same: a new user_config then swaps models in running replicas.
        version=digest_of([code_digest(), settings.model_dump(mode="json")]),
        _internal=True,
        num_replicas=settings.serve.num_replicas,
        max_ongoing_requests=settings.serve.max_ongoing_requests,
        ray_actor_options={"num_cpus": settings.serve.num_cpus_per_replica},
        user_config=(configs or {}).get(name),
    )


def serving_versions(settings: Settings) -> dict[str, dict[str, Any]]:
    """``user_config`` of each deployment: the versions that the champion aliases point to now, and the dataset.

    Raises
    ------
    ArtifactError, DataError
        If one is missing or cannot be read: found here, before anything has started.
    """
    store = open_store(settings)
    data = open_dataset(settings).digest
    names = [name for name in store.names(policy.PREFIX) if "champion" in store.aliases(name)]
    versions = {name: store.load(name).version for name in {*names, policy.DEFAULT}}
    return {
        "forecaster": {"version": store.load(forecaster.NAME).version, "data": data},
        "recommender": {"version": store.load(recommender.NAME).version, "data": data},
        "policy": {"versions": versions},
        "planner": {"data": data},
    }


class ServiceHandle:
    """A running service: ``url`` to call, :meth:`refresh` to swap models, :meth:`stop` or ``with`` to end it."""

    def __init__(self, settings: Settings, *, url: str, running: ExitStack) -> None:
        self.url = url
        self._settings = settings
        self._running = running

    def refresh(self) -> None:
        """Serve what the champion aliases and the current dataset are now; requests go on meanwhile.

        Raises
        ------
        ArtifactError, DataError
            If one of them does not load: the replicas go on with what they have.
        """
        _run(self._settings)

    def stop(self) -> None:
        """End the service, and Ray if :func:`start` started it. May be called twice."""
        _end(self._running)

    def __enter__(self) -> "ServiceHandle":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start(settings: Settings) -> ServiceHandle:
    """Start the service on this machine and wait until every replica has loaded its model.

    HTTP binds to ``serve.host`` and ``serve.port`` (0: a free one) by Serve's Python proxy, on this node only.

    Raises
    ------
    ArtifactError, DataError
        If a model or the dataset is missing.
    ConfigError
        If the port is taken, or Ray or Serve does not start.
    ConflictError
        If this Ray already serves something.
    """
    serving_versions(settings)
    host, port = settings.serve.host, _free_port(settings.serve)
    running = ExitStack()
    try:
        _begin(settings, running=running, port=port)
    except BaseException:
        _end(running)
        raise
    return ServiceHandle(settings, url=f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}", running=running)


def _begin(settings: Settings, *, running: ExitStack, port: int) -> None:
    limits = Limits(max_body_bytes=settings.serve.max_body_bytes, timeout_s=settings.serve.request_timeout_s)
    proxy_timeout_s = limits.timeout_s + _PROXY_GRACE_S
    running.enter_context(connect(settings.runtime))
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    _check_alone()
    running.callback(serve.shutdown)
    serve.start(
        proxy_location="HeadOnly",
        http_options={"host": settings.serve.host, "port": port, "request_timeout_s": proxy_timeout_s},
        logging_config=_QUIET,
        controller_options={"runtime_env": {"env_vars": proxy_environment(limits)}},
    )
    _run(settings)


def _end(running: ExitStack) -> None:
    # Ray prints that the controller, which ends itself, has died.
    with redirect_stdout(io.StringIO()):
        running.close()


def failure_of(message: str) -> RestockError:
    """What stopped a replica, out of the tracebacks that Serve reports; the class is kept where it is one of ours."""
    found = _OUR_ERROR.findall(message)
    if not found:
        last_line = message.strip().rpartition("\n")[2]
        return ConfigError(f"the service does not start ({last_line}); 'restock doctor' checks the installation")
    name, text = found[-1]
    kind: type[RestockError] = getattr(errors, name, ConfigError)
    return kind(text.strip())


def _run(settings: Settings) -> None:
    try:
        serve.run(build(settings), name=APPLICATION, route_prefix="/", logging_config=_QUIET)
    except RuntimeError as error:
        applications = serve.status().applications
        deployments = applications[APPLICATION].deployments.values() if APPLICATION in applications else ()
        messages = [deployment.message for deployment in deployments if deployment.message]
        raise failure_of("\n".join(messages) or str(error)) from error


def _check_alone() -> None:
    # A running Serve would keep its own address and limits, and we would end it on failure.
    if serve.status().proxies:
        raise ConflictError(
            "Ray Serve already runs on this Ray; stop it with 'serve shutdown', or use runtime.address=local"
        )


def _free_port(settings: ServeSettings) -> int:
    try:
        with socket.create_server((settings.host, settings.port)) as probe:
            return int(probe.getsockname()[1])
    except OSError as error:
        raise ConfigError(
            f"serve.host={settings.host} serve.port={settings.port} cannot be used ({error.strerror}); "
            "stop what listens there, or choose another with --set serve.port=0 (any free one)"
        ) from error
