"""Which process takes connections: Serve's Python proxy, or HAProxy in front of the replicas.

Serve reads its flags when it is imported, in every process of the cluster: :func:`set_proxy_environment` comes before.
This module imports no Ray.
"""

import os

from cluster.errors import ConfigError
from cluster.settings.service import ServeSettings

_HAPROXY = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # Every route may be asked twice, so a replica that dies with a request loses none: HAProxy asks the next.
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    "RAY_SERVE_HAPROXY_RETRIES": "3",
    # Only what fits into a buffer can be asked again.
    "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": "65536",
    "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "1s",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
}
_PYTHON = {"RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S": "2"}
# A proxy that is gone is started again after three looks.
_BOTH = {"RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1"}


def set_proxy_environment(serving: ServeSettings) -> None:
    """Give Serve the flags of ``serve.proxy``, before Ray starts; what the user has set stays."""
    for name, value in (_BOTH | (_HAPROXY if serving.proxy == "haproxy" else _PYTHON)).items():
        os.environ.setdefault(name, value)


def check_proxy(serving: ServeSettings, *, is_haproxy: bool) -> None:
    """Refuse to serve by another proxy than the cluster was started with.

    Raises
    ------
    ConfigError
        If the flags came too late, or the cluster was started without them.
    """
    if is_haproxy != (serving.proxy == "haproxy"):
        flags = " ".join(f"{name}={value}" for name, value in _HAPROXY.items() if value == "1")
        raise ConfigError(
            f"serve.proxy={serving.proxy}, but Ray Serve was started for the other one; start the cluster "
            f"{'with' if serving.proxy == 'haproxy' else 'without'} {flags} on every node"
        )
