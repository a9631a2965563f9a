"""Stored order plans: asking for them, their lines, decisions on lines, and exports."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse, Response

from serve.access.roles import Scope, needs
from serve.plans.approvals import Decision, Verb, approve_all, decide
from serve.plans.asking import ask_for_plan
from serve.plans.exports import FORMATS, export_approved, read_export
from serve.plans.queries import LineFilter, export_json, list_exports, list_lines, list_runs, show_line, show_run
from serve.plans.runs import cancel_run
from serve.routes.context import REFUSALS, ActorOf, PathId, PlanningOf, ServicesOf, each_once
from serve.schemas.decisions import (
    ApprovedMany,
    ApproveManyRequest,
    ApproveRequest,
    CancelRequest,
    EditRequest,
    ReasonedRequest,
    SnoozeRequest,
)
from serve.schemas.exports import ExportFileQuery, ExportQuery, ExportRequest, PlanExport, PlanExports
from serve.schemas.plan_lines import LineQuery, StoredLineDetail, StoredLines
from serve.schemas.plan_runs import PlanRun, PlanRunAsked, PlanRunDetail, PlanRunRequest, PlanRuns, RunQuery

router = APIRouter(tags=["stored plans"], dependencies=[Depends(each_once)])
RUN, LINE = "/v1/plan-runs/{run_id}", "/v1/plan-lines/{line_id}"


@router.post(
    "/v1/plan-runs",
    response_model=PlanRunAsked,
    status_code=202,
    responses=REFUSALS | {200: {"model": PlanRunAsked, "description": "this plan is there already"}},
)
@needs(Scope.DECIDE)
async def ask(body: PlanRunRequest, services: ServicesOf, planning: PlanningOf, actor: ActorOf) -> JSONResponse:
    """Ask for a plan of all series, or of some: it is computed beside the requests, and kept.

    With the same inputs (day, series, history, models, settings, stock, orders) it is the same plan, and its decisions
    stay.
    """
    series = None if body.series is None else [(row.item_id, row.location_id) for row in body.series]
    run_id, is_new = await ask_for_plan(
        services, planning.database, settings=planning.settings, as_of=body.as_of, series=series, actor=actor
    )
    planning.foreman.call()
    run = await planning.read(f"run {run_id}", lambda session: show_run(session, run_id))
    shown = {name: run.value[name] for name in PlanRun.model_fields}
    status = 200 if run.value["state"] == "done" else 202
    return JSONResponse(shown | {"is_known": not is_new}, status_code=status)


@router.get("/v1/plan-runs", response_model=PlanRuns, responses=REFUSALS)
@needs(Scope.READ)
async def runs(query: Annotated[RunQuery, Query()], planning: PlanningOf) -> JSONResponse:
    """List plans, newest first."""
    return await planning.answer(f"runs {query}", lambda session: list_runs(session, **query.model_dump()))


@router.get(RUN, response_model=PlanRunDetail, responses=REFUSALS)
@needs(Scope.READ)
async def run(run_id: PathId, planning: PlanningOf) -> JSONResponse:
    """Say how far a plan is, and what its lines come to."""
    return await planning.answer(f"run {run_id}", lambda session: show_run(session, run_id))


@router.post(RUN + "/cancel", response_model=PlanRunDetail, responses=REFUSALS)
@needs(Scope.DECIDE)
async def cancel(run_id: PathId, body: CancelRequest, planning: PlanningOf, actor: ActorOf) -> JSONResponse:
    """End a plan that is not done yet; asked for again, it goes on where it ended."""
    await asyncio.to_thread(cancel_run, planning.database, run_id, actor=actor, reason=body.reason)
    return await planning.answer(f"run {run_id}", lambda session: show_run(session, run_id))


@router.get(RUN + "/lines", response_model=StoredLines, responses=REFUSALS)
@needs(Scope.READ)
async def lines(run_id: PathId, query: Annotated[LineQuery, Query()], planning: PlanningOf) -> JSONResponse:
    """List a plan's lines: those with most money at risk first, or in another order; all, or those with a mark."""
    wanted = LineFilter(**query.model_dump(exclude={"limit", "after"}))
    return await planning.answer(
        f"lines {run_id} {query}",
        lambda session: list_lines(session, run_id, wanted, limit=query.limit, after=query.after),
    )


@router.get(LINE, response_model=StoredLineDetail, responses=REFUSALS)
@needs(Scope.READ)
async def line(line_id: PathId, planning: PlanningOf) -> JSONResponse:
    """Explain a line: the steps to its quantity, and everything that was done with it."""
    return await planning.answer(f"line {line_id}", lambda session: show_line(session, line_id))


