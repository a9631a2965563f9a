"""A planner over a few series with a known forecast: the real arithmetic of ``rl``, without models and without Ray."""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from cluster.panel import Calendar, SeriesIndex
from cluster.settings.service import PlanSettings
from forecasting.forecast import Forecast
from rl.inventory import CostRates, SupplyTerms
from rl.ordering import ask_policies, make_order_plan
from rl.policies.classical import BaseStock
from rl.stock import assume_stock, make_inventory_state
from serve.answers import PlanAnswer, PlanQuestion
from serve.plans.runs import make_inputs, open_run
from serve.plans.work import work_on_run
from serve.store.database import Database
from serve.store.stock_book import Count, Counted, Ordered, read_book, take_count

TODAY = date(2024, 4, 30)
LEAD_DAYS = 3
PACK = 6.0
SETTINGS = PlanSettings(chunk_series=3, lease_s=5.0)
SOURCES = {"dataset": "d1", "models": {"forecaster": "v1"}}
_CALENDAR = Calendar(start_on=date(2024, 1, 1), period_days=1)
_LEVELS = np.array([0.1, 0.5, 0.9], dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """Items ``item-000`` ... of one place; item n sells n + 1 units a day and costs 2."""

    num_series: int

    @property
    def keys(self) -> list[tuple[str, str]]:
        return [(f"item-{row:03}", "main") for row in range(self.num_series)]

    def plan(self, question: PlanQuestion) -> PlanAnswer:
        """As the planner deployment answers."""
        assert question.series is not None
        rows = np.array([int(item_id[-3:]) for item_id, _ in question.series])
        index = _index(question.series)
        forecast, terms = _forecast(rows + 1.0), _terms(rows + 1.0)
        reading = assume_stock(forecast, terms)
        if question.stock is not None:
            reading = make_inventory_state(
                question.stock,
                question.open_orders,
                index=index,
                calendar=_CALENDAR,
                on_date=question.as_of or TODAY,
                is_part=True,
            )
        policies = [BaseStock(cycle_service_level=0.9)] * len(index)
        plan = make_order_plan(
            index=index,
            state=reading.state,
            forecast=forecast,
            terms=terms,
            wishes=ask_policies(policies, state=reading.state, forecast=forecast, terms=terms),
            on_date=question.as_of or TODAY,
            calendar=_CALENDAR,
            remark_S=reading.remark_S,
            notes=reading.notes,
        )
        return PlanAnswer(
            plan=plan,
            is_fallback_S=np.zeros(len(index), dtype=bool),
            stock_is_assumed=question.stock is None,
            num_series_left_out=0,
            model_versions={"forecaster": "v1"},
        )

    def ask(self, database: Database, *, on_date: date = TODAY, actor: str = "ann") -> tuple[str, bool]:
        """Ask for the plan of what the database knows now."""
        with database.reading() as session:
            book = read_book(session)
        series = [(key, False) for key in self.keys]
        inputs = make_inputs(on_date=on_date, sources=SOURCES, series=series, book=book)
        return open_run(database, inputs, actor=actor)

    def make_plan(
        self, database: Database, *, on_date: date = TODAY, settings: PlanSettings = SETTINGS, worker: str = "worker-1"
    ) -> str:
        """Ask, and work until it is done."""
        run_id, _ = self.ask(database, on_date=on_date)
        work_on_run(database, self.plan, settings=settings, worker=worker, run_id=run_id)
        return run_id


def count_stock(
    database: Database,
    shop: Shop,
    *,
    on_hand_qty: float = 2.0,
    counted_on: date = TODAY,
    open_orders: list[Ordered] | None = None,
) -> None:
    """Tell the database that so many units of every series are there."""
    stock = [Counted(item_id=item_id, location_id=place, on_hand_qty=on_hand_qty) for item_id, place in shop.keys]
    count = Count(counted_on=counted_on, stock=stock, open_orders=open_orders, is_complete=True)
    with database.writing() as session:
        take_count(session, count, actor="ann", source="test")


def tomorrow(days: int = 1) -> date:
    return TODAY + timedelta(days=days)


def _index(keys: list[tuple[str, str]]) -> SeriesIndex:
    items, places = zip(*keys, strict=True)
    return SeriesIndex(
        item_ids_S=np.array(items), location_ids_S=np.array(places), category_ids_S=np.array(["dairy"] * len(keys))
    )


def _forecast(mean_S: np.ndarray) -> Forecast:
    periods_H = np.arange(1, 15)
    spread_Q = np.array([0.7, 1.0, 1.4])
    cumulative = mean_S[:, None, None] * periods_H[None, :, None] * spread_Q
    return Forecast(
        levels_Q=_LEVELS,
        mean_SH=np.repeat(mean_S[:, None], 14, axis=1).astype(np.float32),
        marginal_SHQ=np.repeat(mean_S[:, None, None] * spread_Q, 14, axis=1).astype(np.float32),
        cumulative_SHQ=cumulative.astype(np.float32),
    )


def _terms(mean_S: np.ndarray) -> SupplyTerms:
    def same(value: float, dtype: type = np.float32) -> np.ndarray:
        return np.full(len(mean_S), value, dtype=dtype)

    return SupplyTerms(
        lead_time_S=same(LEAD_DAYS, np.int64),
        review_period_S=same(1, np.int64),
        review_phase_S=same(0, np.int64),
        min_order_qty_S=same(0),
        pack_size_S=same(PACK),
        order_cap_S=same(np.inf),
        storage_capacity_S=same(np.inf),
        mean_demand_S=mean_S.astype(np.float32),
        costs=CostRates(
            holding_S=same(0.1), lost_sale_S=same(3), fixed_order_S=same(0), unit_cost_S=same(2), salvage_S=None
        ),
    )
