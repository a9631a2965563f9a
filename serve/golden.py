"""The check before traffic: a release is loaded apart from what serves, and answers golden requests.

A version passes if it loads, if every model answers for real series and users of the shop, if the answers have the
documented form and finite numbers, and if forecaster and policies still make a plan together.
"""

import asyncio

import numpy as np
from pydantic import BaseModel

from cluster.config import Settings
from cluster.dataset import open_dataset
from cluster.errors import ArtifactError
from serve.answers import PlanQuestion
from serve.handles import Services
from serve.layout import LocalReplicas, Versions
from serve.schemas.forecasts import ForecastAnswer
from serve.schemas.order_plans import OrderPlanAnswer
from serve.schemas.recommendations import RecommendationAnswer
from serve.store.history import SeriesKey

_MAX_SERIES = 200
_NUM_ITEMS = 5


def check_release(settings: Settings, versions: Versions) -> None:
    """Load the given versions in this process and ask them.

    Raises
    ------
    RestockError
        What is wrong: a version that does not load, or one whose answers cannot be used.
    """
    asyncio.run(_check(settings, versions))


async def _check(settings: Settings, versions: Versions) -> None:
    replicas = LocalReplicas(settings, is_strict=True)
    await replicas.reconfigure(versions)
    series = _one_per_category(settings)
    await _check_forecasts(replicas.services, series)
    await _check_plan(replicas.services, series)
    await _check_recommendations(replicas.services)


def _one_per_category(settings: Settings) -> list[SeriesKey]:
    index = open_dataset(settings).panel().index
    _, rows = np.unique(index.category_ids_S, return_index=True)
    chosen = index.take(rows[:_MAX_SERIES])
    return list(zip(chosen.item_ids_S.tolist(), chosen.location_ids_S.tolist(), strict=True))


async def _check_forecasts(services: Services, series: list[SeriesKey]) -> None:
    answer = await services.forecaster.predict.remote(series, horizon=None, levels=None, as_of=None)
    forecast = answer.forecast
    for values in (forecast.mean_SH, forecast.marginal_SHQ, forecast.cumulative_SHQ):
        if not np.isfinite(values).all() or values.min() < 0:
            raise ArtifactError(
                f"forecaster {answer.model_version} forecasts numbers that are below zero or not finite"
            )
    _check_form(answer.to_json(), ForecastAnswer, of=f"forecaster {answer.model_version}")


async def _check_plan(services: Services, series: list[SeriesKey]) -> None:
    question = PlanQuestion(series=series, limit=len(series), as_of=None, stock=None, open_orders=None)
    answer = await services.planner.plan.remote(question)
    quantity_S = answer.plan.table["order_qty"].to_numpy()
    if not np.isfinite(quantity_S).all() or quantity_S.min() < 0:
        raise ArtifactError(f"{_named(answer.model_versions)} order quantities that are below zero or not finite")
    _check_form(answer.to_json(), OrderPlanAnswer, of=_named(answer.model_versions))


async def _check_recommendations(services: Services) -> None:
    # Fails if it has nothing to recommend. An answer may be empty all the same: everything may be sold out.
    await services.recommender.check.remote()
    answer = await services.recommender.recommend.remote([""], k=_NUM_ITEMS)
    if not np.isfinite(answer.score_UK).all():
        raise ArtifactError(f"recommender {answer.model_version} has scores that are not finite")
    _check_form(answer.to_json(0), RecommendationAnswer, of=f"recommender {answer.model_version}")


def _named(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _check_form(answer: dict[str, object], form: type[BaseModel], *, of: str) -> None:
    try:
        form.model_validate(answer)
    except ValueError as error:
        raise ArtifactError(f"{of} answers in another form than is documented: {error}") from error
