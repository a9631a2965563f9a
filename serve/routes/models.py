"""Which model versions serve, and changing them: promote one that passes its check, or go back."""

import asyncio
from importlib.metadata import version as version_of

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from cluster.promotions import Promotion
from serve.access.roles import Scope, needs
from serve.routes.context import REFUSALS, ActorOf, ReleasesOf, ServicesOf
from serve.schemas.models import ModelsAnswer, PromoteRequest, PromotionAnswer, RollBackRequest

router = APIRouter(tags=["models"])


@router.get("/v1/models", response_model=ModelsAnswer, responses={503: REFUSALS[503]})
@needs(Scope.READ)
async def models(services: ServicesOf) -> JSONResponse:
    """List the versions that answer now."""
    forecaster, recommender, policies = await asyncio.gather(
        services.forecaster.describe.remote(),
        services.recommender.describe.remote(),
        services.policy.describe.remote(),
    )
    served = [forecaster, recommender, *policies]
    return JSONResponse({"version": version_of("restock"), "models": [model.to_json() for model in served]})


@router.post("/v1/models/promote", response_model=PromotionAnswer, responses=REFUSALS)
@needs(Scope.OPERATE)
async def promote(body: PromoteRequest, releases: ReleasesOf, actor: ActorOf) -> JSONResponse:
    """Check a version apart from traffic, make it champion and serve it; refused, the old one goes on serving."""
    moved = await releases.promote(body.name, body.version, by=actor, reason=body.reason)
    return JSONResponse(_answer(body.name, moved))


@router.post("/v1/models/roll-back", response_model=PromotionAnswer, responses=REFUSALS)
@needs(Scope.OPERATE)
async def roll_back(body: RollBackRequest, releases: ReleasesOf, actor: ActorOf) -> JSONResponse:
    """Serve the champion of before again; asked once more, one step further back."""
    return JSONResponse(_answer(body.name, await releases.roll_back(body.name, by=actor, reason=body.reason)))


def _answer(name: str, moved: Promotion) -> dict[str, str | None]:
    return {"name": name, "version": moved.version, "previous": moved.previous, "kind": moved.kind}
