"""Asking for a stored plan: gathering everything that it is computed from, and queueing its run."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from cluster.config import Settings
from cluster.errors import StaleInputError
from cluster.manifest import code_digest, digest_of
from serve.answers import PlanOutline
from serve.plans.runs import make_inputs, open_run
from serve.problems import UnknownSeriesError
from serve.store.database import Database
from serve.store.history import SeriesKey
from serve.store.stock_book import Book, read_book

_MAX_NAMED = 10


async def ask_for_plan(
    services: Any,
    database: Database,
    *,
    settings: Settings,
    as_of: date | None,
    series: Sequence[SeriesKey] | None,
    actor: str,
) -> tuple[str, bool]:
    """Queue the plan of a day as things are now; its run, and whether there is something to do.

    Parameters
    ----------
    services
        Handles of planner, forecaster and policy.
    series
        What is planned; None: everything.

    Raises
    ------
    UnknownSeriesError
        If a series is not in the history.
    StaleInputError
        If the day is out of reach, or the stock is of another one.
    """
    outline, forecaster, policies = await asyncio.gather(
        services.planner.outline.remote(as_of),
        services.forecaster.describe.remote(),
        services.policy.describe.remote(),
    )
    models = {model.name: model.version for model in (forecaster, *policies)}
    return await asyncio.to_thread(
        _open, outline, database, settings=settings, models=models, series=series, actor=actor
    )


def _open(
    outline: PlanOutline,
    database: Database,
    *,
    settings: Settings,
    models: Mapping[str, str],
    series: Sequence[SeriesKey] | None,
    actor: str,
) -> tuple[str, bool]:
    wanted = _wanted(outline, series)
    with database.reading() as session:
        book = read_book(session)
    _check_counted(outline, book)
    plan = settings.plan
    decides = [settings.assumptions.model_dump(mode="json"), plan.budget, plan.overstock_days, plan.new_item_days]
    sources = {
        "dataset": outline.data,
        "models": dict(models),
        "settings": digest_of(decides),
        "code": code_digest(),
    }
    inputs = make_inputs(on_date=outline.on_date, sources=sources, series=wanted, book=book)
    return open_run(database, inputs, actor=actor)


def _wanted(outline: PlanOutline, series: Sequence[SeriesKey] | None) -> list[tuple[SeriesKey, bool]]:
    """Series to plan, in the order of the history, and whether each is new."""
    keys = zip(outline.item_ids_S.tolist(), outline.location_ids_S.tolist(), strict=True)
    is_new = dict(zip(keys, outline.is_new_S.tolist(), strict=True))
    if series is None:
        return list(is_new.items())
    unknown = [key for key in series if key not in is_new]
    if unknown:
        named = ", ".join(f"item {item_id!r} at {place!r}" for item_id, place in unknown[:_MAX_NAMED])
        raise UnknownSeriesError(
            f"no planned series on {outline.on_date}: {named}; leave them out, or load their history"
        )
    asked = set(series)
    return [(key, new) for key, new in is_new.items() if key in asked]


def _check_counted(outline: PlanOutline, book: Book) -> None:
    calendar, day = outline.calendar, outline.on_date
    if book.counted_on is not None and calendar.period_of(book.counted_on) != calendar.period_of(day):
        raise StaleInputError(
            f"the latest count of stock is of {book.counted_on} and the plan of {day}; send the stock of {day} to "
            f"POST /v1/stock, or ask for the plan of {book.counted_on}"
        )
