"""Normalisation that is learned on training time only and stored with the model.

N rows (series or features), T periods.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from cluster.panel import FloatArray

Kind = Literal["standard", "min-max"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaler:
    """Scales each row by its own centre and spread: ``(value - centre) / spread``.

    ``"standard"`` takes mean and standard deviation, ``"min-max"`` minimum and range. A row that never varies in
    training has spread 1, so that it becomes 0 and not infinite.
    """

    kind: Kind
    centre_N: FloatArray
    spread_N: FloatArray

    @classmethod
    def fit(cls, values_NT: FloatArray, *, kind: Kind, until: int) -> "Scaler":
        """Learn from the first ``until`` periods; later ones are not looked at. NaN counts as not observed.

        Raises
        ------
        ValueError
            If ``until`` is not in 1..T.

        Examples
        --------
        >>> scaler = Scaler.fit(np.array([[0.0, 2.0, 99.0]]), kind="min-max", until=2)
        >>> scaler.transform(np.array([[1.0]])).tolist()
        [[0.5]]
        """
        if not 1 <= until <= values_NT.shape[1]:
            raise ValueError(f"until must be in 1..{values_NT.shape[1]}, got {until}")
        seen_NT = np.ma.masked_invalid(values_NT[:, :until].astype(np.float64))
        if kind == "standard":
            centre, spread = seen_NT.mean(axis=1), seen_NT.std(axis=1)
        else:
            centre, spread = seen_NT.min(axis=1), seen_NT.max(axis=1) - seen_NT.min(axis=1)
        centre_N = np.ma.filled(centre, 0.0)
        spread_N = np.ma.filled(spread, 1.0)
        # Rounding leaves a constant row a spread of about its last digit.
        constant_N = spread_N <= 1e-12 * np.maximum(np.abs(centre_N), 1.0)
        return cls(
            kind=kind,
            centre_N=centre_N.astype(np.float32),
            spread_N=np.where(constant_N, 1.0, spread_N).astype(np.float32),
        )

    def transform(self, values_NT: FloatArray) -> FloatArray:
        """Scaled values, same shape."""
        return (values_NT - self.centre_N[:, None]) / self.spread_N[:, None]

    def inverse(self, scaled_NT: FloatArray) -> FloatArray:
        """Values in their own units."""
        return scaled_NT * self.spread_N[:, None] + self.centre_N[:, None]

    def to_dict(self) -> dict[str, Any]:
        """JSON form, exact."""
        return {"kind": self.kind, "centre": self.centre_N.tolist(), "spread": self.spread_N.tolist()}

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> "Scaler":
        """Inverse of :meth:`to_dict`."""
        return cls(
            kind=tree["kind"],
            centre_N=np.array(tree["centre"], dtype=np.float32),
            spread_N=np.array(tree["spread"], dtype=np.float32),
        )