@router.post("/v1/plan-lines/approve", response_model=ApprovedMany, responses=REFUSALS)
@needs(Scope.DECIDE)
async def approve_many(body: ApproveManyRequest, planning: PlanningOf, actor: ActorOf) -> JSONResponse:
    """Approve lines, each for itself: the answer says which were refused, and why."""
    wanted = [(row.line_id, row.version) for row in body.lines]
    approved, refused = await asyncio.to_thread(approve_all, planning.database, wanted, actor=actor)
    rows = [{"line_id": row.line_id, "title": row.title, "detail": row.detail} for row in refused]
    return JSONResponse({"approved": approved, "refused": rows})


@router.post(LINE + "/approve", response_model=StoredLineDetail, responses=REFUSALS)
@needs(Scope.DECIDE)
async def approve(line_id: PathId, body: ApproveRequest, planning: PlanningOf, actor: ActorOf) -> JSONResponse:
    """Order what a line says: it is on order from now on, for every plan that is made."""
    return await _decide(planning, line_id, Verb.APPROVE, body, actor=actor)


@router.post(LINE + "/edit", response_model=StoredLineDetail, responses=REFUSALS)
@needs(Scope.DECIDE)
async def edit(line_id: PathId, body: EditRequest, planning: PlanningOf, actor: ActorOf) -> JSONResponse:
    """Change a line's quantity, within the supplier's terms; its ledger says who wanted what."""
    return await _decide(planning, line_id, Verb.EDIT, body, actor=actor)


@router.post(LINE + "/snooze", response_model=StoredLineDetail, responses=REFUSALS)
@needs(Scope.DECIDE)
async def snooze(line_id: PathId, body: SnoozeRequest, planning: PlanningOf, actor: ActorOf) -> JSONResponse:
    """Leave a line's series alone until a day: plans before it start with this line snoozed."""
    return await _decide(planning, line_id, Verb.SNOOZE, body, actor=actor)


@router.post(LINE + "/reject", response_model=StoredLineDetail, responses=REFUSALS)
@needs(Scope.DECIDE)
async def reject(line_id: PathId, body: ReasonedRequest, planning: PlanningOf, actor: ActorOf) -> JSONResponse:
    """Order nothing."""
    return await _decide(planning, line_id, Verb.REJECT, body, actor=actor)


@router.post(LINE + "/reopen", response_model=StoredLineDetail, responses=REFUSALS)
@needs(Scope.DECIDE)
async def reopen(line_id: PathId, body: ReasonedRequest, planning: PlanningOf, actor: ActorOf) -> JSONResponse:
    """Take back an approval that was not exported, a rejection or a snooze."""
    return await _decide(planning, line_id, Verb.REOPEN, body, actor=actor)


@router.post("/v1/exports", response_model=PlanExport, status_code=201, responses=REFUSALS)
@needs(Scope.DECIDE)
async def make_export(body: ExportRequest, planning: PlanningOf, actor: ActorOf) -> JSONResponse:
    """Hand over a plan's approved lines, each once; the file is fetched by the export's id."""

    def export() -> dict[str, Any]:
        with planning.database.writing() as session:
            return export_json(export_approved(session, body.run_id, actor=actor))

    return JSONResponse(await asyncio.to_thread(export), status_code=201)


@router.get("/v1/exports", response_model=PlanExports, responses=REFUSALS)
@needs(Scope.READ)
async def exports(query: Annotated[ExportQuery, Query()], planning: PlanningOf) -> JSONResponse:
    """List exports, newest first."""
    return await planning.answer(f"exports {query}", lambda session: list_exports(session, **query.model_dump()))


@router.get(
    "/v1/exports/{export_id}",
    response_class=Response,
    responses=REFUSALS
    | {200: {"description": "the lines", "content": {kind.partition(";")[0]: {} for kind, _ in FORMATS.values()}}},
)
@needs(Scope.READ)
async def export_file(export_id: PathId, query: Annotated[ExportFileQuery, Query()], planning: PlanningOf) -> Response:
    """Fetch an export's lines as CSV, Parquet or JSON, as often as needed."""
    known = await planning.read(f"export {export_id}", lambda session: read_export(session, export_id))
    media_type, write = FORMATS[query.format]
    name = f'attachment; filename="{known.value.num_rows}-orders.{query.format}"'
    headers = planning.age_of(known) | {"content-disposition": name}
    return Response(await asyncio.to_thread(write, known.value), media_type=media_type, headers=headers)


async def _decide(planning: Any, line_id: str, verb: Verb, body: Any, *, actor: str) -> JSONResponse:
    decision = Decision(line_id=line_id, verb=verb, **body.model_dump())
    await asyncio.to_thread(decide, planning.database, decision, actor=actor)
    return await planning.answer(f"line {line_id}", lambda session: show_line(session, line_id))
