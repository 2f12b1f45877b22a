"""Service: what the routes do, over the batchers. One flow per operation; every answer comes durable from a shard."""

import asyncio
import time
from typing import Any, TypeVar

from actors.ids import User, packet_stream, parse_packet_id, user_hash, wallet_index_of, wallet_stream
from actors.ledger.transfer import Refusal, Refused
from actors.packet.messages import Grab, GrabMany, Open, OpenNow, PacketView, Shares, Takings, View, Won
from actors.packet.shard import one_by_one
from actors.tally import Tally
from actors.wallet.messages import (
    AcceptLishi,
    CreditSandbox,
    FindFunding,
    Funded,
    Note,
    NoteList,
    ReadNotes,
    ReadStatement,
    ReadWallet,
    Send,
)
from cluster.audit import AuditReport, audit
from cluster.config import Settings
from cluster.directory import Directory, Reply, ShardUnavailable
from cluster.gateway.admission import Admission
from cluster.gateway.batching import Batching
from cluster.gateway.bodies import Asked, Said
from cluster.gateway.ended import Ended, EndedPackets
from cluster.gateway.problems import Problem, refused
from cluster.gateway.pulse import Pulse, admission_rules
from cluster.placement import SUPERVISOR, hosts

NOT_FOUND = Refused(Refusal.PACKET_NOT_FOUND)
KEY_REUSED = Refused(Refusal.IDEMPOTENCY_KEY_REUSED)

Crowd = Takings | Shares | Refused
"""What became of the grabs of many users of one packet."""

R = TypeVar("R")


