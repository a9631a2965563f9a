"""The sequence model, a transformer or a GRU: what comes after this order of events."""

import copy
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch

from cluster.settings.models import RecommenderSettings
from recsys.index import ItemIndex, make_index
from recsys.interactions import IntArray, Interactions
from recsys.learner import (
    SequenceLearner,
    TrainingPlan,
    calibration_of,
    encode_last,
    grow_network,
    make_batches,
    network_shape,
    refit_options,
    window_options,
)
from recsys.metrics import ScoreArray
from recsys.models.network import NetworkShape, SequenceNetwork
from recsys.models.protocol import Arrays, like_JI
from recsys.private import PrivacyPlan, train_privately
from recsys.windows import make_windows, user_table

# Softmax scores are peaked; their square root adds better to the scores of the other models.
_FLATTEN = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceModel:
    """Scores by the softmax over all items after a user's last event; 0 for a user without events."""

    kind: ClassVar[str] = "sequence"
    settings: RecommenderSettings
    seed: int = 0
    network: SequenceNetwork | None = None
    index: ItemIndex | None = None
    privacy: PrivacyPlan | None = None

    def fit(self, interactions: Interactions) -> Self:
        """Train in this process; :func:`recsys.train.fit_recommender` trains the same network with Ray.

        With ``privacy_epsilon`` the network is trained by :func:`recsys.private.train_privately`.
        """
        shape = network_shape(self.settings, num_items=interactions.num_items, attributes=interactions.attributes)
        torch.manual_seed(self.seed)
        network = SequenceNetwork(shape, interactions.attributes)
        if self.settings.privacy_epsilon is not None:
            plan = train_privately(network, interactions, settings=self.settings, seed=self.seed)
            return replace(self, network=network, privacy=plan)
        options = window_options(interactions, settings=self.settings, seed=self.seed)
        return self._learn(network, interactions, options=options, epochs=self.settings.epochs)

    def refit(self, interactions: Interactions) -> Self:
        """One more epoch at a lower rate, in this process, from these weights on; over the same items.

        A private model stays as it is: its promise is spent.
        """
        if self.privacy is not None:
            return self
        options = window_options(interactions, settings=self.settings, seed=self.seed + 1)
        network = copy.deepcopy(self._trained())
        return self._learn(network, interactions, options=refit_options(options), epochs=0)

    def grown(self, interactions: Interactions, *, old_row_I: IntArray) -> Self:
        """The same model over the items of other sequences; ``old_row_I`` is where each was, -1 if it is new."""
        network = self._trained()
        attributes = interactions.attributes if network.shape.num_pairs else None
        torch.manual_seed(self.seed)
        count_I = np.bincount(interactions.item_E, minlength=interactions.num_items)
        grown = grow_network(
            network,
            network_shape(self.settings, num_items=interactions.num_items, attributes=attributes),
            attributes=attributes,
            old_row_I=old_row_I,
            # How often new items were taken tells of users too.
            count_I=count_I if self.privacy is None else np.ones_like(count_I),
        )
        return replace(self, network=grown.eval())

    def _learn(
        self, network: SequenceNetwork, interactions: Interactions, *, options: dict[str, Any], epochs: int
    ) -> Self:
        windows = make_windows(user_table(interactions, seed=options["seed"]), **options)
        size = self.settings.batch_size
        steps = max(-(-len(windows["item_WL"]) // size), 1)
        plan = TrainingPlan(
            epochs=epochs,
            steps_per_epoch=steps,
            refit_steps=0 if epochs else steps,
            learning_rate=self.settings.learning_rate,
            num_negatives=self.settings.num_negatives,
            precision=self.settings.precision,
            seed=self.seed,
            calibration=calibration_of(self.settings),
        )
        count_I = np.bincount(interactions.item_E, minlength=interactions.num_items)
        learner = SequenceLearner(network, plan=plan, count_I=count_I, warm=not epochs)
        while learner.phase != "done":
            learner.run_epoch(make_batches(windows, batch_size=size, seed=self.seed + len(learner.history)))
        return replace(self, network=network.eval())

    def score_UI(self, histories: Interactions) -> ScoreArray:
        """Flattened probability of each item to be in the next basket, up to a factor per user.

        With an index it is 0 for all items but the best that the index finds.
        """
        network = self._trained()
        with torch.inference_mode():
            hidden_UD = encode_last(network, histories, device=network.bias_I.device)
            if self.index is None:
                score_UI = torch.softmax(network.logits(hidden_UD) * _FLATTEN, dim=1).cpu().numpy()
            else:
                score_UI = _found_UI(self.index, hidden_UD.cpu().numpy(), num_items=histories.num_items)
        score_UI[np.diff(histories.offset_U1) == 0] = 0.0
        return score_UI

    def indexed(self) -> Self:
        """The same model, with an index if its settings ask for one.

        Raises
        ------
        ConfigError
            If Faiss is not installed.
        """
        if self.settings.index == "exact":
            return self
        network = self._trained()
        with torch.inference_mode():
            return replace(self, index=make_index(network.vectors().cpu().numpy(), network.bias_I.cpu().numpy()))

    def similar_JI(self, item_J: IntArray) -> ScoreArray:
        """Cosine of item vectors: items that follow the same events."""
        return like_JI(self._trained().vectors().detach().cpu().numpy(), item_J)

    def to_config(self) -> dict[str, Any]:
        """Settings, seed and the shape of the network."""
        return {
            "settings": self.settings.model_dump(mode="json"),
            "seed": self.seed,
            "shape": asdict(self._trained().shape),
            "privacy": None if self.privacy is None else asdict(self.privacy),
        }

    def arrays(self) -> Arrays:
        """Weights of the network."""
        return {name: values.detach().cpu().numpy() for name, values in self._trained().state_dict().items()}

    @classmethod
    def from_config(cls, config: dict[str, Any], *, arrays: Arrays) -> Self:
        """Network of this shape with these weights, ready to predict."""
        network = SequenceNetwork(NetworkShape(**config["shape"]))
        network.load_state_dict({name: torch.as_tensor(values) for name, values in arrays.items()})
        settings = RecommenderSettings.model_validate(config["settings"])
        told = config.get("privacy")
        privacy = None if told is None else PrivacyPlan(**told)
        return cls(settings=settings, seed=config["seed"], network=network.eval(), privacy=privacy).indexed()

    def _trained(self) -> SequenceNetwork:
        if self.network is None:
            raise ValueError("fit the sequence model before using it")
        return self.network


def _found_UI(index: ItemIndex, hidden_UD: ScoreArray, *, num_items: int) -> ScoreArray:
    item_UN, logit_UN = index.search(hidden_UD)
    score_UI = np.zeros((len(item_UN), num_items), np.float32)
    user_U, place_N = np.nonzero(item_UN >= 0)
    best_U1 = logit_UN.max(axis=1, keepdims=True)
    score_UI[user_U, item_UN[user_U, place_N]] = np.exp((logit_UN - best_U1) * _FLATTEN)[user_U, place_N]
    return score_UI
