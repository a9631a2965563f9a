"""Bundles for a promotion: which items to put together, and how many more units they will sell. Pure NumPy.

Shapes: I items, S items that can be promoted, N bundles, P channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.schema import PROMOTIONS, Col
from recsys.interactions import StrArray, rows_of
from recsys.pairs import ItemPairs
from recsys.substitution import is_across_N
from recsys.uplift import Matrix, PromotionEffects, extra_units

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What is known of the items that may be promoted, sorted by id.

    Parameters
    ----------
    price_S
        Listed unit price.
    free_S
        Units on the shelf that nobody has been promised; infinite where no stock is known.
    base_S
        Units per week without promotion.
    """

    item_ids_S: StrArray
    category_ids_S: StrArray
    price_S: Matrix
    free_S: Matrix
    base_S: Matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """When and how bundles would be promoted: channel, first and last day, and the share of the audience reached."""

    channel: str
    start_on: date
    end_on: date
    reach: float = 1.0

    @property
    def weeks(self) -> float:
        """Duration."""
        return ((self.end_on - self.start_on).days + 1) / 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundles:
    """Suggested bundles, by the money that they are expected to add, most first.

    Parameters
    ----------
    pairs
        The two items of each bundle, and what is known of the pair.
    is_complement_N
        Whether they are of different categories: one goes with the other, instead of being another sort of it.
    price_N
        Sum of the two listed prices.
    free_N
        Bundles that the stock allows; infinite where no stock is known.
    extra_N, low_N, high_N
        Units of both items that the campaign adds, with the ends of the 80 % interval of the outcome.
    value_N
        Extra units at listed prices.
    """

    pairs: ItemPairs
    is_complement_N: BoolArray
    price_N: Matrix
    free_N: Matrix
    extra_N: Matrix
    low_N: Matrix
    high_N: Matrix
    value_N: Matrix

    def __len__(self) -> int:
        return len(self.pairs)

    def to_table(self) -> pa.Table:
        """One row per bundle, for people and files."""
        pairs = self.pairs
        return pa.table(
            {
                "item_id": pa.array(pairs.item_ids_I[pairs.first_N].tolist(), pa.string()),
                "other_item_id": pa.array(pairs.item_ids_I[pairs.second_N].tolist(), pa.string()),
                "kind": ["complement" if across else "together" for across in self.is_complement_N.tolist()],
                "baskets": pairs.together_N,
                "expected_baskets": pairs.expected_N,
                "lift": pairs.lift_N,
                "plain_lift": pairs.plain_lift_N,
                "support": pairs.support_N,
                "confidence": pairs.confidence_N,
                "q": pairs.q_N,
                "price": self.price_N,
                "free_qty": self.free_N,
                "extra_units": self.extra_N,
                "extra_units_low": self.low_N,
                "extra_units_high": self.high_N,
                "extra_value": self.value_N,
            }
        )

    def to_promotions(self, campaign: Campaign, *, announced_on: date) -> pa.Table:
        """Rows of the schema ``PROMOTIONS``, one per item: what forecaster and plan read."""
        pairs = self.pairs
        items = np.unique(pairs.item_ids_I[np.concatenate([pairs.first_N, pairs.second_N])]).tolist()
        row = {
            Col.LOCATION_ID: None,
            Col.PROMOTION_TYPE: campaign.channel,
            Col.START_ON: campaign.start_on,
            Col.END_ON: campaign.end_on,
            Col.INTENSITY: campaign.reach,
            Col.ANNOUNCED_ON: announced_on,
        }
        return pa.Table.from_pylist([row | {Col.ITEM_ID: item} for item in items], schema=PROMOTIONS)


