"""What networks compute in while they train."""

import torch

from cluster.settings.models import Precision


def autocast(precision: Precision, *, device: torch.device) -> torch.autocast:
    """Context of a forward pass in ``precision``.

    In bfloat16, products of matrices run on a card's tensor cores; weights, their averages, the optimizer and losses
    stay float32, so that nothing has to be rescaled. The backward pass follows the forward's by itself.
    """
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")
