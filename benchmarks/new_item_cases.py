"""Series whose history is cut off or has only begun, and what was known of all others at that moment.

Shapes: S new series, R known series, L earlier launches, T periods, A ages, H horizon, P promotion channels, N lines,
W words, K neighbours.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from cluster.panel import Calendar, DemandPanel, IntArray, SeriesIndex
from forecasting.launch_curves import launch_level_S
from forecasting.new_items import (
    ItemTraits,
    NeighbourLists,
    SimilarItems,
    fit_similar_items,
    reference_rows,
    usual_dispersion,
)
from recsys.neighbours import ItemNeighbours

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
HORIZON = 28
_ORIGINS = {"cj": (253, 281, 309, 337), "or": (262, 290, 318, 346)}
"""The first one only tells how wide the errors are; the others are the usual ones of these panels."""
_START = date(2011, 1, 1)  # no date is read here
_FOLDS = 5
_BATCH_DAYS = 28
_LARGEST_LINE = 10_000
"""Two larger lines of Online Retail were cancelled within minutes."""
_NUM_NEIGHBOURS = 20
_NUM_BANDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """A history, the groups that a planner would average over (the first is *the* category), and names if any.

    ``is_new`` tells that the series judged really were new, and are judged from their own first sale on.
    """

    panel: DemandPanel
    groups: dict[str, np.ndarray]
    neighbours: NeighbourLists | None
    is_new: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """New series at one origin. ``settled`` is when all that is asked of them has happened."""

    origin: int
    settled: int
    series_S: IntArray
    items: ItemTraits
    sold_SA: np.ndarray
    actual_SH: np.ndarray
    known_R: IntArray
    level_R: np.ndarray
    similar: SimilarItems
    plain: SimilarItems
    launched_L: IntArray
    launch_LA: np.ndarray
    next_level_L: np.ndarray


def load_shop(name: str) -> Shop:
    """``cj`` (Complete Journey) or ``or`` (Online Retail): daily panels; ``launches``: all items of Online Retail."""
    if name == "launches":
        return _launch_shop()
    table = pl.read_parquet(DATA / f"{name}_daily.parquet").sort("unique_id", "ds")
    shape = (table["unique_id"].n_unique(), table["ds"].n_unique())
    first = table.group_by("unique_id", maintain_order=True).first()
    ids = first["unique_id"].cast(pl.String).to_numpy().astype(str)
    promotion_STP = np.zeros((*shape, 0), dtype=np.float32)
    if name == "cj":
        promotion_STP = table.select("disp", "mail").to_numpy().reshape(*shape, 2).astype(np.float32)
    groups = {
        c: first[c].to_numpy().astype(str) for c in ("product_category", "product_type", "department") if c in first
    }
    panel = _make_panel(
        ids,
        category_S=groups.get("product_category"),
        sales_ST=table["y"].to_numpy().reshape(shape),
        price_ST=table["price"].to_numpy().reshape(shape),
        promotion_STP=promotion_STP,
    )
    return Shop(panel=panel, groups=groups, neighbours=None if name == "cj" else _named_alike(ids))


def _make_panel(
    ids: np.ndarray,
    *,
    category_S: np.ndarray | None,
    sales_ST: np.ndarray,
    price_ST: np.ndarray,
    promotion_STP: np.ndarray,
) -> DemandPanel:
    S, T = sales_ST.shape
    every = np.full(S, "all")
    return DemandPanel(
        index=SeriesIndex(
            item_ids_S=ids, location_ids_S=every, category_ids_S=every if category_S is None else category_S
        ),
        calendar=Calendar(start_on=_START, period_days=1),
        sales_ST=sales_ST.astype(np.float32),
        in_stock_ST=np.ones((S, T), dtype=bool),
        price_ST=price_ST.astype(np.float32),
        promotion_SXP=promotion_STP,
        promotion_names=("display", "mailer")[: promotion_STP.shape[2]],
        holiday_X=np.zeros(T, dtype=np.float32),
        notice_periods=HORIZON,
    )


def _online_retail() -> pl.DataFrame:
    """Lines of ordinary items that were sold for money."""
    lines = pl.read_parquet(DATA / "online_retail.parquet").with_columns(
        item=pl.col("StockCode").cast(pl.String).str.to_uppercase(), day=pl.col("ts").cast(pl.Date)
    )
    sold = pl.col("Quantity").is_between(1, _LARGEST_LINE) & (pl.col("UnitPrice") > 0)
    return lines.filter(sold & pl.col("item").str.contains(r"^\d{5}")).sort("ts")


def _launch_shop() -> Shop:
    lines = _online_retail()
    first = lines.group_by("item").first().sort("item")
    ids, item_N = np.unique(lines["item"].to_numpy().astype(str), return_inverse=True)
    day_N = (lines["day"] - lines["day"].min()).dt.total_days().to_numpy()
    sales_ST = np.zeros((len(ids), int(day_N.max()) + 1))
    np.add.at(sales_ST, (item_N, day_N), lines["Quantity"].to_numpy())
    price_ST = np.broadcast_to(first["UnitPrice"].to_numpy()[:, None], sales_ST.shape)
    promotion_STP = np.zeros((*sales_ST.shape, 0), dtype=np.float32)
    panel = _make_panel(ids, category_S=None, sales_ST=sales_ST, price_ST=price_ST, promotion_STP=promotion_STP)
    return Shop(panel=panel, groups={}, neighbours=_named_alike(ids), is_new=True)


def _named_alike(ids: np.ndarray) -> ItemNeighbours:
    """Nearest items by the words of their names: cosine of rare words shared."""
    names = dict(_online_retail().group_by("item").agg(pl.col("Description").drop_nulls().first()).iter_rows())
    words: dict[str, int] = {}
    of_item = [
        [words.setdefault(w, len(words)) for w in set((names.get(i.upper()) or "").split())] for i in ids.tolist()
    ]
    count_SW = np.zeros((len(ids), len(words)), dtype=np.float32)
    for s, columns in enumerate(of_item):
        count_SW[s, columns] = 1.0
    count_SW *= np.log(len(ids) / count_SW.sum(axis=0))
    count_SW /= np.maximum(np.linalg.norm(count_SW, axis=1, keepdims=True), 1e-9)
    alike_SS = count_SW @ count_SW.T
    np.fill_diagonal(alike_SS, -1.0)
    item_SK = np.argpartition(-alike_SS, _NUM_NEIGHBOURS, axis=1)[:, :_NUM_NEIGHBOURS]
    score_SK = np.take_along_axis(alike_SS, item_SK, axis=1)
    order_SK = np.argsort(-score_SK, axis=1, kind="stable")
    item_SK, score_SK = (np.take_along_axis(value, order_SK, axis=1) for value in (item_SK, score_SK))
    return ItemNeighbours(
        item_ids_I=ids,
        item_IK=np.where(score_SK > 0, item_SK, -1).astype(np.int32),
        score_IK=np.maximum(score_SK, 0.0).astype(np.float32),
    )


def make_cases(shop: Shop, *, name: str, history: int, seed: int) -> Iterator[Case]:
    """Every case of a history of so many days, in the order of their origins."""
    if shop.is_new:
        yield from _launch_cases(shop, history=history)
        return
    fold_S = np.random.default_rng(seed).permutation(shop.panel.num_series) % _FOLDS
    for origin in _ORIGINS[name]:
        for fold in range(_FOLDS):
            held = np.flatnonzero(fold_S == fold)
            known = np.flatnonzero(fold_S != fold)
            begins_S = np.full(len(held), origin - history)
            yield _make_case(shop, new=held, known=known, begins_S=begins_S, origin=origin, history=history)


def _launch_cases(shop: Shop, *, history: int) -> Iterator[Case]:
    """Items first sold in the four weeks after an origin, judged from their own first sale on."""
    first_S, num_periods = shop.panel.first_sale_S, shop.panel.num_periods
    for origin in range(3 * _BATCH_DAYS, num_periods - HORIZON - history, _BATCH_DAYS):
        new = np.flatnonzero((first_S >= origin) & (first_S < origin + _BATCH_DAYS))
        new = new[first_S[new] + history + HORIZON <= num_periods]
        known = np.flatnonzero(first_S <= origin - _BATCH_DAYS)
        if len(new):
            yield _make_case(shop, new=new, known=known, begins_S=first_S[new], origin=origin, history=history)


def _make_case(shop: Shop, *, new: IntArray, known: IntArray, begins_S: IntArray, origin: int, history: int) -> Case:
    view = shop.panel.until(origin).take(known)
    usable = reference_rows(view.index, usable_S=view.first_sale_S < origin)
    view, known = view.take(usable), known[usable]
    level_R, dispersion = launch_level_S(view), usual_dispersion(view)
    items = _traits(shop.panel, new, announced=slice(origin, origin + HORIZON), priced_at=origin - 1)
    traits = _traits(shop.panel, known, announced=slice(origin - 2 * HORIZON, origin), priced_at=origin - 1)
    plain = fit_similar_items(traits, level_S=level_R, dispersion=dispersion)
    similar = plain
    if shop.neighbours is not None:
        similar = fit_similar_items(traits, level_S=level_R, dispersion=dispersion, neighbours=shop.neighbours)
    launched = np.flatnonzero((view.first_sale_S >= HORIZON) & (view.first_sale_S + history + HORIZON <= origin))
    begins_L = view.first_sale_S[launched]
    return Case(
        origin=origin,
        settled=int(begins_S.max()) + history + HORIZON,
        series_S=new,
        items=items,
        sold_SA=_since(shop.panel.sales_ST[new], begins_S, length=history),
        actual_SH=_since(shop.panel.sales_ST[new], begins_S + history, length=HORIZON),
        known_R=known,
        level_R=level_R,
        similar=similar,
        plain=plain,
        launched_L=launched,
        launch_LA=_since(view.sales_ST[launched], begins_L, length=history),
        next_level_L=_since(view.sales_ST[launched], begins_L + history, length=HORIZON).mean(axis=1),
    )


def _traits(panel: DemandPanel, rows: IntArray, *, announced: slice, priced_at: int) -> ItemTraits:
    return ItemTraits(
        index=panel.index.take(rows),
        price_S=panel.price_ST[rows, priced_at],
        promotion_SP=panel.promotion_SXP[rows, announced].mean(axis=1),
    )


def _since(sales_ST: np.ndarray, begins_S: IntArray, *, length: int) -> np.ndarray:
    return np.take_along_axis(sales_ST, begins_S[:, None] + np.arange(length), axis=1)


def price_bands(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Band of each known and each new series, five of equal number: the category of a shop that has none."""
    known_R, new_S = case.similar.known.price_S, case.items.price_S
    edges = np.quantile(known_R, np.arange(1, _NUM_BANDS) / _NUM_BANDS)
    return np.searchsorted(edges, known_R), np.searchsorted(edges, new_S)
