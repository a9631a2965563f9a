"""The recommender behind Serve's own batches (``@serve.batch``) in place of ours: a rival of ``serving_cpu``."""

from types import SimpleNamespace

from ray import serve
from ray.serve import context

from cluster.config import Settings
from serve.answers import UserRecommendations
from serve.deployments.recommender import RecommenderReplica, _Wanted


class RecommendsByServe(RecommenderReplica):
    """Asks the same model; a batch is what waits when it begins, and what comes within ``wait_s``."""

    def __init__(self, settings: Settings, *, wait_s: float) -> None:
        super().__init__(settings)
        # Serve's batches ask the replica that they are in how much it takes at once.
        taken = SimpleNamespace(max_ongoing_requests=settings.serve.max_ongoing_requests)
        context._INTERNAL_REPLICA_CONTEXT = SimpleNamespace(_deployment_config=taken)
        self.batched.set_max_batch_size(settings.serve.batch_users)
        self.batched.set_batch_wait_timeout_s(wait_s)

    async def recommend(self, user_ids: list[str], *, k: int) -> UserRecommendations:
        """Best items of each user; all requests ask for one number ``k``."""
        await self._follower.catch_up()
        answer: UserRecommendations = await self.batched(_Wanted(user_ids=user_ids, k=k))
        return answer

    @serve.batch
    async def batched(self, wanted: list[_Wanted]) -> list[UserRecommendations]:
        """Answers of a batch of requests."""
        return await self._recommend_all(wanted)
