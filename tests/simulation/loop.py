"""Loop: an event loop on its own time, whose callbacks belong to processes that can be killed, frozen and counted.

- Time passes only while nobody has anything to do, and then at once: a simulation never sleeps, is the same at every
  run, and a wait that nothing can end is found: it raises `Stuck`. Time is integer microseconds.
- A process is a context variable: whatever a task starts belongs to the task's process. Within one process callbacks
  run first in, first out, as asyncio does; which process runs next, the seed decides.
- A killed process runs nothing more, not even a `finally` (kill -9). A frozen one (SIGSTOP) runs later what came
  meanwhile. Both can happen between any two callbacks, so at every `await`: `dies_at` names the callback.

The idea of one seeded scheduler under everything is FoundationDB's simulation and TigerBeetle's VOPR.
"""

import asyncio
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from functools import wraps
from heapq import heappop, heappush
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")

ROUNDS_MAX = 10
"""How often tasks that others start while they end are cancelled too."""

END_US = 1_000_000
"""So long a round of ending lasts at most."""

TASKS_KEPT_MIN = 64
"""Tasks of a process that are held before those that have ended are let go."""


TURNS_MAX = 200_000
"""Turns of processes without any time passing."""


class Stuck(AssertionError):
    """Everybody waits, and nothing is under way; or it has no end."""


class Process:
    """One process: the callbacks that are ready in it, and whether it may run them."""

    __slots__ = ("alive", "context", "dies_at", "frozen", "name", "queued", "ready", "steps", "tasks", "tasks_max")

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.frozen = False
        self.ready: deque[Call] = deque()
        self.queued = False
        self.steps = 0
        """Callbacks run so far."""
        self.dies_at = 0
        """The callback that kills it instead of being run; 0: none."""
        self.tasks: list[asyncio.Task[Any]] = []
        self.tasks_max = TASKS_KEPT_MIN
        self.context = Context()
        self.context.run(PROCESS.set, self)


PROCESS: ContextVar[Process] = ContextVar("process")


class Call:
    """A callback to run, at once or at its time; what `call_soon` and `call_at` return."""

    __slots__ = ("arguments", "callback", "context", "process")

    def __init__(self, callback: Any, arguments: Any, context: Context, process: Process) -> None:
        self.callback = callback
        self.arguments = arguments
        self.context = context
        self.process = process

    def cancel(self) -> None:
        """Let it not run."""
        self.callback = self.arguments = None

    def cancelled(self) -> bool:
        """Tell whether it will not run."""
        return self.callback is None


