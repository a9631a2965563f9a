"""How fast a loaded recommender answers, over 10,000 items and a million, and what a million live sessions weigh.

The blend is fitted to the Amazon Beauty log (shared data), cut to its most frequent items, stored, loaded again, and
asked with the shop's rules on. A million items are jittered copies of that network's item vectors, by half of the
distance between neighbours: real vectors lie in clumps, and an index lives on that. Recall is of the exact best.

The session store is filled to its bound with users of one event each (a user's row is as long for one as for twenty),
then told of a tenth more.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
import torch

from benchmarks.frame import make_parser, make_target, report
from benchmarks.recommend_cases import LAST, load_case
from cluster.config import Settings, load_settings
from recsys.index import make_index
from recsys.interactions import Interactions
from recsys.learner import encode_last
from recsys.metrics import ScoreArray, top_items
from recsys.models.sequence import SequenceModel
from recsys.predict import Recommender
from recsys.rules import ItemFacts, RuleBook
from recsys.sessions import LiveEvent, SessionStore
from recsys.train import blend_models, hold_out_validation

Row = dict[str, Any]
_TARGET_S = 1.0
_PARTS = ("sessions", "blend", "catalogue")
_BATCH = 32


def main() -> None:
    """Fit, store, load, ask."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--items", type=int, default=10_000, help="most frequent items of the log that are kept")
    parser.add_argument("--users", type=int, default=1_000, help="users asked for at once")
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--catalogue", type=int, default=1_000_000, help="items of the indexed catalogue")
    parser.add_argument("--sessions", type=int, default=1_000_000, help="users whose live events are kept")
    parser.add_argument("--part", choices=_PARTS, action="append", help="all by default")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.quick:
        arguments.catalogue = min(arguments.catalogue, 100_000)
        arguments.sessions = min(arguments.sessions, 50_000)
    parts = arguments.part or _PARTS
    rows, targets = [], []
    if "sessions" in parts:
        rows.append(_sessions_row(arguments))
    if "blend" in parts or "catalogue" in parts:
        settings = load_settings(overrides=[*LAST, "recommender.epochs=1", "recommender.validation_users=500"])
        model = _fitted(settings, num_items=arguments.items, users=4_000 if arguments.quick else None)
    if "blend" in parts:
        blend = _blend_row(model, arguments, settings=settings)
        rows.append(blend)
        what = f"top {arguments.k} for {arguments.users} users over {blend['items']} items, CPU-seconds on one thread"
        targets.append(make_target(what, value=blend["cpu_seconds"], target=_TARGET_S, at_least=False))
    if "catalogue" in parts:
        rows += _catalogue_rows(model, arguments)
    report("recommend_speed", rows, targets=targets, arguments=arguments)


