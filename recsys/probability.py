"""Probabilities learned from features, calibrated, and judged. Pure NumPy and SciPy.

Shapes: N cases, F features.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import special, stats

Matrix = npt.NDArray[np.float64]
_STEPS: Final = 50
_TOLERANCE: Final = 1e-5
_HALVINGS: Final = 12
_CLIP: Final = 30.0
_LEAST_SPREAD: Final = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Logistic:
    """Logistic regression on standardised features, and the line that calibrates its log odds.

    Parameters
    ----------
    mean_F, scale_F
        What features are standardised by.
    weight_F, bias
        Log odds per standard deviation, and at the mean.
    slope, shift
        Calibration (Platt 1999): log odds are multiplied and moved by these. It keeps the order of cases.
    """

    mean_F: Matrix
    scale_F: Matrix
    weight_F: Matrix
    bias: float
    slope: float = 1.0
    shift: float = 0.0

    def log_odds_N(self, feature_NF: Matrix) -> Matrix:
        """Before calibration."""
        standard_NF = (feature_NF - self.mean_F) / self.scale_F
        return np.asarray(np.clip(standard_NF @ self.weight_F + self.bias, -_CLIP, _CLIP))

    def probability_N(self, feature_NF: Matrix) -> Matrix:
        """Chance of a yes, in (0, 1)."""
        return np.asarray(special.expit(self.slope * self.log_odds_N(feature_NF) + self.shift))

    def to_config(self) -> dict[str, Any]:
        """Everything, as JSON can write it."""
        arrays = {name: getattr(self, name).tolist() for name in ("mean_F", "scale_F", "weight_F")}
        return arrays | {"bias": self.bias, "slope": self.slope, "shift": self.shift}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Logistic":
        """What :meth:`to_config` wrote."""
        arrays = {name: np.asarray(config[name]) for name in ("mean_F", "scale_F", "weight_F")}
        return cls(**arrays, bias=config["bias"], slope=config["slope"], shift=config["shift"])


def fit_logistic(feature_NF: Matrix, yes_N: npt.NDArray[np.bool_], *, ridge: float = 1.0) -> Logistic:
    """Newton's method on the penalised likelihood; the calibration is empty.

    Parameters
    ----------
    ridge
        Penalty on the squared standardised weights: cases that it counts as.
    """
    mean_F = feature_NF.mean(axis=0)
    # What hardly varies while learning may lie far outside later: its last digits must not weigh.
    scale_F = np.maximum(feature_NF.std(axis=0), np.maximum(_LEAST_SPREAD * np.abs(mean_F), 1e-9))
    design_NF = np.column_stack([(feature_NF - mean_F) / scale_F, np.ones(len(feature_NF))])
    penalty_F = np.full(design_NF.shape[1], ridge)
    penalty_F[-1] = 1e-6
    weight_F = np.zeros(design_NF.shape[1])
    weight_F[-1] = special.logit(np.clip(yes_N.mean() if len(yes_N) else 0.5, 1e-6, 1 - 1e-6))
    for _ in range(_STEPS):
        chance_N = special.expit(np.clip(design_NF @ weight_F, -_CLIP, _CLIP))
        gradient_F = design_NF.T @ (yes_N - chance_N) - penalty_F * weight_F
        curvature_FF = (design_NF * (chance_N * (1 - chance_N))[:, None]).T @ design_NF + np.diag(penalty_F)
        step_F = np.linalg.solve(curvature_FF, gradient_F)
        # Newton's step may lead past the top where probabilities are near 0 or 1: then half of it is tried.
        before = _penalised(design_NF, yes_N, weight_F=weight_F, penalty_F=penalty_F)
        for _ in range(_HALVINGS):
            if _penalised(design_NF, yes_N, weight_F=weight_F + step_F, penalty_F=penalty_F) >= before:
                break
            step_F = step_F / 2
        weight_F = weight_F + step_F
        if np.abs(step_F).max() < _TOLERANCE:
            break
    return Logistic(mean_F=mean_F, scale_F=scale_F, weight_F=weight_F[:-1], bias=float(weight_F[-1]))


def _penalised(design_NF: Matrix, yes_N: npt.NDArray[np.bool_], *, weight_F: Matrix, penalty_F: Matrix) -> float:
    odds_N = design_NF @ weight_F
    likelihood = (yes_N * odds_N - np.logaddexp(0.0, odds_N)).sum()
    return float(likelihood - 0.5 * (penalty_F * weight_F**2).sum())


def calibrated(model: Logistic, feature_NF: Matrix, yes_N: npt.NDArray[np.bool_]) -> Logistic:
    """Fit the calibration to cases that the model did not learn from; unchanged where they are all of one kind."""
    return calibrated_by(model, odds_N=model.log_odds_N(feature_NF), yes_N=yes_N)


def calibrated_by(model: Logistic, *, odds_N: Matrix, yes_N: npt.NDArray[np.bool_]) -> Logistic:
    """As :func:`calibrated`, from log odds that were found otherwise, for instance by models without the cases."""
    if not 0 < yes_N.sum() < len(yes_N):
        return model
    line = fit_logistic(odds_N[:, None], yes_N, ridge=1e-3)
    slope = max(float(line.weight_F[0] / line.scale_F[0]), 0.0)
    shift = float(line.bias - slope * line.mean_F[0])
    return replace(model, slope=slope, shift=shift)


def score_probabilities(chance_N: Matrix, yes_N: npt.NDArray[np.bool_]) -> dict[str, float]:
    """How good probabilities are: Brier score, log loss, AUC, and the mean gap between promise and outcome in deciles.

    >>> found = score_probabilities(np.array([0.9, 0.8, 0.2, 0.1]), np.array([True, True, False, False]))
    >>> found["auc"], round(found["brier"], 3)
    (1.0, 0.025)
    """
    inside_N = np.clip(chance_N, 1e-6, 1 - 1e-6)
    ranks_N = stats.rankdata(chance_N)
    num_yes = int(yes_N.sum())
    pairs = num_yes * (len(yes_N) - num_yes)
    above = ranks_N[yes_N].sum() - num_yes * (num_yes + 1) / 2
    return {
        "cases": len(yes_N),
        "share_yes": float(yes_N.mean()),
        "brier": float(np.mean((chance_N - yes_N) ** 2)),
        "log_loss": float(-np.mean(np.where(yes_N, np.log(inside_N), np.log(1 - inside_N)))),
        "auc": float(above / pairs) if pairs else float("nan"),
        "calibration_error": float(
            sum(row["share"] * abs(row["promised"] - row["happened"]) for row in reliability(chance_N, yes_N))
        ),
    }


def reliability(chance_N: Matrix, yes_N: npt.NDArray[np.bool_], *, num_bins: int = 10) -> list[dict[str, float]]:
    """Promise and outcome in equal-sized bins, lowest promise first."""
    order = np.argsort(chance_N, kind="stable")
    return [
        {
            "share": len(group) / len(order),
            "promised": float(chance_N[group].mean()),
            "happened": float(yes_N[group].mean()),
        }
        for group in np.array_split(order, num_bins)
        if len(group)
    ]
