"""The doctor asks the nodes of a running Ray."""

from pathlib import Path

import pytest
import ray

from cluster.config import load_settings
from cluster.nodes import check_nodes

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("ray_session")]


def test_every_node_answers_and_nothing_is_left_behind(tmp_path: Path) -> None:
    settings = load_settings(overrides=[f'home="{tmp_path}/home"'])
    checks = check_nodes(settings)
    assert len(checks) == len(ray.nodes())
    assert {check.state for check in checks} == {"passed"}
    assert "4 CPUs, 0 GPUs" in checks[0].found
    assert f"Ray {ray.__version__}; home written" in checks[0].found
    assert list((tmp_path / "home").iterdir()) == []
