"""Fixtures that every layer shares."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.config import RuntimeSettings
from cluster.runtime import connect, set_environment

set_environment()

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One local Ray for all integration tests of a session."""
    with connect(RuntimeSettings(num_cpus=4)):
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real logs that live beside the project; tests that need them are skipped elsewhere."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the real logs are not at {SHARED_DATA}")
    return SHARED_DATA
