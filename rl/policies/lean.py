"""What the lean learners share: one pass over the gradients and one entry in the metrics, where RLlib takes dozens."""

from typing import Any

from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from torch import Tensor, nn

GRADIENT_NORM_KEY = "gradients_default_optimizer_global_norm"
"""RLlib's name for it."""


class LeanTorchLearner(TorchLearner):
    """A torch learner that clips all gradients at once, checks them once, and logs the last minibatch of a call.

    RLlib checks each parameter three times per minibatch and logs every minibatch, of which it then reports the last.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._kept: dict[str, dict[str, Tensor]] = {}
        self._are_finite = True

    def postprocess_gradients_for_module(
        self, *, module_id: str, config: Any = None, module_gradients_dict: dict[Any, Tensor]
    ) -> dict[Any, Tensor]:
        """Clip by global norm, in place."""
        norm = nn.utils.get_total_norm(list(module_gradients_dict.values()))
        self._are_finite = bool(norm.isfinite())
        if not self._are_finite:
            clipped: dict[Any, Tensor] = super().postprocess_gradients_for_module(
                module_id=module_id, config=config, module_gradients_dict=module_gradients_dict
            )
            return clipped
        parameters = [self._params[reference] for reference in module_gradients_dict]
        nn.utils.clip_grads_with_norm_(parameters, config.grad_clip, norm)
        self._keep(module_id, {GRADIENT_NORM_KEY: norm})
        return module_gradients_dict

    def apply_gradients(self, gradients_dict: dict[Any, Tensor]) -> None:
        """Step the optimisers; gradients that are not finite take RLlib's way, which says so and zeroes them."""
        if not self._are_finite:
            super().apply_gradients(gradients_dict)
            return
        for optimizer in self._named_optimizers.values():
            optimizer.step()

    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Log what the last minibatch said, then move the schedules."""
        self._log_kept()
        super().after_gradient_based_update(timesteps=timesteps)

    def _log_kept(self) -> None:
        for module_id, values in self._kept.items():
            self.metrics.log_dict(values, key=module_id, window=1)

    def _keep(self, module_id: str, values: dict[str, Tensor]) -> None:
        """Values to be logged if no later minibatch of this call replaces them."""
        self._kept.setdefault(module_id, {}).update({name: value.detach() for name, value in values.items()})
