"""Maintenance: a Ray task that bounds what a stream costs: a new snapshot, then the past sealed and trimmed.

Order: fold the journal and write the record, let the stream adopt it by a durable event, move the pointer, drop the
snapshots before the one it replaces, seal everything up to that one (`cluster.journal.sealing`), trim. Two snapshots
stay, and the store keeps what lies behind the older: a damaged newest one can be folded again from the store alone.
Dying between any two steps leaves a record or a file that nobody uses, nothing else, and the next run goes on. So does
sleeping there while other tasks of the stream go by: a snapshot that has been overtaken is neither stored nor adopted
any more.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import ray
from ray.exceptions import RayError

from actors.kernel.errors import JournalCorrupt, OperatingFailure
from actors.kernel.messages import AdoptSnapshot, Done
from actors.kernel.ports import KeyRing
from cluster.config import Keys, Settings
from cluster.journal.archive import Archive
from cluster.journal.fold import fold_behind
from cluster.journal.sealing import PartBounds, Sealer, Sealing
from cluster.journal.store import Store
from cluster.observability.logs import log_json
from cluster.runtime.directory import Directory
from cluster.runtime.shards import calm_collector, machine_of, open_journals

PAUSE_S_MIN = 1
PAUSE_S_MAX = 60
"""Between two tasks of a host after one that failed, doubling."""

TROUBLE_CHARS_MAX = 500

NICENESS = 15
"""Of a thread that maintains: nobody waits for it."""

log = logging.getLogger(__name__)


class StreamAccess(Protocol):
    """The way to the streams; `cluster.runtime.directory.Directory` is it."""

    async def ask(self, groups: Sequence[tuple[str, Sequence[Any]]]) -> Any:
        """Ask streams, each a list of commands; return the replies in the same order."""
        ...


async def maintain(
    journals: Store,
    streams: StreamAccess,
    settings: Settings,
    keys: KeyRing,
    stream: str,
    archive: Archive | None,
) -> Sealing | None:
    """Take a snapshot of one stream and seal what lies behind the one before it; None if no snapshot was adopted.

    Without an archive nothing is sealed.

    Raises JournalUnavailable (maintain it again), JournalCorrupt: nothing is trimmed until an operator has looked.
    """
    older = await journals.load_snapshot(stream)
    machine = machine_of(stream, settings, keys)
    try:
        record = await fold_behind(journals, journals.codec, stream, machine, older)
    except JournalCorrupt:
        if await journals.newest_snapshot(stream) != (older and older.position):
            return None  # a faster task has sealed and trimmed meanwhile what was to be read here
        raise
    if record is None or not await journals.write_snapshot(record):
        return None
    adopt = AdoptSnapshot(record.position.epoch, record.position.seq, record.version, machine.work)
    [[reply]] = await streams.ask([(stream, [adopt])])
    if not isinstance(reply, Done):
        return None
    await journals.adopt_snapshot(stream, record.position)
    if older is None:
        return Sealing(0, 0)
    await journals.drop_snapshots(stream, older.position)
    if archive is None:
        return Sealing(0, 0)
    bounds = PartBounds(settings.bounds.seal_elements_max, settings.bounds.seal_bytes_max)
    return await Sealer(journals, journals.codec, archive, bounds).run(stream, older)


@ray.remote(num_cpus=0, max_retries=0)
def maintain_streams(streams: list[str], settings: Settings, keys: Keys) -> list[str]:
    """Maintain streams one after another; return what failed, a line each."""

    calm_collector()
    log_json("maintenance")

    async def maintain_all() -> list[str]:
        failures = []
        journals = open_journals(settings)
        try:
            for stream in streams:
                try:
                    archive = Archive(settings.archive_url) if settings.archive_url else None
                    await maintain(journals, Directory(settings), settings, keys, stream, archive)
                except (OperatingFailure, ValueError) as failure:  # ValueError: the archive's URL
                    failures.append(f"{stream}: {failure}")
        finally:
            await journals.close()
        return failures

    # In a thread that gives way to shards and store; the process may serve somebody urgent next.
    with ThreadPoolExecutor(1, initializer=_give_way) as thread:
        return thread.submit(asyncio.run, maintain_all()).result()


def _give_way() -> None:
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def start_maintenance(streams: list[str], settings: Settings, keys: Keys) -> Any:
    """Start the task and return its reference, which becomes the list of failures."""
    return maintain_streams.remote(streams, settings, keys)


class HostMaintenance:
    """At most one task for the streams of one host; it costs a process, so it takes all that are due."""

    def __init__(
        self, start: Callable[[list[str]], Awaitable[list[str]]], count: Callable[[int], None] = lambda failures: None
    ) -> None:
        """`start` begins a task for some streams and promises what failed in it; `count` hears how many did."""
        self._count = count
        self._start = start
        self._task: asyncio.Future[list[str]] | None = None
        self._pause_s = 0
        self._resume_s = 0.0

    def offer(self, due: list[str]) -> None:
        """Start a task for these streams unless one is at work, or the last one failed just now."""
        now_s = asyncio.get_running_loop().time()
        if self._task is not None:
            if not self._task.done():
                return
            failures = _failures(self._task)
            for failure in failures:
                log.error("not maintained: %s", failure, extra={"stream": failure.partition(":")[0]})
            if failures:
                self._count(len(failures))
            self._task = None
            self._pause_s = min(max(2 * self._pause_s, PAUSE_S_MIN), PAUSE_S_MAX) if failures else 0
            self._resume_s = now_s + self._pause_s
        if due and now_s >= self._resume_s:
            self._task = asyncio.ensure_future(self._start(due))


def _failures(task: "asyncio.Future[list[str]]") -> list[str]:
    """Return what failed in a task that has ended."""
    try:
        return list(task.result())
    except RayError as failure:
        return [f"the task died: {' '.join(str(failure).split())[:TROUBLE_CHARS_MAX]}"]
