"""Passes what Tune hears from its trials to our progress, and their curves to TensorBoard."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from ray.tune import Callback
from ray.tune.logger import TBXLoggerCallback

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
        self._tell(trial.config["key"], "finished", trial.last_result)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Pass the failure of a trial on."""
        self._tell(trial.config["key"], "failed", trial.last_result or {})


class CurveCallback(TBXLoggerCallback):
    """TensorBoard curves of each trial in a folder of its own name, so that a resumed trial continues its curve.

    Tune's own would lie in a folder per run, and arrive there minutes later: it copies them from a temporary one.
    """

    _FLUSH_S = 5

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def log_trial_start(self, trial: Any) -> None:
        """Open the trial's folder, once, however often the trial is restarted."""
        if trial not in self._trial_writer:
            folder = self._folder / trial.config["key"]
            self._trial_writer[trial] = self._summary_writer_cls(str(folder), flush_secs=self._FLUSH_S)
            self._trial_result[trial] = {}
