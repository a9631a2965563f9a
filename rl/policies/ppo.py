"""PPO on RLlib: the configuration, and a connector and learner that work on ``[T, N]`` blocks.

``docs/policies/ppo.md`` has the formula of every logged metric and every deviation from the paper (Schulman et al.
2017).

Shapes: T periods of a block, N rows, F observation columns, A actions.
"""

from typing import Any

import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.learner import ENTROPY_KEY, POLICY_LOSS_KEY, VF_LOSS_KEY
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.evaluation.postprocessing import Postprocessing
from torch import Tensor

from cluster.settings.models import PolicySettings
from rl.network import OBSERVATION_NAMES
from rl.policies.lean import LeanTorchLearner
from rl.policies.modules import ActorCritic
from rl.runner import Block, set_task

CLIP_FRACTION_KEY = "clip_fraction"
KL_KEY = "approximate_kl"


def generalised_advantage(
    reward_TN: Tensor, value_TN: Tensor, *, gamma: float, lambda_: float
) -> tuple[Tensor, Tensor]:
    """Advantages and value targets of a continuing task (Schulman et al. 2016, eq. 16).

    ``value_TN`` holds one period more than the rewards: the last value stands for everything after the block.
    """
    advantage_TN = torch.empty_like(reward_TN)
    delta_TN = reward_TN + gamma * value_TN[1:] - value_TN[:-1]
    running_N = torch.zeros_like(reward_TN[0])
    for period in range(len(reward_TN) - 1, -1, -1):
        running_N = delta_TN[period] + gamma * lambda_ * running_N
        advantage_TN[period] = running_N
    return advantage_TN, advantage_TN + value_TN[:-1]


class AdvantageConnector(ConnectorV2):
    """Blocks -> one flat, shuffled batch with advantages (standardised) and value targets."""

    def __init__(self, *, gamma: float, lambda_: float) -> None:
        super().__init__()
        self._gamma = gamma
        self._lambda = lambda_

    def __call__(self, *, rl_module: Any, batch: Any, episodes: list[Block], **_: Any) -> dict[str, Any]:
        """Make the batch of the one module."""
        module = rl_module[DEFAULT_MODULE_ID].unwrapped()
        device = next(module.parameters()).device
        parts = [self._flat(module, block, device) for block in episodes]
        columns = parts[0] if len(parts) == 1 else {k: torch.cat([part[k] for part in parts]) for k in parts[0]}
        advantage = columns[Postprocessing.ADVANTAGES]
        columns[Postprocessing.ADVANTAGES] = (advantage - advantage.mean()) / advantage.std().clamp_min(1e-4)
        # RLlib's minibatch iterator shuffles between epochs, not before the first.
        order = torch.randperm(len(advantage)).to(device)
        # This also copies them out of inference mode: autograd saves these for its backward pass.
        return {DEFAULT_MODULE_ID: {name: value.index_select(0, order) for name, value in columns.items()}}

    def _flat(self, module: Any, block: Block, device: torch.device) -> dict[str, Tensor]:
        observation = block.observation.to(device)
        with torch.inference_mode(), torch.no_grad():
            value_TN = module.compute_values({Columns.OBS: observation})
            advantage_TN, target_TN = generalised_advantage(
                block.reward.to(device), value_TN, gamma=self._gamma, lambda_=self._lambda
            )
        columns = {
            Columns.OBS: observation[:-1],
            Columns.ACTIONS: block.action,
            Columns.ACTION_LOGP: block.log_probability,
            Postprocessing.ADVANTAGES: advantage_TN,
            Postprocessing.VALUE_TARGETS: target_TN,
        }
        return {name: value.to(device).flatten(0, 1) for name, value in columns.items()}


class LeanPPOLearner(LeanTorchLearner, PPOTorchLearner):
    """PPO's clipped loss on plain tensors, and one fused Adam."""

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Register a fused Adam under RLlib's learning-rate schedule."""
        params = self.get_parameters(self._module[module_id])
        self.register_optimizer(
            module_id=module_id,
            optimizer=torch.optim.Adam(params, fused=True),
            params=params,
            lr_or_lr_schedule=config.lr,
        )

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Tensor], fwd_out: dict[str, Tensor]
    ) -> Tensor:
        """Clipped surrogate + value loss - entropy bonus (Schulman et al. 2017, eq. 9)."""
        log_probability_NA = torch.log_softmax(fwd_out[Columns.ACTION_DIST_INPUTS], 1)
        entropy = -(log_probability_NA.exp() * log_probability_NA).sum(1).mean()
        action_N1 = batch[Columns.ACTIONS].unsqueeze(1)
        change_N = log_probability_NA.gather(1, action_N1).squeeze(1) - batch[Columns.ACTION_LOGP]
        ratio_N = change_N.exp()
        advantage_N = batch[Postprocessing.ADVANTAGES]
        clip = config.clip_param
        clipped_N = ratio_N.clamp(1 - clip, 1 + clip)
        policy_loss = -torch.minimum(advantage_N * ratio_N, advantage_N * clipped_N).mean()
        value_N = self.module[module_id].unwrapped().compute_values(batch)
        value_loss = (value_N - batch[Postprocessing.VALUE_TARGETS]).square().mean()
        self._keep(
            module_id,
            {
                POLICY_LOSS_KEY: policy_loss,
                VF_LOSS_KEY: value_loss,
                ENTROPY_KEY: entropy,
                KL_KEY: (ratio_N - 1 - change_N).mean(),
                CLIP_FRACTION_KEY: (ratio_N != clipped_N).float().mean(),
            },
        )
        entropy_weight = self.entropy_coeff_schedulers_per_module[module_id].get_current_value()
        return policy_loss + config.vf_loss_coeff * value_loss - entropy_weight * entropy


def make_ppo_config(settings: PolicySettings, *, env_name: str, env_config: dict[str, Any], seed: int) -> PPOConfig:
    """RLlib configuration of one PPO trial."""
    steps, rate = settings.budget_steps_ppo, settings.learning_rate_ppo
    gamma, lambda_ = settings.gamma, settings.gae_lambda
    config = PPOConfig()
    set_task(config, settings=settings, env_name=env_name, env_config=env_config, seed=seed)
    config.learners(learner_connector=lambda *_: AdvantageConnector(gamma=gamma, lambda_=lambda_))
    config.training(
        learner_class=LeanPPOLearner,
        minibatch_size=min(settings.minibatch_size, config.train_batch_size_per_learner),
        num_epochs=settings.num_epochs,
        gamma=gamma,
        lambda_=lambda_,
        lr=[[0, rate], [steps, rate / 20]],
        entropy_coeff=[[0, settings.entropy], [steps, 0.0]],
        clip_param=0.2,
        vf_clip_param=1e9,
        vf_loss_coeff=0.5,
        use_kl_loss=False,
        grad_clip=1.0,
        grad_clip_by="global_norm",
    )
    model = {"hidden": settings.hidden, "num_features": len(OBSERVATION_NAMES)}
    return config.rl_module(rl_module_spec=RLModuleSpec(module_class=ActorCritic, model_config=model))
