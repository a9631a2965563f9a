"""The same models and payloads behind nothing but FastAPI and uvicorn, one process: the yardstick of ``serving``.

No guard, no log, no metrics, no fallbacks, no threads: each route validates, calls the models and writes the answer.
"""

import argparse
import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Query
from fastapi.responses import JSONResponse

from benchmarks.serving_shop import open_shop
from cluster.config import Settings
from cluster.privacy import open_user_ids
from serve.answers import PlanQuestion
from serve.layout import LocalReplicas
from serve.releases import serving_versions
from serve.schemas.forecasts import ForecastRequest
from serve.schemas.order_plans import OrderPlanRequest
from serve.schemas.recommendations import RecommendationQuery


class _Inline:
    """Runs arithmetic in the event loop: with one process and no health checks, the cheapest way."""

    async def run(self, compute: Callable[..., Any], *arguments: Any) -> Any:
        return compute(*arguments)


def make_app(settings: Settings) -> FastAPI:
    """Three routes over loaded models."""
    replicas = LocalReplicas(settings, is_strict=True)
    for replica in replicas.replicas.values():
        replica._worker = _Inline()
    asyncio.run(replicas.reconfigure(serving_versions(settings)))
    services, users = replicas.services, open_user_ids(settings)
    app = FastAPI()

    @app.get("/v1/recommendations")
    async def recommendations(query: Annotated[RecommendationQuery, Query()]) -> JSONResponse:
        answer = await services.recommender.recommend.remote([users.hash_id(query.user_id)], k=query.k)
        return JSONResponse(answer.to_json(0))

    @app.post("/v1/forecasts")
    async def forecasts(body: ForecastRequest) -> JSONResponse:
        series = [(row.item_id, row.location_id) for row in body.series]
        answer = await services.forecaster.predict.remote(
            series, horizon=body.horizon, levels=body.levels, as_of=body.as_of
        )
        return JSONResponse(answer.to_json())

    @app.post("/v1/order-plans")
    async def order_plans(body: OrderPlanRequest) -> JSONResponse:
        series = [(row.item_id, row.location_id) for row in body.series or ()]
        question = PlanQuestion(series=series, limit=len(series), as_of=body.as_of, stock=None, open_orders=None)
        return JSONResponse((await services.planner.plan.remote(question)).to_json())

    return app


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shop", type=Path, required=True)
    parser.add_argument("--items", type=int, required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    settings = open_shop(arguments.shop, num_items=arguments.items)
    uvicorn.run(make_app(settings), host="127.0.0.1", port=arguments.port, log_level="error", access_log=False)


if __name__ == "__main__":
    main()
