"""What the doctor finds."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was tried: ``failed`` stops the product, ``warned`` may."""

    name: str
    state: Literal["passed", "warned", "failed"]
    found: str
    next_step: str = ""
