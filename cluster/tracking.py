"""Who else is told of promoted models: an MLflow server, Weights & Biases, both or nobody, by ``[tracking]``.

Trackers are told, never asked: what serves is decided by the model store alone, and a tracker that does not answer
costs a warning. What it missed it is told with the next promotion of that model, or by ``restock models sync``.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from cluster.mlflow_tracking import tell_mlflow
from cluster.wandb_tracking import tell_wandb

if TYPE_CHECKING:
    from cluster.artifacts import ArtifactStore
    from cluster.config import TrackingSettings

Tracker = Callable[["ArtifactStore", str], int]
"""Tells somebody the versions of a model that they do not know, and where the aliases point; how many versions."""


def trackers_of(settings: "TrackingSettings") -> list[Tracker]:
    """Those that the settings name."""
    found: list[Tracker] = []
    if settings.mlflow_url is not None:
        found.append(partial(tell_mlflow, url=settings.mlflow_url))
    if settings.wandb_project is not None:
        found.append(partial(tell_wandb, project=settings.wandb_project))
    return found
