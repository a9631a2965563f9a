"""Going on from last week's recommender against training it anew: seconds, and what either finds in the week to come.

Complete Journey, the week from 2017-12-04. The champion was trained ``--days`` days before. ``stale`` serves it as it
is, though it reads the histories of today; ``warm`` is what ``restock train recommender --warm`` does; ``cold`` is a
new training with new validation. All in this process, without Ray. Intervals are paired over households, against cold.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.frame import make_parser, make_target, report
from benchmarks.recommend_cases import load_case
from cluster.config import Settings, load_settings
from recsys.interactions import DAY_SECONDS, Interactions
from recsys.metrics import user_metrics_U
from recsys.models.blend import Blend
from recsys.models.protocol import recommend
from recsys.models.sequence import SequenceModel
from recsys.predict import Recommender
from recsys.train import blend_models, hold_out_validation
from rl.policy_report import paired_interval

Row = dict[str, Any]
_K = 10
_QUICK_USERS = 300
_QUICK = ("recommender.epochs=1", "recommender.validation_users=300")
_LOSS_PERCENT = -1.0


def main() -> None:
    """Train, wait some days, go on or begin anew."""
    torch.set_num_threads(1)
    parser = make_parser(__doc__ or "")
    parser.add_argument("--days", type=int, default=7, help="age of the champion")
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE", help="any setting")
    arguments = parser.parse_args()
    case = load_case("cj-week", users=_QUICK_USERS if arguments.quick else None)
    settings = load_settings(overrides=[*case.sets, *(_QUICK if arguments.quick else ()), *arguments.sets])
    now = case.train
    earlier = now.before(int(now.now_U.max()) - arguments.days * DAY_SECONDS)
    champion, first_s = _timed(lambda: _cold(earlier, settings=settings))
    warm, warm_s = _timed(lambda: _warm(champion, now))
    cold, cold_s = _timed(lambda: _cold(now, settings=settings))
    histories = case.test.history.take(case.test.user_V)
    found = {}
    for name, blend in {"stale": champion.blend, "warm": warm, "cold": cold.blend}.items():
        item_VK = recommend(blend, histories, k=_K, seen_allowed=blend.seen_allowed)
        found[name] = user_metrics_U(item_VK, target_N=case.test.target_N, offset_U1=case.test.offset_V1, k=_K)
        print(name, file=sys.stderr, flush=True)
    rows = _rows(found, seconds={"stale": 0.0, "warm": warm_s, "cold": cold_s}, seed=arguments.seed)
    facts = {"num_users": len(case.test), "champion_days": arguments.days, "champion_seconds": round(first_s, 1)}
    report("recommend_refit", rows, targets=_targets(rows), arguments=arguments, facts=facts)


def _cold(interactions: Interactions, *, settings: Settings) -> Recommender:
    holdout = hold_out_validation(interactions, settings=settings.recommender)
    judged = SequenceModel(settings=settings.recommender, seed=settings.seed).fit(holdout.history)
    return blend_models(
        interactions,
        holdout=holdout,
        judged={SequenceModel.kind: judged},
        refitted={SequenceModel.kind: judged.refit(interactions)},
        settings=settings.recommender,
        curve=[],
    )


def _warm(champion: Recommender, interactions: Interactions) -> Blend:
    old_row_I = champion.histories.item_rows(interactions.item_ids_I)
    models = {
        name: model.grown(interactions, old_row_I=old_row_I).refit(interactions)
        if isinstance(model, SequenceModel)
        else model.fit(interactions)
        for name, model in champion.models.items()
    }
    return champion.blend.with_models(models)


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    began_s = time.process_time()
    done = work()
    return done, time.process_time() - began_s


def _rows(found: dict[str, dict[str, Any]], *, seconds: dict[str, float], seed: int) -> list[Row]:
    rows = []
    for name, measured in found.items():
        row: Row = {"system": name, "cpu_seconds": round(seconds[name], 1)}
        for measure in ("ndcg", "recall"):
            against = paired_interval(measured[measure], found["cold"][measure], seed=seed)
            row[f"{measure}_at_{_K}"] = float(measured[measure].mean())
            row[f"{measure}_over_cold_percent"] = 100 * against.estimate
            row[f"{measure}_interval"] = f"{100 * against.low:+.1f} to {100 * against.high:+.1f}"
        rows.append(row)
    return rows


def _targets(rows: list[Row]) -> list[Row]:
    warm = next(row for row in rows if row["system"] == "warm")
    return [
        make_target(
            "warm over cold, NDCG, %", value=warm["ndcg_over_cold_percent"], target=_LOSS_PERCENT, at_least=True
        )
    ]


if __name__ == "__main__":
    main()