class Service:
    """The operations of one gateway replica."""

    def __init__(self, settings: Settings, directory: Directory) -> None:
        bounds = settings.bounds
        self._settings = settings
        self._directory = directory
        self.tally = Tally(time.time_ns() // 1_000_000)
        self._packet_streams = [packet_stream(index) for index in range(settings.layout.packet_streams)]
        self._batching = self.batching = Batching(
            directory,
            queue_max=bounds.gateway_queue_max,
            batch_max=bounds.gateway_batch_max,
            deadline_ms=settings.timing.request_deadline_ms,
            packet_queue_max=settings.overload.packet_queue_max,
        )
        cache = settings.gateway_cache
        self._ended = EndedPackets(
            self._batching.post, packets_max=cache.ended_packets_max, bytes_max=cache.ended_bytes_max
        )
        self.admission = Admission(admission_rules(settings.overload))
        self.pulse = Pulse(self.admission, self.batching, settings.overload)

    def wallet_stream_of(self, user: User) -> str:
        """Name the stream that holds the user's money."""
        return wallet_stream(wallet_index_of(user.tenant, user.user, self._settings.layout.wallet_streams))

    async def send(self, send: Send) -> Funded:
        """Debit the sender, then open the packet: the answer means open. Raises Problem."""
        return await self.fund(self.wallet_stream_of(User(send.tenant, send.user)), send)

    async def fund(self, stream: str, command: Send | AcceptLishi) -> Funded:
        """Let a wallet stream pay for a packet, then open it: the answer means open. Raises Problem.

        Dying between the two loses nothing: the same key opens it later, or settlement does.
        """
        funded = _expect(await self._batching.ask(stream, command), Funded)
        _expect(await self._open(funded), OpenNow)
        return funded

    async def grab(self, packet_id: str, user: User) -> Won:
        """Take a share. Raises Problem that tells why not."""
        return _expect(await self.take(packet_id, user.tenant, user.user), Won)

    async def take(self, asked: Asked, tenant: str, user: str) -> Won | Refused:
        """Take a share, or tell why not."""
        packet_id, phrase, group = (asked, b"", "") if isinstance(asked, str) else asked
        ended = self._ended.find(packet_id, tenant)
        if ended is not None and not ended.may_have_won(user):
            self.tally.add("local_grabs", ended.refused.code)
            return ended.refused
        stream = self._stream_of(packet_id)
        if stream is None:
            return NOT_FOUND
        commands = [Grab(packet_id, tenant, user, phrase, group)]
        [reply] = await self._batching.post(stream, commands)
        if type(reply) is Won:
            return reply
        [reply] = await self._complete(stream, commands, [reply])
        self._ended.notice(reply, stream, packet_id, tenant)
        assert isinstance(reply, Won | Refused), f"{type(reply).__name__} is no answer to a grab"
        return reply

    async def grabs(self, asked: list[tuple[str, str]], tenant: str) -> list[Reply]:
        """Grab for many users of one tenant, given as (packet, user); one reply for each, in order."""
        wanted: dict[Asked, list[str]] = {}
        for packet_id, user in asked:
            wanted.setdefault(packet_id, []).append(user)
        crowds = await self.crowds(wanted, tenant)
        each = {packet_id: iter(one_by_one(crowds[packet_id], len(users))) for packet_id, users in wanted.items()}
        return [next(each[packet_id]) for packet_id, _ in asked]

    def lets_in(self, tenant: str, users: list[str]) -> list[bool] | None:
        """Tell whose lines of a stream are let in now (the gate asks for requests); None: everybody's."""
        if not self.pulse.beating:
            self.pulse.start()
        if self.admission.calm:
            self.admission.seen += len(users)
            return None
        return [self.admission.admit_line(user_hash(tenant, user)) for user in users]

    async def crowds(self, wanted: dict[Asked, list[str]], tenant: str) -> dict[Asked, Crowd]:
        """Grab for many users of one tenant, given by packet; what became of each packet's users, in their order.

        What `grabs` does, without an object for every grab.
        """
        crowds: dict[Asked, Crowd] = {}
        commands: dict[str, list[GrabMany]] = {}
        known: dict[Asked, Ended] = {}
        for what, users in wanted.items():
            packet_id, phrase, group = (what, b"", "") if isinstance(what, str) else what
            stream = self._stream_of(packet_id)
            ended = self._ended.find(packet_id, tenant)
            if ended is not None:
                known[what] = ended
                asked, users = len(users), [user for user in users if ended.may_have_won(user)]
                self.tally.add("local_grabs", ended.refused.code, by=asked - len(users))
                crowds[what] = ended.refused
            if stream is None:
                crowds[what] = NOT_FOUND
            elif users:
                commands.setdefault(stream, []).append(GrabMany(packet_id, tenant, users, phrase, group))
        # All are posted before any is awaited.
        posted = [(stream, batch, self._post(stream, batch)) for stream, batch in commands.items()]
        for stream, batch, future in posted:
            replies = await self._complete(stream, batch, await future)
            for command, reply in zip(batch, replies, strict=True):
                packet_id, said = command.packet_id, command.phrase or command.group
                what = Said(packet_id, command.phrase, command.group) if said else packet_id
                assert isinstance(reply, Crowd), f"{type(reply).__name__} is no answer to grabs"
                self._ended.notice(reply.replies[-1] if type(reply) is Takings else reply, stream, packet_id, tenant)
                if what in known:
                    reply = _among_losers(known[what], wanted[what], reply)
                crowds[what] = reply
        return crowds

    async def view(self, packet_id: str, tenant: str) -> PacketView:
        """Look at a packet. Raises Problem."""
        stream = self._stream_of(packet_id)
        if stream is None:
            raise refused(Refusal.PACKET_NOT_FOUND)
        [reply] = await self._ask_packets(stream, [View(packet_id, tenant)])
        return _expect(reply, PacketView)

    async def wallet(self, command: ReadWallet | ReadStatement | CreditSandbox) -> Reply:
        """Ask a wallet. Raises Problem."""
        return await self.ask_wallet(self.wallet_stream_of(User(command.tenant, command.user)), command)

    async def ask_wallet(self, stream: str, command: Any) -> Reply:
        """Ask the wallet stream of that name. Raises Problem."""
        reply = await self._batching.ask(stream, command)
        if isinstance(reply, Refused):
            raise refused(reply.code)
        return reply

    async def notes(self, packet_id: str) -> list[Note]:
        """Read the notes of a packet that exists. Raises Problem."""
        return _expect(await self.ask_wallet(self.payer_of(packet_id), ReadNotes(packet_id)), NoteList).notes

    def payer_of(self, packet_id: str) -> str:
        """Name the wallet stream whose book paid for a packet that exists."""
        place = parse_packet_id(packet_id)
        assert place is not None, "a packet that exists has an id"
        return wallet_stream(place.wallet_index)

    async def audit(self) -> AuditReport:
        """Read all books. Raises Problem."""
        try:
            return await audit(self._directory, self._settings)
        except ShardUnavailable as failure:
            raise Problem("shard_unavailable", f"{failure}; ask again.") from failure

    async def figures(self) -> bytes:
        """Return the figures of the whole system, as JSON. Raises Problem."""
        try:
            return bytes(await self._directory.call(SUPERVISOR, "figures"))
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

    def _post(self, stream: str, commands: list[Any]) -> "asyncio.Future[list[Reply]]":
        """Put commands, some of which carry many grabs, on the batch for a packet stream."""
        size = sum([len(command.users) if type(command) is GrabMany else 1 for command in commands])
        return self._batching.post(stream, commands, size)

    async def _ask_packets(self, stream: str, commands: list[Any]) -> list[Reply]:
        """Ask a packet stream."""
        return await self._complete(stream, commands, await self._post(stream, commands))

    async def _complete(self, stream: str, commands: list[Any], replies: list[Reply]) -> list[Reply]:
        """Before anybody hears 404, ask the book that the packet's id names whether it paid."""
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
            answers = await self._post(stream, [commands[index] for index in again])
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


def _among_losers(ended: Ended, users: list[str], reply: Crowd) -> Takings:
    """Put what the shard said of those who may have won between those who have not."""
    asked = [ended.may_have_won(user) for user in users]
    told = iter(one_by_one(reply, sum(asked)))
    return Takings([next(told) if was_asked else ended.refused for was_asked in asked])


def _is_unknown(reply: Reply) -> bool:
    """Tell whether the shard does not know the packet (then it knows it for no user)."""
    if type(reply) is Takings:
        reply = reply.replies[0]
    return type(reply) is Refused and reply.code is Refusal.PACKET_NOT_FOUND


def _expect(reply: Any, kind: type[R]) -> R:
    """Return the reply if it is of that kind. Raises Problem for a refusal."""
    if isinstance(reply, Refused):
        raise refused(reply.code)
    assert isinstance(reply, kind), f"{type(reply).__name__} is no {kind.__name__}"
    return reply
