"""Learned policies of one architecture as stacked tensors: the wishes of many categories in one batched pass.

A policy's graph answers ten series in nearly the time of one, so that a plan of fifty categories asked one after
another is mostly overhead. The arithmetic is that of :class:`rl.actors.ServedGraph`, mapped over policies by torch.

Shapes: P policies of the stack, G of them in one pass, N the most series that one of these is asked about, S series.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from cluster.panel import BoolArray
from forecasting.forecast import Forecast
from rl.actors import DirectActor, GreedyActor, ServedGraph
from rl.inventory import FloatArray, IntArray, InventoryState, SupplyTerms
from rl.network import make_mlp
from rl.observation import make_forecast_inputs, make_score_weights_QZ, make_state_inputs
from rl.policies.exported import ExportedPolicy
from rl.policies.protocol import Asked
from rl.policies.stacks import LEAST_POLICIES, MOST_SERIES

_MOST_ROWS = 8_192
"""Padded rows of one pass: bounds its memory, a kilobyte a row, and what padding can cost."""
_OWN_INPUT = "weights_QZ"
"""The one input that is the policy's and not the series'."""


class PolicyStack:
    """Policies whose networks have the same form and whose grids have the same number of each kind of order.

    One thread at a time: the weights are put into one module while it answers.

    Parameters
    ----------
    policies
        Of one ``architecture``.
    """

    def __init__(self, policies: Sequence[ExportedPolicy]) -> None:
        self._policies = policies
        self._number_of = {id(policy): number for number, policy in enumerate(policies)}
        graphs = [ServedGraph(_make_actor(policy.weights), policy.grid) for policy in policies]
        parameters, buffers = stack_module_state(graphs)
        self._graph = graphs[0]
        self._stacked = {name: value.detach() for name, value in (parameters | buffers).items()}

    def worth_joining(self, asked: Sequence[Asked]) -> list[Asked]:
        """Those about few series each, of policies in this stack; none if these are too few."""
        few = [(policy, rows) for policy, rows in asked if len(rows) <= MOST_SERIES and id(policy) in self._number_of]
        return few if len(few) >= LEAST_POLICIES else []

    def order_quantity_S(
        self,
        asked: Sequence[Asked],
        *,
        state: InventoryState,
        forecast: Forecast,
        terms: SupplyTerms,
    ) -> FloatArray:
        """Units that each policy wishes to order of the series in its rows; 0 for series in none.

        Raises
        ------
        ValueError
            If a protection interval is longer than the forecast's horizon.
        """
        inputs = make_state_inputs(state) | make_forecast_inputs(forecast, terms, grid=self._policies[0].grid)
        wish_S = np.zeros(len(terms), dtype=np.float32)
        for part in _passes(asked):
            number_G = [self._number_of[id(policy)] for policy, _ in part]
            row_GN, is_real_GN = _padded([rows for _, rows in part])
            own_GQZ = self._weights_GQZ(number_G, forecast)
            padded = {
                name: own_GQZ if name == _OWN_INPUT else torch.from_numpy(value[row_GN])
                for name, value in inputs.items()
            }
            wish_GN = self._run(number_G, padded)
            wish_S[row_GN[is_real_GN]] = wish_GN.numpy()[is_real_GN]
        return wish_S

    def _weights_GQZ(self, number_G: list[int], forecast: Forecast) -> Tensor:
        scores = [score for number in number_G for score in self._policies[number].grid.seen_scores]
        weights_QGZ = make_score_weights_QZ(forecast.levels_Q, scores).reshape(
            len(forecast.levels_Q), len(number_G), -1
        )
        return torch.from_numpy(np.ascontiguousarray(weights_QGZ.transpose(1, 0, 2)))

    @torch.inference_mode()
    def _run(self, number_G: list[int], inputs: dict[str, Tensor]) -> Tensor:
        stacked = self._stacked
        if number_G != list(range(len(self._policies))):
            chosen = torch.tensor(number_G)
            stacked = {name: value[chosen] for name, value in stacked.items()}
        wish_GN, _ = vmap(self._one)(stacked, inputs)
        return wish_GN

    def _one(self, weights: dict[str, Tensor], inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        wish_N, action_N = functional_call(self._graph, weights, (), inputs)
        return wish_N, action_N


def _make_actor(weights: Mapping[str, FloatArray]) -> nn.Module:
    """The actor that these weights were taken from, told by their names."""
    hidden, num_features = next(value.shape for name, value in weights.items() if name.endswith(".1.weight"))
    actor: nn.Module
    if "network.1.weight" in weights:
        actor = DirectActor(num_features, hidden=hidden)
    else:
        num_actions = len(weights["scorer.5.bias"])
        actor = GreedyActor(make_mlp(num_features, hidden=hidden, num_outputs=num_actions, output_gain=1.0))
    actor.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    return actor


def _passes(asked: Sequence[Asked]) -> Iterator[list[Asked]]:
    """Parts of similar size, of few enough rows: what is asked about most series first."""
    part: list[Asked] = []
    for policy, rows in sorted(asked, key=lambda pair: len(pair[1]), reverse=True):
        if part and (len(part) + 1) * len(part[0][1]) > _MOST_ROWS:
            yield part
            part = []
        part.append((policy, rows))
    if part:
        yield part


def _padded(rows_G: Sequence[IntArray]) -> tuple[IntArray, BoolArray]:
    """Rows as (G, N), and which of them are asked about; shorter ones are filled up with their last row."""
    size_G = np.array([len(rows) for rows in rows_G])
    slot_N = np.arange(size_G.max())
    row_GN = np.stack([rows[np.minimum(slot_N, len(rows) - 1)] for rows in rows_G])
    return row_GN, slot_N < size_G[:, None]
