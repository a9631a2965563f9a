"""What is learned of users and items beside the ranking: fitted, written and read together with the recommender.

::

    insight/insight.json          parameters
            insight.safetensors   arrays per item
            neighbours.parquet    substitutes, complements and like items

Shapes: I items, U users, K items or categories named.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from cluster.errors import ArtifactError, DataError
from cluster.item_content import make_content
from cluster.schema import DEFAULT_CATEGORY, Col
from recsys.baskets import make_baskets
from recsys.intent import fit_intent, make_visits
from recsys.interactions import Interactions, StrArray
from recsys.interests import InterestModel, fit_interests
from recsys.likeness import nearest_items
from recsys.neighbours import ItemNeighbours, NeighbourKind
from recsys.pairs import find_pairs
from recsys.probability import Logistic
from recsys.repeat import RepeatModel, fit_repeat, load_repeat
from recsys.substitution import find_complements, find_substitutes

FOLDER: Final = "insight"
MAX_ITEMS: Final = 3_000
"""Items that substitutes and complements are looked for among: those in most baskets."""
_NUM_NEIGHBOURS: Final = 10
_MIN_BASKETS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Insight:
    """Interests, intervals, intent, and neighbours by kind; items are the recommender's, in its order.

    Parameters
    ----------
    intent
        None where the shop's events do not show enough visits with and without a purchase.
    neighbours
        By kind, over the items that each kind knows; a kind that nothing is known of is missing.
    """

    category_ids_I: StrArray
    repeat: RepeatModel
    interests: InterestModel
    intent: Logistic | None
    neighbours: Mapping[NeighbourKind, ItemNeighbours]

    def due_items(self, histories: Interactions, *, k: int) -> list[list[tuple[str, float]]]:
        """Items that each user is most likely to buy again within :attr:`RepeatModel.horizon_days`, and how likely."""
        pairs = self.repeat.pairs(histories)
        chance_N = self.repeat.due_N(pairs)
        order = np.lexsort((pairs.item_N, -chance_N, pairs.user_N))
        due: list[list[tuple[str, float]]] = [[] for _ in range(histories.num_users)]
        for row in order.tolist():
            found = due[pairs.user_N[row]]
            if len(found) < k:
                found.append((str(histories.item_ids_I[pairs.item_N[row]]), float(chance_N[row])))
        return due

    def top_interests(self, histories: Interactions, *, k: int) -> list[list[tuple[str, float]]]:
        """Categories with the largest expected shares of what each user does next."""
        share_UC = self.interests.shares_UC(histories)
        best_UK = np.argsort(-share_UC, axis=1, kind="stable")[:, :k]
        names = self.interests.category_C
        return [
            [(str(names[category]), float(share_C[category])) for category in best_K]
            for best_K, share_C in zip(best_UK, share_UC, strict=True)
        ]

    def save(self, folder: Path) -> None:
        """Write into the subfolder of a recommender's folder."""
        target = folder / FOLDER
        target.mkdir()
        arrays = {"rate_I": self.repeat.rate_I, "interval_days_I": self.repeat.interval_days_I}
        save_file(
            {name: np.ascontiguousarray(values) for name, values in arrays.items()}, target / "insight.safetensors"
        )
        items = pa.table({"item_id": self.repeat.item_ids_I.tolist(), "category_id": self.category_ids_I.tolist()})
        pq.write_table(items, target / "items.parquet")
        pq.write_table(self.neighbour_table(), target / "neighbours.parquet")
        config = {
            "repeat": self.repeat.to_config(),
            "interests": self.interests.to_config(),
            "intent": None if self.intent is None else self.intent.to_config(),
        }
        (target / "insight.json").write_text(json.dumps(config) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "Insight | None":
        """Read what :meth:`save` wrote; None where a recommender was stored without it.

        Raises
        ------
        ArtifactError
            If a file is missing or is not what was written.
        """
        source = folder / FOLDER
        if not source.is_dir():
            return None
        try:
            return cls._read(source)
        except (KeyError, TypeError, ValueError, OSError, SafetensorError, pa.ArrowException) as error:
            raise ArtifactError(f"{source} cannot be read ({error}); train the recommender again") from error

    @classmethod
    def _read(cls, source: Path) -> "Insight":
        config = json.loads((source / "insight.json").read_text())
        arrays = load_file(source / "insight.safetensors")
        items = pq.read_table(source / "items.parquet")
        item_ids_I, category_ids_I = (
            np.asarray(items[name].to_pylist(), dtype=str) for name in ("item_id", "category_id")
        )
        return cls(
            category_ids_I=category_ids_I,
            repeat=load_repeat(config["repeat"], item_ids_I=item_ids_I, **arrays),
            interests=InterestModel.from_config(config["interests"], category_ids_I=category_ids_I),
            intent=None if config["intent"] is None else Logistic.from_config(config["intent"]),
            neighbours=read_neighbours(pq.read_table(source / "neighbours.parquet")),
        )

    def neighbour_table(self) -> pa.Table:
        """One row per item, kind and neighbour, best first."""
        parts = [neighbour_rows(neighbours) for neighbours in self.neighbours.values()]
        return pl.concat([_NO_ROWS, *parts]).to_arrow()


_NO_ROWS: Final = pl.DataFrame(
    schema={
        "item_id": pl.String,
        "kind": pl.String,
        "rank": pl.Int64,
        "neighbour_id": pl.String,
        "score": pl.Float64,
    }
)


def fit_insight(
    interactions: Interactions, *, orders: pa.Table, events: pa.Table | None, items: pa.Table | None, seed: int = 0
) -> Insight:
    """Fit everything to what happened before the ``now`` of the interactions."""
    until = datetime.fromtimestamp(int(interactions.now_U.max()), tz=UTC)
    category_ids_I = categories_of(items, item_ids=interactions.item_ids_I)
    return Insight(
        category_ids_I=category_ids_I,
        repeat=fit_repeat(interactions, category_ids_I=category_ids_I, seed=seed),
        interests=fit_interests(interactions, category_ids_I=category_ids_I),
        intent=_fit_intent(events, until=until),
        neighbours=_fit_neighbours(orders, items, until=until),
    )


def categories_of(items: pa.Table | None, *, item_ids: StrArray) -> StrArray:
    """Category of each item; the default one where none is given."""
    if items is None:
        return np.full(len(item_ids), DEFAULT_CATEGORY)
    pairs = zip(items[Col.ITEM_ID].to_pylist(), items[Col.CATEGORY_ID].to_pylist(), strict=True)
    category_of = dict(pairs)
    return np.array([category_of.get(item) or DEFAULT_CATEGORY for item in item_ids.tolist()], dtype=str)


def neighbour_rows(neighbours: ItemNeighbours) -> pl.DataFrame:
    """One row per item and neighbour."""
    row_N, rank_N = np.nonzero(neighbours.item_IK >= 0)
    ids = neighbours.item_ids_I
    return pl.DataFrame(
        {
            "item_id": ids[row_N].tolist(),
            "kind": [neighbours.kind] * len(row_N),
            "rank": rank_N + 1,
            "neighbour_id": ids[neighbours.item_IK[row_N, rank_N]].tolist(),
            "score": neighbours.score_IK[row_N, rank_N].astype(np.float64),
        },
        schema=_NO_ROWS.schema,
    )


def read_neighbours(table: pa.Table) -> dict[NeighbourKind, ItemNeighbours]:
    """Lists by kind from the rows that :func:`neighbour_rows` gave."""
    frame = pl.DataFrame(pl.from_arrow(table))
    kinds: tuple[NeighbourKind, ...] = ("together", "substitute", "complement", "like")
    return {kind: _lists(part, kind=kind) for kind in kinds if (part := frame.filter(pl.col("kind") == kind)).height}


def _lists(frame: pl.DataFrame, *, kind: NeighbourKind) -> ItemNeighbours:
    item_ids_I = np.unique(np.concatenate([frame["item_id"].to_numpy(), frame["neighbour_id"].to_numpy()]).astype(str))
    row_N = np.searchsorted(item_ids_I, frame["item_id"].to_numpy().astype(str))
    rank_N = frame["rank"].to_numpy() - 1
    shape = (len(item_ids_I), int(rank_N.max()) + 1)
    item_IK, score_IK = np.full(shape, -1, dtype=np.int32), np.zeros(shape, dtype=np.float32)
    item_IK[row_N, rank_N] = np.searchsorted(item_ids_I, frame["neighbour_id"].to_numpy().astype(str))
    score_IK[row_N, rank_N] = frame["score"].to_numpy()
    return ItemNeighbours(item_ids_I=item_ids_I, item_IK=item_IK, score_IK=score_IK, kind=kind)


def _fit_intent(events: pa.Table | None, *, until: datetime) -> Logistic | None:
    if events is None or not events.num_rows:
        return None
    frame = pl.DataFrame(pl.from_arrow(events)).filter(pl.col(Col.OCCURRED_AT) < until)
    visits = make_visits(frame.to_arrow())
    return fit_intent(visits) if len(visits) else None


def _fit_neighbours(
    orders: pa.Table, items: pa.Table | None, *, until: datetime
) -> dict[NeighbourKind, ItemNeighbours]:
    try:
        baskets = make_baskets(orders, until=until, min_baskets=_MIN_BASKETS, max_items=MAX_ITEMS)
    except DataError:
        return {}  # A shop of views, or a small one: nothing is bought often enough to say what goes with it.
    category_ids_I = categories_of(items, item_ids=baskets.item_ids_I)
    found = [find_complements(find_pairs(baskets), category_ids_I=category_ids_I, k=_NUM_NEIGHBOURS)]
    if items is not None:
        content = make_content(items)
        found.append(find_substitutes(content, baskets, k=_NUM_NEIGHBOURS))
        found.append(nearest_items(content.take(baskets.item_ids_I), k=_NUM_NEIGHBOURS))
    return {neighbours.kind: neighbours for neighbours in found if (neighbours.item_IK >= 0).any()}
