"""How many requests a caller may send: one token bucket per caller, in this process."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

_MAX_CALLERS: Final = 10_000


class Rates:
    """Lets each caller send ``burst`` requests at once, and ``rate_per_s`` per second in the long run.

    Each replica of the ingress counts by itself. The callers seen longest ago are forgotten, which gives them a full
    bucket again: a limit on memory, not a way around the limit, since a new caller starts with a full one too.
    """

    def __init__(self, *, rate_per_s: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate_per_s = rate_per_s
        self._burst = float(burst)
        self._clock = clock
        self._held: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> float:
        """Count one request; seconds until it may be sent again, 0 where it may pass."""
        if not self._rate_per_s:
            return 0.0
        now = self._clock()
        left, at = self._held.pop(caller, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._rate_per_s)
        wait_s = 0.0 if left >= 1 else (1 - left) / self._rate_per_s
        self._held[caller] = (left - 1 if left >= 1 else left, now)
        if len(self._held) > _MAX_CALLERS:
            self._held.popitem(last=False)
        return wait_s