def suggest_bundles(
    pairs: ItemPairs,
    offer: Offer,
    effects: PromotionEffects,
    *,
    campaign: Campaign,
    limit: int = 20,
    false_discovery_rate: float = 0.05,
    min_lift: float = 1.5,
    seed: int = 0,
) -> Bundles:
    """Bundles of two whose items are found together, are on the shelf, and sell more when promoted.

    Each item is in one bundle at most, so that a campaign does not hang on one item. Extra units are those of both
    items, each promoted by the campaign; what one item pulls of the other beyond that is not counted.

    Raises
    ------
    ValueError
        If the channel was never used before, or the campaign ends before it starts.
    """
    if campaign.channel not in effects.promotion_names:
        known = ", ".join(effects.promotion_names) or "none"
        raise ValueError(f"no past promotion on channel {campaign.channel!r}; channels with a past: {known}")
    if campaign.end_on < campaign.start_on:
        raise ValueError(f"the campaign ends on {campaign.end_on}, before it starts on {campaign.start_on}")
    found = pairs.found(false_discovery_rate=false_discovery_rate)
    first_N, second_N = (rows_of(offer.item_ids_S, found.item_ids_I[rows]) for rows in (found.first_N, found.second_N))
    on_sale_S = (offer.free_S > 0) & (offer.price_S > 0)
    chosen_N = (found.lift_N >= min_lift) & (first_N >= 0) & (second_N >= 0) & on_sale_S[first_N] & on_sale_S[second_N]
    all_bundles = _priced(
        found.take(chosen_N),
        offer,
        effects,
        first_N=first_N[chosen_N],
        second_N=second_N[chosen_N],
        campaign=campaign,
        seed=seed,
    )
    return _take(all_bundles, _one_each(all_bundles, limit=limit))


def _priced(
    pairs: ItemPairs,
    offer: Offer,
    effects: PromotionEffects,
    *,
    first_N: npt.NDArray[np.int64],
    second_N: npt.NDArray[np.int64],
    campaign: Campaign,
    seed: int,
) -> Bundles:
    reach_SP = np.zeros((len(offer.item_ids_S), len(effects.promotion_names)))
    reach_SP[:, effects.promotion_names.index(campaign.channel)] = campaign.reach
    extra = extra_units(
        effects,
        category_ids_S=offer.category_ids_S,
        base_S=offer.base_S * campaign.weeks,
        reach_SP=reach_SP,
        seed=seed,
    )
    # No item can sell more than the shelf holds; the interval of two is that of independent ones.
    mean_S = np.minimum(extra.mean_S, offer.free_S)
    below_S, above_S = extra.mean_S - extra.low_S, extra.high_S - extra.mean_S
    extra_N = mean_S[first_N] + mean_S[second_N]
    category_ids_I = np.full(len(pairs.item_ids_I), "", dtype=object)
    category_ids_I[pairs.first_N] = offer.category_ids_S[first_N]
    category_ids_I[pairs.second_N] = offer.category_ids_S[second_N]
    return Bundles(
        pairs=pairs,
        is_complement_N=is_across_N(pairs, category_ids_I=category_ids_I.astype(str)),
        price_N=offer.price_S[first_N] + offer.price_S[second_N],
        free_N=np.minimum(offer.free_S[first_N], offer.free_S[second_N]),
        extra_N=extra_N,
        low_N=extra_N - np.hypot(below_S[first_N], below_S[second_N]),
        high_N=extra_N + np.hypot(above_S[first_N], above_S[second_N]),
        value_N=mean_S[first_N] * offer.price_S[first_N] + mean_S[second_N] * offer.price_S[second_N],
    )


def _one_each(bundles: Bundles, *, limit: int) -> npt.NDArray[np.int64]:
    """Rows of the dearest bundles in which no item comes twice."""
    taken: set[int] = set()
    kept: list[int] = []
    for row in np.argsort(-bundles.value_N, kind="stable").tolist():
        items = {int(bundles.pairs.first_N[row]), int(bundles.pairs.second_N[row])}
        if not items & taken and len(kept) < limit:
            taken |= items
            kept.append(row)
    return np.array(kept, dtype=np.int64)


def _take(bundles: Bundles, rows: npt.NDArray[np.int64]) -> Bundles:
    columns: Sequence[str] = ("is_complement_N", "price_N", "free_N", "extra_N", "low_N", "high_N", "value_N")
    return Bundles(pairs=bundles.pairs.take(rows), **{name: getattr(bundles, name)[rows] for name in columns})
