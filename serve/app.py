"""The Ray Serve application, and starting it on this machine.

::

    ingress ──> planner ──> forecaster, policy
       ├──────> forecaster
       └──────> recommender

In the ``composed`` layout each box is a deployment with its own replicas and each arrow a deployment handle; what needs
one model takes one hop. In the ``fused`` layout there is one deployment, and the arrows are calls in its process.
"""

import io
import logging
import re
import socket
from contextlib import ExitStack, redirect_stdout
from typing import Any

import ray
from ray import serve
from ray.serve._private.constants import RAY_SERVE_ENABLE_HA_PROXY
from ray.serve.config import RequestRouterConfig

from cluster import errors
from cluster.config import RuntimeSettings, Settings
from cluster.errors import ArtifactError, ConfigError, ConflictError, RestockError
from cluster.manifest import code_digest, digest_of
from cluster.runtime import connect
from cluster.settings.service import DeploymentName, ServeSettings
from serve.deployments.forecaster import ForecasterReplica
from serve.deployments.planner import PlannerReplica
from serve.deployments.policy import PolicyReplica
from serve.deployments.recommender import RecommenderReplica
from serve.golden import check_release
from serve.guard import Limits, proxy_environment
from serve.ingress import Ingress
from serve.layout import Versions
from serve.proxy import check_proxy
from serve.releases import serving_versions

APPLICATION = "restock"
# The proxy gives up a little after the ingress has answered that it is late.
_PROXY_GRACE_S = 5.0
_OUR_ERROR = re.compile(r"^cluster\.errors\.(\w+): (.*?)\s*(?=\n\S*Error|\Z)", re.MULTILINE | re.DOTALL)
_HEALTH_PERIOD_S = 2.0
_DRAIN_LOOK_S = 0.5
# A proxy that is not ready within Serve's 5 seconds is killed, and the start fails: a busy machine needs longer.
_CONTROLLER_VARIABLES = {"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60"}
# What a user did just now is known to one replica: the one that this user's requests go to.
_BY_USER = RequestRouterConfig(
    request_router_class="ray.serve.experimental.consistent_hash_router:ConsistentHashRouter"
)
_QUIET = {"log_level": "ERROR", "enable_access_log": False}


def build(settings: Settings, versions: Versions | None = None, *, code: str | None = None) -> serve.Application:
    """The application over the given versions; by default, the champions of the model store and the current dataset.

    Parameters
    ----------
    code
        What runs: replicas of the same code are reconfigured, others are replaced. By default, code and settings of
        this process.

    Raises
    ------
    ArtifactError
        If there is no champion of the forecaster, the recommender or the default policy.
    DataError
        If no dataset has been loaded.
    """
    versions = versions or serving_versions(settings)
    code = code or digest_of([code_digest(), settings.model_dump(mode="json")])
    ingress = _deployment(serve.ingress()(Ingress), "ingress", settings, code=code)
    if settings.serve.layout == "fused":
        return ingress.options(user_config=versions).bind(settings, code)

    def of(replica: type, name: DeploymentName) -> serve.Deployment:
        return _deployment(replica, name, settings, code=code).options(user_config=versions[name])

    forecasts = of(ForecasterReplica, "forecaster").bind(settings)
    policies = of(PolicyReplica, "policy").bind(settings)
    recommender = of(RecommenderReplica, "recommender").options(request_router_config=_BY_USER)
    handles = {
        "forecaster": forecasts,
        "policy": policies,
        "planner": of(PlannerReplica, "planner").bind(settings, forecaster=forecasts, policy=policies),
        "recommender": recommender.bind(settings),
    }
    return ingress.bind(settings, code, handles)


def _deployment(replica: type, name: DeploymentName, settings: Settings, *, code: str) -> serve.Deployment:
    serving = settings.serve
    return serve.deployment(replica).options(
        name=name,
        # A fixed version says that the code is the same: a new user_config then swaps models in running replicas.
        version=code,
        _internal=True,
        max_ongoing_requests=serving.max_ongoing_requests,
        ray_actor_options={
            "num_cpus": serving.num_cpus_per_replica,
            "num_gpus": _gpus_of(name, serving),
            "runtime_env": _same_environment(),
        },
        # A replica that is told to go answers what it has begun.
        graceful_shutdown_timeout_s=serving.request_timeout_s,
        graceful_shutdown_wait_loop_s=_DRAIN_LOOK_S,
        health_check_period_s=_HEALTH_PERIOD_S,
        **_scale(name, serving),
    )


