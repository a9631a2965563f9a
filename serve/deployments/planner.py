"""The planner as a deployment: composes forecaster and policies into order lines.

Shapes: S series.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from datetime import date
from functools import lru_cache
from typing import Any

import numpy as np

from cluster.config import Settings
from cluster.dataset import Dataset, open_dataset
from cluster.errors import DataError
from cluster.schema import OPEN_ORDERS, Col
from forecasting.forecast import Forecast
from rl.assumptions import make_supply_terms
from rl.inventory import InventoryState, SupplyTerms
from rl.ordering import ask_policies, make_order_plan
from rl.orders import OrderPlan
from rl.policies.classical import Newsvendor
from rl.stock import StockReading
from serve.answers import AnsweredWishes, PlanAnswer, PlanOutline, PlanQuestion, SeriesForecasts, UserRecommendations
from serve.deployments.popular import popular_answer, popular_items
from serve.deployments.worker import Worker
from serve.fallbacks import first_answer
from serve.handles import PatientHandle
from serve.plans.basis import PlanBasis, dated, starting_stock
from serve.problems import NotReadyError
from serve.store.book_view import BookRows, BookView
from serve.store.follower import Follower
from serve.store.history import History, SeriesKey
from serve.store.live_stock import StockReader
from serve.store.stored_forecasts import ForecastStore
from serve.watch.log import write_to_output
from serve.watch.metrics import BATCH_SIZE, Measured, meter

_VIEWS_KEPT = 3


class PlannerReplica(Measured):
    """Answers order plans: asks the forecaster, then the policies, each once per plan.

    ``user_config``: ``{"data": "<digest>"}``; another digest reads the current dataset again.

    Parameters
    ----------
    is_strict
        A model that does not answer is an error, and nothing answers in its place.
    """

    def __init__(self, settings: Settings, *, forecaster: Any, policy: Any, is_strict: bool = False) -> None:
        write_to_output()
        self._settings = settings
        self._forecaster = PatientHandle(forecaster)
        self._policy = PatientHandle(policy)
        self._patience_s = settings.serve.patience_s
        self._is_strict = is_strict
        self._planning: _Planning | None = None
        self._worker = Worker("planner")
        self._is_free: dict[str, bool] = {}
        self._shelf = Follower(settings, read=StockReader().read, take=self._take_stock)
        self._popular: list[tuple[str, str, float]] | None = None

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Plan over the given data."""
        if self._planning is None or self._planning.history.digest != user_config["data"]:
            self._planning = await asyncio.to_thread(_Planning, self._settings)
            self._popular = None

    async def plan(self, question: PlanQuestion) -> PlanAnswer:
        """Order lines of the asked series.

        Raises
        ------
        UnknownSeriesError, StaleInputError, DataError
            If a series is unknown, a date is out of reach, or a quantity is impossible.
        """
        planning = self._current()
        basis = await self._worker.run(planning.basis, question)
        meter().observe(BATCH_SIZE, len(basis.index), "planner")
        forecasts, rows = await asyncio.gather(
            self._forecasts(basis, question), asyncio.to_thread(planning.book_rows, basis, question)
        )
        reading, is_assumed = await self._worker.run(starting_stock, basis, rows, forecasts.forecast)
        wishes, driver_S = await asyncio.gather(
            self._wishes(basis, question, reading.state, forecasts.forecast), self._drivers(basis, question, forecasts)
        )
        plan = await self._worker.run(_order_plan, basis, reading, forecasts, wishes, driver_S)
        return PlanAnswer(
            plan=plan,
            is_fallback_S=wishes.is_fallback_S,
            stock_is_assumed=is_assumed,
            num_series_left_out=0 if question.series is not None else basis.view.panel.num_series - len(basis.index),
            model_versions={"forecaster": forecasts.model_version, **wishes.model_versions},
            is_degraded=bool(_degraded(forecasts, wishes)),
        )

    async def outline(self, as_of: date | None) -> PlanOutline:
        """What a plan of a day would be of; the dataset's stock is in the book after that.

        Raises
        ------
        StaleInputError
            If the day is out of reach.
        DatabaseDownError
            If the database does not answer.
        """
        return await asyncio.to_thread(self._current().outline, as_of)

    async def _forecasts(self, basis: PlanBasis, question: PlanQuestion) -> SeriesForecasts:
        series, day, changes = basis.series, basis.on_date, question.changes

        async def stored() -> SeriesForecasts:
            return await self.stored_forecasts(series, horizon=None, levels=None, as_of=day)

        return await first_answer(
            lambda: self._forecaster.predict.remote(series, horizon=None, levels=None, as_of=day, changes=changes),
            fall_back=None if self._is_strict else stored,
            patience_s=question.patience_s or self._patience_s,
            what="forecaster",
        )

    async def _drivers(self, basis: PlanBasis, question: PlanQuestion, forecasts: SeriesForecasts) -> list[str] | None:
        """What moves demand over the protection intervals; None unless asked for, and of stored forecasts."""
        if not question.with_drivers or forecasts.is_fallback:
            return None
        periods_S = basis.terms.protection_interval_S.astype(np.int64)

        async def none() -> None:
            return None

        return await first_answer(
            lambda: self._forecaster.drivers.remote(
                basis.series, periods_S=periods_S, as_of=basis.on_date, changes=question.changes
            ),
            fall_back=None if self._is_strict else none,
            patience_s=question.patience_s or self._patience_s,
            what="drivers of the forecast",
        )

    async def _wishes(
        self, basis: PlanBasis, question: PlanQuestion, state: InventoryState, forecast: Forecast
    ) -> AnsweredWishes:
        async def textbook() -> AnsweredWishes:
            return await self._worker.run(_textbook_wishes, basis, state, forecast)

        return await first_answer(
            lambda: self._policy.wish.remote(
                basis.index.category_ids_S, state=state, forecast=forecast, terms=basis.terms, as_of=basis.on_date
            ),
            fall_back=None if self._is_strict else textbook,
            patience_s=question.patience_s or self._patience_s,
            what="policy",
        )

    async def stored_forecasts(
        self, series: list[SeriesKey], *, horizon: int | None, levels: list[float] | None, as_of: date | None
    ) -> SeriesForecasts:
        """Last stored forecasts of some series: what is answered while the forecaster does not.

        Raises
        ------
        NotReadyError
            If none are stored for that day.
        """
        return await self._worker.run(self._current().stored, series, horizon, levels, as_of)

    async def popular(self, user_ids: list[str], *, k: int) -> UserRecommendations:
        """What sells well in each category, for everybody: what is answered while the recommender does not."""
        await self._shelf.catch_up()
        if self._popular is None:
            self._popular = self._current().popular(self._is_free)
        return popular_answer(self._popular[:k], user_ids=user_ids, k=k)

    async def check(self) -> str:
        """Plan one series through the whole composition; return what was asked."""
        question = PlanQuestion(series=None, limit=1, as_of=None, stock=None, open_orders=None)
        answer = await self.plan(question)
        if len(answer.plan.lines) != 1:
            raise NotReadyError("the planner has no series to plan; load a dataset")
        return "1 line"

    def _take_stock(self, is_free: dict[str, bool]) -> None:
        if is_free:
            self._is_free |= is_free
            self._popular = None

    def _current(self) -> "_Planning":
        if self._planning is None:
            raise NotReadyError("the planner has not read the dataset yet; try again in a moment")
        return self._planning


