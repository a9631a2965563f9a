"""What is wrong with the nodes of a cluster: each is asked where it stands, and answers from a task of its own.

Versions, code and clock are compared with those of the process that asks; the home folder is one folder if a node reads
what the asking process has written there, and the asking process what the node has.
"""

import platform
import secrets
import shutil
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from cluster.checks import Check
from cluster.config import Settings
from cluster.manifest import code_digest

_PACKAGES: Final = ("ray", "torch", "numpy", "pandas", "pyarrow", "polars", "pydantic")
"""What travels between nodes as pickles, or decides what is computed."""
_MOST_SKEW_S: Final = 1.0
_TIMEOUT_S: Final = 60.0
_FOLDER: Final = ".doctor"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReport:
    """What a node says of itself.

    Parameters
    ----------
    read
        What it read in the home folder, or why it could not.
    wrote
        Empty, or why it could not write there.
    gpus
        Names of the cards that torch sees, for a node that offers any.
    """

    host: str
    python: str
    packages: Mapping[str, str]
    code: str
    now_s: float
    read: str
    wrote: str
    gpus: tuple[str, ...]


def check_nodes(settings: Settings) -> list[Check]:
    """Ask every node of the cluster that this process has joined; one check for each.

    Call within :func:`cluster.runtime.connect`.
    """
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    dead = [
        Check(
            name=f"node {node['NodeManagerAddress']}",
            state="warned",
            found=f"dead: {node.get('DeathReasonMessage') or 'no reason given'}",
            next_step="look at its raylet log; a node that was scaled down is listed for a while",
        )
        for node in ray.nodes()
        if not node["Alive"]
    ]
    folder = settings.home.absolute() / _FOLDER
    nonce = secrets.token_hex(8)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        (folder / "asked").write_text(nonce)
        return [_check_node(node, settings=settings, folder=folder, nonce=nonce) for node in alive] + dead
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_node(node: dict[str, Any], *, settings: Settings, folder: Path, nonce: str) -> Check:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    resources = node["Resources"]
    name = f"node {node['NodeManagerAddress']}"
    offers = f"{resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs"
    task = ray.remote(num_cpus=0, max_retries=0)(report_node).options(
        scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    )
    asked_s = time.time()
    try:
        report: NodeReport = ray.get(
            task.remote(
                str(folder),
                node["NodeID"],
                with_gpus=resources.get("GPU", 0) > 0,
                has_own_home=settings.storage.url is not None,
            ),
            timeout=_TIMEOUT_S,
        )
    except ray.exceptions.RayError as error:
        step = "look at the node's worker logs; without the same image it cannot even start a task"
        text = f"{offers}; no answer ({type(error).__name__}: {str(error).strip().splitlines()[-1]})"
        return Check(name=name, state="failed", found=text, next_step=step)
    answered_s = time.time()
    received = _read(folder / node["NodeID"])
    wrong = judge_node(
        report,
        ours=report_here(),
        nonce=None if settings.storage.url is not None else nonce,
        is_written=received == node["NodeID"],
        between_s=(asked_s, answered_s),
        num_gpus=resources.get("GPU", 0),
        is_shared=settings.home.is_absolute(),
    )
    found = f"{report.host}: {offers}{''.join(f', {gpu}' for gpu in report.gpus)}, Ray {report.packages['ray']}"
    if not wrong:
        return Check(name=name, state="passed", found=f"{found}; home written")
    steps = "; ".join(step for _, step in wrong)
    return Check(name=name, state="failed", found=f"{found}; {'; '.join(text for text, _ in wrong)}", next_step=steps)


def judge_node(
    report: NodeReport,
    *,
    ours: NodeReport,
    nonce: str | None,
    is_written: bool,
    between_s: tuple[float, float],
    num_gpus: float,
    is_shared: bool,
) -> list[tuple[str, str]]:
    """What is wrong with a node, each with the next step.

    Parameters
    ----------
    nonce
        What the node should have read in the home folder; None where each has one of its own, before an object store.
    is_written
        Whether what it wrote there has arrived here.
    between_s
        When it was asked and when it had answered, on our clock: its clock must lie between, give or take a second.
    num_gpus
        Cards that it offers to Ray.
    is_shared
        Whether the home folder is an absolute path: else every node has its own.
    """
    wrong = []
    theirs = {"python": report.python, **report.packages}
    differing = [
        f"{name} {theirs.get(name, 'missing')}, here {wanted}"
        for name, wanted in {"python": ours.python, **ours.packages}.items()
        if theirs.get(name) != wanted
    ]
    if differing:
        wrong.append((", ".join(differing), "start every node from one image"))
    if report.code != ours.code:
        wrong.append((f"other code of Restock ({report.code}, here {ours.code})", "install the same version there"))
    if nonce is None:
        wrong += [(f"home cannot be written: {report.wrote}", "give its user write access")] if report.wrote else []
    elif report.read != nonce:
        wrong.append((f"home: {report.read}", _home_step(is_shared)))
    elif not is_written:
        wrong.append((f"home cannot be written: {report.wrote or 'nothing arrived'}", "give its user write access"))
    early_s, late_s = between_s[0] - report.now_s, report.now_s - between_s[1]
    skew_s = max(early_s, late_s)
    if skew_s > _MOST_SKEW_S:
        direction = "behind" if early_s > late_s else "ahead"
        wrong.append((f"its clock is {skew_s:.1f} s {direction}", "let every node follow one time server"))
    if num_gpus > len(report.gpus):
        wrong.append(
            (
                f"it offers {num_gpus:g} GPUs, torch sees {len(report.gpus)}",
                "install the driver and a CUDA build of torch there, or start Ray with the true --num-gpus",
            )
        )
    return wrong


def report_node(folder: str, node_id: str, *, with_gpus: bool, has_own_home: bool) -> NodeReport:
    """Report of the node that this runs on, after reading and writing in the folder."""
    place = Path(folder)
    read, wrote = _read(place / "asked"), ""
    try:
        if has_own_home:
            place.mkdir(parents=True, exist_ok=True)
        (place / node_id).write_text(node_id)
        if has_own_home:
            shutil.rmtree(place)
    except OSError as error:
        wrote = str(error.strerror)
    return _report(read=read, wrote=wrote, gpus=_gpus() if with_gpus else ())


def report_here() -> NodeReport:
    """Report of this process, which the nodes are compared with."""
    return _report(read="", wrote="", gpus=())


def _report(*, read: str, wrote: str, gpus: tuple[str, ...]) -> NodeReport:
    return NodeReport(
        host=socket.gethostname(),
        python=platform.python_version(),
        packages={name: _version_of(name) for name in _PACKAGES},
        code=code_digest(),
        now_s=time.time(),
        read=read,
        wrote=wrote,
        gpus=gpus,
    )


def _version_of(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _gpus() -> tuple[str, ...]:
    import torch

    return tuple(torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count()))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        return f"{path}: {error.strerror}"


def _home_step(is_shared: bool) -> str:
    if is_shared:
        return "mount the same volume at this path on every node"
    return "set home to an absolute path on a volume that every node mounts"