class InstantLoop(asyncio.AbstractEventLoop):
    """The event loop. Without a seed, processes take turns."""

    def __init__(self, choose: Random | None = None) -> None:
        self.now_us = 0
        self.main = Process("main")
        self.current = self.main
        self.complaints: list[dict[str, Any]] = []
        """What asyncio had to say about exceptions that nobody took."""
        self.ends_at_us = 0
        """When whatever still goes on must have ended, 0: never."""
        self.halted = False
        """Nothing more is run: `run_until_complete` returns None at once."""
        self.on_death: Callable[[Process], None] = lambda process: None
        self._choose = choose
        self._runnable: list[Process] = []
        self._timers: list[tuple[int, int, Call]] = []
        self.processes: list[Process] = [self.main]
        self._count = 0
        self._turns = 0
        self._closed = False

    # Processes.

    def process(self, name: str) -> Process:
        """Start a process with nothing in it."""
        process = Process(name)
        self.processes.append(process)
        return process

    def spawn(self, process: Process, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Start a task in a process."""
        return self.create_task(work, context=process.context.copy())

    def kill(self, process: Process) -> None:
        """End a process between two callbacks; nothing more runs in it."""
        process.alive = False
        self._unqueue(process)
        self.on_death(process)

    def freeze(self, process: Process) -> None:
        """Stop a process until it is woken."""
        process.frozen = True
        self._unqueue(process)

    def wake(self, process: Process) -> None:
        """Let a frozen process run on, with all that came meanwhile."""
        process.frozen = False
        self._queue(process)

    def in_process(self, process: Process, delay_us: int, callback: Callable[..., Any], *arguments: Any) -> Call:
        """Run a callback in a process after a delay."""
        call = Call(callback, arguments, process.context, process)
        self._at(call, self.now_us + delay_us)
        return call

    def _queue(self, process: Process) -> None:
        if process.ready and not process.queued and process.alive and not process.frozen:
            process.queued = True
            self._runnable.append(process)

    def _unqueue(self, process: Process) -> None:
        if process.queued:
            process.queued = False
            if process in self._runnable:
                self._runnable.remove(process)

    # What asyncio asks of a loop.

    def time(self) -> float:
        """Return the loop's own time in seconds."""
        return self.now_us / 1_000_000

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return events._get_running_loop() is self

    def is_closed(self) -> bool:
        return self._closed

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> "asyncio.Task[Any]":
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        process = (context or copy_context()).get(PROCESS, self.main)
        tasks = process.tasks
        tasks.append(task)  # held, so that no garbage collector runs the `finally` of a dead process
        if len(tasks) > process.tasks_max:
            process.tasks = [task for task in tasks if not task.done()]
            process.tasks_max = max(TASKS_KEPT_MIN, 2 * len(process.tasks))
        return task

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        if context is None:
            context = copy_context()
        process = context.get(PROCESS, self.main)
        call = Call(callback, args, context, process)
        process.ready.append(call)
        if not process.queued:
            self._queue(process)
        return call

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        context = context or copy_context()
        call = Call(callback, args, context, context.get(PROCESS, self.main))
        self._at(call, self.now_us + max(0, round(delay * 1_000_000)))
        return call

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        return self.call_later(when - self.time(), callback, *args, context=context)

    def _at(self, call: Call, at_us: int) -> None:
        self._count += 1
        heappush(self._timers, (at_us, self._count, call))

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.complaints.append(context)

    async def shutdown_asyncgens(self) -> None:
        pass

    def run_until_complete(self, future: Any) -> Any:
        """Run until the awaitable is done and return its result, or until halted."""
        awaited = asyncio.ensure_future(future, loop=self)
        events._set_running_loop(self)
        try:
            while not awaited.done() and not self.halted:
                self._turn()
        finally:
            events._set_running_loop(None)
        return awaited.result() if awaited.done() else None

    def _turn(self) -> None:
        """Let one process run what is ready in it, or move the time to the next timer."""
        timers = self._timers
        runnable = self._runnable
        while timers and (timers[0][0] <= self.now_us or timers[0][2].callback is None):
            call = heappop(timers)[2]
            if call.callback is not None:
                call.process.ready.append(call)
                self._queue(call.process)
        if not runnable:
            if not timers:
                raise Stuck("everybody waits for something that nobody is doing")
            self.now_us = timers[0][0]
            self._turns = 0
            if self.ends_at_us and self.now_us > self.ends_at_us:
                raise Stuck(f"no end after {self.now_us // 1_000_000} s")
            return
        self._turns += 1
        if self._turns > TURNS_MAX:
            raise Stuck(f"no end of what happens at {self.now_us} us, in {runnable[0].name} for one")
        which = 0
        if self._choose is not None and len(runnable) > 1:
            which = int(self._choose.random() * len(runnable))
        process = runnable.pop(which)  # still marked as queued: what it starts itself waits for its next turn
        self.current = process
        ready = process.ready
        for _ in range(len(ready)):
            call = ready.popleft()
            if call.callback is None:
                continue
            process.steps += 1
            if process.steps == process.dies_at:
                ready.appendleft(call)
                self.kill(process)
                return
            call.context.run(call.callback, *call.arguments)
            if not process.queued:  # it was killed or frozen by its own doing
                return
        process.queued = False
        self._queue(process)

    def end(self) -> None:
        """Cancel what still runs, in dead processes too, and close."""
        self.halted = False
        self.on_death = lambda process: None
        for process in self.processes:
            process.alive, process.dies_at = True, 0  # what was left in it is only cancelled
            self.wake(process)
        for _ in range(ROUNDS_MAX):
            tasks = [task for process in self.processes for task in process.tasks if not task.done()]
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            self.ends_at_us = self.now_us + END_US
            with suppress(Stuck):  # one that waits for others, or goes on, while it ends is met again in the next round
                self.run_until_complete(_ended(tasks))
        self._timers.clear()
        self._closed = True

    def close(self) -> None:
        self._closed = True


async def _ended(tasks: list[Any]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


def run(scenario: Coroutine[Any, Any, T]) -> T:
    """Run one scenario on a loop of its own."""
    loop = InstantLoop()
    try:
        outcome: T = loop.run_until_complete(scenario)
        return outcome
    finally:
        loop.end()


def simulated(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make a plain test of an asynchronous one, each on a loop of its own."""

    @wraps(test)
    def body(*arguments: Any, **options: Any) -> None:
        run(test(*arguments, **options))

    return body
