"""The sequence model, a transformer or a GRU: what comes after this order of events."""

from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch

from cluster.config import RecommenderSettings
from recsys.interactions import IntArray, Interactions
from recsys.learner import (
    SequenceLearner,
    TrainingPlan,
    encode_last,
    make_batches,
    network_shape,
    window_options,
)
from recsys.metrics import ScoreArray
from recsys.models.network import NetworkShape, SequenceNetwork
from recsys.models.protocol import Arrays, like_JI
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

    def fit(self, interactions: Interactions) -> Self:
        """Train in this process; :func:`recsys.train.fit_recommender` trains the same network with Ray."""
        options = window_options(interactions, settings=self.settings, seed=self.seed)
        windows = make_windows(user_table(interactions, seed=self.seed), **options)
        torch.manual_seed(self.seed)
        network = SequenceNetwork(network_shape(self.settings, num_items=interactions.num_items))
        size = self.settings.batch_size
        plan = TrainingPlan(
            epochs=self.settings.epochs,
            steps_per_epoch=max(-(-len(windows["item_WL"]) // size), 1),
            refit_steps=0,
            learning_rate=self.settings.learning_rate,
            num_negatives=self.settings.num_negatives,
            seed=self.seed,
        )
        count_I = np.bincount(interactions.item_E, minlength=interactions.num_items)
        learner = SequenceLearner(network, plan=plan, count_I=count_I)
        while learner.phase != "done":
            learner.run_epoch(make_batches(windows, batch_size=size, seed=self.seed + len(learner.history)))
        return replace(self, network=network.eval())

    def score_UI(self, histories: Interactions) -> ScoreArray:
        """Flattened probability of each item to be in the next basket."""
        network = self._trained()
        with torch.inference_mode():
            logit_UI = network.logits(encode_last(network, histories))
            score_UI = torch.softmax(logit_UI * _FLATTEN, dim=1).numpy()
        score_UI[np.diff(histories.offset_U1) == 0] = 0.0
        return score_UI

    def similar_JI(self, item_J: IntArray) -> ScoreArray:
        """Cosine of item vectors: items that follow the same events."""
        return like_JI(self._trained().item.weight.detach().numpy(), item_J)

    def to_config(self) -> dict[str, Any]:
        """Settings, seed and the shape of the network."""
        return {
            "settings": self.settings.model_dump(mode="json"),
            "seed": self.seed,
            "shape": asdict(self._trained().shape),
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
        return cls(settings=settings, seed=config["seed"], network=network.eval())

    def _trained(self) -> SequenceNetwork:
        if self.network is None:
            raise ValueError("fit the sequence model before using it")
        return self.network
