"""Gather: does the same work for many things, some at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

_T = TypeVar("_T")
_S = TypeVar("_S")


async def gather(work: Callable[[_S], Awaitable[_T]], items: Iterable[_S], at_once: int) -> list[_T]:
    """Do `work` for every item, at most `at_once` at a time; return the results in the items' order.

    The first failure ends all and is raised as it is.
    """
    pending = enumerate(items)
    results: dict[int, _T] = {}

    async def worker() -> None:
        for place, item in pending:
            results[place] = await work(item)

    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(at_once):
                workers.create_task(worker())
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [results[place] for place in sorted(results)]
