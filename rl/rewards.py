"""What learners are paid for, where it is not money: the tiered reward that introductions to the subject use.

``docs/garments.md`` shows what it teaches. Shapes: N rows.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt

from rl.inventory import FloatArray

RewardMode = Literal["cost", "tiered"]

LOW_REWARD, NORMAL_REWARD, HIGH_REWARD = 2.0, 1.0, -1.0


def tiered_reward_N(
    position_N: npt.NDArray[np.floating],
    *,
    order_N: npt.NDArray[np.floating],
    mean_demand_N: npt.NDArray[np.floating],
    lead_time_N: npt.NDArray[np.integer],
    review_period_N: npt.NDArray[np.integer],
) -> FloatArray:
    """Pay for the moment of ordering: 2 at low, 1 at normal, -1 at high stock; 0 where nothing is ordered.

    Stock is the inventory position before the order, in periods of cover. It is low up to L periods of mean demand (the
    shelf is expected to be empty before the order arrives), high above L + R (it is expected to last until the next
    order arrives: this one could have waited), and normal between.

    Parameters
    ----------
    position_N
        Inventory position before the order, units.
    order_N
        Units ordered.
    mean_demand_N
        Expected demand per period, units.
    lead_time_N, review_period_N
        L and R, periods.

    Returns
    -------
    Rewards, shape (N,).

    >>> position = np.array([4.0, 9.0, 11.0, 4.0])
    >>> order = np.array([5.0, 5.0, 5.0, 0.0])
    >>> one = np.ones(4, dtype=np.int64)
    >>> tiered_reward_N(position, order_N=order, mean_demand_N=5.0 * one, lead_time_N=one, review_period_N=one).tolist()
    [2.0, 1.0, -1.0, 0.0]
    """
    is_low_N = position_N <= lead_time_N * mean_demand_N
    is_high_N = position_N > (lead_time_N + review_period_N) * mean_demand_N
    reward_N = np.where(is_low_N, LOW_REWARD, np.where(is_high_N, HIGH_REWARD, NORMAL_REWARD))
    return np.where(order_N > 0, reward_N, 0.0).astype(np.float32)
