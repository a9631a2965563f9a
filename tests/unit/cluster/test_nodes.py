"""What the doctor thinks of a node, by its report."""

from dataclasses import replace

import pytest

from cluster.nodes import NodeReport, judge_node, report_here

OURS = report_here()
GOOD = replace(OURS, read="nonce", now_s=100.5)


def judge(report: NodeReport, **changed: object) -> str:
    """Everything that is wrong, as one text."""
    given = {"nonce": "nonce", "is_written": True, "between_s": (100.0, 101.0), "num_gpus": 0, "is_shared": True}
    return " | ".join(f"{text} -> {step}" for text, step in judge_node(report, ours=OURS, **(given | changed)))


def test_a_node_like_ours_is_well() -> None:
    assert judge(GOOD) == ""
    assert judge(replace(GOOD, gpus=("card", "card")), num_gpus=2) == ""


@pytest.mark.parametrize(
    ("report", "changed", "said"),
    [
        (replace(GOOD, python="3.12.1"), {}, "python 3.12.1, here|one image"),
        (replace(GOOD, packages={**OURS.packages, "pandas": "3.1.0"}), {}, "pandas 3.1.0, here|one image"),
        (replace(GOOD, packages={}), {}, "ray missing, here"),
        (replace(GOOD, code="other"), {}, "other code of Restock (other|same version"),
        (replace(GOOD, read="/x: No such file"), {}, "home: /x: No such file|mount the same volume"),
        (replace(GOOD, read="another nonce"), {"is_shared": False}, "home: another nonce|an absolute path"),
        (replace(GOOD, wrote="Read-only file system"), {"is_written": False}, "Read-only file system|write access"),
        (GOOD, {"is_written": False}, "nothing arrived"),
        (replace(GOOD, now_s=95.0), {}, "5.0 s behind|time server"),
        (replace(GOOD, now_s=161.0), {}, "60.0 s ahead"),
        (GOOD, {"num_gpus": 4}, "offers 4 GPUs, torch sees 0|driver"),
    ],
)
def test_each_fault_is_said_with_its_next_step(report: NodeReport, changed: dict[str, object], said: str) -> None:
    found = judge(report, **changed)
    for part in said.split("|"):
        assert part in found


def test_a_slow_answer_is_not_a_wrong_clock() -> None:
    assert judge(replace(GOOD, now_s=129.0), between_s=(100.0, 130.0)) == ""
