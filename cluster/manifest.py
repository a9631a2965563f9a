"""What a stored model is and came from, and the digests by which inputs, settings and code are told apart."""

import hashlib
import json
import re
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

_PACKAGES: Final = ("cluster", "forecasting", "recsys", "rl", "serve", "restock")


class Manifest(BaseModel):
    """What a stored model is, where it came from and how good it was.

    ``trained_until_on`` is the first day that the model has **not** seen: it may decide from that day on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: str
    created_at: datetime
    seed: int
    trained_until_on: date
    config: dict[str, Any]
    config_digest: str
    data_digest: str
    code_digest: str
    metrics: dict[str, Any]
    schema_version: int = 1


def digest_of(value: Any) -> str:
    """Short stable digest of anything JSON can write; dates are written as ISO strings."""
    text = json.dumps(value, sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def code_digest() -> str:
    """Digest of Restock's own source files, as installed."""
    root = Path(__file__).resolve().parent.parent
    total = hashlib.sha256()
    for package in _PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            total.update(path.relative_to(root).as_posix().encode())
            total.update(path.read_bytes())
    return total.hexdigest()[:16]


def make_manifest(
    name: str,
    *,
    kind: str,
    seed: int,
    trained_until_on: date,
    config: dict[str, Any],
    data_digest: str,
    metrics: dict[str, Any],
) -> Manifest:
    """Manifest of a model made now by this code."""
    return Manifest(
        name=name,
        kind=kind,
        created_at=datetime.now(UTC),
        seed=seed,
        trained_until_on=trained_until_on,
        config=config,
        config_digest=digest_of(config),
        data_digest=data_digest,
        code_digest=code_digest(),
        metrics=metrics,
    )


def slug_of(text: str) -> str:
    """Name usable as a folder and unique to the text: readable words, then a short digest.

    >>> slug_of("FLUID MILK/PRODUCTS")
    'fluid-milk-products-6dd407'
    """
    words = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40]
    return f"{words}-{digest_of(text)[:6]}".lstrip("-")
