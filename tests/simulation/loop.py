"""Loop: an event loop whose time passes only while nobody has anything to do, and then at once.

So a simulation never sleeps, is the same at every run, and a wait that nothing can end is found: it raises `Stuck`.
"""

import asyncio
import contextlib
import selectors
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, TypeVar

T = TypeVar("T")


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
        for task in asyncio.all_tasks(self):
            task.cancel()
            with contextlib.suppress(BaseException):
                self.run_until_complete(task)
        self.close()


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
