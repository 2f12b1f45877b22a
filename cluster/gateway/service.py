"""Service: what the routes do, over the batchers. One flow per operation; every answer comes durable from a shard."""

import asyncio
from typing import Any, TypeVar

from actors.ids import User, packet_stream, parse_packet_id, wallet_index_of, wallet_stream
from actors.ledger.transfer import Refusal, Refused
from actors.packet.messages import Grab, GrabMany, Open, OpenNow, PacketView, Takings, View, Won
from actors.wallet.messages import CreditSandbox, FindFunding, Funded, ReadStatement, ReadWallet, Send
from cluster.audit import AuditReport, audit
from cluster.config import Settings
from cluster.directory import Directory, Reply, ShardUnavailable
from cluster.gateway.admission import Admission
from cluster.gateway.batching import Batching
from cluster.gateway.problems import Problem, refused
from cluster.gateway.pulse import Pulse, admission_rules
from cluster.placement import hosts

NOT_FOUND = Refused(Refusal.PACKET_NOT_FOUND)
KEY_REUSED = Refused(Refusal.IDEMPOTENCY_KEY_REUSED)

R = TypeVar("R")


class Service:
    """The operations of one gateway replica."""

    def __init__(self, settings: Settings, directory: Directory) -> None:
        bounds = settings.bounds
        self._settings = settings
        self._directory = directory
        self._packet_streams = [packet_stream(index) for index in range(settings.layout.packet_streams)]
        self._batching = self.batching = Batching(
            directory,
            queue_max=bounds.gateway_queue_max,
            batch_max=bounds.gateway_batch_max,
            deadline_ms=settings.timing.request_deadline_ms,
            packet_queue_max=settings.overload.packet_queue_max,
        )
        self.admission = Admission(admission_rules(settings.overload))
        self.pulse = Pulse(self.admission, self.batching, settings.overload)

    def wallet_stream_of(self, user: User) -> str:
        """Name the stream that holds the user's money."""
        return wallet_stream(wallet_index_of(user.tenant, user.user, self._settings.layout.wallet_streams))

    async def send(self, send: Send) -> Funded:
        """Debit the sender, then open the packet: the answer means open. Raises Problem.

        Dying between the two loses nothing: the same key opens it later, or settlement does.
        """
        funded = _expect(await self._batching.ask(self.wallet_stream_of(User(send.tenant, send.user)), send), Funded)
        _expect(await self._open(funded), OpenNow)
        return funded

    async def grab(self, packet_id: str, user: User) -> Won:
        """Take a share, or tell why not. Raises Problem."""
        stream = self._stream_of(packet_id)
        if stream is None:
            raise refused(Refusal.PACKET_NOT_FOUND)
        [reply] = await self._ask_packets(stream, [Grab(packet_id, user.tenant, user.user)])
        return _expect(reply, Won)

    async def grabs(self, asked: list[tuple[str, str]], tenant: str) -> list[Reply]:
        """Grab for many users of one tenant; one reply for each, in order."""
        replies: list[Reply] = [NOT_FOUND] * len(asked)
        places: dict[str, list[int]] = {}
        for index, (packet_id, _) in enumerate(asked):
            places.setdefault(packet_id, []).append(index)
        commands: dict[str, list[GrabMany]] = {}
        for packet_id, indexes in places.items():
            stream = self._stream_of(packet_id)
            if stream is not None:
                users = [asked[index][1] for index in indexes]
                commands.setdefault(stream, []).append(GrabMany(packet_id, tenant, users))
        answers = await asyncio.gather(*(self._ask_packets(stream, group) for stream, group in commands.items()))
        for group, answer in zip(commands.values(), answers, strict=True):
            for command, reply in zip(group, answer, strict=True):
                each = reply.replies if isinstance(reply, Takings) else [reply] * len(command.users)
                for index, taken in zip(places[command.packet_id], each, strict=True):
                    replies[index] = taken
        return replies

    async def view(self, packet_id: str, tenant: str) -> PacketView:
        """Look at a packet. Raises Problem."""
        stream = self._stream_of(packet_id)
        if stream is None:
            raise refused(Refusal.PACKET_NOT_FOUND)
        [reply] = await self._ask_packets(stream, [View(packet_id, tenant)])
        return _expect(reply, PacketView)

    async def wallet(self, command: ReadWallet | ReadStatement | CreditSandbox) -> Reply:
        """Ask a wallet. Raises Problem."""
        reply = await self._batching.ask(self.wallet_stream_of(User(command.tenant, command.user)), command)
        if isinstance(reply, Refused):
            raise refused(reply.code)
        return reply

    async def audit(self) -> AuditReport:
        """Read all books. Raises Problem."""
        try:
            return await audit(self._directory, self._settings)
        except ShardUnavailable as failure:
            raise Problem("shard_unavailable", f"{failure}; ask again.") from failure

    async def advance_clock(self, offset_ms: int) -> None:
        """Tell every host the durable offset, until all have it. Raises Problem at the deadline."""
        deadline_s = asyncio.get_running_loop().time() + self._settings.timing.request_deadline_ms / 1000
        left = list(hosts(self._settings))
        while True:
            told = await asyncio.gather(
                *(self._directory.call(host, "advance_clock", offset_ms) for host in left), return_exceptions=True
            )
            left = [host for host, outcome in zip(left, told, strict=True) if isinstance(outcome, BaseException)]
            if not left:
                return
            if asyncio.get_running_loop().time() >= deadline_s:
                raise Problem("shard_unavailable", f"The clock moved, but {', '.join(left)} has not heard of it yet.")
            await asyncio.sleep(0.1)

    async def _ask_packets(self, stream: str, commands: list[Any]) -> list[Reply]:
        """Ask a packet stream; before anybody hears 404, ask the book that the id names whether it paid."""
        size = sum(len(command.users) if isinstance(command, GrabMany) else 1 for command in commands)
        replies = await self._batching.post(stream, commands, size)
        lost = [index for index, reply in enumerate(replies) if _is_unknown(reply)]
        if not lost:
            return replies
        replies = list(replies)
        relayed = await self._relay(stream, list(dict.fromkeys(commands[index].packet_id for index in lost)))
        # A second funding of one id goes back: the packet is there, perhaps not for this tenant.
        there = {packet_id for packet_id, now in relayed.items() if isinstance(now, OpenNow) or now == KEY_REUSED}
        again = [index for index in lost if commands[index].packet_id in there]
        for index in lost:
            if index not in again:
                replies[index] = relayed[commands[index].packet_id]
        if again:
            answers = await self._batching.post(stream, [commands[index] for index in again])
            for index, answer in zip(again, answers, strict=True):
                replies[index] = answer
        return replies

    async def _relay(self, stream: str, packet_ids: list[str]) -> dict[str, Reply]:
        """Complete sends whose gateway died between debit and opening: `OpenNow` for each, or why not."""
        by_wallet: dict[str, list[str]] = {}
        for packet_id in packet_ids:
            place = parse_packet_id(packet_id)
            assert place is not None, "ids are parsed before they are asked"
            by_wallet.setdefault(wallet_stream(place.wallet_index), []).append(packet_id)
        found = await asyncio.gather(
            *(self._batching.post(wallet, [FindFunding(i) for i in ids]) for wallet, ids in by_wallet.items())
        )
        relayed: dict[str, Reply] = {}
        funded: list[Funded] = []
        for ids, replies in zip(by_wallet.values(), found, strict=True):
            for packet_id, reply in zip(ids, replies, strict=True):
                if isinstance(reply, Funded):
                    funded.append(reply)
                else:
                    relayed[packet_id] = reply
        if funded:
            opened = await self._batching.post(stream, [Open(reply.source, reply.funding) for reply in funded])
            relayed |= {reply.funding.packet_id: now for reply, now in zip(funded, opened, strict=True)}
        return relayed

    async def _open(self, funded: Funded) -> Reply:
        return await self._batching.ask(funded.funding.packet_stream, Open(funded.source, funded.funding))

    def _stream_of(self, packet_id: str) -> str | None:
        place = parse_packet_id(packet_id)
        layout = self._settings.layout
        if place is None or place.packet_index >= layout.packet_streams or place.wallet_index >= layout.wallet_streams:
            return None
        return self._packet_streams[place.packet_index]


def _is_unknown(reply: Reply) -> bool:
    """Tell whether the shard does not know the packet (then it knows it for no user)."""
    return reply == NOT_FOUND or (isinstance(reply, Takings) and reply.replies[:1] == [NOT_FOUND])


def _expect(reply: Any, kind: type[R]) -> R:
    """Return the reply if it is of that kind. Raises Problem for a refusal."""
    if isinstance(reply, Refused):
        raise refused(reply.code)
    assert isinstance(reply, kind), f"{type(reply).__name__} is no {kind.__name__}"
    return reply
