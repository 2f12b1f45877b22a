"""Host: the streams of one Ray actor. Activates them, keeps their time, answers groups of commands, feeds settlement.

An async Ray actor interleaves its calls, so a host never awaits between decide and stage; every `await` is before a
group is decided or after it is staged. One call carries the commands of many streams, and one stream's failure is
that stream's answer (`journal_unavailable`, `shard_unavailable`), never the failure of the call.
"""

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

from actors.kernel.errors import FencedOut, JournalCorrupt, JournalUnavailable, NotHere, OperatingFailure, WrongKeys
from actors.kernel.handler import HANDLERS, Command, Handler, Reply, Step
from actors.kernel.machine import Machine
from actors.kernel.messages import KernelRefusal, Refused
from actors.kernel.metrics import Tally
from actors.kernel.ports import Clock, Journals
from actors.kernel.quota import FULL
from actors.kernel.rules import Rules, Services
from actors.kernel.shell import Shell
from actors.kernel.switches import SetSwitch
from actors.ledger.book import Moving, Sent
from actors.ledger.transfer import Outgoing, Receive, Watermark

if TYPE_CHECKING:
    from actors.kernel.kind import Kind

log = logging.getLogger(__name__)

_CODE_OF_FAILURE: dict[type[OperatingFailure], KernelRefusal] = {
    JournalUnavailable: KernelRefusal.JOURNAL_UNAVAILABLE,
    FencedOut: KernelRefusal.SHARD_UNAVAILABLE,
    NotHere: KernelRefusal.SHARD_UNAVAILABLE,
    JournalCorrupt: KernelRefusal.SHARD_UNAVAILABLE,
    WrongKeys: KernelRefusal.SHARD_UNAVAILABLE,
}
_UNAVAILABLE = Refused(KernelRefusal.JOURNAL_UNAVAILABLE)


LOOKUPS_MAX = 8
"""Lookups for one group of commands; one is enough unless something leaves memory meanwhile."""

NOTHING_SENT: Sent[Moving] = Sent()

CORRUPT_PAUSE_S, CORRUPT_PAUSE_S_MAX = 1.0, 60.0
"""Pause after an activation that found its journal corrupt; it doubles."""

Records = Mapping[str, bytes]
"""What left memory and is asked for again, by id."""


class Corruption(NamedTuple):
    """What an activation found, and until when (loop time, seconds) nobody looks again: each look appends a fence."""

    failure: JournalCorrupt
    pause_s: float
    until_s: float


class StreamFigures(msgspec.Struct, frozen=True):
    """What one stream reports to supervision and audit, read at one durable version. Amounts in fen."""

    stream: str
    epoch: int
    version: int
    snapshot_version: int
    unsettled: int
    oldest_unsettled_ms: int
    in_flight_fen: int = 0
    """Sent and not yet acknowledged."""
    members: int = 0
    """What is in memory."""
    balances_fen: dict[str, int] = {}
    """kind of account -> sum, of every kind that the book has."""
    totals_fen: dict[str, int] = {}
    """What the kind adds up beside its balances (`Kind.totals`)."""
    destinations: list[str] = []
    """Where this book sends to."""
    received: dict[str, tuple[int, int, dict[int, int]]] = {}
    """source -> (watermark, cumulative fen at it, numbers that came ahead -> fen)."""
    work_behind: int = 0
    """What a replay behind the newest snapshot costs: events and the transfers in them."""
    withheld: int = 0
    """What can neither be given nor end with the keys at hand."""


class SentTotals(msgspec.Struct, frozen=True, array_like=True):
    """What a source says about one destination. Amounts in fen; None: forgotten, because it was settled since."""

    last_number: int
    total_fen: int
    at_number_fen: int | None
    ahead_fen: list[int | None]


M = TypeVar("M", bound=Machine)

NOTHING: Records = {}

Group = tuple[str, list[Command]]


