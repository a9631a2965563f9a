from dataclasses import replace

import numpy as np
import pytest
import torch
from behaviour_log import ANYTHING, random_orders, read

from recsys.learner import SequenceLearner, TrainingPlan, encode_last, make_batches, network_shape, window_options
from recsys.models.network import SequenceNetwork, gbce_NM
from recsys.models.sequence import SequenceModel
from recsys.windows import make_windows, user_table

SETTINGS = ANYTHING.model_copy(update={"hidden": 8, "max_sequence": 10, "batch_size": 8, "epochs": 3})
LOG = read(random_orders(seed=5))
WINDOWS = make_windows(user_table(LOG, seed=0), **window_options(LOG, settings=SETTINGS, seed=0))


def new_learner(*, refit_steps=2, num_negatives=5, judge=None, precision="float32", calibration=None):
    torch.manual_seed(0)
    network = SequenceNetwork(network_shape(SETTINGS, num_items=LOG.num_items))
    plan = TrainingPlan(
        epochs=2,
        steps_per_epoch=4,
        refit_steps=refit_steps,
        learning_rate=1e-2,
        num_negatives=num_negatives,
        precision=precision,
        seed=3,
        calibration=calibration,
    )
    return SequenceLearner(network, plan=plan, count_I=np.bincount(LOG.item_E, minlength=LOG.num_items), judge=judge)


def run(learner):
    while learner.phase != "done":
        learner.run_epoch(make_batches(WINDOWS, batch_size=8, seed=len(learner.history)))
    return learner


def weights(learner):
    return {name: values.numpy().copy() for name, values in learner.network.state_dict().items()}


def assert_equal_weights(left, right):
    for name, values in left.items():
        np.testing.assert_array_equal(values, right[name], err_msg=name)


def test_a_resumed_run_ends_where_an_unbroken_one_ends():
    unbroken = run(new_learner())
    broken = new_learner()
    broken.run_epoch(make_batches(WINDOWS, batch_size=8, seed=0))
    resumed = new_learner()
    resumed.restore(broken.state())
    assert_equal_weights(weights(unbroken), weights(run(resumed)))
    assert [row["phase"] for row in resumed.history] == ["learn", "learn", "refit"]
    assert [row["loss"] for row in resumed.history] == [row["loss"] for row in unbroken.history]


def test_bfloat16_computes_less_exactly_learns_as_well_and_keeps_float32_weights():
    exact, coarse = run(new_learner()), run(new_learner(precision="bfloat16"))
    losses = [[row["loss"] for row in learner.history] for learner in (exact, coarse)]
    assert losses[0] != losses[1]
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.02)
    assert {values.dtype for values in coarse.network.state_dict().values()} == {torch.float32}


def test_the_best_epoch_is_kept_and_refitted():
    verdicts = iter([0.5, 0.1])
    learner = new_learner(judge=lambda network: next(verdicts), refit_steps=1)
    learner.run_epoch(make_batches(WINDOWS, batch_size=8, seed=0))
    first = weights(learner)
    learner.run_epoch(make_batches(WINDOWS, batch_size=8, seed=1))
    assert_equal_weights({name: values.numpy() for name, values in learner.best.items()}, first)
    row = learner.run_epoch([])
    assert (row["phase"], row["loss"], row["ndcg"]) == ("refit", None, None)
    assert_equal_weights(weights(learner), first)


def test_with_every_item_as_candidate_the_loss_is_the_cross_entropy():
    learner = new_learner(num_negatives=1_000)
    inputs = [torch.as_tensor(WINDOWS[name], dtype=torch.int64) for name in WINDOWS]
    target_WLM = inputs[3]
    learner.network.eval()
    with torch.no_grad():
        real = target_WLM[..., 0] >= 0
        logits = learner.network.logits(learner.network.encode(*inputs[:3])[real])
        repeated = logits[:, None, :].expand(-1, target_WLM.shape[-1], -1)
        expected = torch.nn.functional.cross_entropy(repeated.reshape(-1, LOG.num_items), target_WLM[real].reshape(-1))
        torch.testing.assert_close(learner.network(*inputs, *learner._candidates()), expected)


