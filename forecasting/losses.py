"""What training minimises. Each loss is a sum over elements weighted by ``weight``, over the sum of weights.

Shapes: ... any leading axes, Q quantile levels.
"""

import torch


def pinball(
    quantile_Q: torch.Tensor, target: torch.Tensor, *, levels_Q: torch.Tensor, censored: torch.Tensor
) -> torch.Tensor:
    """Pinball (quantile) loss of each element and level, shape (..., Q).

    ``max(q (y - f), (q - 1) (y - f))`` (Koenker & Bassett 1978). Where the target is censored ("at least y") a forecast
    above it costs nothing: only ``q max(y - f, 0)`` remains (Powell 1986).

    Parameters
    ----------
    quantile_Q
        Forecast f, shape (..., Q).
    target
        Observed y, shape (...).
    censored
        Whether y is only a lower bound, shape (...).
    """
    short_Q = target[..., None] - quantile_Q
    over_Q = torch.where(censored[..., None], torch.zeros_like(short_Q), (levels_Q - 1.0) * short_Q)
    return torch.where(short_Q > 0, levels_Q * short_Q, over_Q)


def poisson_deviance(mean: torch.Tensor, target: torch.Tensor, *, censored: torch.Tensor) -> torch.Tensor:
    """Half the Poisson deviance of each element up to a constant of y: ``f - y log f``; least at f = E[y].

    Proper for the mean of any non-negative demand (Gourieroux, Monfort & Trognon 1984). Where the target is censored, a
    forecast above it costs no more than one that equals it.
    """
    reached = torch.where(censored, torch.minimum(mean, target.clamp_min(1e-6)), mean)
    return reached - target * torch.log(reached.clamp_min(1e-6))


def cumulative_censored(censored: torch.Tensor) -> torch.Tensor:
    """Whether the sum of the first h + 1 periods (last axis) holds a censored one: such a sum is "at least" too."""
    return censored.cumsum(dim=-1) > 0


def weighted_mean(value: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Mean of ``value`` with weights; 0 where all weights are 0."""
    return (value * weight).sum() / weight.sum().clamp_min(1e-9)