class Host:
    """The streams given to one actor."""

    def __init__(
        self,
        name: str,
        kind: "Kind",
        streams: Sequence[str],
        journals: Journals,
        clock: Clock,
        services: Services,
        rules: Rules,
        tally: Tally | None = None,
    ) -> None:
        self.name = name
        self._kind = kind
        self._services = services
        self.tally = Tally(clock.now_ms()) if tally is None else tally
        self._streams = tuple(streams)
        self._journals = journals
        self._clock = clock
        self._rules = rules
        self._shells: dict[str, Shell] = {}
        self._activating: dict[str, asyncio.Task[Shell]] = {}
        self._corrupt: dict[str, Corruption] = {}
        self._offset_ms = 0
        self._ticker: asyncio.Task[None] | None = None
        self._decoder = kind.command_decoder()
        self._encoder = msgspec.msgpack.Encoder()
        self._handlers: dict[type[Command], Handler] = {
            Receive: Handler(self._receive, records=self._ids_received),
            **HANDLERS,
            **kind.handlers,
        }
        if kind.switch_ids is not None:
            self._handlers[SetSwitch] = HANDLERS[SetSwitch]._replace(records=kind.switch_ids)

    # Commands.

    async def handle(self, payload: bytes) -> bytes:
        """Answer groups of commands: `[(stream, [command, ...]), ...]` -> `[[reply, ...], ...]`, same order."""
        groups = self._decoder.decode(payload)
        if len(groups) == 1:
            replies = [await self.serve(*groups[0])]
        else:
            replies = await asyncio.gather(*(self.serve(stream, commands) for stream, commands in groups))
        if self._kind.count is not None:
            self._kind.count(self.tally, groups, replies)
        return self._encoder.encode(replies)

    async def serve(self, stream: str, commands: list[Command]) -> list[Reply]:
        """Answer one group, every answer durable. An operating failure is the answer of the whole group."""
        try:
            shell = await self.shell(stream)
            recalled = await self._recall(shell, commands)
            # From here to the commit there is no `await`.
            if shell.full:  # the entry that the store refused is still held: nothing can be confirmed behind it
                return [_UNAVAILABLE] * len(commands)
            if shell.dead:  # while something was fetched
                raise JournalUnavailable(f"{stream}: this activation has ended")
            try:
                self._on_time(shell)
                shell.machine.recall(recalled)
                replies, wait = self._decide(shell, commands)
            except Exception:  # our own bug: memory may hold half a step, and nobody may go on with it
                shell.discard()
                raise
            if wait:
                await shell.commit().durable()
        except (JournalUnavailable, FencedOut, NotHere, JournalCorrupt, WrongKeys) as failure:
            return [Refused(_CODE_OF_FAILURE[type(failure)])] * len(commands)
        return replies

    def _decide(self, shell: Shell, commands: list[Command]) -> tuple[list[Reply], bool]:
        """Decide, apply and stage a group in one step; return the replies and whether any must wait for the store."""
        step = Step(shell, shell.machine, self._rules, self._services)
        return [self._answer(step, command) for command in commands], True

    def _answer(self, step: Step[M], command: Command) -> Reply:
        """Answer one command by its handler, unless there is too much to do, in all or of its owner."""
        handler, shell = self._handlers[type(command)], step.shell
        if shell.refusing and not handler.always:
            return FULL
        if handler.owner is None:
            return handler.run(step, command)
        tenant, user = handler.owner(command)
        if shell.refuses(tenant, user):
            return FULL
        staged = shell.staged
        reply = handler.run(step, command)
        shell.hold(tenant, user, shell.staged - staged)
        return reply

    def _receive(self, step: Step[M], command: Receive) -> Reply:
        """Take what of a delivery is not here yet, and tell the watermark. An ordered kind takes only the next ones."""
        kind, book, source = self._kind, step.machine.book, command.source
        fresh = kind.fresh(book.watermark(source), command)
        if isinstance(fresh, Refused):
            return fresh
        if fresh:
            assert kind.receive is not None, f"{kind.name} accepts no transfers"
            kind.receive(step, source, fresh)
        received = book.watermark(source)
        return Watermark(received.number, received.total_fen)

    # What left memory.

    def _ids_received(self, command: Receive) -> tuple[str, ...]:
        """Return the ids whose records a delivery needs."""
        ids_of = self._kind.received_ids
        return () if ids_of is None else tuple(i for t in command.transfers for i in ids_of(self._kind.content(t)))

    async def _recall(self, shell: Shell, commands: list[Command]) -> Records:
        """Fetch what these commands need and memory does not hold. Raises JournalUnavailable."""
        needs = ((self._handlers[type(command)].records, command) for command in commands)
        ids = [name for records, command in needs if records is not None for name in records(command)]
        return await self._look_up(shell, ids) if ids else NOTHING

    async def _look_up(self, shell: Shell, ids: Sequence[str]) -> Records:
        """Look up what may have left memory: a command about it is answered from its record."""
        machine = shell.machine
        for _ in range(LOOKUPS_MAX):
            names = sorted(machine.strangers(ids))
            if not names:
                return NOTHING
            passivated = machine.passivated
            found = await self._journals.find_records(shell.stream, names)
            if machine.passivated == passivated:  # else one of them may have left since it was looked up
                return {name: record for name, record in zip(names, found, strict=True) if record is not None}
        raise JournalUnavailable(f"{shell.stream}: records leave memory faster than they can be looked up")

    async def _passivate(self, shell: Shell) -> None:
        """Keep the records first, durably; only then let what they say go, by an event.

        Before that, all they tell must be durable: a zombie's memory may hold an end that never came about.
        """
        machine = shell.machine
        records = NOTHING if shell.refusing else machine.passivable(shell.now_ms())
        if not records:
            return
        version = machine.version
        await shell.commit().durable()
        await self._journals.keep_records(shell.stream, version, records)
        if shell.dead or shell.refusing:
            return
        passivated = machine.decide_passivation(list(records))
        if passivated is not None:
            shell.stage(passivated)

    # Activation and time.

    async def shell(self, stream: str) -> Shell:
        """Return the live shell of a stream, activating it if need be (once, however many ask).

        Raises NotHere, JournalUnavailable, FencedOut, JournalCorrupt.
        """
        shell = self._shells.get(stream)
        if shell is not None and not shell.dead:
            return shell
        if stream not in self._streams:
            raise NotHere(f"{self.name} does not host {stream}")
        task = self._activating.get(stream)
        if task is None:
            task = self._activating[stream] = asyncio.create_task(self._activate(stream), name=f"activate {stream}")
            task.add_done_callback(lambda _: self._activating.pop(stream, None))
        shell = await asyncio.shield(task)
        if shell.dead:  # somebody faster used it before this caller went on, and the store lost that
            raise JournalUnavailable(f"{stream}: this activation has ended")
        return shell

    async def _activate(self, stream: str) -> Shell:
        """Activate; a corrupt journal is told again without touching it, for a pause that doubles."""
        now_s = asyncio.get_running_loop().time()
        known = self._corrupt.get(stream)
        if known is not None and now_s < known.until_s:
            raise JournalCorrupt(str(known.failure))
        try:
            shell = await self._activate_now(stream)
        except JournalCorrupt as failure:
            log.error("%s", failure, extra={"stream": stream})
            pause_s = CORRUPT_PAUSE_S if known is None else min(CORRUPT_PAUSE_S_MAX, 2 * known.pause_s)
            self._corrupt[stream] = Corruption(failure, pause_s, now_s + pause_s)
            raise
        self._corrupt.pop(stream, None)
        return shell

    async def _activate_now(self, stream: str) -> Shell:
        self._offset_ms = max(self._offset_ms, await self._journals.clock_offset_ms())
        journal = self._journals.open(stream)
        bound = self._rules.commit_events_max, self._rules.fair.commit_events_max
        machine = self._kind.machine(stream, self._rules, self._services)
        shell = Shell(stream, machine, journal, self.now_ms, *bound)
        await shell.activate(self.name)
        self._shells[stream] = shell
        return shell

    def now_ms(self) -> int:
        """Return the platform's time: the wall clock plus the sandbox offset."""
        return self._clock.now_ms() + self._offset_ms

    async def advance_clock(self, offset_ms: int) -> None:
        """Adopt the durable sandbox offset; it never goes back."""
        self._offset_ms = max(self._offset_ms, offset_ms)
        await self.tick()

    async def start(self) -> None:
        """Activate every stream and keep time from now on. May be called again and again."""
        if self._ticker is None or self._ticker.done():
            self._ticker = asyncio.create_task(self._keep_time(), name=f"time of {self.name}")
        await self.tick()

    async def _keep_time(self) -> None:
        while True:
            await asyncio.sleep(self._rules.tick_ms / 1000)
            await self.tick()

    def _on_time(self, shell: Shell) -> None:
        """Stage what the clock alone brings about."""
        if not shell.refusing:
            for event in shell.machine.due(shell.now_ms(), self._rules.expire_batch_max):
                shell.stage(event)

    async def tick(self) -> None:
        """Touch every stream: time passes in a quiet one too. An unavailable store is met again at the next tick."""
        steps: list[Coroutine[None, None, None]] = [self._tick(stream) for stream in self._streams]
        await asyncio.gather(*steps)

    async def _tick(self, stream: str) -> None:
        try:
            shell = await self.shell(stream)
        except JournalCorrupt:  # logged when it was found
            return
        except OperatingFailure as failure:
            log.warning("%s has no %s for now: %s", self.name, stream, failure, extra={"stream": stream})
            return
        try:
            self._on_time(shell)
            await self._passivate(shell)
        except OperatingFailure as failure:
            where = {"stream": stream, "epoch": shell.epoch}
            log.warning("%s lets go of nothing in %s for now: %s", self.name, stream, failure, extra=where)
        except Exception:  # our own bug ends this activation, as in `serve`, and not the time of the other streams
            log.exception("the timer of %s failed", stream, extra={"stream": stream, "epoch": shell.epoch})
            shell.discard()

    async def stop(self) -> None:
        """End every activation: nothing staged is lost that was answered, and nothing more is answered."""
        if self._ticker is not None:
            self._ticker.cancel()
        for shell in self._shells.values():
            shell.discard()

    # Settlement and audit.

    async def outgoing(self) -> list[Outgoing]:
        """Return what settlement may deliver now: transfers that are durable at this source."""
        batches: list[Outgoing] = []
        for shell in self._live():
            machine = shell.machine
            found = machine.outgoing(shell.now_ms())
            if not found:
                continue
            try:
                await shell.commit().durable()
            except OperatingFailure:
                continue
            batches += found
        return batches

    async def report(self, *, audit: bool) -> list[StreamFigures]:
        """Report every stream: cheap figures, or with `audit` its sums and watermarks at one durable version.

        Raises JournalUnavailable, FencedOut if a stream cannot be read durably (only with `audit`).
        """
        if not audit:
            return [self._figures(shell) for shell in self._live()]
        # One after another: adding up one stream is as long as this actor may be busy at a stretch.
        return [await self._audit(stream) for stream in self._streams]

    async def _audit(self, stream: str) -> StreamFigures:
        shell = await self.shell(stream)
        machine = shell.machine
        figures = self._figures(shell)
        received = {
            source: (end.number, end.total_fen, dict(end.ahead)) for source, end in machine.book.received.items()
        }
        adds = {
            "balances_fen": machine.balances(),
            "totals_fen": machine.totals(),
            "destinations": list(machine.book.sent),
        }
        read = msgspec.structs.replace(figures, **adds, received=received)
        await shell.commit().durable()
        return read

    async def totals_at(self, asked: list[tuple[str, str, int, list[int]]]) -> list[SentTotals]:
        """Return, for each (source, destination, number, numbers ahead), what this source durably sent.

        Raises NotHere, JournalUnavailable, FencedOut.
        """
        answers = []
        shells: dict[str, Shell] = {}
        for stream, destination, number, ahead in asked:
            shell = shells[stream] = await self.shell(stream)
            sent = shell.machine.book.sent.get(destination) or NOTHING_SENT
            amounts = [sent.unsettled[n].amount_fen if n in sent.unsettled else None for n in ahead]
            answers.append(SentTotals(sent.last_number, sent.total_fen, sent.total_at(number), amounts))
        await asyncio.gather(*(shell.commit().durable() for shell in shells.values()))
        return answers

    def _figures(self, shell: Shell) -> StreamFigures:
        machine = shell.machine
        oldest_ms = shell.now_ms()
        for sent in machine.book.sent.values():
            for event in sent.unsettled.values():
                oldest_ms = min(oldest_ms, event.at_ms)
                break
        return StreamFigures(
            shell.stream,
            shell.epoch,
            machine.version,
            shell.snapshot_version,
            machine.book.unsettled_count,
            shell.now_ms() - oldest_ms,
            in_flight_fen=sum(sent.total_fen - sent.settled_fen for sent in machine.book.sent.values()),
            members=machine.members,
            work_behind=machine.work - shell.snapshot_work,
            withheld=machine.withheld,
        )

    def _live(self) -> list[Shell]:
        return [shell for shell in self._shells.values() if not shell.dead]
