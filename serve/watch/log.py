"""What the service writes: one JSON object a line, each with the id of the request that it is about.

The guard binds the id where a request comes in. It goes with the request through this process's tasks and threads, and
with every call of a deployment handle to the process that answers it: Serve carries it in its request context.
"""

import json
import logging
import sys
from contextvars import ContextVar
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

_ENCODER: Final = json.JSONEncoder(default=str)
LOGGERS: Final = ("restock.access", "restock.hops", "restock.serve")
_request_id: ContextVar[str] = ContextVar("restock_request_id", default="")


def bind_request_id(request_id: str) -> None:
    """Let everything that is done from here on for this request be written under its id."""
    _request_id.set(request_id)
    variable = _serve_variable()
    context = variable.get() if variable is not None else None
    if context is not None and context.request_id != request_id:
        # A malformed id was replaced by ours: so that the calls of handles carry the same.
        variable.set(replace(context, request_id=request_id))


def request_id() -> str:
    """Id of the request that is being answered; empty outside of one."""
    variable = _serve_variable()
    context = variable.get() if variable is not None else None
    return _request_id.get() or (context.request_id if context is not None else "")


class JsonLines(logging.Formatter):
    """Writes a record as one JSON object: when, which request, and the record's ``fields`` or its message."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, as ASCII: hostile text in it stays on its line."""
        moment = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "at": moment.isoformat(timespec="milliseconds"),
            "log": record.name.removeprefix("restock."),
            "level": record.levelname.lower(),
            "request_id": getattr(record, "request_id", "") or request_id(),
        }
        fields = getattr(record, "fields", None)
        line |= {"message": record.getMessage()} if fields is None else fields
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return _ENCODER.encode(line)


def write_to_output() -> None:
    """Write the logs to the output of this process, if it is a replica's; other processes log as they like."""
    if not _is_replica():
        return
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if not logger.handlers:
            # The process's own: behind HAProxy, Serve puts another in its place that drops what is no error.
            handler = logging.StreamHandler(sys.__stdout__)
            handler.setFormatter(JsonLines())
            logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False


def _is_replica() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None


def _serve_variable() -> Any:
    # Not imported: a process that has no Serve has no request of Serve's.
    serving = sys.modules.get("ray.serve.context")
    return None if serving is None else serving._serve_request_context
