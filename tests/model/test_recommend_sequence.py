"""The sequence model learns what only the order tells."""

import numpy as np
import pytest
from behaviour_log import ANYTHING, cycle_orders, orders_of, read

from recsys.holdout import hold_out_last_basket
from recsys.metrics import ranking_metrics
from recsys.models.popularity import Popularity
from recsys.models.protocol import recommend
from recsys.models.sequence import SequenceModel

NUM_ITEMS = 20
SETTINGS = ANYTHING.model_copy(
    update={"hidden": 32, "max_sequence": 12, "epochs": 12, "batch_size": 32, "learning_rate": 1e-2, "dropout": 0.1}
)


@pytest.fixture(scope="module", params=["transformer", "gru"])
def fitted(request):
    log = read(cycle_orders(num_users=200, num_items=NUM_ITEMS, length=9, seed=0))
    holdout = hold_out_last_basket(log)
    return SequenceModel(settings=SETTINGS.model_copy(update={"model": request.param})).fit(holdout.history), holdout


def ndcg(model, holdout):
    ranked = recommend(model, holdout.history.take(holdout.user_V), k=5, seen_allowed=True)
    return ranking_metrics(ranked, target_N=holdout.target_N, offset_U1=holdout.offset_V1, k=5)["ndcg"]


def test_it_finds_the_next_item_where_counting_cannot(fitted):
    model, holdout = fitted
    assert ndcg(model, holdout) > 0.9
    assert ndcg(Popularity().fit(holdout.history), holdout) < 0.5


def test_the_same_items_in_another_order_lead_elsewhere(fitted):
    model, holdout = fitted
    steps = [f"i{step:02d}" for step in range(3, 9)]
    lines = [("up", f"u{day}", item, day) for day, item in enumerate(steps)]
    # Every item must be known here, so that rows are those of the model.
    lines += [("all", "a", f"i{item:02d}", 0) for item in range(NUM_ITEMS)]
    asked = read(orders_of(lines))
    up = asked.take(asked.user_rows(["up"]))
    np.testing.assert_array_equal(asked.item_ids_I, holdout.history.item_ids_I)
    shuffled = type(up)(**{name: getattr(up, name) for name in up.__slots__} | {"item_E": np.roll(up.item_E, 3)})
    assert asked.item_ids_I[model.score_UI(up)[0].argmax()] == "i09"
    assert asked.item_ids_I[model.score_UI(shuffled)[0].argmax()] == "i06"
