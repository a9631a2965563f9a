"""Answers what waits together in one go: while one batch is computed, the next one gathers.

There is no timer. A question that comes alone is answered at once, and a batch grows only where questions would wait
anyway, so that nobody is answered later for it.
"""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting(Generic[Question, Answer]):
    kind: Hashable
    question: Question
    answer: "asyncio.Future[Answer]"
    context: contextvars.Context


class Batcher(Generic[Question, Answer]):
    """Gathers questions of a kind.

    Parameters
    ----------
    compute
        Answers to questions of one kind, in their order. What it raises is raised to all who asked.
    most
        Questions of a batch; 1 answers each by itself, one after another.
    """

    def __init__(self, compute: Callable[[Sequence[Question]], Awaitable[Sequence[Answer]]], *, most: int) -> None:
        self._compute = compute
        self._most = most
        self._waiting: list[_Waiting[Question, Answer]] = []
        self._working: asyncio.Task[None] | None = None

    async def ask(self, question: Question, *, kind: Hashable) -> Answer:
        """Answer of a question, computed together with others of its kind."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        context = contextvars.copy_context()
        self._waiting.append(_Waiting(kind=kind, question=question, answer=answer, context=context))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        return await answer

    async def _work(self) -> None:
        while batch := self._next_batch():
            # In the context of who asked first: what is logged has that request's id.
            asked = self._compute([waiting.question for waiting in batch])
            computing = asyncio.get_running_loop().create_task(_awaited(asked), context=batch[0].context)
            try:
                answers = await computing
            except Exception as error:
                for waiting in batch:
                    if not waiting.answer.done():
                        waiting.answer.set_exception(error)
                continue
            for waiting, answer in zip(batch, answers, strict=True):
                # Who was cancelled meanwhile wants none.
                if not waiting.answer.done():
                    waiting.answer.set_result(answer)

    def _next_batch(self) -> list[_Waiting[Question, Answer]]:
        """The longest waiting question whose asker is still there, and others of its kind."""
        self._waiting = [waiting for waiting in self._waiting if not waiting.answer.done()]
        if not self._waiting:
            return []
        kind = self._waiting[0].kind
        batch = [waiting for waiting in self._waiting if waiting.kind == kind][: self._most]
        taken = set(map(id, batch))
        self._waiting = [waiting for waiting in self._waiting if id(waiting) not in taken]
        return batch


async def _awaited(asked: Awaitable[Answer]) -> Answer:
    return await asked
