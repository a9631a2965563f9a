"""Recommenders side by side: simple models, the sequence network, and the blend that serves.

Every model ranks all items for every user. Simple rows are fitted to all that may be learned from. The blend's members
are fitted without the validation items, which choose parameters and weights; then each is refitted with them. Nothing
is chosen on the test. Intervals are paired over users.
"""

import argparse
import hashlib
import sys
import time
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.frame import make_parser, make_target, report
from benchmarks.recommend_cases import CASES, CJ_WEEK, LAST_WEEK, PROTOCOLS, Case, load_case, load_file
from benchmarks.recommend_kept import KeptNetworks
from benchmarks.recommend_rows import COSTLY, SIMPLE, simple_models
from cluster.config import Settings, load_settings
from cluster.errors import RestockError
from cluster.manifest import digest_of
from cluster.settings.models import RecommenderSettings
from recsys.holdout import Holdout
from recsys.interactions import IntArray, RowArray
from recsys.members import Models, fit_members
from recsys.metrics import user_metrics_U
from recsys.models.blend import Blend, fit_blend, is_seen_allowed
from recsys.models.protocol import Scorer, recommend
from recsys.models.sequence import SequenceModel
from recsys.train import hold_out_validation

Row = dict[str, Any]
_Fitted = tuple[Scorer, float]
Measured = dict[str, npt.NDArray[np.float64]]
NETWORKS = ("transformer", "gru", "cnn", "mlp")
_SHOWN = ("model", "group", "seed", "fit_seconds", "seconds_per_epoch", "users_per_second", "epsilon")
_READING = ("recency", "own_share", "back_off", "nearness", "before")
"""Parameters that change how a history is read, not what is learned."""
_BOOTSTRAP = 1_000
_QUICK_USERS = 600
_QUICK = ("recommender.epochs=2", "recommender.validation_users=500")
_GAIN_PERCENT = 3.0


def main() -> None:
    """Compare on the data that the options name."""
    torch.set_num_threads(1)
    arguments = _parse()
    try:
        case = _load(arguments)
        sets = [*case.sets, *(_QUICK if arguments.quick else ()), *arguments.sets]
        settings = load_settings(overrides=sets)
    except RestockError as error:
        raise SystemExit(f"error: {error}") from None
    bench = _Bench(
        case=case,
        settings=settings,
        holdout=hold_out_validation(case.train, settings=settings.recommender),
        kept=KeptNetworks(folder=arguments.keep),
    )
    rows, targets, facts = bench.run(arguments)
    shown = rows if arguments.json else [_shown(row, case) for row in rows]
    report("recommend", shown, targets=targets, arguments=arguments, facts=facts)


def _parse() -> argparse.Namespace:
    parser = make_parser(__doc__ or "")
    parser.add_argument("--dataset", choices=CASES, default="beauty", help="a log of the shared data")
    parser.add_argument("--interactions", type=Path, help="any CSV or Parquet file with one row per event instead")
    parser.add_argument("--user", default="user", help="column of users")
    parser.add_argument("--item", default="item", help="column of items")
    parser.add_argument("--time", default="time", help="column of instants, or of seconds, or of any order")
    parser.add_argument("--basket", help="column of baskets; without it each event is one")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="last", help="what is to be found")
    parser.add_argument("--days", type=int, default=7, help="last days of the file, for --protocol temporal")
    parser.add_argument("--users", type=int, help="at most so many users, evenly spaced")
    parser.add_argument(
        "--since", type=date.fromisoformat, default=LAST_WEEK, help="first day of the week to find, for cj-week"
    )
    parser.add_argument("--judged", type=int, help="at most so many users to find something for, evenly spaced")
    parser.add_argument("--keep", type=Path, help="folder of trained networks: written, and read by the next run")
    parser.add_argument("--seeds", type=int, default=1, help="the network is trained with so many seeds")
    parser.add_argument(
        "--networks", nargs="*", choices=NETWORKS, default=["transformer"], help="none, or some; the first is blended"
    )
    parser.add_argument("--without", nargs="*", choices=SIMPLE, default=[], help="simple rows to leave out")
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE", help="any setting")
    arguments = parser.parse_args()
    if arguments.since != LAST_WEEK and (arguments.interactions or arguments.dataset != CJ_WEEK):
        parser.error(f"--since is for --dataset {CJ_WEEK}")
    if arguments.quick:
        arguments.without = [*arguments.without, *COSTLY]
    return arguments


