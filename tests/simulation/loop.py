"""Loop: an event loop whose time passes only while nobody has anything to do, and then at once.

So a simulation never sleeps, is the same at every run, and a wait that nothing can end is found: it raises `Stuck`.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, TypeVar

T = TypeVar("T")

ROUNDS_MAX = 10
"""How often tasks that others start while they end are cancelled too."""


class Stuck(AssertionError):
    """Everybody waits, and nothing is under way."""


class _Selector(selectors.DefaultSelector):  # type: ignore[misc]
    """Instead of sleeping, moves the time of its loop."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise Stuck("everybody waits for something that nobody is doing")
            self.now_s += timeout
        return ready


class InstantLoop(asyncio.SelectorEventLoop):
    """An event loop on its own time, in seconds from 0."""

    def __init__(self) -> None:
        self._instant = _Selector()
        super().__init__(self._instant)

    def time(self) -> float:
        """Return the loop's own time."""
        return self._instant.now_s

    def end(self) -> None:
        """Cancel what still runs and close."""
        for _ in range(ROUNDS_MAX):
            tasks = asyncio.all_tasks(self)
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            self.run_until_complete(_ended(tasks))
        self.close()


async def _ended(tasks: set[Any]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


def run(scenario: Coroutine[Any, Any, T]) -> T:
    """Run one scenario on a loop of its own."""
    loop = InstantLoop()
    try:
        return loop.run_until_complete(scenario)
    finally:
        loop.end()


def simulated(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make a plain test of an asynchronous one, each on a loop of its own."""

    @wraps(test)
    def body(*arguments: Any, **options: Any) -> None:
        run(test(*arguments, **options))

    return body