class _Planning:
    """History and the terms of all its series, made once per day that is asked for."""

    def __init__(self, settings: Settings) -> None:
        self.history = History(open_dataset(settings))
        self._settings = settings
        self._book = BookView(settings, self.history.dataset)
        self._terms_at = lru_cache(maxsize=_VIEWS_KEPT)(self._make_terms)
        self._terms_at(None)  # now, so that wrong supply terms stop the start and not a request
        self._forecasts = ForecastStore(settings, data=self.history.digest)
        self._sold_out = _sold_out(self.history.dataset)

    def popular(self, is_free: Mapping[str, bool]) -> list[tuple[str, str, float]]:
        """What sells well in each category and is on the shelf, after what is known of some items now."""
        sold_out = {item_id for item_id in self._sold_out if not is_free.get(item_id, False)}
        sold_out |= {item_id for item_id, free in is_free.items() if not free}
        return popular_items(self.history.view_at(None).panel, sold_out=sold_out)

    def stored(
        self, series: list[SeriesKey], horizon: int | None, levels: list[float] | None, as_of: date | None
    ) -> SeriesForecasts:
        """Stored forecasts of some series."""
        view = self.history.view_at(as_of)
        if view is not self.history.view_at(None):
            raise NotReadyError(f"no forecasts are stored as of {as_of}; try again when the forecaster answers")
        rows_S = view.rows_of(series)
        forecast, version = self._forecasts.read(rows_S)
        forecast = forecast.until(min(horizon or forecast.horizon, forecast.horizon))
        forecast = forecast if levels is None else forecast.at_levels(levels)
        return view.answer(forecast, rows_S=rows_S, model_version=version, is_fallback=True)

    def basis(self, question: PlanQuestion) -> PlanBasis:
        """Rows and terms of the asked series."""
        view = self.history.view_at(question.as_of)
        rows_S = np.arange(min(question.limit, view.panel.num_series))
        if question.series is not None:
            _check_distinct(question.series)
            rows_S = view.rows_of(question.series)
        terms, assumptions = self._terms_at(question.as_of)
        index = view.panel.index.take(rows_S)
        return PlanBasis(
            view=view,
            on_date=question.as_of or view.as_of,
            index=index,
            terms=terms.take(rows_S),
            assumptions=assumptions,
        )

    def book_rows(self, basis: PlanBasis, question: PlanQuestion) -> BookRows | None:
        """Stock and open orders to start from: those of the question, else the book's; None for a day in the past."""
        if question.stock is not None:
            stock = dated(question.stock, day=basis.on_date)
            orders = question.open_orders if question.open_orders is not None else OPEN_ORDERS.empty_table()
            return BookRows(counted_on=basis.on_date, stock=stock, open_orders=orders, known_at=None)
        if question.open_orders is not None and question.open_orders.num_rows:
            return BookRows(counted_on=None, stock=None, open_orders=question.open_orders, known_at=None)
        # What is there now says nothing of days that are over.
        return self._book.read(basis.series) if basis.view is self.history.view_at(None) else None

    def outline(self, as_of: date | None) -> PlanOutline:
        """What a plan of a day would be of."""
        self._book.adopt()
        view = self.history.view_at(as_of)
        panel = view.panel
        new_periods = panel.calendar.num_periods(self._settings.plan.new_item_days)
        return PlanOutline(
            on_date=as_of or view.as_of,
            data=self.history.digest,
            calendar=panel.calendar,
            item_ids_S=panel.index.item_ids_S,
            location_ids_S=panel.index.location_ids_S,
            is_new_S=panel.first_sale_S > panel.num_periods - new_periods,
        )

    def _make_terms(self, as_of: date | None) -> tuple[SupplyTerms, tuple[str, ...]]:
        table = self.history.dataset.table("supply_terms")
        return make_supply_terms(table, panel=self.history.view_at(as_of).panel, settings=self._settings)


