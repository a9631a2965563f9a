"""Which versions serve, and how another one comes to serve instead."""

from cluster.artifacts import open_store
from cluster.config import Settings
from cluster.dataset import open_dataset
from serve.deployments import forecaster, policy, recommender
from serve.layout import Versions


def serving_versions(settings: Settings) -> Versions:
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