def test_sampled_candidates_estimate_the_sum_over_all_items():
    learner = new_learner(num_negatives=6)
    value_I = torch.arange(1.0, LOG.num_items + 1)
    torch.manual_seed(0)
    estimates = []
    for _ in range(4_000):
        candidate_C, log_draws_C = learner._candidates()
        estimates.append((value_I[candidate_C] / log_draws_C.exp()).sum().item())
    assert np.mean(estimates) == pytest.approx(value_I.sum().item(), rel=0.02)


def test_the_seed_decides_everything():
    first, second = SequenceModel(settings=SETTINGS, seed=1).fit(LOG), SequenceModel(settings=SETTINGS, seed=1).fit(LOG)
    other = SequenceModel(settings=SETTINGS, seed=2).fit(LOG)
    np.testing.assert_array_equal(first.score_UI(LOG), second.score_UI(LOG))
    assert not np.array_equal(first.score_UI(LOG), other.score_UI(LOG))


def test_a_short_history_gives_the_same_vector_alone_and_beside_a_long_one():
    network = SequenceNetwork(network_shape(SETTINGS, num_items=LOG.num_items)).eval()
    both = LOG.take(np.array([0, 1]))
    both = both.keep((both.user_E == 1) | (np.arange(both.num_events) < 2))
    assert np.diff(both.offset_U1)[1] > 5
    torch.testing.assert_close(encode_last(network, both)[0], encode_last(network, both.take(np.array([0])))[0])
    assert (encode_last(network, LOG.take(np.array([-1]))) == 0).all()


def test_a_model_grown_to_other_items_answers_as_before_about_those_it_knew():
    model = SequenceModel(settings=SETTINGS, seed=1).fit(LOG)
    old_row_I = np.append(np.arange(LOG.num_items)[::-1], -1)
    grown_ids = np.append(LOG.item_ids_I, "new")
    back_I = np.argsort(old_row_I[:-1])
    moved = replace(LOG, item_ids_I=grown_ids, item_E=back_I[LOG.item_E].astype(np.int32))
    grown = model.grown(moved, old_row_I=old_row_I)
    before = encode_last(model.network, LOG)
    torch.testing.assert_close(encode_last(grown.network, moved), before)
    with torch.inference_mode():
        logits, expected = grown.network.logits(before), model.network.logits(before)
    torch.testing.assert_close(logits[:, back_I], expected)
    assert logits.shape[1] == LOG.num_items + 1


def test_a_refit_goes_on_from_the_weights_that_are_there():
    model = SequenceModel(settings=SETTINGS, seed=1).fit(LOG)
    again = model.refit(LOG)
    change = np.abs(again.arrays()["bias_I"] - model.arrays()["bias_I"])
    assert 0 < change.max() < 0.5
    np.testing.assert_array_equal(model.score_UI(LOG), SequenceModel(settings=SETTINGS, seed=1).fit(LOG).score_UI(LOG))


@pytest.mark.parametrize("calibration", [0.0, 0.75, 1.0])
def test_gbce_is_the_formula_of_the_paper(calibration):
    torch.manual_seed(0)
    positive_NM, negative_NC = torch.randn(3, 2), torch.randn(3, 4)
    same_NMC = torch.zeros(3, 2, 4, dtype=torch.bool)
    same_NMC[1, 0, 2] = True
    found = gbce_NM(positive_NM, negative_NC, same_NMC, num_items=21, calibration=calibration)
    rate = 4 / 20
    beta = rate * (calibration * (1 - 1 / rate) + 1 / rate)
    for n in range(3):
        for m in range(2):
            total = (torch.sigmoid(positive_NM[n, m]) ** beta).log()
            for c in range(4):
                if not same_NMC[n, m, c]:
                    total += (1 - torch.sigmoid(negative_NC[n, c])).log()
            torch.testing.assert_close(found[n, m], -total / 5)


def test_gbce_learns_as_well_and_draws_its_candidates_evenly():
    learner = run(new_learner(calibration=0.75))
    losses = [row["loss"] for row in learner.history]
    assert losses[-1] < losses[0]
    assert len(learner._draw_I.unique()) == 1