def _sessions_row(arguments: argparse.Namespace) -> Row:
    process = psutil.Process()
    empty_mb = process.memory_info().rss / 1e6
    store = SessionStore(max_users=arguments.sessions, max_items=arguments.items)
    began_s = time.process_time()
    for user in range(arguments.sessions):
        store.add(f"user {user}", LiveEvent(item_id=str(user % arguments.items)), now_s=1)
    spent_s = time.process_time() - began_s
    full_mb = process.memory_info().rss / 1e6
    for user in range(arguments.sessions, arguments.sessions * 11 // 10):
        store.add(f"user {user}", LiveEvent(item_id=str(user % arguments.items)), now_s=2)
    return {
        "system": "live sessions",
        "users": len(store),
        "resident_mb": round(full_mb - empty_mb),
        "resident_mb_with_a_tenth_more_told": round(process.memory_info().rss / 1e6 - empty_mb),
        "array_mb": round(store.num_bytes / 1e6),
        "events_per_cpu_second": round(arguments.sessions / spent_s),
    }


def _fitted(settings: Settings, *, num_items: int, users: int | None) -> Recommender:
    """The served blend, through its files."""
    log = load_case("beauty", users=None).train
    kept_I = np.argsort(-np.bincount(log.item_E, minlength=log.num_items), kind="stable")[:num_items]
    log = _only_items(log, np.sort(kept_I))
    log = log if users is None else log.take(np.arange(users))
    holdout = hold_out_validation(log, settings=settings.recommender)
    network = SequenceModel(settings=settings.recommender, seed=settings.seed).fit(holdout.history)
    trained = {"sequence": network}
    fitted = blend_models(
        log, holdout=holdout, judged=trained, refitted=trained, settings=settings.recommender, curve=[]
    )
    with TemporaryDirectory() as folder:
        fitted.save(Path(folder))
        return Recommender.load(Path(folder))


def _only_items(log: Interactions, kept_I: np.ndarray) -> Interactions:
    """The log without the events of other items, each event a basket of its own."""
    row_I = np.full(log.num_items, -1)
    row_I[kept_I] = np.arange(len(kept_I))
    inside_E = row_I[log.item_E] >= 0
    before_E1 = np.concatenate([[0], np.cumsum(inside_E)])
    return replace(
        log,
        item_ids_I=log.item_ids_I[kept_I],
        offset_U1=before_E1[log.offset_U1],
        item_E=row_I[log.item_E[inside_E]].astype(np.int32),
        behaviour_E=log.behaviour_E[inside_E],
        basket_E=np.arange(int(inside_E.sum()), dtype=np.int32),
        time_E=log.time_E[inside_E],
        attributes=None,
    )


def _blend_row(model: Recommender, arguments: argparse.Namespace, *, settings: Settings) -> Row:
    users = model.histories.user_ids_U[: arguments.users].tolist()
    rules = RuleBook(facts=_facts(len(model.item_ids), seed=arguments.seed), settings=settings.rules)
    spent = _least_cpu_s(lambda: model.recommend(users, k=arguments.k, rules=rules))
    used = {name: weight for name, weight in model.blend.weights.items() if weight}
    return {
        "system": "served blend with rules and reasons",
        "items": len(model.item_ids),
        "users": len(users),
        "cpu_seconds": round(spent, 3),
        "users_per_cpu_second": round(len(users) / spent),
        "members": ", ".join(used),
    }


def _facts(num_items: int, *, seed: int) -> ItemFacts:
    """A shop's facts: a tenth out of stock, 50 categories and sellers."""
    rng = np.random.default_rng(seed)
    return ItemFacts(
        available_I=rng.random(num_items) < 0.9,
        category_I=rng.integers(0, 50, num_items).astype(np.int32),
        seller_I=rng.integers(0, 50, num_items).astype(np.int32),
        repeat_rate_I=rng.random(num_items),
        overstock_I=np.zeros(num_items),
    )


def _catalogue_rows(model: Recommender, arguments: argparse.Namespace) -> list[Row]:
    sequence = model.models[SequenceModel.kind]
    assert isinstance(sequence, SequenceModel)
    assert sequence.network is not None
    with torch.inference_mode():
        hidden_UD = encode_last(sequence.network, model.histories.take(np.arange(arguments.users))).numpy()
        vector_ID, bias_I = sequence.network.vectors().numpy(), sequence.network.bias_I.numpy()
    vector_ID, bias_I = _copies(vector_ID, bias_I, num_items=arguments.catalogue, seed=arguments.seed)
    exact_UK = _exact_top(hidden_UD, vector_ID, bias_I, k=arguments.k)
    exact_s = _least_cpu_s(lambda: _exact_top(hidden_UD[:_BATCH], vector_ID, bias_I, k=arguments.k)) / _BATCH
    rows = [{"system": "sequence model, every item", "recall": 1.0, "users_per_cpu_second": round(1 / exact_s)}]
    began_s = time.process_time()
    index = make_index(vector_ID, bias_I)
    built_s = time.process_time() - began_s
    found_s = _least_cpu_s(lambda: index.search(hidden_UD)) / len(hidden_UD)
    found_UK = index.search(hidden_UD)[0][:, : arguments.k]
    recall = np.mean([np.isin(exact, found).mean() for exact, found in zip(exact_UK, found_UK, strict=True)])
    rows.append(
        {
            "system": "sequence model, approximate index",
            "recall": round(float(recall), 4),
            "users_per_cpu_second": round(1 / found_s),
            "built_cpu_seconds": round(built_s, 1),
        }
    )
    shared = {"items": arguments.catalogue, "users": len(hidden_UD)}
    return [row | shared for row in rows]


def _copies(vector_ID: ScoreArray, bias_I: ScoreArray, *, num_items: int, seed: int) -> tuple[ScoreArray, ScoreArray]:
    rng = np.random.default_rng(seed)
    some_ID = vector_ID[rng.integers(0, len(vector_ID), 500)]
    apart = np.sqrt(np.maximum(((some_ID[:, None] - vector_ID[None]) ** 2).sum(axis=2), 0))
    nearest = np.median(np.sort(apart, axis=1)[:, 1])
    source = rng.integers(0, len(vector_ID), num_items)
    noise = rng.standard_normal((num_items, vector_ID.shape[1]), dtype=np.float32)
    spread = np.float32(0.5 * nearest / np.sqrt(vector_ID.shape[1]))
    return vector_ID[source] + spread * noise, bias_I[source]


def _exact_top(hidden_UD: ScoreArray, vector_ID: ScoreArray, bias_I: ScoreArray, *, k: int) -> np.ndarray:
    parts = [
        top_items(hidden_UD[start : start + _BATCH] @ vector_ID.T + bias_I, k=k)[0]
        for start in range(0, len(hidden_UD), _BATCH)
    ]
    return np.concatenate(parts)


def _least_cpu_s(ask: Callable[[], object]) -> float:
    """The least of three, after a first one that warms up."""
    ask()
    spent = []
    for _ in range(3):
        began_s = time.process_time()
        ask()
        spent.append(time.process_time() - began_s)
    return min(spent)


if __name__ == "__main__":
    main()
