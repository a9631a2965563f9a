"""The learning curve: one row per pass over the series."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRow:
    """One line of the learning curve; docs/models/forecaster.md has the formula of each number."""

    epoch: int
    phase: str
    learning_rate: float
    seconds: float
    train_loss: float
    train_marginal: float
    train_cumulative: float
    train_mean: float
    validation_loss: float | None
    validation_wql: float | None
