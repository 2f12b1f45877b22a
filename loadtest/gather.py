"""Gather: does the same work for many things, some at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

_T = TypeVar("_T")
_S = TypeVar("_S")


async def gather(work: Callable[[_S], Awaitable[_T]], items: Iterable[_S], at_once: int) -> list[_T]:
    """Do `work` for every item, at most `at_once` at a time; results in the items' order. A failure ends all."""
    pending = enumerate(items)
    results: dict[int, _T] = {}

    async def worker() -> None:
        for place, item in pending:
            results[place] = await work(item)

    async with asyncio.TaskGroup() as workers:
        for _ in range(at_once):
            workers.create_task(worker())
    return [results[place] for place in sorted(results)]
