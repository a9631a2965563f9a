"""Databases for tests: a real PostgreSQL server where its programs are installed."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks import postgres


@contextmanager
def running_postgres() -> Iterator[postgres.PostgresServer]:
    """A running server, or a skipped test where there is none to run."""
    try:
        with postgres.running_postgres() as server:
            yield server
    except postgres.PostgresMissingError as error:
        # A server's programs are not a Python package; CI installs them, so that these tests run there.
        pytest.skip(str(error))
