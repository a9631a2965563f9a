"""Sales on days when the shelf was empty are "at least", not demand.

A period that ended out of stock shows the units that were there, so demand was that many **or more** (censored from
above). Such a period neither teaches the level nor counts against a forecast that is higher than the sales
(the one-sided idea of Powell 1986, *Censored regression quantiles*, for an observation known to be censored).

Shapes: S series, T history periods. The losses that honour censored targets are in ``forecasting.losses``.
"""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


def fill_censored(sales_ST: FloatArray, *, expected_ST: FloatArray, censored_ST: BoolArray) -> FloatArray:
    """Replace censored sales by what was expected there, never by less than was sold.

    >>> fill_censored(np.float32([[2, 0, 9]]), expected_ST=np.float32([[3, 3, 3]]),
    ...               censored_ST=np.array([[False, True, True]])).tolist()
    [[2.0, 3.0, 9.0]]
    """
    return np.where(censored_ST, np.maximum(sales_ST, expected_ST), sales_ST).astype(np.float32)
