"""Shell: one stream's machine joined to its journal, for one epoch. Durable first, then the answer.

Laws:
- no `await` between decide, apply and stage: the caller of `serve` decides a whole group in one step;
- everything staged while one append is under way leaves as ONE entry in the next: group commit, no timer;
- every answer waits for a store round trip that began after it was decided: the append of its commit, or, with nothing
  staged, one confirmation of the epoch for the whole group;
- an append that is not acknowledged has an unknown outcome: every waiter fails, nothing more is appended, the shell is
  dead and its owner activates anew. Only `JournalFull` (definitely refused) holds the same entry and tries again; who
  waits is told at once that the outcome is not known yet, and a later repeat meets what was done.
"""

import asyncio
from collections.abc import Callable

from actors.kernel.bounds import WHOLE, Percent
from actors.kernel.errors import FencedOut, JournalFull, JournalUnavailable, OperatingFailure
from actors.kernel.machine import Machine
from actors.kernel.ports import Event, Journal
from actors.kernel.quota import Bound, Counts

FULL_PAUSE_S = 0.2
"""Pause before an entry that a full store refused is sent again."""


class Commit:
    """What becomes durable together, and who waits for it."""

    __slots__ = ("_done", "events", "failure", "held", "size")

    def __init__(self, bound: Bound) -> None:
        self.events: list[Event] = []
        self.held = Counts(bound)
        """Whose events these are, where they are somebody's."""
        self.size = 0
        """What the events count for; one may hold a thousand grabs."""
        self.failure: OperatingFailure | None = None
        self._done = asyncio.Event()

    def finish(self, failure: OperatingFailure | None = None) -> None:
        """Wake every waiter. (An Event, not a future: a waiter that is cancelled cancels nobody else.)"""
        if not self._done.is_set():  # an outcome, once told, stands
            self.failure = failure
            self._done.set()

    async def durable(self) -> None:
        """Return once everything decided before this commit closed is durable. Raises what the append raised."""
        await self._done.wait()
        if self.failure is not None:
            raise self.failure


class Shell:
    """One activation of one stream. Make it, `activate` it once, use it until it is dead, drop it."""

    def __init__(
        self,
        stream: str,
        machine: Machine,
        journal: Journal,
        now_ms: Callable[[], int],
        events_max: int,
        fair: Percent = WHOLE,
    ) -> None:
        self.stream = stream
        self.machine = machine
        self.epoch = 0
        self.durable_version = 0
        self.snapshot_version = 0
        self.snapshot_work = 0
        self.dead = False
        self.switches_asked = 0
        """How often this activation was asked to set a switch: a request names the number that it was told."""
        self._journal = journal
        self._now_ms = now_ms
        self._bound = Bound.of(events_max, fair)
        self.full = False
        self._open = Commit(self._bound)
        self._wanted = asyncio.Event()
        self._flusher: asyncio.Task[None] | None = None

    async def activate(self, host: str) -> None:
        """Fence earlier owners out, rebuild the machine, start committing. Raises what `Journal.activate` raises."""
        found = await self._journal.activate(host)
        if found.snapshot is not None:
            self.machine.restore(found.snapshot.state)
            self.snapshot_version, self.snapshot_work = found.snapshot.version, self.machine.work
            assert self.machine.version == found.snapshot.version, "a snapshot knows its version"
        for event in found.events:
            self.machine.apply(event)
        assert self.machine.version == found.version, "the journal's version is the number of its events"
        self.epoch = found.epoch
        self.durable_version = found.version
        self._flusher = asyncio.create_task(self._flush(), name=f"flush {self.stream}")

    def now_ms(self) -> int:
        """Return shard time: the clock, never behind the greatest stamp in the journal."""
        return max(self._now_ms(), self.machine.stamp_ms)

    @property
    def refusing(self) -> bool:
        """Tell whether new money must be refused: too much is staged already, or the store is full (`full`)."""
        return self.full or self._open.size >= self._bound.whole

    def refuses(self, tenant: str, user: str) -> bool:
        """Tell whether the open commit has no room for this user, or (`user` empty) tenant: `actors.kernel.quota`."""
        return self._open.held.full(tenant, user) is not None

    @property
    def staged(self) -> int:
        """What is on the open commit."""
        return self._open.size

    def hold(self, tenant: str, user: str, size: int) -> None:
        """Count what was just staged as somebody's."""
        if size:
            self._open.held.add(tenant, user, size)

    def stage(self, event: Event, size: int = 1) -> None:
        """Apply an event that was just decided and put it on the open commit, where it counts for `size`."""
        assert not self.dead, "a dead shell decides nothing"
        self.machine.apply(event)
        self._open.events.append(event)
        self._open.size += size
        self._wanted.set()

    def commit(self) -> Commit:
        """Return the commit to wait for after a step: all that was staged, and a contact with the store."""
        if self.dead:
            raise JournalUnavailable(f"{self.stream}: this activation has ended")
        self._wanted.set()
        return self._open

    def discard(self) -> None:
        """End this activation: fail every waiter, append nothing more."""
        if self._flusher is not None:
            self._flusher.cancel()
        self._end(JournalUnavailable(f"{self.stream}: this activation was ended"))

    def _end(self, failure: OperatingFailure) -> None:
        self.dead = True
        self._open.finish(failure)

    async def _flush(self) -> None:
        """Commit whatever is open, one entry at a time, until the first failure."""
        commit = self._open
        failure: OperatingFailure = JournalUnavailable(f"{self.stream}: this activation was ended")
        try:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                commit, self._open = self._open, Commit(self._bound)
                version = self.machine.version
                if commit.events:
                    await self._append(commit)
                else:
                    await self._journal.confirm()
                self.durable_version = version
                commit.finish()
        except (FencedOut, JournalUnavailable) as error:
            failure = error
        finally:
            commit.finish(failure)
            self._end(failure)

    async def _append(self, commit: Commit) -> None:
        sealed = self._journal.seal(commit.events)
        while True:
            try:
                await self._journal.append(sealed)
            except JournalFull:
                self.full = True
                self._tell(commit, JournalUnavailable(f"{self.stream}: the store is full, the outcome is open"))
                await asyncio.sleep(FULL_PAUSE_S)
            else:
                self.full = False
                return

    def _tell(self, held: Commit, failure: OperatingFailure) -> None:
        """Let those who wait for the held entry, or behind it, hear now; what they staged is still to be appended."""
        held.finish(failure)
        behind, self._open = self._open, Commit(self._bound)
        self._open.events, self._open.size, self._open.held = behind.events, behind.size, behind.held
        behind.finish(failure)
