"""How much one event says about what a user wants."""

from typing import Final

import numpy as np
import numpy.typing as npt

from recsys.interactions import BEHAVIOURS, Interactions

# A purchase counts 1; looking is cheap, a cart is nearly a purchase, a poor review takes nothing back but adds nothing.
BEHAVIOUR_WEIGHTS: Final = {
    "view": 0.1,
    "click": 0.1,
    "cart": 0.5,
    "purchase": 1.0,
    "review": 0.5,
    "poor review": 0.0,
}
_WEIGHT_OF_CODE: Final = np.array([BEHAVIOUR_WEIGHTS[name] for name in BEHAVIOURS], dtype=np.float32)


def event_weight_E(interactions: Interactions) -> npt.NDArray[np.float32]:
    """Weight of each event by its behaviour."""
    return _WEIGHT_OF_CODE[interactions.behaviour_E]
