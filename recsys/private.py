"""Training that no user can be read out of: each user's gradient is clipped, and noise hides the rest (DP-SGD).

Differential privacy of users (Abadi et al. 2016; McMahan et al. 2018): a step takes each user with the same chance, by
a draw of its own, adds their gradients, each of length ``clip`` at most, and Gaussian noise of ``noise x clip`` per
coordinate. Opacus' accountant says how much noise the promise takes. Nothing else that the network starts from tells of
users: its item bias starts at zero and candidates are drawn evenly. The list of items and the number of users count as
public. Draws and noise are never those of a seed: who knew it could take the noise off again.

Shapes: W windows of one user, C candidates.
"""

import secrets
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cluster.errors import ConfigError
from cluster.settings.models import RecommenderSettings
from recsys.interactions import Interactions
from recsys.learner import INPUTS, calibration_of, window_options
from recsys.models.network import SequenceNetwork
from recsys.windows import Batch, make_windows, user_table

_USERS_PER_STEP = 256
_DELTA_SHARE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacyPlan:
    """What is spent: with it, a model trained with one user more or less is told apart hardly better than by guessing.

    Parameters
    ----------
    epsilon, delta
        The promise: no outcome is more than ``e^epsilon`` times as likely for it, save with chance ``delta``.
    noise
        Standard deviation over ``clip``.
    share
        Chance of each user to take part in a step.
    """

    epsilon: float
    delta: float
    noise: float
    clip: float
    share: float
    steps: int


def plan_privacy(settings: RecommenderSettings, *, num_users: int) -> PrivacyPlan:
    """Noise that keeps the promise of the settings over their epochs.

    Raises
    ------
    ConfigError
        If Opacus is not installed, or no noise keeps it.
    """
    assert settings.privacy_epsilon is not None
    try:
        from opacus.accountants import RDPAccountant
        from opacus.accountants.utils import get_noise_multiplier
    except ImportError as error:
        raise ConfigError(
            "recommender.privacy_epsilon needs Opacus; install the extra 'privacy' or leave the setting out"
        ) from error
    share = min(_USERS_PER_STEP / max(num_users, 1), 1.0)
    steps = max(round(settings.epochs / share), 1)
    delta = _DELTA_SHARE / max(num_users, 1)
    try:
        noise = get_noise_multiplier(
            target_epsilon=settings.privacy_epsilon,
            target_delta=delta,
            sample_rate=share,
            steps=steps,
            accountant="rdp",
        )
    except ValueError as error:
        raise ConfigError(
            f"no noise keeps recommender.privacy_epsilon = {settings.privacy_epsilon} over {steps} steps; "
            "raise it or lower recommender.epochs"
        ) from error
    accountant = RDPAccountant()
    accountant.history = [(noise, share, steps)]
    return PrivacyPlan(
        epsilon=float(accountant.get_epsilon(delta)),
        delta=delta,
        noise=float(noise),
        clip=settings.privacy_clip,
        share=share,
        steps=steps,
    )


def train_privately(
    network: SequenceNetwork, interactions: Interactions, *, settings: RecommenderSettings, seed: int
) -> PrivacyPlan:
    """Train the network in place, in this process; what it cost the users is returned."""
    with_events = interactions.take(np.flatnonzero(np.diff(interactions.offset_U1) > 0))
    plan = plan_privacy(settings, num_users=with_events.num_users)
    windows_of = [
        _windows(with_events, user=user, settings=settings, seed=seed) for user in range(with_events.num_users)
    ]
    generator = torch.Generator().manual_seed(secrets.randbits(63))
    rng = np.random.default_rng(secrets.randbits(128))
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, betas=(0.9, 0.98))
    network.train()
    for _ in range(plan.steps):
        total = [torch.zeros_like(parameter) for parameter in network.parameters()]
        for user in np.flatnonzero(rng.random(len(windows_of)) < plan.share):
            _add(total, _clipped(network, windows_of[user], settings=settings, clip=plan.clip))
        for parameter, summed in zip(network.parameters(), total, strict=True):
            noise = torch.randn(summed.shape, generator=generator) * (plan.noise * plan.clip)
            parameter.grad = (summed + noise) / (plan.share * max(len(windows_of), 1))
        optimiser.step()
    network.eval()
    return plan


def _windows(interactions: Interactions, *, user: int, settings: RecommenderSettings, seed: int) -> Batch:
    alone = interactions.take(np.array([user]))
    # Only purchases are targets, or every event: what the whole log holds must not decide for one user.
    return make_windows(user_table(alone, seed=seed), **window_options(alone, settings=settings, seed=seed))


def _clipped(network: SequenceNetwork, windows: Batch, *, settings: RecommenderSettings, clip: float) -> list[Tensor]:
    """Gradient of one user's loss, at most ``clip`` long; empty for who has nothing to learn from."""
    if not (windows["target_WLM"] >= 0).any():
        return []
    candidate_C = _candidates(network.shape.num_items, settings.num_negatives)
    log_draws_C = torch.full((len(candidate_C),), np.log(len(candidate_C) / network.shape.num_items))
    inputs = [torch.as_tensor(windows[name], dtype=torch.int64) for name in INPUTS]
    loss = network(*inputs, candidate_C, log_draws_C, calibration_of(settings))
    parameters = list(network.parameters())
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    gradients = [torch.zeros_like(own) if one is None else one for own, one in zip(parameters, found, strict=True)]
    length = torch.sqrt(sum((gradient.square().sum() for gradient in gradients), start=torch.zeros(())))
    return [gradient * (clip / length.clamp(min=clip)) for gradient in gradients]


def _add(total: list[Tensor], gradients: list[Tensor]) -> None:
    for summed, gradient in zip(total, gradients, strict=False):
        summed.add_(gradient)


def _candidates(num_items: int, wanted: int) -> Tensor:
    return torch.arange(num_items) if num_items <= wanted else torch.randint(num_items, (wanted,))
