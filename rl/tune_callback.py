"""Passes what Tune hears from its trials to our progress."""

from collections.abc import Callable
from typing import Any, Literal

from ray.tune import Callback

State = Literal["running", "finished", "failed"]


class ProgressCallback(Callback):
    """Calls ``tell(trial key, state, last result)`` at every result and end of a trial."""

    def __init__(self, tell: Callable[[str, State, dict[str, Any]], None]) -> None:
        self._tell = tell

    def __getstate__(self) -> dict[str, Any]:
        """Leave the display behind: Tune stores its callbacks, and a live one cannot be pickled."""
        return {}

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        """Pass an evaluation on."""
        self._tell(trial.config["key"], "running", result)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Pass the end of a trial on."""
        self._tell(trial.config["key"], "finished", {**trial.last_result, "share": 1.0})

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Pass the failure of a trial on."""
        self._tell(trial.config["key"], "failed", trial.last_result or {})
