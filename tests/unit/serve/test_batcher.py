"""Questions that wait together are answered together, each with its own answer."""

import asyncio
from collections.abc import Sequence

import pytest
from serving_home import USERS, Home

from cluster.privacy import open_user_ids
from serve.deployments.batcher import Batcher
from serve.layout import LocalReplicas


class Doubler:
    """Doubles numbers, and remembers what came together; negative ones it cannot."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    async def compute(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(list(numbers))
        await asyncio.sleep(0.01)
        if min(numbers) < 0:
            raise ValueError("negative")
        return [2 * number for number in numbers]


async def ask_all(batcher: Batcher[int, int], numbers: Sequence[int]) -> list[int | BaseException]:
    asked = [batcher.ask(number, kind=number % 10) for number in numbers]
    return await asyncio.gather(*asked, return_exceptions=True)


def test_what_comes_while_a_batch_is_computed_is_the_next_batch() -> None:
    doubler = Doubler()

    async def come() -> list[int | BaseException]:
        batcher = Batcher(doubler.compute, most=3)
        first = asyncio.create_task(batcher.ask(1, kind=1))
        await asyncio.sleep(0.002)
        rest = await ask_all(batcher, [11, 21, 31, 41])
        return [await first, *rest]

    assert asyncio.run(come()) == [2, 22, 42, 62, 82]
    assert doubler.batches == [[1], [11, 21, 31], [41]]


def test_only_one_kind_is_in_a_batch_and_who_waits_longest_is_first() -> None:
    doubler = Doubler()
    assert asyncio.run(ask_all(Batcher(doubler.compute, most=9), [1, 2, 11, 12])) == [2, 4, 22, 24]
    assert doubler.batches == [[1, 11], [2, 12]]


def test_an_error_is_that_of_its_batch_and_the_next_is_answered() -> None:
    first, second, third = asyncio.run(ask_all(Batcher(Doubler().compute, most=9), [-9, 1, 3]))
    assert (type(first), type(second), third) == (ValueError, ValueError, 6)


def test_who_goes_away_takes_nobody_along() -> None:
    doubler = Doubler()

    async def come() -> int:
        batcher = Batcher(doubler.compute, most=9)
        gone, waits = (asyncio.create_task(batcher.ask(number, kind=0)) for number in (1, 2))
        await asyncio.sleep(0.002)
        late = asyncio.create_task(batcher.ask(3, kind=0))
        await asyncio.sleep(0)
        gone.cancel()
        late.cancel()
        return await waits

    assert asyncio.run(come()) == 4
    assert doubler.batches == [[1, 2]]


def test_a_batcher_goes_on_in_another_event_loop() -> None:
    batcher = Batcher(Doubler().compute, most=9)
    assert [asyncio.run(batcher.ask(number, kind=0)) for number in (1, 2)] == [2, 4]


@pytest.mark.parametrize("k", [3, 8])
def test_recommendations_do_not_depend_on_who_asks_beside(home: Home, replicas: LocalReplicas, k: int) -> None:
    names = open_user_ids(home.settings)
    users = [*map(names.hash_id, USERS[:9]), "stranger", names.hash_id(USERS[0])]
    recommend = replicas.services.recommender.recommend.remote

    async def together() -> list[dict[str, object]]:
        answers = await asyncio.gather(*(recommend([user], k=k) for user in users), recommend(users[:2], k=5))
        return [answer.to_json(0) for answer in answers[:-1]]

    async def alone() -> list[dict[str, object]]:
        return [(await recommend([user], k=k)).to_json(0) for user in users]

    assert asyncio.run(together()) == asyncio.run(alone())
