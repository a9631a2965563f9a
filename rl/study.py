"""From history to decisions: the windows that policies learn, are chosen and are judged on, and what serves after it.

Shapes: S series, G categories.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cluster.config import Settings
from cluster.panel import DemandPanel, StrArray
from cluster.settings.models import PolicySettings
from cluster.split import Split
from cluster.storage import Storage
from forecasting.forecast import Forecast
from rl.evaluate import perfect_foresight_cost_S, replay
from rl.inventory import InventoryState, SupplyTerms, concatenate_states
from rl.jobs import TrainedPolicy
from rl.policies.classical import ClassicalPolicy
from rl.policies.exported import ExportedPolicy
from rl.policies.protocol import Policy
from rl.policy_report import PolicyReport, make_policy_report
from rl.promote import Decision, decide
from rl.scenarios import ReplayScenario, make_replay
from rl.train import OnProgress, train_policies
from rl.tuning import tune_categories, tune_textbook


class RollingForecaster(Protocol):
    """What the study asks of a forecaster."""

    @property
    def horizon(self) -> int:
        """The longest horizon, in periods."""
        ...

    def predict_rolling(self, panel: DemandPanel, *, origins: Sequence[int], horizon: int) -> list[Forecast]:
        """One forecast per origin, each from what was known at its start."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyWindows:
    """Stretches of history; ``tuning`` is ``learning`` and ``validation`` together, ``test`` follows them."""

    learning: ReplayScenario
    validation: ReplayScenario
    tuning: ReplayScenario
    test: ReplayScenario


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyStudy:
    """What was tried in each category, how it did on the test, and what serves.

    Parameters
    ----------
    default
        Textbook rule tuned on all series together, for categories without a policy of their own.
    policies, decisions, reports
        By category.
    trained
        Learned policies by category and algorithm, with their learning curves.
    end
        Stock of every series after the test, had the policies that serve ordered through it.
    """

    default: ClassicalPolicy
    policies: Mapping[str, ClassicalPolicy | ExportedPolicy]
    decisions: Mapping[str, Decision]
    reports: Mapping[str, PolicyReport]
    trained: Mapping[tuple[str, str], TrainedPolicy]
    end: InventoryState


def make_windows(
    panel: DemandPanel,
    *,
    split: Split,
    past: RollingForecaster,
    current: RollingForecaster,
    terms: SupplyTerms,
    settings: Settings,
) -> PolicyWindows:
    """Replay scenarios of a panel.

    Parameters
    ----------
    past
        Forecaster that has seen nothing from ``split.policy`` on: policies must meet forecasts as uncertain as in
        service.
    current
        Forecaster that has seen nothing from ``split.test`` on.
    """
    tuning = _replay(panel, first=split.policy, end=split.test, forecaster=past, terms=terms, settings=settings)
    test = _replay(panel, first=split.test, end=split.end, forecaster=current, terms=terms, settings=settings)
    jitter = _jitter_periods(panel, settings)
    parts = []
    for first, end in ((split.policy, split.validation), (split.validation, split.test)):
        parts.append(
            make_replay(
                panel,
                first=first,
                num_periods=end - first,
                forecasts=tuning.forecasts[first - split.policy : end - split.policy],
                terms=terms,
                seed=settings.seed,
                jitter_periods=jitter,
            )
        )
    return PolicyWindows(learning=parts[0], validation=parts[1], tuning=tuning, test=test)


def _replay(
    panel: DemandPanel, *, first: int, end: int, forecaster: RollingForecaster, terms: SupplyTerms, settings: Settings
) -> ReplayScenario:
    return make_replay(
        panel,
        first=first,
        num_periods=end - first,
        forecasts=forecaster.predict_rolling(panel, origins=range(first, end), horizon=forecaster.horizon),
        terms=terms,
        seed=settings.seed,
        jitter_periods=_jitter_periods(panel, settings),
    )


