"""Turns a trained network into the graph that is served. Needs torch and onnx; training only."""

import io
import warnings
from typing import Any

import torch
from torch import nn

from rl.actors import ServedGraph
from rl.observation import OBSERVED_SCORES, TERM_COLUMNS, ActionGrid
from rl.policies.exported import ExportedPolicy

_OPSET = 18
_FREE_AXES = {
    "net_S": {0: "S"},
    "on_order_SL": {0: "S", 1: "L"},
    "mean_SH": {0: "S", 1: "H"},
    "cumulative_SHQ": {0: "S", 1: "H", 2: "Q"},
    "weights_QZ": {0: "Q"},
    "lead_time_S": {0: "S"},
    "review_period_S": {0: "S"},
    "terms_SV": {0: "S"},
}


def export_policy(actor: nn.Module, *, grid: ActionGrid, name: str) -> ExportedPolicy:
    """Graph of observation, network and order formula, for any number of series, periods and levels."""
    graph = ServedGraph(actor, grid).eval()
    S, L, H, Q, Z = 3, 4, 9, 5, len(OBSERVED_SCORES) + 1 + len(grid.scores)
    example = (
        torch.ones(S),
        torch.ones(S, L),
        torch.ones(S, H),
        torch.ones(S, H, Q),
        torch.ones(Q, Z),
        torch.full((S,), 2),
        torch.full((S,), 1),
        torch.ones(S, len(TERM_COLUMNS)),
    )
    content: Any = io.BytesIO()  # torch accepts a buffer; its annotation knows paths only
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # The tracing exporter: the graph has no branches, and torch.export takes 8 CPU-seconds where this takes 0.3.
        torch.onnx.export(
            graph,
            example,
            content,
            dynamo=False,
            input_names=list(_FREE_AXES),
            output_names=["wish_S", "action_S"],
            dynamic_axes={**_FREE_AXES, "wish_S": {0: "S"}, "action_S": {0: "S"}},
            opset_version=_OPSET,
        )
    weights = {name: value.numpy() for name, value in actor.state_dict().items()}
    return ExportedPolicy(name=name, graph=content.getvalue(), grid=grid, weights=weights)
