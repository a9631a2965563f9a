import sys

import numpy as np
import pytest
import torch
from behaviour_log import ANYTHING, cycle_orders, read

from cluster.errors import ConfigError
from recsys.learner import network_shape
from recsys.models.network import SequenceNetwork
from recsys.models.sequence import SequenceModel
from recsys.private import _clipped, _windows, plan_privacy

LOG = read(cycle_orders(num_users=25, num_items=12, length=10, seed=1), until=12)
SETTINGS = ANYTHING.model_copy(
    update={"hidden": 8, "max_sequence": 10, "epochs": 2, "dropout": 0.0, "privacy_epsilon": 2.0}
)


def length(gradients):
    return float(torch.sqrt(sum(gradient.square().sum() for gradient in gradients)))


def one_gradient(clip):
    torch.manual_seed(0)
    network = SequenceNetwork(network_shape(SETTINGS, num_items=LOG.num_items))
    return _clipped(network, _windows(LOG, user=3, settings=SETTINGS, seed=0), settings=SETTINGS, clip=clip)


def test_a_users_gradient_is_shortened_and_keeps_its_direction():
    whole, clipped = one_gradient(clip=1e6), one_gradient(clip=0.01)
    assert length(whole) > 0.01
    assert length(clipped) == pytest.approx(0.01, rel=1e-4)
    for long, short in zip(whole, clipped, strict=True):
        torch.testing.assert_close(short, long * (0.01 / length(whole)), rtol=1e-4, atol=1e-9)


def test_a_closer_promise_takes_more_noise_and_is_kept():
    close, loose = (
        plan_privacy(SETTINGS.model_copy(update={"privacy_epsilon": epsilon}), num_users=5_000)
        for epsilon in (1.0, 8.0)
    )
    assert close.noise > loose.noise
    assert close.epsilon <= 1.0
    assert loose.epsilon <= 8.0
    assert close.delta < 1 / 5_000


def test_a_loose_promise_lets_it_learn_what_follows():
    settings = SETTINGS.model_copy(
        update={"privacy_epsilon": 1e6, "privacy_clip": 10.0, "epochs": 50, "learning_rate": 3e-2}
    )
    model = SequenceModel(settings=settings, seed=0).fit(LOG)
    best_U = model.score_UI(LOG).argmax(axis=1)
    last_U = LOG.item_E[LOG.offset_U1[1:] - 1]
    following = {}
    for start, end in zip(LOG.offset_U1[:-1], LOG.offset_U1[1:], strict=True):
        following |= dict(zip(LOG.item_E[start : end - 1].tolist(), LOG.item_E[start + 1 : end].tolist(), strict=True))
    assert np.mean([best == following.get(last) for best, last in zip(best_U, last_U, strict=True)]) > 0.8


def test_the_seed_does_not_give_the_noise_away():
    first, second = (SequenceModel(settings=SETTINGS, seed=0).fit(LOG) for _ in range(2))
    assert not np.array_equal(first.arrays()["item.weight"], second.arrays()["item.weight"])


def test_a_promise_is_stored_and_not_spent_twice():
    model = SequenceModel(settings=SETTINGS, seed=0).fit(LOG)
    again = SequenceModel.from_config(model.to_config(), arrays=model.arrays())
    assert again.privacy == model.privacy
    assert again.privacy.epsilon <= 2.0
    assert again.refit(LOG) is again


def test_a_private_model_grows_to_new_items_without_counting_them():
    model = SequenceModel(settings=SETTINGS, seed=0).fit(LOG)
    old_row_I = np.arange(LOG.num_items)
    old_row_I[:2] = -1
    bias_I = model.grown(LOG, old_row_I=old_row_I).arrays()["bias_I"]
    assert bias_I[0] == bias_I[1]
    np.testing.assert_array_equal(bias_I[2:], model.arrays()["bias_I"][2:])


def test_without_opacus_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "opacus.accountants", None)
    with pytest.raises(ConfigError, match="extra 'privacy'"):
        plan_privacy(SETTINGS, num_users=100)
