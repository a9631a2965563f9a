"""From observation to order: what a trained network answers, in training and in the exported graph alike.

Shapes: S series (N rows in training), F observation columns, A actions.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rl.network import Context, ContextMaker, Standardise, make_mlp, observe, order_wish
from rl.observation import ActionGrid

Actor = Callable[[Context, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(context, observation, inventory position) -> (wish in units, number of the action)."""

_GATE_SLOPE = 4.0
_OUTPUT_GAIN = 0.01


class GreedyActor(nn.Module):
    """DQN's and PPO's answer: the order of the action that scores highest."""

    def __init__(self, scorer: nn.Module) -> None:
        super().__init__()
        self.scorer = scorer

    def forward(self, context: Context, observation_SF: Tensor, position_S: Tensor) -> tuple[Tensor, Tensor]:
        """Wish in units and chosen action of each row."""
        action_S = self.scorer(observation_SF).argmax(1)
        return order_wish(context, action_S, position_S), action_S


class DirectActor(nn.Module):
    """``direct``'s answer: any quantity, and whether to order at all where an order costs something.

    The network corrects the grid's anchor, so that it starts as the tuned textbook rule. With ``spread`` the usual
    surplus of demand over its mean in the protection interval::

        quantity = max(anchor level - position + spread * output 0, 0)
        gate     = 4 (anchor quantile - position) / spread + output 1      orders where > 0, or where orders are free
    """

    def __init__(self, num_features: int, *, hidden: int) -> None:
        super().__init__()
        self.network = make_mlp(num_features, hidden=hidden, num_outputs=2, output_gain=_OUTPUT_GAIN)

    @property
    def standardise(self) -> Standardise:
        """The layer that scales the inputs."""
        first = self.network[0]
        assert isinstance(first, Standardise)
        return first

    def quantity_and_gate(self, context: Context, observation_SF: Tensor, position_S: Tensor) -> tuple[Tensor, Tensor]:
        """Units to order and the gate of each row; differentiable."""
        output_S2 = self.network(observation_SF)
        spread_S = context.spread_S
        quantity_S = (context.level_SA[:, -1] - position_S + spread_S * output_S2[:, 0]).clamp_min(0)
        gate_S = _GATE_SLOPE * (context.quantile_SZ[:, -1] - position_S) / spread_S + output_S2[:, 1]
        return quantity_S, torch.where(context.fixed_cost_S > 0, gate_S, torch.ones_like(gate_S))

    def forward(self, context: Context, observation_SF: Tensor, position_S: Tensor) -> tuple[Tensor, Tensor]:
        """Wish in units of each row, and 1 where it orders."""
        quantity_S, gate_S = self.quantity_and_gate(context, observation_SF, position_S)
        wish_S = torch.where(gate_S > 0, quantity_S, torch.zeros_like(quantity_S))
        return wish_S, (wish_S > 0).long()


class ServedGraph(nn.Module):
    """Everything that is served, in one graph: observation, network, order formula."""

    def __init__(self, actor: nn.Module, grid: ActionGrid) -> None:
        super().__init__()
        self.actor = actor
        self.context = ContextMaker(grid)

    def forward(
        self,
        net_S: Tensor,
        on_order_SL: Tensor,
        mean_SH: Tensor,
        cumulative_SHQ: Tensor,
        weights_QZ: Tensor,
        lead_time_S: Tensor,
        review_period_S: Tensor,
        terms_SV: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Wish in units and chosen action of each row."""
        context = self.context(mean_SH, cumulative_SHQ, weights_QZ, lead_time_S, review_period_S, terms_SV)
        observation_SF = observe(context, net_S, on_order_SL)
        wish_S, action_S = self.actor(context, observation_SF, net_S + on_order_SL.sum(1))
        return wish_S, action_S
