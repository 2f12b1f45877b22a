"""Packet shard: the packets of the streams given to one Ray actor, each packet's grabs one after another.

What Ray runs, and nothing of Ray: the cluster wraps it. The order of arrival at this actor is the order of ranks.
"""

import asyncio
import logging
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from actors.kernel.errors import JournalUnavailable
from actors.kernel.host import Host, Records, StreamFigures
from actors.kernel.messages import Refused
from actors.kernel.shell import Shell
from actors.kernel.switches import ReadLevers, SetLever, packet_of
from actors.ledger.transfer import Receive
from actors.packet.commands import Grab, GrabMany, Open, ReadEnd, View
from actors.packet.events import Opened, OpeningReturned
from actors.packet.grab_metrics import count_grabs
from actors.packet.grab_replies import OVERLOADED
from actors.packet.machine import PacketMachine
from actors.packet.replies import OpenNow, Shares, Takings, Won
from actors.packet.views import winners_of
from actors.refusals import Refusal
from actors.transfers.funding import PacketFunded

log = logging.getLogger(__name__)

MEND = "no share leaves and it does not end before this system is started with its own keys file"

LOOKUPS_MAX = 8
"""Lookups for one group of commands; one is enough unless packets leave memory meanwhile."""


def one_by_one(reply: Any, count: int) -> list[Won | Refused]:
    """Return the answer of each of the `count` users of a `GrabMany` that this is the reply to."""
    if isinstance(reply, Refused):
        return [reply] * count
    if isinstance(reply, Takings):
        return reply.replies
    assert isinstance(reply, Shares), f"{type(reply).__name__} is no reply to grabs"
    return [
        Won(rank, amount_fen, reply.at_ms, False) for rank, amount_fen in enumerate(reply.amounts_fen, reply.first_rank)
    ]


def _is_same_packet(grab: Grab, other: Any) -> bool:
    if type(other) is not Grab or other.packet_id != grab.packet_id or other.tenant != grab.tenant:
        return False
    return bool(other.phrase == grab.phrase and other.group == grab.group)


def _packets_of(commands: list[Any]) -> Iterator[str]:
    """Yield the ids that commands name."""
    for command in commands:
        kind = type(command)
        if kind is Grab or kind is GrabMany or kind is View or kind is ReadEnd:
            yield command.packet_id
        elif kind is Open:
            yield from _packets_by(command.funding)
        elif kind is Receive:
            for funding in command.fundings:
                yield from _packets_by(funding)
        elif kind is SetLever:
            packet_id = packet_of(command.lever)
            if packet_id is not None:
                yield packet_id


def _packets_by(funding: PacketFunded) -> Iterator[str]:
    """Yield the ids that an opening asks about: the packet's, and of a burst that of its rain's first."""
    yield funding.packet_id
    if funding.special is not None and funding.special.burst:
        yield funding.special.reference


def _takers_of(commands: list[Any]) -> Iterator[str]:
    """Yield the ids of packets that somebody wants a share of."""
    for command in commands:
        if type(command) is Grab or type(command) is GrabMany:
            yield command.packet_id


def _ends_of(commands: list[Any]) -> Iterator[str]:
    """Yield the ids of packets whose winners somebody wants to know."""
    for command in commands:
        if type(command) is ReadEnd:
            yield command.packet_id