def _gpus_of(name: DeploymentName, serving: ServeSettings) -> float:
    """Share of a card for a replica; in the fused layout the ingress holds every model."""
    if serving.layout == "fused":
        return min(sum(serving.gpus_per_replica.values()), 1.0)
    return {str(key): share for key, share in serving.gpus_per_replica.items()}.get(name, 0.0)


def _same_environment() -> dict[str, Any]:
    """Environment of replicas, the same whoever deploys.

    By default it would be that of the process that calls ``serve.run``. A release is deployed by a replica, which has
    the controller's variables: Serve would take its replicas for others, and replace them all.
    """
    # Asking would start a Ray where there is none yet, and then nothing is deployed either.
    found = ray.get_runtime_context().runtime_env if ray.is_initialized() else {}
    return {"working_dir": found.get("working_dir")}


def _scale(name: DeploymentName, serving: ServeSettings) -> dict[str, Any]:
    found = serving.autoscaling.get(name)
    if found is None:
        return {"num_replicas": serving.num_replicas}
    return {"autoscaling_config": found.model_dump()}


class ServiceHandle:
    """A running service: ``url`` to call, :meth:`refresh` to swap models, :meth:`stop` or ``with`` to end it."""

    def __init__(self, settings: Settings, *, url: str, running: ExitStack) -> None:
        self.url = url
        self._settings = settings
        self._running = running

    def champions(self) -> Versions:
        """Versions that the aliases point to now, served or not; raises as :func:`build`."""
        return serving_versions(self._settings)

    def refresh(self) -> None:
        """Serve what the champion aliases and the current dataset are now, after a check apart from traffic.

        Raises
        ------
        RestockError
            If one of them cannot serve: the replicas go on with what they have.
        """
        versions = serving_versions(self._settings)
        check_apart(self._settings, versions)
        deploy(self._settings, versions)

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
    check_proxy(settings.serve, is_haproxy=RAY_SERVE_ENABLE_HA_PROXY)
    running.enter_context(connect(_guarded(settings.runtime)))
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    _check_alone()
    _check_gpus(settings)
    running.callback(serve.shutdown)
    serve.start(
        proxy_location="HeadOnly",
        http_options={"host": settings.serve.host, "port": port, "request_timeout_s": proxy_timeout_s},
        logging_config=_QUIET,
        controller_options={"runtime_env": {"env_vars": proxy_environment(limits) | _CONTROLLER_VARIABLES}},
    )
    deploy(settings, serving_versions(settings))


def _check_gpus(settings: Settings) -> None:
    """Refuse what a local Ray can never give: its replicas would wait for ever."""
    offered = ray.cluster_resources().get("GPU", 0.0)
    if settings.runtime.address == "local" and settings.serve.gpus_per_replica and not offered:
        raise ConfigError(
            "serve.gpus_per_replica asks for a card and Ray has none here; remove it, or set runtime.num_gpus"
        )


def _guarded(runtime: RuntimeSettings) -> RuntimeSettings:
    # Serve binds the ports of replicas to every address, and they unpickle what they are sent: from who has the token.
    return runtime.model_copy(update={"auth": "token"}) if runtime.address == "local" else runtime


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


def deploy(settings: Settings, versions: Versions, *, code: str | None = None) -> None:
    """Make the running application serve the given versions; requests go on meanwhile. Parameters as :func:`build`.

    Raises
    ------
    RestockError
        What stopped a replica: the old versions go on.
    """
    try:
        serve.run(build(settings, versions, code=code), name=APPLICATION, route_prefix="/", logging_config=_QUIET)
    except RuntimeError as error:
        applications = serve.status().applications
        deployments = applications[APPLICATION].deployments.values() if APPLICATION in applications else ()
        messages = [deployment.message for deployment in deployments if deployment.message]
        raise failure_of("\n".join(messages) or str(error)) from error


def check_apart(settings: Settings, versions: Versions) -> None:
    """Run :func:`serve.golden.check_release` in a process of its own: what breaks there breaks nothing that serves.

    Raises
    ------
    RestockError
        As that function.
    ArtifactError
        If the process dies.
    """
    task = ray.remote(num_cpus=0, max_retries=0)(check_release).remote(settings, versions)
    try:
        ray.get(task)
    except ray.exceptions.WorkerCrashedError as error:
        raise ArtifactError(
            "the process that checked the release died: its models crash, or need more memory"
        ) from error


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
