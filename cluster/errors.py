"""The error tree. Every message says what, where and the next step.

::

    RestockError                    exit  HTTP
    ├── ConfigError                   2    422   a wrong key or value in the configuration
    ├── DataError                     3    422   input that cannot be used
    │   ├── SchemaError               3    422   a missing, misnamed or mistyped column
    │   └── QualityError              3    422   rows that break a rule where none may
    ├── ArtifactError                 4    503   a model that is missing, damaged or of another format
    ├── PlanningError                 5    422   a plan that cannot be made from these inputs
    │   ├── InfeasibleOrderError      5    422   constraints that no order quantity satisfies
    │   └── StaleInputError           5    409   a snapshot or model of the wrong date
    ├── ConflictError                 6    409   somebody else changed it first
    ├── NotAllowedError               7    403   the caller may not do this
    └── StorageError                  8    503   an object store that refuses or does not answer

Tracebacks are for bugs: the command line prints the message of a ``RestockError`` and exits with its code, the service
answers it as problem details (RFC 9457).
"""

from typing import ClassVar


class RestockError(Exception):
    """Anything a user can mend. ``title`` is its short name in problem details."""

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500
    title: ClassVar[str] = "Restock error"


class ConfigError(RestockError):
    """A wrong key or value in the configuration."""

    exit_code = 2
    http_status = 422
    title = "Configuration error"


class DataError(RestockError):
    """Input that cannot be used."""

    exit_code = 3
    http_status = 422
    title = "Data error"


class SchemaError(DataError):
    """A missing, misnamed or mistyped column."""

    title = "Schema error"


class QualityError(DataError):
    """Rows that break a rule where none may."""

    title = "Quality error"


class ArtifactError(RestockError):
    """A model that is missing, damaged or of another format."""

    exit_code = 4
    http_status = 503
    title = "Model not available"


class PlanningError(RestockError):
    """A plan that cannot be made from these inputs."""

    exit_code = 5
    http_status = 422
    title = "Planning error"


class InfeasibleOrderError(PlanningError):
    """Constraints that no order quantity satisfies."""

    title = "Infeasible order"


class StaleInputError(PlanningError):
    """A snapshot or a model of the wrong date."""

    http_status = 409
    title = "Stale input"


class ConflictError(RestockError):
    """Somebody else changed it first."""

    exit_code = 6
    http_status = 409
    title = "Conflict"


class NotAllowedError(RestockError):
    """The caller may not do this."""

    exit_code = 7
    http_status = 403
    title = "Not allowed"


class StorageError(RestockError):
    """An object store that refuses or does not answer."""

    exit_code = 8
    http_status = 503
    title = "Storage not available"
