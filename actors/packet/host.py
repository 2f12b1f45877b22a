"""Packet shard: the packets of the streams given to one Ray actor, each packet's grabs one after another.

What Ray runs, and nothing of Ray: the cluster wraps it. The order of arrival at this actor is the order of ranks.
"""

import asyncio
import logging
from collections.abc import Iterable
from functools import partial
from typing import Any

from actors.kernel.handler import Command, Reply, Step
from actors.kernel.host import Host, Records, StreamFigures
from actors.kernel.messages import Refused
from actors.kernel.shell import Shell
from actors.ledger.transfer import Receive
from actors.packet.commands import Grab, GrabMany, Open, ReadEnd
from actors.packet.grab_replies import OVERLOADED
from actors.packet.handlers import expire
from actors.packet.machine import PacketMachine
from actors.packet.replies import Shares, Takings, Won
from actors.packet.views import winners_of
from actors.transfers.funding import PacketFunded

log = logging.getLogger(__name__)

MEND = "no share leaves and it does not end before this system is started with its own keys file"


def one_by_one(reply: Any, count: int) -> list[Won | Refused]:
    """Return the answer of each of the `count` users of a `GrabMany` that this is the reply to."""
    if isinstance(reply, Refused):
        return [reply] * count
    if isinstance(reply, Takings):
        return reply.replies
    assert isinstance(reply, Shares), f"{type(reply).__name__} is not a reply to grabs"
    return [
        Won(rank, amount_fen, reply.at_ms, False) for rank, amount_fen in enumerate(reply.amounts_fen, reply.first_rank)
    ]


def _is_same_packet(grab: Grab, other: Grab) -> bool:
    return (
        other.packet_id == grab.packet_id
        and other.tenant == grab.tenant
        and other.phrase == grab.phrase
        and other.group == grab.group
    )


class PacketShard(Host):
    """A Ray actor's worth of packet streams."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._dealing: dict[tuple[str, int, int], asyncio.Task[None]] = {}

    async def _recall(self, shell: Shell, commands: list[Command]) -> Records:
        """Look up the packets that are not in memory; before that, deal what takers wait for and hash winners."""
        machine, handlers = _machine(shell), self._handlers
        ids: list[str] = []
        takers: dict[str, None] = {}
        ends: list[str] = []
        for command in commands:
            if isinstance(command, GrabMany | Grab):
                takers[command.packet_id] = None
                continue
            if isinstance(command, ReadEnd):
                ends.append(command.packet_id)
            records = handlers[type(command)].records
            ids += records(command) if records is not None else ()
        for dealing in self._deal_ahead(shell, takers):
            await asyncio.shield(dealing)
        for packet_id, tenant, users in machine.unhashed(ends):
            machine.recalled.keep_winners(packet_id, await asyncio.to_thread(winners_of, tenant, users))
        return await self._look_up(shell, [*takers, *ids])

    def _deal_ahead(self, shell: Shell, packet_ids: Iterable[str]) -> "list[asyncio.Task[None]]":
        """Deal the next blocks of big packets in threads, while others go on; return those that takers wait for.

        Each is dealt once, however many ask, and is followed by the next, until enough is dealt ahead.
        """
        waited_for = []
        for terms, total_fen, block, wanted in _machine(shell).undealt(packet_ids) if not shell.dead else []:
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

    async def _deal(self, shell: Shell, terms: PacketFunded, total_fen: int, block: int) -> None:
        machine = _machine(shell)
        shares = await asyncio.to_thread(machine.dealer.deal, terms, total_fen, block)
        if not shares:
            return  # it is withheld, and waiters hear so
        machine.keep_shares(terms.packet_id, total_fen, block, shares)
        self._deal_ahead(shell, [terms.packet_id])

    async def report(self, *, audit: bool) -> list[StreamFigures]:
        """Report every stream, and say once in the log which packets are withheld."""
        for shell in self._live():
            dealer = _machine(shell).dealer
            for packet_id in dealer.untold():
                key_id, where = dealer.withheld[packet_id], {"stream": shell.stream, "epoch": shell.epoch}
                log.error(
                    "packet %s is withheld: key %r does not give its seed; %s", packet_id, key_id, MEND, extra=where
                )
        return await super().report(audit=audit)

    def _decide(self, shell: Shell, commands: list[Command]) -> tuple[list[Reply], bool]:
        # No `await` in here: an interleaved grab would be decided on the same share.
        step = Step(shell, _machine(shell), self._rules, self._services)
        barred = OVERLOADED if shell.refusing else None
        replies: list[Reply] = []
        wait = False
        at = 0
        while at < len(commands):
            command = commands[at]
            at += 1
            if type(command) is GrabMany:
                reply, waits = self._grabs(step, command, command.users, barred)
                replies.append(reply)
            elif type(command) is Grab:
                users = [command.user]
                while at < len(commands):
                    other = commands[at]
                    if not isinstance(other, Grab) or not _is_same_packet(command, other):
                        break
                    users.append(other.user)
                    at += 1
                reply, waits = self._grabs(step, command, users, barred)
                replies += one_by_one(reply, len(users))
            else:
                waits = True
                replies.append(self._answer(step, command))
                if type(command) is Open or type(command) is Receive:
                    records = self._handlers[type(command)].records
                    self._deal_ahead(shell, records(command) if records is not None else ())
            wait = wait or waits
        return replies, wait

    def _grabs(
        self, step: Step[PacketMachine], asked: Grab | GrabMany, users: list[str], barred: Refused | None
    ) -> tuple[Shares | Takings | Refused, bool]:
        """Decide, apply and stage the grabs of one packet; tell whether the answers must wait."""
        shell, machine, packet_id = step.shell, step.machine, asked.packet_id
        expire(step, machine.overdue_before(packet_id, step.now_ms))
        if shell.refuses(asked.tenant, "") or not machine.has_room(packet_id, asked.tenant):
            barred = OVERLOADED
        event, reply = machine.decide_grabs(
            packet_id, asked.tenant, users, step.now_ms, barred, phrase=asked.phrase, group=asked.group
        )
        if event is not None:
            shell.stage(event, len(users))
            shell.hold(asked.tenant, "", len(users))
        # Refusals wait too: "drained", told before the last share is durable, may prove untrue.
        return reply, not machine.is_final(packet_id, shell.durable_version)


def _machine(shell: Shell) -> PacketMachine:
    assert isinstance(shell.machine, PacketMachine), "the host of packets hosts nothing else"
    return shell.machine