class PacketShard(Host[PacketMachine]):
    """A Ray actor's worth of packet streams."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._dealing: dict[tuple[str, int, int], asyncio.Task[None]] = {}

    def _count(self, groups: list[tuple[str, list[Any]]], replies: list[list[Any]]) -> None:
        count_grabs(self.tally, groups, replies)

    def _on_time(self, shell: Shell[PacketMachine]) -> None:
        if shell.refusing:
            return
        now_ms = shell.now_ms()
        for packet_id in shell.machine.due(now_ms, self._rules.expire_batch_max):
            self._expire(shell, packet_id, now_ms)

    def _expire(self, shell: Shell[PacketMachine], packet_id: str, now_ms: int) -> bool:
        """End a packet if its time is over; tell whether this ended it."""
        expired = shell.machine.decide_expiry(packet_id, now_ms)
        if expired is not None:
            shell.stage(expired)
        return expired is not None

    async def _recall(self, shell: Shell[PacketMachine], commands: list[Any]) -> Records:
        """Look up the packets that are not in memory: whoever asks about a passivated one is answered from its record.

        A second funding of such a packet must find it, too, or it would open again.
        """
        machine = shell.machine
        for dealing in self._deal_ahead(shell, dict.fromkeys(_takers_of(commands))):
            await asyncio.shield(dealing)
        for packet_id, tenant, users in machine.unhashed(_ends_of(commands)):
            machine.recalled.keep_winners(packet_id, await asyncio.to_thread(winners_of, tenant, users))
        for _ in range(LOOKUPS_MAX):
            names = sorted(machine.strangers(_packets_of(commands)))
            if not names:
                return {}
            passivated = machine.passivated
            found = await self._journals.find_records(shell.stream, names)
            if machine.passivated == passivated:  # else one of them may have left since it was looked up
                return {name: record for name, record in zip(names, found, strict=True) if record is not None}
        raise JournalUnavailable(f"{shell.stream}: packets leave memory faster than they can be looked up")

    def _deal_ahead(self, shell: Shell[PacketMachine], packet_ids: Iterable[str]) -> "list[asyncio.Task[None]]":
        """Deal the next blocks of big packets in threads, while others go on; return those that takers wait for.

        Each is dealt once, however many ask, and is followed by the next, until enough is dealt ahead.
        """
        waited_for = []
        for terms, total_fen, block, wanted in shell.machine.undealt(packet_ids) if not shell.dead else []:
            name = terms.packet_id, total_fen, block
            dealing = self._dealing.get(name)
            if dealing is None:
                dealing = self._dealing[name] = asyncio.create_task(self._deal(shell, terms, total_fen, block))
                dealing.add_done_callback(partial(self._dealt, name))
            if wanted:
                waited_for.append(dealing)
        return waited_for

    def _dealt(self, name: tuple[str, int, int], dealing: "asyncio.Task[None]") -> None:
        del self._dealing[name]

    async def _deal(self, shell: Shell[PacketMachine], terms: PacketFunded, total_fen: int, block: int) -> None:
        machine = shell.machine
        shares = await asyncio.to_thread(machine.dealer.deal, terms, total_fen, block)
        if not shares:
            return  # it is withheld, and whoever waits for this hears so
        machine.keep_shares(terms.packet_id, total_fen, block, shares)
        self._deal_ahead(shell, [terms.packet_id])

    async def report(self, *, audit: bool) -> list[StreamFigures]:
        """Report every stream, and say once in the log which packets are withheld."""
        for shell in self._live():
            dealer = shell.machine.dealer
            for packet_id in dealer.untold():
                key_id, where = dealer.withheld[packet_id], {"stream": shell.stream, "epoch": shell.epoch}
                log.error(
                    "packet %s is withheld: key %r does not give its seed; %s", packet_id, key_id, MEND, extra=where
                )
        return await super().report(audit=audit)

    async def _passivate(self, shell: Shell[PacketMachine]) -> None:
        """Keep the records first, durably; only then let the packets go, by an event.

        Before that, all they tell must be durable: a zombie's memory may hold an end that never came about.
        """
        records = {} if shell.refusing else shell.machine.passivable(shell.now_ms())
        if not records:
            return
        await shell.commit().durable()
        await self._journals.keep_records(shell.stream, shell.machine.version, records)
        if shell.dead or shell.refusing:
            return
        passivated = shell.machine.decide_passivation(list(records))
        if passivated is not None:
            shell.stage(passivated)

    def _decide(self, shell: Shell[PacketMachine], commands: list[Any], recalled: Records) -> tuple[list[Any], bool]:
        # No `await` in here: an interleaved grab would be decided on the same share.
        shell.machine.recalled.take(recalled)
        now_ms = shell.now_ms()
        barred = OVERLOADED if shell.refusing else None
        replies: list[Any] = []
        wait = False
        at = 0
        while at < len(commands):
            command = commands[at]
            at += 1
            if type(command) is Grab:
                users = [command.user]
                while at < len(commands) and _is_same_packet(command, commands[at]):
                    users.append(commands[at].user)
                    at += 1
                reply, waits = self._grabs(shell, command, users, now_ms, barred)
                replies += one_by_one(reply, len(users))
            elif type(command) is GrabMany:
                reply, waits = self._grabs(shell, command, command.users, now_ms, barred)
                replies.append(reply)
            else:
                waits = True
                replies.append(self._decide_other(shell, command, now_ms))
            wait = wait or waits
        return replies, wait

    def _grabs(
        self,
        shell: Shell[PacketMachine],
        asked: Grab | GrabMany,
        users: list[str],
        now_ms: int,
        barred: Refused | None,
    ) -> tuple[Shares | Takings | Refused, bool]:
        """Decide, apply and stage the grabs of one packet; tell whether the answers must wait."""
        packet_id = asked.packet_id
        for name in shell.machine.overdue_before(packet_id, now_ms):
            self._expire(shell, name, now_ms)
        if shell.refuses(asked.tenant, "") or not shell.machine.has_room(packet_id, asked.tenant):
            barred = OVERLOADED
        event, reply = shell.machine.decide_grabs(
            packet_id, asked.tenant, users, now_ms, barred, phrase=asked.phrase, group=asked.group
        )
        if event is not None:
            shell.stage(event, len(users))
            shell.hold(asked.tenant, "", len(users))
        # Refusals wait too: "drained", told before the last share is durable, may prove untrue.
        return reply, not shell.machine.is_final(packet_id, shell.durable_version)

    def _decide_other(self, shell: Shell[PacketMachine], command: Any, now_ms: int) -> Any:
        if isinstance(command, SetLever | ReadLevers):  # also, and most of all, while there is too much to do
            return self._decide_common(shell, command)
        if shell.refusing:
            return OVERLOADED
        match command:
            case Open():
                return self._open(shell, command.source, command.funding)
            case View():
                self._expire(shell, command.packet_id, now_ms)
                return shell.machine.view(command)
            case ReadEnd():
                return shell.machine.end(command.packet_id, command.tenant)
            case Receive():
                for funding in command.fundings:
                    self._open(shell, command.source, funding)
                return self._watermark(shell, command.source)
        return self._decide_common(shell, command)

    def _open(self, shell: Shell[PacketMachine], source: str, funding: PacketFunded) -> OpenNow | Refused:
        """Take one funding in; an opening that comes after its own expiry opens and refunds in the same step.

        The price of a photo is taken in that step too, however late: nobody ever has paid and not been served.
        """
        answer = shell.machine.decide_opening(source, funding)
        if isinstance(answer, OpeningReturned):
            shell.stage(answer)
            return Refused(Refusal.IDEMPOTENCY_KEY_REUSED)
        if not isinstance(answer, Opened):
            return answer
        shell.stage(answer)
        if funding.kind == "photo":
            shell.stage(shell.machine.decide_payment(funding, shell.now_ms()))
            return OpenNow(funding, "drained")
        if self._expire(shell, funding.packet_id, shell.now_ms()):
            return OpenNow(funding, "expired")
        self._deal_ahead(shell, [funding.packet_id])
        return OpenNow(funding, "open")