def _jitter_periods(panel: DemandPanel, settings: Settings) -> int:
    # Rounded down: a day early or late is no week.
    return settings.assumptions.lead_time_jitter_days // panel.calendar.period_days


def choose_categories(
    category_ids_S: StrArray, windows: PolicyWindows, *, default: Policy, settings: PolicySettings
) -> tuple[list[str], list[str]]:
    """Categories that are large enough to be judged, and those with most cost at stake, which get learned policies.

    Both in order of the cost that ``default`` has on the tuning window, largest first.
    """
    cost_S = replay(default, windows.tuning).cost_S
    categories, group_S = np.unique(category_ids_S, return_inverse=True)
    size_G = np.bincount(group_S)
    order_G = np.argsort(-np.bincount(group_S, weights=cost_S), kind="stable")
    judged = [str(categories[g]) for g in order_G if size_G[g] >= settings.min_category_series]
    return judged, judged[: settings.max_categories]


def study_policies(
    windows: PolicyWindows,
    *,
    category_ids_S: StrArray,
    settings: Settings,
    storage: Storage,
    on_progress: OnProgress,
) -> PolicyStudy:
    """Tune textbook rules, train DQN and PPO, replay all of them on the test, and let the gate decide.

    Call within :func:`cluster.runtime.connect`. ``storage`` keeps checkpoints and results of trials.
    """
    default = next(iter(tune_textbook(windows.tuning).values()))
    judged, learned = choose_categories(category_ids_S, windows, default=default, settings=settings.policy)
    tuned = tune_categories(windows.tuning, category_ids_S=category_ids_S)
    rows_of = {category: np.flatnonzero(category_ids_S == category) for category in judged}
    trained = train_policies(
        settings=settings,
        scenarios_train={category: windows.learning.take(rows_of[category]) for category in learned},
        scenarios_validation={category: windows.validation.take(rows_of[category]) for category in learned},
        heuristics={category: tuned[category] for category in learned},
        store_folder=storage.folder,
        storage=storage,
        on_progress=on_progress,
    )
    reports: dict[str, PolicyReport] = {}
    decisions: dict[str, Decision] = {}
    policies: dict[str, ClassicalPolicy | ExportedPolicy] = {}
    for category in judged:
        candidates = {name: t for (owner, name), t in trained.items() if owner == category}
        tried: dict[str, ClassicalPolicy | ExportedPolicy] = {
            **tuned[category],
            **{name: t.policy for name, t in candidates.items()},
        }
        reports[category] = _judge(category, tried, windows.test.take(rows_of[category]), settings=settings)
        decisions[category] = decide(reports[category], candidates)
        policies[category] = tried[decisions[category].policy_name]
    return PolicyStudy(
        default=default,
        policies=policies,
        decisions=decisions,
        reports=reports,
        trained=trained,
        end=_end_state(windows.test, policies, default=default, category_ids_S=category_ids_S),
    )


def _end_state(
    scenario: ReplayScenario, policies: Mapping[str, Policy], *, default: Policy, category_ids_S: StrArray
) -> InventoryState:
    order, parts = [], []
    for category in np.unique(category_ids_S).tolist():
        rows = np.flatnonzero(category_ids_S == category)
        order.append(rows)
        parts.append(replay(policies.get(category, default), scenario.take(rows)).end)
    return concatenate_states(parts).take(np.argsort(np.concatenate(order)))


def _judge(category: str, tried: Mapping[str, Policy], scenario: ReplayScenario, *, settings: Settings) -> PolicyReport:
    return make_policy_report(
        {name: replay(policy, scenario) for name, policy in tried.items()},
        category_id=category,
        baseline=next(iter(tried)),  # the cheapest textbook rule on the tuning window comes first
        bound_cost_S=perfect_foresight_cost_S(scenario),
        seed=settings.seed,
        samples=settings.policy.bootstrap_samples,
        confidence=settings.policy.confidence,
    )
