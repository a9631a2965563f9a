"""What happens in the shop: counts, customers' orders, deliveries; and what is there and on its way after them."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session

from cluster.privacy import UserIds
from recsys.sessions import LiveEvent
from serve.access.roles import Scope, needs
from serve.plans.queries import list_audit, list_open_orders, list_stock
from serve.routes.context import REFUSALS, ActorOf, Key, PathId, Planning, PlanningOf, ServicesOf, UsersOf, each_once
from serve.routes.events import tell_recommenders
from serve.schemas.audit import AuditChanges, AuditQuery
from serve.schemas.decisions import CancelRequest
from serve.schemas.stock import (
    MovesTaken,
    OpenOrderQuery,
    OpenOrders,
    OrderCancelled,
    OrdersRequest,
    ReceiptsRequest,
    StockLevels,
    StockQuery,
    StockRequest,
    StockTaken,
)
from serve.store.live_events import keep_events
from serve.store.stock_book import (
    Count,
    Counted,
    Ordered,
    Received,
    Sold,
    book_receipts,
    book_sales,
    cancel_order,
    take_count,
)

router = APIRouter(tags=["stock"], dependencies=[Depends(each_once)])


@router.post("/v1/stock", response_model=StockTaken, responses=REFUSALS)
@needs(Scope.TELL)
async def tell_stock(body: StockRequest, key: Key, planning: PlanningOf, actor: ActorOf) -> JSONResponse:
    """Tell a count of stock; the next plan starts from it and from what moved since."""
    count = Count(
        counted_on=body.counted_on,
        stock=[Counted(**row.model_dump()) for row in body.stock],
        open_orders=None if body.open_orders is None else [Ordered(**row.model_dump()) for row in body.open_orders],
        is_complete=body.is_complete,
    )
    answer, is_repeat = await planning.take(
        "stock",
        key,
        body.model_dump(mode="json"),
        actor=actor,
        act=lambda session, source: take_count(session, count, actor=actor, source=source),
    )
    return JSONResponse(answer | {"is_repeat": is_repeat})


@router.post("/v1/orders", response_model=MovesTaken, responses=REFUSALS)
@needs(Scope.TELL)
async def tell_orders(
    body: OrdersRequest,
    key: Key,
    planning: PlanningOf,
    actor: ActorOf,
    services: ServicesOf,
    users: UsersOf,
) -> JSONResponse:
    """Tell customers' orders: stock falls, and the next plans and recommendations follow."""
    now = datetime.now(UTC)
    bought = _bought(body, users=users, now=now)
    zone = ZoneInfo(planning.settings.data.timezone)
    sales = [
        Sold(
            item_id=row.item_id,
            location_id=row.location_id,
            sold_qty=row.sold_qty,
            sold_on=min(row.ordered_at or now, now).astimezone(zone).date(),
        )
        for row in body.orders
    ]
    answer, is_repeat = await planning.take(
        "orders",
        key,
        _without_names(body, users=users),
        actor=actor,
        act=lambda session, source: _sell(session, sales, bought, now=now, actor=actor, source=source),
    )
    if not is_repeat:
        await tell_recommenders(services, bought)
    return JSONResponse(answer | {"is_repeat": is_repeat})


@router.post("/v1/receipts", response_model=MovesTaken, responses=REFUSALS)
@needs(Scope.TELL)
async def tell_receipts(body: ReceiptsRequest, key: Key, planning: PlanningOf, actor: ActorOf) -> JSONResponse:
    """Tell deliveries: units move from their orders to the shelf."""
    today = _today(planning)
    receipts = [
        Received(open_order_id=row.open_order_id, received_qty=row.received_qty, received_on=row.received_on or today)
        for row in body.receipts
    ]
    answer, is_repeat = await planning.take(
        "receipts",
        key,
        body.model_dump(mode="json"),
        actor=actor,
        act=lambda session, source: book_receipts(session, receipts, actor=actor, source=source),
    )
    return JSONResponse(answer | {"is_repeat": is_repeat})


@router.get("/v1/stock", response_model=StockLevels, responses=REFUSALS)
@needs(Scope.READ)
async def stock(query: Annotated[StockQuery, Query()], planning: PlanningOf) -> JSONResponse:
    """List what is on the shelf now."""
    return await planning.answer(f"stock {query}", lambda session: list_stock(session, **query.model_dump()))


@router.get("/v1/open-orders", response_model=OpenOrders, responses=REFUSALS)
@needs(Scope.READ)
async def open_orders(query: Annotated[OpenOrderQuery, Query()], planning: PlanningOf) -> JSONResponse:
    """List what is on order: approved lines, and what the shop's own system reported."""
    return await planning.answer(
        f"open orders {query}", lambda session: list_open_orders(session, **query.model_dump())
    )


@router.post("/v1/open-orders/{open_order_id}/cancel", response_model=OrderCancelled, responses=REFUSALS)
@needs(Scope.DECIDE)
async def cancel_open_order(
    open_order_id: PathId, body: CancelRequest, planning: PlanningOf, actor: ActorOf
) -> JSONResponse:
    """Say that what is still open of an order will not come."""

    def cancel() -> dict[str, Any]:
        with planning.database.writing() as session:
            return cancel_order(session, open_order_id, actor=actor, reason=body.reason)

    return JSONResponse(await asyncio.to_thread(cancel))


@router.get("/v1/audit", response_model=AuditChanges, responses=REFUSALS)
@needs(Scope.READ)
async def audit(query: Annotated[AuditQuery, Query()], planning: PlanningOf) -> JSONResponse:
    """List who changed what, when and why, latest first."""
    return await planning.answer(f"audit {query}", lambda session: list_audit(session, **query.model_dump()))


def _without_names(body: OrdersRequest, *, users: UserIds) -> dict[str, Any]:
    """The content as it may be remembered: customers by their hashes."""
    rows = [row.model_dump(mode="json") for row in body.orders]
    return {
        "orders": [row | {"user_id": None if row["user_id"] is None else users.hash_id(row["user_id"])} for row in rows]
    }


def _sell(
    session: Session,
    sales: Sequence[Sold],
    bought: Mapping[str, Sequence[LiveEvent]],
    *,
    now: datetime,
    actor: str,
    source: str,
) -> dict[str, Any]:
    answer = book_sales(session, sales, actor=actor, source=source)
    keep_events(session, bought, now=now)
    return answer


def _bought(body: OrdersRequest, *, users: UserIds, now: datetime) -> dict[str, list[LiveEvent]]:
    """What each customer bought; what was brought back is not told."""
    bought: dict[str, list[LiveEvent]] = defaultdict(list)
    for row in body.orders:
        if row.user_id is not None and row.sold_qty > 0:
            at_s = int(min(row.ordered_at or now, now).timestamp())
            bought[users.hash_id(row.user_id)].append(LiveEvent(item_id=row.item_id, behaviour="purchase", at_s=at_s))
    return bought


def _today(planning: Planning) -> date:
    return datetime.now(ZoneInfo(planning.settings.data.timezone)).date()
