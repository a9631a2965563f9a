"""A learned policy as it is served: one ONNX graph with its preprocessing and order formula inside.

Needs NumPy and onnxruntime; neither RLlib nor torch. :mod:`rl.export` makes the graph.

Shapes: S series.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from safetensors.numpy import load, save

from cluster.errors import ArtifactError
from forecasting.forecast import Forecast
from rl.inventory import FloatArray, InventoryState, SupplyTerms
from rl.observation import ActionGrid, make_forecast_inputs, make_state_inputs

FORMAT = 2
GRAPH_FILE = "policy.onnx"
WEIGHTS_FILE = "policy.safetensors"
FACTS_FILE = "policy.json"

_NEXT_STEP = "train the policies again with 'restock train policies'"


class ExportedPolicy:
    """A learned replenishment policy.

    Parameters
    ----------
    name
        ``ppo`` or ``dqn``.
    graph
        The ONNX file's bytes.
    grid
        The orders that it chooses from.
    weights
        What the graph holds of its actor, by name: lets several policies be asked together. None of those that were
        exported before weights were kept beside the graph.

    Raises
    ------
    ArtifactError
        If onnxruntime cannot read the graph.
    """

    def __init__(
        self, *, name: str, graph: bytes, grid: ActionGrid, weights: Mapping[str, FloatArray] | None = None
    ) -> None:
        self._name = name
        self._graph = graph
        self._grid = grid
        self._weights = weights or {}
        self._session = _make_session(graph, name)

    @property
    def name(self) -> str:
        """``ppo`` or ``dqn``."""
        return self._name

    @property
    def grid(self) -> ActionGrid:
        """The orders that it chooses from."""
        return self._grid

    @property
    def weights(self) -> Mapping[str, FloatArray]:
        """Weights of its actor by name; empty where they are not kept."""
        return self._weights

    @property
    def architecture(self) -> tuple[object, ...] | None:
        """What policies must have in common to be asked together; None without weights."""
        if not self._weights:
            return None
        grid = self._grid
        num_orders = (len(grid.scores), len(grid.batches), len(grid.units), len(grid.fractions))
        return num_orders, *sorted((name, value.shape) for name, value in self._weights.items())

    def order_quantity_S(self, state: InventoryState, forecast: Forecast, terms: SupplyTerms) -> FloatArray:
        """Units that the policy wishes to order now, before any constraint.

        Raises
        ------
        ValueError
            If a protection interval is longer than the forecast's horizon.
        """
        wish_S, _ = self._run(state, forecast, terms)
        return wish_S

    def action_S(self, state: InventoryState, forecast: Forecast, terms: SupplyTerms) -> npt.NDArray[np.int64]:
        """Number of the chosen action, as :class:`rl.observation.ActionGrid` counts them."""
        _, action_S = self._run(state, forecast, terms)
        return action_S

    def save(self, folder: Path) -> None:
        """Write graph and facts into a folder, each in one rename."""
        folder.mkdir(parents=True, exist_ok=True)
        facts: dict[str, Any] = {
            "kind": "exported",
            "format": FORMAT,
            "name": self._name,
            "grid": self._grid.to_dict(),
            "graph_digest": _digest(self._graph),
        }
        if self._weights:
            weights = save(dict(self._weights))
            facts["weights_digest"] = _digest(weights)
            _write(folder / WEIGHTS_FILE, weights)
        _write(folder / GRAPH_FILE, self._graph)
        _write(folder / FACTS_FILE, (json.dumps(facts, indent=2) + "\n").encode())

    @classmethod
    def load(cls, folder: Path) -> "ExportedPolicy":
        """Read a policy that :meth:`save` wrote.

        Raises
        ------
        ArtifactError
            If a file is missing, damaged or of another format.
        """
        try:
            facts: dict[str, Any] = json.loads((folder / FACTS_FILE).read_bytes())
            graph = (folder / GRAPH_FILE).read_bytes()
            name, grid = facts["name"], ActionGrid.from_dict(facts["grid"])
            version, digest = facts["format"], facts["graph_digest"]
            weights = (folder / WEIGHTS_FILE).read_bytes() if "weights_digest" in facts else b""
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{folder}: no learned policy can be read there ({error!r}); {_NEXT_STEP}") from error
        if version != FORMAT:
            raise ArtifactError(f"{folder}/{FACTS_FILE}: format {version}, this version reads {FORMAT}; {_NEXT_STEP}")
        weights_digest = facts.get("weights_digest", _digest(b""))
        for file, content, recorded in ((GRAPH_FILE, graph, digest), (WEIGHTS_FILE, weights, weights_digest)):
            if recorded != _digest(content):
                raise ArtifactError(f"{folder}/{file}: damaged, its digest is not the recorded one; {_NEXT_STEP}")
        return cls(name=name, graph=graph, grid=grid, weights=load(weights) if weights else None)

    def __reduce__(self) -> Any:
        # A session cannot be pickled: Ray sends the bytes, and the receiver opens its own.
        return _restore, (self._name, self._graph, self._grid, self._weights)

    def _run(
        self, state: InventoryState, forecast: Forecast, terms: SupplyTerms
    ) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        if not len(terms):
            return np.zeros(0, dtype=np.float32), np.zeros(0, dtype=np.int64)
        inputs = make_state_inputs(state) | make_forecast_inputs(forecast, terms, grid=self._grid)
        wish_S, action_S = self._session.run(None, inputs)
        return wish_S, action_S


def _restore(name: str, graph: bytes, grid: ActionGrid, weights: Mapping[str, FloatArray]) -> ExportedPolicy:
    return ExportedPolicy(name=name, graph=graph, grid=grid, weights=weights)


def _make_session(graph: bytes, name: str) -> Any:
    options = onnxruntime.SessionOptions()
    # One request is far too small to share among threads, and replicas share the machine.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions share no base but Exception
        raise ArtifactError(f"policy '{name}': its graph cannot be read ({error}); {_NEXT_STEP}") from error


def _digest(graph: bytes) -> str:
    return hashlib.sha256(graph).hexdigest()


def _write(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_bytes(content)
    beside.replace(path)