def _sold_out(dataset: Dataset) -> frozenset[str]:
    stock = dataset.table("stock")
    if stock is None:
        return frozenset()
    free: Counter[str] = Counter()
    for row in stock.select([Col.ITEM_ID, Col.ON_HAND_QTY, Col.RESERVED_QTY]).to_pylist():
        free[row[Col.ITEM_ID]] += row[Col.ON_HAND_QTY] - (row[Col.RESERVED_QTY] or 0.0)
    return frozenset(item_id for item_id, units in free.items() if units <= 0)


def _check_distinct(series: list[SeriesKey]) -> None:
    (item_id, location_id), count = Counter(series).most_common(1)[0]
    if count > 1:
        raise DataError(f"item {item_id!r} at {location_id!r} is asked {count} times; name every series once")


def _textbook_wishes(basis: PlanBasis, state: InventoryState, forecast: Forecast) -> AnsweredWishes:
    num_series = len(basis.index)
    wishes = ask_policies([Newsvendor()] * num_series, state=state, forecast=forecast, terms=basis.terms)
    return AnsweredWishes(
        wish_S=wishes.wish_S,
        policy_S=wishes.policy_S,
        is_fallback_S=np.ones(num_series, dtype=bool),
        model_versions={},
    )


def _degraded(forecasts: SeriesForecasts, wishes: AnsweredWishes) -> tuple[str, ...]:
    """What answered in place of models that did not."""
    notes = []
    if forecasts.is_fallback:
        notes.append(f"The forecaster did not answer: its last stored forecasts ({forecasts.model_version}) are used.")
    if not wishes.model_versions:
        notes.append("The policies did not answer: the textbook newsvendor rule ordered.")
    return tuple(notes)


def _order_plan(
    basis: PlanBasis,
    reading: StockReading,
    forecasts: SeriesForecasts,
    wishes: AnsweredWishes,
    driver_S: list[str] | None,
) -> OrderPlan:
    return make_order_plan(
        index=basis.index,
        state=reading.state,
        forecast=forecasts.forecast,
        terms=basis.terms,
        wishes=wishes,
        on_date=basis.on_date,
        calendar=basis.view.panel.calendar,
        remark_S=reading.remark_S,
        driver_S=driver_S,
        notes=(*_degraded(forecasts, wishes), *basis.assumptions, *reading.notes),
    )
