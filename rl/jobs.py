"""What a training trial is given, and what it leaves behind.

Imports neither Ray nor torch: the command line loads it.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cluster.config import Settings
from cluster.errors import ArtifactError, ConfigError
from cluster.manifest import code_digest, digest_of, slug_of
from cluster.settings.models import PolicySettings
from cluster.storage import Storage
from rl.draws import add_copies
from rl.evaluate import replay
from rl.observation import anchored_grid
from rl.policies.classical import NegativeBinomial, StaticMinMax
from rl.policies.exported import ExportedPolicy
from rl.policies.protocol import Policy
from rl.scenarios import ReplayScenario

if TYPE_CHECKING:
    from rl.imitation import Lesson
    from rl.packed import EnvData

RESULT_FILE = "result.json"
_DIGEST_FILE = "digest"
_MIN_BLOCK = 2
_WEEK_DAYS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningPoint:
    """One evaluation of a trial. Costs are over the textbook rule's on the same window: 0.97 is 3 % cheaper."""

    steps: int
    train_reward: float
    train_cost: float
    validation_cost: float

    @property
    def score(self) -> float:
        """What the best checkpoint minimises: both windows alike.

        Validation alone is a few weeks of a few series: its luckiest checkpoint is often a bad one that the longer
        window gives away.
        """
        return (self.train_cost + self.validation_cost) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedPolicy:
    """A policy at its best checkpoint, and how it got there.

    Parameters
    ----------
    teacher
        Name of the textbook rule that it imitated first; its cost is 1 in the curve.
    agreement
        Share of the teacher's actions that it took before learning.
    best
        Point of the curve that was kept.
    """

    category: str
    algorithm: str
    policy: ExportedPolicy
    folder: Path
    teacher: str
    agreement: float
    best: LearningPoint
    curve: tuple[LearningPoint, ...]
    cpu_seconds: float

    def metrics(self) -> dict[str, Any]:
        """Plain figures for a manifest or a report."""
        return {
            "algorithm": self.algorithm,
            "teacher": self.teacher,
            "agreement": self.agreement,
            "best": asdict(self.best),
            "curve": [asdict(point) for point in self.curve],
            "cpu_seconds": self.cpu_seconds,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialJob:
    """What one trial needs.

    Parameters
    ----------
    folder
        Keeps its checkpoint while it runs and its result after.
    storage
        Keeps that folder, under its name, where machines do not share it; None: they do.
    """

    category: str
    algorithm: str
    teacher: str
    settings: PolicySettings
    seed: int
    train: "EnvData"
    validation: "EnvData"
    lesson: "Lesson"
    folder: Path
    storage: Storage | None = None

    @property
    def key(self) -> str:
        """Its name in Tune and in the store."""
        return self.folder.name

    @property
    def budget_steps(self) -> int:
        """Series-periods that the trial may simulate."""
        return int(getattr(self.settings, f"budget_steps_{self.algorithm}"))

    def fetch(self) -> None:
        """Bring what the trial has left elsewhere to this machine's folder."""
        if self.storage is not None:
            self.storage.fetch(self.key)

    def save(self) -> None:
        """Let the trial go on from this machine's folder elsewhere."""
        if self.storage is not None:
            self.storage.save(self.key)

    def digest(self) -> str:
        """Digest of everything that decides the result."""
        total = hashlib.sha256()
        for part in (self.train, self.validation, self.lesson):
            _add_arrays(total, part)
        plain = [self.category, self.algorithm, self.teacher, self.settings.model_dump(mode="json"), self.seed]
        return digest_of([*plain, total.hexdigest(), code_digest()])


def make_jobs(
    settings: Settings,
    *,
    scenarios_train: Mapping[str, ReplayScenario],
    scenarios_validation: Mapping[str, ReplayScenario],
    heuristics: Mapping[str, Mapping[str, Policy]],
    store_folder: Path,
    storage: Storage | None = None,
) -> list[TrialJob]:
    """Trials of every category and algorithm.

    Raises
    ------
    ConfigError
        If the training window is too short to learn from.
    """
    from rl.imitation import make_lesson
    from rl.packed import make_env_data

    jobs = []
    for category, scenario in scenarios_train.items():
        rules = heuristics[category]
        cost_of = {name: float(replay(rule, scenario).cost_S.sum()) for name, rule in rules.items()}
        teacher = min(cost_of, key=cost_of.__getitem__)
        # Only rules with a quantile of the forecast itself can be an anchor of the grid.
        anchors = [name for name, rule in rules.items() if not isinstance(rule, StaticMinMax | NegativeBinomial)]
        anchor = rules[min(anchors, key=cost_of.__getitem__)] if anchors else None
        grid = anchored_grid(anchor, scenario.terms)
        learning = _with_draws(scenario, settings)
        data = []
        for window in (learning, scenarios_validation[category]):
            baseline_S = replay(rules[teacher], window).cost_S / window.num_periods
            data.append(make_env_data(window, baseline_cost_S=baseline_S.astype(np.float32), grid=grid))
        lesson = make_lesson(rules[teacher], learning, data=data[0], seed=settings.seed)
        jobs += [
            TrialJob(
                category=category,
                algorithm=algorithm,
                teacher=teacher,
                settings=_fitted(settings.policy, scenario),
                seed=settings.seed,
                train=data[0],
                validation=data[1],
                lesson=lesson,
                folder=store_folder / f"{slug_of(category)}-{algorithm}",
                storage=storage,
            )
            for algorithm in settings.policy.algorithms
        ]
    return jobs


def _with_draws(scenario: ReplayScenario, settings: Settings) -> ReplayScenario:
    """The learning window, and the drawn copies of it that the settings ask for."""
    if settings.policy.demand == "replay":
        return scenario
    return add_copies(
        scenario,
        copies=settings.policy.demand_copies,
        draws=settings.policy.demand,
        season_periods=_WEEK_DAYS if settings.data.frequency == "D" else 1,
        seed=settings.seed,
    )


def _fitted(settings: PolicySettings, scenario: ReplayScenario) -> PolicySettings:
    """Blocks cut to the training window: one period of it must follow a block, to bootstrap from."""
    longest = scenario.num_periods - 1
    if longest < _MIN_BLOCK:
        raise ConfigError(
            f"policies would learn from {scenario.num_periods} periods, at least {_MIN_BLOCK + 1} are needed; raise "
            "split.policy_periods or lower split.validation_periods"
        )
    return settings.model_copy(update={"rollout_periods": min(settings.rollout_periods, longest)})


def is_finished(job: TrialJob) -> bool:
    """Whether the folder holds the result of exactly this trial."""
    job.fetch()
    return (job.folder / RESULT_FILE).is_file() and _recorded_digest(job.folder) == job.digest()


def prepare_folder(job: TrialJob) -> None:
    """Keep the checkpoint of exactly this trial; drop anything else."""
    digest = job.digest()
    if _recorded_digest(job.folder) != digest:
        shutil.rmtree(job.folder, ignore_errors=True)
        job.folder.mkdir(parents=True)
        (job.folder / _DIGEST_FILE).write_text(digest)
        job.save()


def write_result(job: TrialJob, policy: ExportedPolicy, *, facts: Mapping[str, Any]) -> None:
    """Save the exported policy, then the facts in one rename: they mark the trial as finished."""
    policy.save(job.folder)
    beside = job.folder / f".{RESULT_FILE}.tmp"
    beside.write_text(json.dumps({"teacher": job.teacher, **facts}, indent=2) + "\n")
    beside.replace(job.folder / RESULT_FILE)
    job.save()


def load_result(job: TrialJob) -> TrainedPolicy:
    """The trained policy that a finished trial left.

    Raises
    ------
    ArtifactError
        If its files are missing or damaged.
    """
    job.fetch()
    path = job.folder / RESULT_FILE
    try:
        facts = json.loads(path.read_bytes())
        curve = tuple(LearningPoint(**point) for point in facts["curve"])
        return TrainedPolicy(
            category=job.category,
            algorithm=job.algorithm,
            policy=ExportedPolicy.load(job.folder),
            folder=job.folder,
            teacher=facts["teacher"],
            agreement=facts["agreement"],
            best=LearningPoint(**facts["best"]),
            curve=curve,
            cpu_seconds=facts["cpu_seconds"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error!r}); delete {job.folder} and train again") from error


def _recorded_digest(folder: Path) -> str | None:
    try:
        return (folder / _DIGEST_FILE).read_text()
    except OSError:
        return None


def _add_arrays(total: Any, value: Any) -> None:
    if isinstance(value, np.ndarray):
        total.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, tuple):
        for part in value:
            _add_arrays(total, part)
    elif is_dataclass(value):
        for field in fields(value):
            _add_arrays(total, getattr(value, field.name))
    else:
        total.update(repr(value).encode())
