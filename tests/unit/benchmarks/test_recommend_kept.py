"""A network that was trained before is read, not trained again."""

import numpy as np
import pytest
from behaviour_log import ANYTHING, random_orders, read

from benchmarks.recommend_kept import KeptNetworks
from recsys.models.sequence import SequenceModel

LOG = read(random_orders(seed=2))
MODEL = SequenceModel(settings=ANYTHING.model_copy(update={"epochs": 1, "hidden": 8, "max_sequence": 10}))


def test_a_kept_network_comes_back_with_what_it_took(tmp_path):
    first, spent_s = KeptNetworks(folder=tmp_path / "new").get("one", lambda: MODEL.fit(LOG))
    again, told_s = KeptNetworks(folder=tmp_path / "new").get("one", lambda: pytest.fail("trained again"))
    np.testing.assert_array_equal(again.score_UI(LOG), first.score_UI(LOG))
    assert told_s == spent_s > 0


def test_without_a_folder_nothing_is_kept():
    fits = []
    for _ in range(2):
        KeptNetworks(folder=None).get("one", lambda: fits.append(1) or MODEL.fit(LOG))
    assert len(fits) == 2
