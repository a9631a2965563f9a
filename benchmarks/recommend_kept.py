"""Networks of earlier runs, so that a run that was stopped goes on, and another row costs its own training only."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from recsys.models.sequence import SequenceModel


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptNetworks:
    """Trained networks and what they took, one pair of files each, named by what they were trained on.

    Parameters
    ----------
    folder
        None keeps nothing.
    """

    folder: Path | None

    def get(self, name: str, fit: Callable[[], SequenceModel]) -> tuple[SequenceModel, float]:
        """The network of this name and the CPU-seconds that its training took, whenever that was."""
        if self.folder is None:
            return _timed(fit)
        weights, facts = self.folder / f"{name}.safetensors", self.folder / f"{name}.json"
        if facts.is_file():
            told = json.loads(facts.read_text())
            return SequenceModel.from_config(told["config"], arrays=load_file(weights)), told["seconds"]
        model, spent_s = _timed(fit)
        self.folder.mkdir(parents=True, exist_ok=True)
        save_file({key: np.ascontiguousarray(values) for key, values in model.arrays().items()}, weights)
        facts.write_text(json.dumps({"config": model.to_config(), "seconds": spent_s}))
        return model, spent_s


def _timed(fit: Callable[[], SequenceModel]) -> tuple[SequenceModel, float]:
    began_s = time.process_time()
    model = fit()
    return model, time.process_time() - began_s
