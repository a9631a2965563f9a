"""What KubeRay's resources may hold, strictly: a misspelt field is an error, where the API server drops it in silence.

Written from the Go types of the operator's API group ``ray.io/v1`` (github.com/ray-project/kuberay, folder
ray-operator/apis/ray/v1, release 1.5 and later), as far as cluster/deploy uses it. Pod templates are left to
Kubernetes' own schemas.
"""

from typing import Any

_TEXT, _NUMBER, _FLAG = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
_TEXTS = {"type": "object", "additionalProperties": _TEXT}
_POD = {"type": "object", "required": ["spec"]}


def _record(required: tuple[str, ...] = (), /, **fields: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": fields, "required": list(required)}


_CLUSTER = _record(
    ("headGroupSpec",),
    rayVersion=_TEXT,
    authOptions=_record(mode={"enum": ["disabled", "token"]}, secretName=_TEXT),
    enableInTreeAutoscaling=_FLAG,
    autoscalerOptions=_record(
        idleTimeoutSeconds=_NUMBER, upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]}
    ),
    gcsFaultToleranceOptions={"type": "object"},
    headGroupSpec=_record(("rayStartParams", "template"), rayStartParams=_TEXTS, template=_POD, serviceType=_TEXT),
    workerGroupSpecs={
        "type": "array",
        "items": _record(
            ("groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"),
            groupName=_TEXT,
            replicas=_NUMBER,
            minReplicas=_NUMBER,
            maxReplicas=_NUMBER,
            rayStartParams=_TEXTS,
            template=_POD,
        ),
    },
)
_JOB = _record(
    ("entrypoint",),
    entrypoint=_TEXT,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
    backoffLimit=_NUMBER,
    activeDeadlineSeconds={"type": "integer", "minimum": 1},
    shutdownAfterJobFinishes=_FLAG,
    ttlSecondsAfterFinished=_NUMBER,
    runtimeEnvYAML=_TEXT,
    rayClusterSpec=_CLUSTER,
)
_SERVICE = _record(
    ("serveConfigV2", "rayClusterConfig"),
    serveConfigV2=_TEXT,
    rayClusterConfig=_CLUSTER,
    excludeHeadPodFromServeSvc=_FLAG,
    rayClusterDeletionDelaySeconds=_NUMBER,
    upgradeStrategy=_record(type={"enum": ["NewCluster", "NewClusterWithIncrementalUpgrade", "None"]}),
)
_META = _record(("name",), name={"type": "string", "pattern": "^[a-z0-9-]{1,47}$"}, labels=_TEXTS, annotations=_TEXTS)


def schema_of(kind: str) -> dict[str, Any]:
    """JSON Schema of a whole resource: RayCluster, RayJob or RayService."""
    spec = {"RayCluster": _CLUSTER, "RayJob": _JOB, "RayService": _SERVICE}[kind]
    return _record(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion={"const": "ray.io/v1"},
        kind={"const": kind},
        metadata=_META,
        spec=spec,
    )
