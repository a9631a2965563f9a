"""A real PostgreSQL server in a folder of its own, started from the installed programs: for drills and tests."""

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy

_PROGRAMS = Path("/usr/lib/postgresql")
_FAST = "-c listen_addresses='' -c fsync=off -c max_connections=120 -c shared_buffers=32MB"


class PostgresMissingError(Exception):
    """PostgreSQL's programs are not installed."""


class PostgresServer:
    """A server of its own in a new folder, reached by a socket there."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        self._as_nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.getuid() == 0 else []
        self._run("initdb", "-D", f"{folder}/data", "-U", "postgres", "--auth=trust", "--no-sync")

    def start(self) -> None:
        """Start and wait until it answers."""
        self._run(
            "pg_ctl", "start", "-w", "-D", f"{self._folder}/data", "-l", f"{self._folder}/log", "-o", self._options
        )

    def stop(self) -> None:
        """End at once, as a crash does: connections break and recovery runs at the next start."""
        self._run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", f"{self._folder}/data")

    def new_schema(self) -> str:
        """URL of a new, empty schema: as good as a database of its own, and made at once."""
        name = f"test_{uuid.uuid4().hex}"
        engine = sqlalchemy.create_engine(self._url)
        with engine.begin() as connection:
            connection.exec_driver_sql(f"CREATE SCHEMA {name}")
        engine.dispose()
        return f"{self._url}&options=-csearch_path%3D{name}"

    @property
    def _options(self) -> str:
        return f"{_FAST} -c unix_socket_directories={self._folder}"

    @property
    def _url(self) -> str:
        return f"postgresql+psycopg://postgres@/postgres?host={self._folder}"

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as_nobody, str(self._programs / program), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self._folder, timeout=60)


def memory_folder() -> Path | None:
    """Where files cost no disk, if there is such a place: databases of tests wait for it at every commit."""
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK) else None


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A running server.

    Raises
    ------
    PostgresMissingError
        If there is none to run.
    """
    found = sorted(_PROGRAMS.glob("*/bin"), key=lambda path: int(path.parent.name))
    if not found:
        raise PostgresMissingError(f"PostgreSQL's programs are not at {_PROGRAMS}; apt install postgresql")
    # Not below a folder that nobody but its owner may enter.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir=memory_folder()))
    try:
        if os.getuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        server = PostgresServer(found[-1], folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)
