"""Service: what the routes do, over the batchers. One flow per operation; every answer comes durable from a shard."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from actors.kernel.messages import Refused
from actors.kernel.metrics import Tally
from actors.kernel.names import User, user_hash
from actors.kernel.quota import Bound
from actors.packet.commands import Grab, GrabMany, Open, View
from actors.packet.host import one_by_one
from actors.packet.replies import OpenNow, PacketView, Takings, Won
from actors.refusals import Refusal
from actors.transfers.ids import (
    LanePlace,
    Layout,
    burst_id,
    home_lane,
    lanes_of,
    packet_stream,
    parse_packet_id,
    wallet_index_of,
    wallet_stream,
    whole_id,
)
from actors.wallet.commands import (
    AcceptLishi,
    AskLishi,
    Commit,
    CountLishi,
    CreditSandbox,
    FindFunding,
    ReadNotes,
    ReadStatement,
    ReadWallet,
    Send,
)
from actors.wallet.events import Committed
from actors.wallet.replies import AskCounted, Funded, LishiTold, Note, NoteList
from cluster.config import Settings
from cluster.gateway.dispatch.batcher import Batching
from cluster.gateway.dispatch.ended_packet_cache import Ended, EndedPackets
from cluster.gateway.dispatch.lane_fanout import DRAINED, Crowd, Divided, Part
from cluster.gateway.middleware.overload_control import Admission
from cluster.gateway.middleware.queue_delay import Pulse, admission_rules
from cluster.gateway.packet.grab_bodies import Asked
from cluster.gateway.problems import Problem, refused, told
from cluster.runtime.directory import Directory, Reply, ShardUnavailable
from cluster.runtime.live_audit import Conservation, audit
from cluster.runtime.placement import SUPERVISOR, hosts

NOT_FOUND = Refused(Refusal.PACKET_NOT_FOUND)
KEY_REUSED = Refused(Refusal.IDEMPOTENCY_KEY_REUSED)
SEED_UNKNOWN = Refused(Refusal.SEED_UNKNOWN)

_ASKED_TOO_LATE = "This request is older than what is remembered of its like; ask again with another key."
_ASKED_TOO_OFTEN = "Such a request is open, was not granted lately, or too many wait for that person; ask again later."

R = TypeVar("R")


class Relayed(NamedTuple):
    """What became of a packet that was paid for and not open: `OpenNow`, or why not; and whose it is, if anybody's."""

    now: Reply
    tenant: str = ""

    def told_to(self, tenant: str) -> Reply:
        """Return what a user of that tenant hears: of another's packet nobody hears that it is there."""
        return NOT_FOUND if self.now == SEED_UNKNOWN and self.tenant != tenant else self.now


