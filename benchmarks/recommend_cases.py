"""Interaction files as cases: what may be learned from, what is to be found, and what others reached."""

import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.forecast_panels import SHARED_DATA
from cluster.errors import DataError
from cluster.sources.samples import find_sample
from recsys.holdout import Holdout, hold_out_days, hold_out_last_basket
from recsys.interactions import DAY_SECONDS, PURCHASE, VIEW, Interactions, ItemAttributes, index_behaviour, seconds_of

STEP_DAYS = 30
"""Between baskets of a log without instants, so that half-lives in days mean baskets."""
PROTOCOLS = ("last", "temporal", "basket")
_COLUMNS = {"user": pl.String, "item": pl.String, "time": pl.Int64, "order": pl.String, "behaviour": pl.Int8}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One data set under one protocol.

    Parameters
    ----------
    train
        All that may be learned from, the validation items included.
    test
        Histories to read, perhaps of other users, and the items to find.
    protocol
        In words.
    sets
        Settings of this kind of protocol.
    k, measure
        Length of the ranking, and the measure that decides beside Recall: 'ndcg' or 'mrr'.
    floors
        Values that the served blend should reach.
    oracle
        Rows that others measured, ``model: (first measure, Recall)``.
    """

    name: str
    train: Interactions
    test: Holdout
    protocol: str
    sets: tuple[str, ...]
    k: int = 10
    measure: str = "ndcg"
    floors: Mapping[str, float] = field(default_factory=dict)
    oracle: Mapping[str, tuple[float, float]] = field(default_factory=dict)


CJ_WEEK = "cj-week"
LAST_WEEK = date(2017, 12, 4)

LAST = (
    'recommender.validation="last-basket"',
    "recommender.max_sequence=20",
    "recommender.targets_per_event=1",
    "recommender.epochs=8",
    "recommender.batch_size=128",
    'recommender.members=["transitions", "transitions-2", "neighbours", "sessions", "ease", "als", "bpr", "sequence"]',
)
SESSIONS = (
    *LAST[:-1],
    "recommender.max_sequence=10",
    "recommender.epochs=4",
    'recommender.members=["transitions", "transitions-2", "neighbours", "sessions", "sequence"]',
)
"""Settings where one item comes after the other; in short sessions over many items, without the costly models."""
BASKETS = ('recommender.validation="last-basket"', "recommender.epochs=3")
"""Settings where baskets come after each other."""


def load_case(name: str, *, users: int | None, since: date = LAST_WEEK) -> Case:
    """Case of a data set by name; of at most so many users, evenly spaced.

    Parameters
    ----------
    since
        First day of the week to find, for ``cj-week``.

    Raises
    ------
    DataError
        If its file is not there.
    """
    return _cj_week(users, since=since) if name == CJ_WEEK else _LOADERS[name](users)


def load_file(path: Path, *, columns: Mapping[str, str | None], protocol: str, days: int, users: int | None) -> Case:
    """Case of any CSV or Parquet file with one row per event.

    Parameters
    ----------
    columns
        Names of the columns ``user``, ``item``, ``time`` and, or None, ``basket``.
    protocol
        'last': each user's last event; 'basket': each user's last basket; 'temporal': the last ``days`` of the file.
    """
    frame = _read(path, columns)
    log = _index(frame)
    if protocol == "temporal":
        cut = int(log.time_E.max()) + 1 - days * DAY_SECONDS
        test = hold_out_days(log, cut=cut, days=days)
        words, sets = f"everything taken in the last {days} days", BASKETS
    else:
        test = hold_out_last_basket(log)
        words, sets = ("last basket of each user", BASKETS) if columns["basket"] else ("last event of each user", LAST)
    if not len(test):
        raise DataError(f"{path}: nobody has both a history and something to find; choose another --protocol or --days")
    return Case(
        name=path.name,
        train=test.history,
        test=_sample(test, users),
        protocol=words,
        sets=(*sets, "recommender.min_item_users=1"),
    )


def _read(path: Path, columns: Mapping[str, str | None]) -> pl.DataFrame:
    if not path.is_file():
        raise DataError(f"{path} is not there; give --interactions a CSV or Parquet file")
    scan = pl.scan_parquet if path.suffix == ".parquet" else pl.scan_csv
    found = scan(path).collect_schema()
    wanted = {key: name for key, name in columns.items() if name is not None}
    missing = sorted(set(wanted.values()) - set(found.names()))
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}; it has {', '.join(found.names())}")
    frame = scan(path).select(**{key: pl.col(name) for key, name in wanted.items()}).collect()
    frame = frame.with_columns(_seconds(frame["time"], path=path).alias("time"))
    frame = frame.drop_nulls(["user", "item", "time"])
    if frame.is_empty():
        raise DataError(f"{path} has no row with a user, an item and a time")
    order = pl.col("basket").cast(pl.String) if "basket" in wanted else pl.lit(None, dtype=pl.String)
    frame = frame.select(
        pl.col("user", "item").cast(pl.String),
        "time",
        order.alias("order"),
        pl.lit(PURCHASE, pl.Int8).alias("behaviour"),
    )
    if "basket" in wanted:
        # Lines of one basket may carry many instants: the basket has one, so that it stays together.
        frame = frame.with_columns(pl.col("time").min().over("user", "order"))
    return frame


def _seconds(time: pl.Series, *, path: Path) -> pl.Series:
    if time.dtype.is_numeric():
        return time.cast(pl.Int64)
    try:
        moments = time.str.to_datetime(strict=True) if time.dtype == pl.String else time.cast(pl.Datetime)
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"{path}: column {time.name} holds neither numbers nor dates ({str(error).splitlines()[0]}); "
            "give seconds since 1970, or instants such as 2017-12-04 10:30:00"
        ) from error
    return moments.dt.epoch("s")


def _index(frame: pl.DataFrame, *, attributes: pl.DataFrame | None = None) -> Interactions:
    """Interactions of rows ``user, item, time, order, behaviour``, counted back from the end of the log."""
    item_ids = frame["item"].unique().sort().to_numpy().astype(str)
    log = index_behaviour(frame.cast(_COLUMNS), item_ids=item_ids, now=int(frame["time"].max()) + DAY_SECONDS)
    return log if attributes is None else replace(log, attributes=_attributes(attributes, log))


def _attributes(frame: pl.DataFrame, log: Interactions) -> ItemAttributes:
    """Codes of each item from rows ``item, codes``; an item without a row has none."""
    known = pl.DataFrame({"item": log.item_ids_I}).join(frame, on="item", how="left", maintain_order="left")
    codes = known["codes"].fill_null([])
    numbered = codes.explode().drop_nulls().rank("dense").cast(pl.Int64).to_numpy() - 1
    offset = np.concatenate([[0], np.cumsum(codes.list.len().to_numpy())]).astype(np.int64)
    return ItemAttributes(offset_I1=offset, code_A=numbered.astype(np.int64))


def _file(name: str) -> Path:
    path = SHARED_DATA / name
    if not path.is_file():
        raise DataError(f"{path} is not there; use --interactions FILE for a file of your own")
    return path


def _ordered(frame: pl.DataFrame, *, behaviour: int, user: str = "") -> pl.DataFrame:
    """Rows of a log that knows the order of events only."""
    return frame.select(
        (pl.lit(user) + pl.col("user").cast(pl.String).str.zfill(7)).alias("user"),
        pl.col("item").cast(pl.String),
        (pl.col("pos").cast(pl.Int64) * STEP_DAYS * DAY_SECONDS).alias("time"),
        pl.lit(None, dtype=pl.String).alias("order"),
        pl.lit(behaviour, dtype=pl.Int8).alias("behaviour"),
    )


def _beauty(users: int | None) -> Case:
    frame = pl.read_parquet(_file("amazon_beauty.parquet"))
    attributes = pl.read_parquet(_file("amazon_beauty_attributes.parquet")).select(
        pl.col("item").cast(pl.String), pl.col("attrs").alias("codes")
    )
    log = _index(_ordered(_some(frame, users), behaviour=PURCHASE), attributes=attributes)
    test = hold_out_last_basket(log)
    return Case(
        name="beauty",
        train=test.history,
        test=test,
        protocol="last item of each user, items already taken left out",
        sets=LAST,
        floors={"ndcg": 0.063, "recall": 0.100},
        oracle={
            "popularity": (0.0059, 0.0130),
            "neighbours": (0.0456, 0.0765),
            "markov": (0.0568, 0.0865),
            "ease": (0.0418, 0.0764),
            "ease-recency": (0.0497, 0.0867),
            "als": (0.0310, 0.0591),
        },
    )


def _tafeng(users: int | None) -> Case:
    with gzip.open(_file("tafeng_baskets.json.gz")) as file:
        told = json.load(file)
    rows = [
        (user, item, place, f"{user}-{place}")
        for user, history in list(told["history"].items())[:users]
        for place, basket in enumerate([*history[1:-1], told["future"][user][1]])
        for item in basket
    ]
    frame = pl.DataFrame(rows, schema=["user", "item", "pos", "order"], orient="row")
    frame = _ordered(frame, behaviour=PURCHASE).with_columns(frame["order"])
    test = hold_out_last_basket(_index(frame))
    return Case(
        name="tafeng",
        train=test.history,
        test=test,
        protocol="last basket of each user",
        sets=BASKETS,
        oracle={"popularity": (0.0875, 0.0803), "tifu": (0.1140, 0.1318), "personal-popular": (0.1236, 0.1351)},
    )


def _journey(users: int | None) -> pl.DataFrame:
    frame = pl.read_parquet(find_sample("complete-journey")["transactions"])
    frame = frame.filter(pl.col("quantity") > 0).select(
        pl.col("household_id").cast(pl.String).alias("user"),
        pl.col("product_id").cast(pl.String).alias("item"),
        pl.col("transaction_timestamp").dt.epoch("s").min().over("household_id", "basket_id").alias("time"),
        pl.col("basket_id").cast(pl.String).alias("order"),
        pl.lit(PURCHASE, dtype=pl.Int8).alias("behaviour"),
    )
    frame = frame.unique(["user", "item", "order"], maintain_order=True)
    bought = frame.group_by("item").agg(pl.col("user").n_unique().alias("users")).filter(pl.col("users") >= 10)
    frame = frame.join(bought.select("item"), on="item", how="semi")
    return _some(frame, users)


def _cj_basket(users: int | None) -> Case:
    frame = _journey(users)
    frame = frame.filter(pl.len().over("user", "order") >= 3)
    frame = frame.filter(pl.col("order").n_unique().over("user") >= 5)
    test = hold_out_last_basket(_index(frame))
    return Case(
        name="cj",
        train=test.history,
        test=test,
        protocol="last basket of each household",
        sets=BASKETS,
        oracle={"popularity": (0.0770, 0.0453), "tifu": (0.1918, 0.1264)},
    )


def _cj_week(users: int | None, *, since: date) -> Case:
    test = hold_out_days(_index(_journey(users)), cut=seconds_of(since), days=7)
    return Case(
        name=CJ_WEEK,
        train=test.history,
        test=test,
        protocol=f"everything bought in the 7 days from {since}",
        sets=(*BASKETS[1:], 'recommender.validation="next-days"', "recommender.validation_days=7"),
        oracle={"popularity": (0.1001, 0.0432), "tifu": (0.2891, 0.1545)} if since == LAST_WEEK else {},
    )


def _diginetica(users: int | None) -> Case:
    parts = [pl.read_parquet(_file(f"diginetica_views_{part}.parquet")) for part in ("train", "test")]
    rows = [
        _ordered(_some(part, users), behaviour=VIEW, user=name) for part, name in zip(parts, ("a", "b"), strict=True)
    ]
    categories = pl.read_parquet(_file("diginetica_categories.parquet")).select(
        pl.col("item").cast(pl.String), pl.concat_list("cat").alias("codes")
    )
    log = _index(pl.concat(rows), attributes=categories)
    later_U = np.char.startswith(log.user_ids_U, "b")
    whole = hold_out_last_basket(log.take(np.flatnonzero(later_U)))
    return Case(
        name="diginetica",
        train=log.take(np.flatnonzero(~later_U)),
        test=whole,
        protocol="last view of each later session, learned from earlier sessions",
        sets=SESSIONS,
        k=20,
        measure="mrr",
    )


def _some(frame: pl.DataFrame, users: int | None) -> pl.DataFrame:
    if users is None:
        return frame
    names = frame["user"].unique().sort()
    return frame.join(names.gather_every(max(len(names) // users, 1)).to_frame(), on="user", how="semi")


def _sample(holdout: Holdout, users: int | None) -> Holdout:
    return holdout if users is None else holdout.sample(users)


_LOADERS: dict[str, Callable[[int | None], Case]] = {
    "beauty": _beauty,
    "tafeng": _tafeng,
    "cj": _cj_basket,
    "diginetica": _diginetica,
}
CASES = (*_LOADERS, CJ_WEEK)
