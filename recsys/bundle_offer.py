"""From a dataset to bundles: which of its items may be promoted, what they cost, what is on the shelf.

Shapes: S series, I items, P channels.
"""

from datetime import date
from typing import Final

import numpy as np
import polars as pl

from cluster.dataset import Dataset
from cluster.errors import DataError
from cluster.panel import DemandPanel
from cluster.schema import Col
from recsys.baskets import make_baskets
from recsys.bundles import Bundles, Campaign, Offer, suggest_bundles
from recsys.item_facts import free_units_I
from recsys.pairs import find_pairs
from recsys.uplift import PromotionEffects, WeeklySales, base_units_S, fit_effects, weekly_sales

MAX_ITEMS: Final = 3_000
"""Items that pairs are looked for among: those in most baskets. All pairs of them are held in memory."""
_MIN_BASKETS: Final = 10


def plan_campaign(
    dataset: Dataset, *, until_on: date, channel: str | None, start_on: date, end_on: date, reach: float | None
) -> Campaign:
    """A campaign on a channel that has a past; by default the most used one, at the reach that it usually has.

    Raises
    ------
    DataError
        If there is no past promotion on it.
    """
    panel = dataset.panel(until=dataset.period_until(until_on))
    promotion_STP = panel.promotion_SXP[:, : panel.num_periods]
    used_P = (promotion_STP > 0).sum(axis=(0, 1))
    if channel is None:
        channel = panel.promotion_names[int(used_P.argmax())] if used_P.any() else ""
    place = panel.promotion_names.index(channel) if channel in panel.promotion_names else -1
    if place < 0 or not used_P[place]:
        past = [name for name, used in zip(panel.promotion_names, used_P, strict=True) if used]
        raise DataError(
            f"no promotion on channel {channel!r} before {until_on}, so nothing is known of what it would add; "
            f"channels with a past: {', '.join(past) or 'none'}"
        )
    usual = float(np.median(promotion_STP[..., place][promotion_STP[..., place] > 0]))
    return Campaign(channel=channel, start_on=start_on, end_on=end_on, reach=usual if reach is None else reach)


def suggest_from_dataset(dataset: Dataset, *, campaign: Campaign, until_on: date, limit: int, seed: int) -> Bundles:
    """Bundles for a campaign from everything that is known before a day.

    Raises
    ------
    DataError
        If there are no orders.
    """
    orders = dataset.table("orders")
    if orders is None:
        raise DataError("the dataset has no orders; run 'restock data load' first")
    panel = dataset.panel(until=dataset.period_until(until_on))
    weekly = weekly_sales(panel)
    effects = fit_effects(weekly)
    sold = orders.filter(pl.Series(orders[Col.ITEM_ID]).is_in(np.unique(panel.index.item_ids_S)).to_arrow())
    baskets = make_baskets(sold, until=until_on, min_baskets=_MIN_BASKETS, max_items=MAX_ITEMS)
    offer = make_offer(dataset, panel=panel, weekly=weekly, effects=effects)
    return suggest_bundles(find_pairs(baskets), offer, effects, campaign=campaign, limit=limit, seed=seed)


def make_offer(dataset: Dataset, *, panel: DemandPanel, weekly: WeeklySales, effects: PromotionEffects) -> Offer:
    """Items of a panel with category, price, base and what is free of the stock, summed over locations."""
    item_ids_I, item_S = np.unique(panel.index.item_ids_S, return_inverse=True)
    first_I = np.unique(item_S, return_index=True)[1]
    base_S = base_units_S(weekly, effects)
    price_S = panel.price_ST[:, -1].astype(np.float64)
    return Offer(
        item_ids_S=item_ids_I,
        category_ids_S=panel.index.category_ids_S[first_I],
        price_S=price_S[first_I],
        free_S=free_units_I(dataset, item_ids_I=item_ids_I),
        base_S=np.bincount(item_S, base_S).astype(np.float64),
    )