class Service:
    """The operations of one gateway replica."""

    def __init__(self, settings: Settings, directory: Directory) -> None:
        bounds = settings.bounds
        self._settings = settings
        self._directory = directory
        self.tally = Tally(time.time_ns() // 1_000_000)
        self._numbers = Layout.of(settings.layout)
        self._packet_streams = [packet_stream(i) for i in range(self._numbers.packet + self._numbers.hot)]
        self._batching = self.batching = Batching(
            directory,
            queue_max=bounds.gateway_queue_max,
            batch_max=bounds.gateway_batch_max,
            deadline_ms=settings.timing.request_deadline_ms,
            packet_queue_max=settings.overload.packet_queue_max,
            fair=settings.fair.gateway_queue_max,
        )
        cache = settings.gateway_cache
        self._ended = EndedPackets(
            self._batching.post,
            packets=Bound.of(cache.ended_packets_max, settings.fair.ended_packets_max),
            sizes=Bound.of(cache.ended_bytes_max, settings.fair.ended_bytes_max),
        )
        self.admission = Admission(admission_rules(settings.overload))
        self.pulse = Pulse(self.admission, self.batching, settings.overload)

    def wallet_stream_of(self, user: User) -> str:
        """Name the stream that holds the user's money."""
        return wallet_stream(wallet_index_of(user.tenant, user.user, self._numbers.wallet))

    async def send(self, send: Send) -> Funded:
        """Debit the sender, then open what he sent: the answer means open. Raises Problem."""
        return await self.fund(self.wallet_stream_of(User(send.tenant, send.user)), send)

    async def fund(self, stream: str, command: Send | AcceptLishi) -> Funded:
        """Let a wallet stream pay for a packet, or all of a crowd's, then open it. Raises Problem.

        Dying between the two loses nothing: the same key opens it later, or settlement does.
        """
        funded = _expect(await self._batching.ask(stream, command), Funded)
        await self.open(funded)
        return funded

    async def open(self, funded: Funded) -> None:
        """Open what was paid for. Raises Problem."""
        if not funded.others:
            _expect(
                await self._batching.ask(funded.funding.packet_stream, Open(funded.source, funded.funding)), OpenNow
            )
            return
        by_stream: dict[str, list[Any]] = {}
        for funding in (funded.funding, *funded.others):
            by_stream.setdefault(funding.packet_stream, []).append(Open(funded.source, funding))
        posted = [self._batching.post(stream, commands) for stream, commands in by_stream.items()]
        for replies in posted:
            for reply in await replies:
                _expect(reply, OpenNow)

    async def grab(self, packet_id: str, user: User) -> Won:
        """Take a share. Raises Problem that tells why not."""
        return _expect(await self.take(packet_id, user.tenant, user.user), Won)

    async def take(self, asked: Asked, tenant: str, user: str) -> Won | Refused:
        """Take a share, or tell why not.

        Of a packet in lanes: in the user's own lane, and as long as one is empty, durably and for ever, in the next. So
        whoever has a share meets it again before any other lane.
        """
        packet_id, phrase, group = (asked, b"", "") if isinstance(asked, str) else asked
        lanes = lanes_of(packet_id, self._numbers)
        if len(lanes) == 1:
            return await self._take(lanes[0], Grab(packet_id, tenant, user, phrase, group))
        reply: Won | Refused = NOT_FOUND
        for lane in _from_home(lanes, tenant, user):
            reply = await self._take(lane, Grab(lane.packet_id, tenant, user, phrase, group))
            if reply != DRAINED:
                break
        return reply

    async def _take(self, lane: LanePlace, grab: Grab) -> Won | Refused:
        packet_id, tenant = lane.packet_id, grab.tenant
        ended = self._ended.find(packet_id, tenant)
        if ended is not None and not ended.may_have_won(grab.user):
            self.tally.add("local_grabs", ended.refused.code)
            return ended.refused
        stream = self._packet_streams[lane.packet_index]
        commands = [grab]
        [reply] = await self._batching.post(stream, commands)
        if type(reply) is Won:
            return reply
        [reply] = await self._complete(stream, commands, [reply])
        self._ended.notice(reply, stream, packet_id, tenant)
        assert isinstance(reply, Won | Refused), f"{type(reply).__name__} is no answer to a grab"
        return reply

    async def grabs(self, asked: Sequence[tuple[Asked, str]], tenant: str) -> list[Reply]:
        """Grab for many users of one tenant, given as (what is asked, user); one reply for each, in order."""
        wanted: dict[Asked, list[str]] = {}
        for what, user in asked:
            wanted.setdefault(what, []).append(user)
        crowds = await self.crowds(wanted, tenant)
        each = {what: iter(one_by_one(crowds[what], len(users))) for what, users in wanted.items()}
        return [next(each[what]) for what, _ in asked]

    def lets_in(self, tenant: str, users: list[str]) -> list[bool] | None:
        """Tell whose lines of a stream are let in now (the gate asks for requests); None: everybody's."""
        if not self.pulse.beating:
            self.pulse.start()
        if self.admission.calm:
            self.admission.seen += len(users)
            return None
        return [self.admission.admit_line(user_hash(tenant, user), tenant) for user in users]

    async def crowds(self, wanted: dict[Asked, list[str]], tenant: str) -> dict[Asked, Crowd]:
        """Grab for many users of one tenant, given by packet; what became of each packet's users, in their order.

        What `grabs` does, without an object for every grab.
        """
        crowds: dict[Asked, Crowd] = {}
        parts: list[Part] = []
        whole: list[Asked] = []
        divided: list[Divided] = []
        for what, users in wanted.items():
            packet_id, phrase, group = (what, b"", "") if isinstance(what, str) else what
            lanes = lanes_of(packet_id, self._numbers)
            if len(lanes) > 1:
                divided.append(Divided(what, users, lanes, tenant))
            elif lanes:
                whole.append(what)
                parts.append(Part(lanes[0], GrabMany(packet_id, tenant, users, phrase, group)))
            else:
                crowds[what] = NOT_FOUND
        told = await self._ask_parts(parts + [part for one in divided for part in one.parts()])
        crowds.update(zip(whole, told, strict=False))  # behind them come the parts of what is in lanes
        rest = told[len(whole) :]
        while divided:
            answers = iter(rest)
            for one in divided:
                one.take_in(answers)
                if one.settled:
                    crowds[one.what] = Takings(one.replies)
            divided = [one for one in divided if not one.settled]
            rest = await self._ask_parts([part for one in divided for part in one.parts()])
        return crowds

    async def _ask_parts(self, parts: list[Part]) -> list[Crowd]:
        """Ask streams for the shares of several packets' users; those who are known to have lost are not asked for."""
        told: list[Crowd] = [NOT_FOUND] * len(parts)
        asked: dict[str, list[tuple[int, GrabMany]]] = {}
        known: dict[int, Ended] = {}
        for index, (lane, command) in enumerate(parts):
            ended = self._ended.find(lane.packet_id, command.tenant)
            if ended is not None:
                known[index] = ended
                users = [user for user in command.users if ended.may_have_won(user)]
                self.tally.add("local_grabs", ended.refused.code, by=len(command.users) - len(users))
                told[index] = ended.refused
                command = msgspec.structs.replace(command, users=users)
            if command.users:
                asked.setdefault(self._packet_streams[lane.packet_index], []).append((index, command))
        # All are posted before any is awaited.
        posted = [(stream, batch, self._post(stream, [one for _, one in batch])) for stream, batch in asked.items()]
        for stream, batch, future in posted:
            replies = await self._complete(stream, [one for _, one in batch], await future)
            for (index, command), reply in zip(batch, replies, strict=True):
                assert isinstance(reply, Crowd), f"{type(reply).__name__} is no answer to grabs"
                last = reply.replies[-1] if type(reply) is Takings else reply
                self._ended.notice(last, stream, command.packet_id, command.tenant)
                told[index] = reply if index not in known else _among_losers(known[index], parts[index], reply)
        return told

    async def view(
        self, packet_id: str, reader: User, *, after_rank: int = 0, lines_max: int = 0, proof_of: int | None = None
    ) -> list[PacketView]:
        """Look at a packet, all its lanes, each with at most so many lines behind a rank. Raises Problem.

        `proof_of`: at that lane alone, to prove it.
        """
        lanes, proof = lanes_of(packet_id, self._numbers), proof_of is not None
        if not lanes:
            raise refused(Refusal.PACKET_NOT_FOUND)
        if proof_of is not None:
            if proof_of >= len(lanes):
                raise Problem("invalid", "Correct the named fields.", {"lane": f"0 to {len(lanes) - 1}"})
            lanes = lanes[proof_of : proof_of + 1]
        lines = lines_max or self._settings.bounds.list_lines_max
        by_stream: dict[str, list[View]] = {}
        for lane in lanes:
            view = View(lane.packet_id, reader.tenant, reader.user, after_rank, lines, proof)
            by_stream.setdefault(self._packet_streams[lane.packet_index], []).append(view)
        asked = [self._ask_packets(stream, commands) for stream, commands in by_stream.items()]
        found = {}
        for replies in await asyncio.gather(*asked):
            for reply in replies:
                view_ = _expect(reply, PacketView)
                found[view_.funding.packet_id] = view_
        return [found[lane.packet_id] for lane in lanes]

    async def rain(self, rain_id: str, reader: User, platform_key: bytes) -> list[PacketView]:
        """Look at all bursts of a rain, without their lists. Raises Problem."""
        first, *_ = await self.view(rain_id, reader, lines_max=1)
        special = first.funding.special
        if special is None or not special.bursts or special.burst:
            raise refused(Refusal.PACKET_NOT_FOUND)
        later = [burst_id(platform_key, rain_id, burst) for burst in range(1, special.bursts)]
        seen = await asyncio.gather(*(self.view(burst, reader, lines_max=1) for burst in later))
        return [first, *(view for [view] in seen)]

    async def commit(self, commit: Commit) -> Committed:
        """Commit to the seed of a packet that is not sent yet. Raises Problem."""
        stream = self.wallet_stream_of(User(commit.tenant, commit.user))
        return _expect(await self._batching.ask(stream, commit), Committed)

    async def wallet(self, command: ReadWallet | ReadStatement | CreditSandbox) -> Reply:
        """Ask a wallet. Raises Problem."""
        return await self.ask_wallet(self.wallet_stream_of(User(command.tenant, command.user)), command)

    async def ask_wallet(self, stream: str, command: Any) -> Reply:
        """Ask the wallet stream of that name. Raises Problem."""
        reply = await self._batching.ask(stream, command)
        if isinstance(reply, Refused):
            raise refused(reply.code, reply.part)
        return reply

    async def ask_lishi(self, ask: AskLishi) -> LishiTold:
        """Count an ask in the asker's stream, then ask. Raises Problem."""
        count = CountLishi(ask.tenant, ask.user, ask.asked, ask.key)
        with told(Refusal.RATE_LIMITED, "You have asked as often as one may in a day; ask again later."):
            own = self.wallet_stream_of(User(ask.tenant, ask.user))
            counted = _expect(await self.ask_wallet(own, count), AskCounted)
        ask = msgspec.structs.replace(ask, counted_ms=counted.at_ms)
        with told(Refusal.RATE_LIMITED, _ASKED_TOO_OFTEN), told(Refusal.LISHI_LAPSED, _ASKED_TOO_LATE):
            return _expect(await self.ask_wallet(self.wallet_stream_of(User(ask.tenant, ask.asked)), ask), LishiTold)

    async def notes(self, packet_id: str) -> list[Note]:
        """Read the notes of a packet that exists. Raises Problem."""
        return _expect(await self.ask_wallet(self.payer_of(packet_id), ReadNotes(packet_id)), NoteList).notes

    def payer_of(self, packet_id: str) -> str:
        """Name the wallet stream whose book paid for a packet that exists."""
        place = parse_packet_id(packet_id)
        assert place is not None, "a packet that exists has an id"
        return wallet_stream(place.wallet_index)

    async def audit(self) -> Conservation:
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
        there = {packet_id for packet_id, (now, _) in relayed.items() if isinstance(now, OpenNow) or now == KEY_REUSED}
        again = [index for index in lost if commands[index].packet_id in there]
        for index in lost:
            if index not in again:
                replies[index] = relayed[commands[index].packet_id].told_to(commands[index].tenant)
        if again:
            answers = await self._post(stream, [commands[index] for index in again])
            for index, answer in zip(again, answers, strict=True):
                replies[index] = answer
        return replies

    async def _relay(self, stream: str, packet_ids: list[str]) -> dict[str, Relayed]:
        """Complete sends whose gateway died between debit and opening."""
        by_wallet: dict[str, list[str]] = {}
        for packet_id in packet_ids:
            place = parse_packet_id(whole_id(packet_id))
            assert place is not None, "ids are parsed before they are asked"
            by_wallet.setdefault(wallet_stream(place.wallet_index), []).append(packet_id)
        found = await asyncio.gather(
            *(self._batching.post(wallet, [FindFunding(i) for i in ids]) for wallet, ids in by_wallet.items())
        )
        relayed: dict[str, Relayed] = {}
        funded: list[Funded] = []
        for ids, replies in zip(by_wallet.values(), found, strict=True):
            for packet_id, reply in zip(ids, replies, strict=True):
                if isinstance(reply, Funded):
                    funded.append(reply)
                else:
                    relayed[packet_id] = Relayed(reply)
        if funded:
            opened = await self._batching.post(stream, [Open(reply.source, reply.funding) for reply in funded])
            for reply, now in zip(funded, opened, strict=True):
                relayed[reply.funding.packet_id] = Relayed(now, reply.funding.tenant)
        return relayed


def _from_home(lanes: list[LanePlace], tenant: str, user: str) -> list[LanePlace]:
    """Return a packet's lanes from the user's own on."""
    home = home_lane(tenant, user, len(lanes)) if lanes else 0
    return lanes[home:] + lanes[:home]


def _among_losers(ended: Ended, part: Part, reply: Crowd) -> Takings:
    """Put what the shard said of those who may have won between those who have not."""
    asked = [ended.may_have_won(user) for user in part.command.users]
    told = iter(one_by_one(reply, sum(asked)))
    return Takings([next(told) if was_asked else ended.refused for was_asked in asked])


def _is_unknown(reply: Reply) -> bool:
    """Tell whether the shard does not know the packet (then it knows it for no user)."""
    if type(reply) is Takings:
        reply = reply.replies[0]
    return type(reply) is Refused and reply.code == Refusal.PACKET_NOT_FOUND


def _expect(reply: Any, kind: type[R]) -> R:
    """Return the reply if it is of that kind. Raises Problem for a refusal."""
    if isinstance(reply, Refused):
        raise refused(reply.code, reply.part)
    assert isinstance(reply, kind), f"{type(reply).__name__} is no {kind.__name__}"
    return reply