def _load(arguments: argparse.Namespace) -> Case:
    users = arguments.users or (_QUICK_USERS if arguments.quick else None)
    if arguments.interactions is None:
        case = load_case(arguments.dataset, users=users, since=arguments.since)
    else:
        columns = {name: getattr(arguments, name) for name in ("user", "item", "time", "basket")}
        case = load_file(
            arguments.interactions, columns=columns, protocol=arguments.protocol, days=arguments.days, users=users
        )
    return case if arguments.judged is None else replace(case, test=case.test.sample(arguments.judged))


def _learned_with(model: Scorer) -> Row | None:
    """Kind and parameters that fitting depends on; None for what is no single model."""
    if isinstance(model, Blend):
        return None
    return {"kind": model.kind} | {name: value for name, value in model.to_config().items() if name not in _READING}


def _is_fitted_alike(fitted: Scorer, model: Scorer) -> bool:
    ours = _learned_with(fitted)
    return ours is not None and ours == _learned_with(model)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    """A case, how to train on it, and what chooses parameters and weights."""

    case: Case
    settings: Settings
    holdout: Holdout
    kept: KeptNetworks

    def run(self, arguments: argparse.Namespace) -> tuple[list[Row], list[Row], Row]:
        """Rows, targets and facts."""
        rows, simple, fitted = self._simple_rows(arguments)
        sample = self.holdout.sample(self.settings.recommender.validation_users)
        began_s = time.process_time()
        allowed = is_seen_allowed(self.holdout)
        members = fit_members(sample, settings=self.settings.recommender, seen_allowed=allowed)
        members_s = time.process_time() - began_s
        final, fit_s = self._refit(members, fitted)
        rows += [self._measure(name, final[name], group="member", fit_s=fit_s[name])[0] for name in final]
        served, weights = [], []
        # Without a network no part of the blend is drawn.
        for seed in range(arguments.seed, arguments.seed + (arguments.seeds if arguments.networks else 1)):
            judged, refitted, network_rows = {}, {}, []
            if arguments.networks:
                judged, refitted, network_rows = self._network(arguments.networks[0], seed=seed)
            rows += network_rows
            began_s = time.process_time()
            blend = fit_blend({**judged, **members}, sample, seen_allowed=allowed)
            blend_s = time.process_time() - began_s + members_s + sum(fit_s.values())
            blend_s += sum(row["fit_seconds"] for row in network_rows)
            ready = blend.with_models({**refitted, **final})
            row, measured = self._measure("blend", ready, group="served", fit_s=blend_s, seed=seed)
            rows.append(row)
            served.append(measured)
            weights.append({"seed": seed, **blend.weights})
        for kind in arguments.networks[1:]:
            rows += self._network(kind, seed=arguments.seed)[2]
        gains = self._gains(served, simple, seed=arguments.seed)
        return rows, self._targets(rows, gains), self._facts(gains, weights, allowed=allowed)

    def _simple_rows(self, arguments: argparse.Namespace) -> tuple[list[Row], dict[str, Measured], list[_Fitted]]:
        rows, measured, fitted = [], {}, []
        for name, make in simple_models(self.case.train).items():
            if name in arguments.without:
                rows.append({"model": name, "group": "simple", "skipped": "left out by --without"})
                continue
            began_s = time.process_time()
            model = make()
            spent_s = time.process_time() - began_s
            row, measured[name] = self._measure(name, model, group="simple", fit_s=spent_s)
            rows.append(row)
            fitted.append((model, spent_s))
        return rows, measured, fitted

    def _refit(self, members: Models, fitted: list[_Fitted]) -> tuple[Models, dict[str, float]]:
        """Members with the validation items, and the seconds of each; a simple row fitted alike is not fitted twice."""
        final, seconds = {}, {}
        for name, model in members.items():
            began_s = time.process_time()
            alike = [(other, spent_s) for other, spent_s in fitted if _is_fitted_alike(other, model)]
            final[name] = (
                type(model).from_config(model.to_config(), arrays=alike[0][0].arrays())
                if alike
                else model.fit(self.case.train)
            )
            seconds[name] = time.process_time() - began_s + (alike[0][1] if alike else 0.0)
        return final, seconds

    def _network(self, kind: str, *, seed: int) -> tuple[Models, Models, list[Row]]:
        """Network as validation judges it, refitted, and the row of the second."""
        model = SequenceModel(settings=self._of_kind(kind), seed=seed)
        name = f"{kind}-{seed}-{digest_of([self._digest(), model.settings.model_dump(mode='json')])[:16]}"
        judged, learn_s = self.kept.get(name, lambda: model.fit(self.holdout.history))
        refitted, refit_s = self.kept.get(f"{name}-refitted", lambda: judged.refit(self.case.train))
        row, _ = self._measure(kind, refitted, group="network", fit_s=learn_s + refit_s, seed=seed)
        row["seconds_per_epoch"] = round(learn_s / self.settings.recommender.epochs, 2)
        row["epsilon"] = None if refitted.privacy is None else round(refitted.privacy.epsilon, 2)
        return {SequenceModel.kind: judged}, {SequenceModel.kind: refitted}, [row]

    def _of_kind(self, kind: str) -> RecommenderSettings:
        return RecommenderSettings.model_validate(self.settings.recommender.model_dump() | {"model": kind})

    def _measure(
        self, name: str, model: Scorer, *, group: str, fit_s: float, seed: int | None = None
    ) -> tuple[Row, Measured]:
        test, k = self.case.test, self.case.k
        histories = test.history.take(test.user_V)
        began_s = time.process_time()
        item_VK = recommend(model, histories, k=k, seen_allowed=is_seen_allowed(self.holdout))
        spent_s = time.process_time() - began_s
        measured = user_metrics_U(item_VK, target_N=test.target_N, offset_U1=test.offset_V1, k=k)
        means = {f"{measure}_at_{k}": float(measured[measure].mean()) for measure in (self.case.measure, "recall")}
        oracle = self.case.oracle.get(name) if group == "simple" else None
        row = {
            "model": name,
            "group": group,
            "seed": seed,
            **means,
            **({} if oracle is None else {"others": f"{oracle[0]:.4f} / {oracle[1]:.4f}"}),
            "fit_seconds": round(fit_s, 2),
            "users_per_second": round(len(test) / max(spent_s, 1e-9)),
        }
        print(row, file=sys.stderr, flush=True)
        return row, measured

    def _gains(self, served: list[Measured], simple: dict[str, Measured], *, seed: int) -> list[Row]:
        """What the served blend (mean over seeds) gains over the best simple row, in percent, paired over users."""
        rng = np.random.default_rng(seed)
        num_users = len(self.case.test)
        drawn = [rng.integers(num_users, size=num_users) for _ in range(_BOOTSTRAP)]
        gains = []
        for measure in (self.case.measure, "recall"):
            best = max(simple, key=lambda name: simple[name][measure].mean())
            ours_V = np.mean([measured[measure] for measured in served], axis=0)
            theirs_V = simple[best][measure]
            ratios = [100 * (ours_V[rows].sum() / max(theirs_V[rows].sum(), 1e-9) - 1) for rows in drawn]
            low, high = np.quantile(ratios, [0.025, 0.975])
            gains.append(
                {
                    "measure": measure,
                    "best_simple": best,
                    "gain_percent": float(100 * (ours_V.mean() / max(theirs_V.mean(), 1e-9) - 1)),
                    "low_percent": float(low),
                    "high_percent": float(high),
                    "seeds": [float(measured[measure].mean()) for measured in served],
                }
            )
        return gains

    def _targets(self, rows: list[Row], gains: list[Row]) -> list[Row]:
        served = [row for row in rows if row["group"] == "served"]
        targets = [
            make_target(
                f"blend: {row['measure']} over {row['best_simple']}, %",
                value=row["gain_percent"],
                target=_GAIN_PERCENT,
                at_least=True,
            )
            for row in gains
        ]
        for measure, floor in self.case.floors.items():
            value = float(np.mean([row[f"{measure}_at_{self.case.k}"] for row in served]))
            targets.append(
                make_target(f"blend: {measure}@{self.case.k}, mean of seeds", value=value, target=floor, at_least=True)
            )
        return targets

    def _digest(self, *further: IntArray | RowArray) -> str:
        arrays = (self.case.train.item_E, self.case.train.offset_U1, *further)
        return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()[:16]

    def _facts(self, gains: list[Row], weights: list[Row], *, allowed: bool) -> Row:
        case = self.case
        return {
            "dataset": case.name,
            "digest": self._digest(case.test.target_N),
            "protocol": case.protocol,
            "num_users": len(case.test),
            "num_items": case.train.num_items,
            "num_events": case.train.num_events,
            "seen_allowed": allowed,
            "gains": gains,
            "weights": weights,
            "notes": [
                f"{case.name}: {case.protocol}; {len(case.test):,} users, {case.train.num_items:,} items.",
                *(
                    f"{row['measure']}: blend over {row['best_simple']} {row['gain_percent']:+.1f} % "
                    f"({row['low_percent']:+.1f} to {row['high_percent']:+.1f})."
                    for row in gains
                ),
            ],
        }


def _shown(row: Row, case: Case) -> Row:
    measures = (f"{case.measure}_at_{case.k}", f"recall_at_{case.k}", "others", "skipped")
    columns = (*_SHOWN[:3], *measures, *_SHOWN[3:])
    return {name: row[name] for name in columns if row.get(name) is not None}


if __name__ == "__main__":
    main()
