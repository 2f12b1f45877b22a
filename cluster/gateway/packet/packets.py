"""Packets: packet streams asked by one gateway replica. A send that a dying gateway left half done is completed."""

import asyncio
from typing import Any, NamedTuple

from actors.kernel.messages import Refused
from actors.kernel.names import User
from actors.packet.commands import GrabMany, Open, View
from actors.packet.replies import OpenNow, PacketView, Takings
from actors.refusals import Refusal
from actors.transfers.ids import Layout, burst_id, lanes_of, packet_stream, parse_packet_id, wallet_stream, whole_id
from actors.wallet.commands import FindFunding
from actors.wallet.replies import Funded
from cluster.config import Settings
from cluster.gateway.dispatch.batcher import Batching
from cluster.gateway.problems import Problem, expect, refused
from cluster.runtime.directory import Reply

NOT_FOUND = Refused(Refusal.PACKET_NOT_FOUND)
KEY_REUSED = Refused(Refusal.IDEMPOTENCY_KEY_REUSED)
SEED_UNKNOWN = Refused(Refusal.SEED_UNKNOWN)


class Relayed(NamedTuple):
    """What became of a packet that was paid for and not open: `OpenNow`, or why not; and whose it is, if anybody's."""

    now: Reply
    tenant: str = ""

    def told_to(self, tenant: str) -> Reply:
        """Return what a user of that tenant hears: of another's packet nobody hears that it is there."""
        return NOT_FOUND if self.now == SEED_UNKNOWN and self.tenant != tenant else self.now


class Packets:
    """The packet streams of one system, for one gateway replica."""

    def __init__(self, settings: Settings, batching: Batching) -> None:
        self.numbers = Layout.of(settings.layout)
        self.streams = [packet_stream(i) for i in range(self.numbers.packet + self.numbers.hot)]
        self._lines_max = settings.bounds.list_lines_max
        self._batching = batching

    async def open(self, funded: Funded) -> None:
        """Open what was paid for. Raises Problem."""
        if not funded.others:
            opening = Open(funded.source, funded.funding)
            expect(await self._batching.ask(funded.funding.packet_stream, opening), OpenNow)
            return
        by_stream: dict[str, list[Any]] = {}
        for funding in (funded.funding, *funded.others):
            by_stream.setdefault(funding.packet_stream, []).append(Open(funded.source, funding))
        posted = [self._batching.post(stream, commands) for stream, commands in by_stream.items()]
        for replies in posted:
            for reply in await replies:
                expect(reply, OpenNow)

    async def view(
        self, packet_id: str, reader: User, *, after_rank: int = 0, lines_max: int = 0, proof_of: int | None = None
    ) -> list[PacketView]:
        """Look at a packet, all its lanes, each with at most so many lines behind a rank. Raises Problem.

        `proof_of`: at that lane alone, to prove it.
        """
        lanes, proof = lanes_of(packet_id, self.numbers), proof_of is not None
        if not lanes:
            raise refused(Refusal.PACKET_NOT_FOUND)
        if proof_of is not None:
            if proof_of >= len(lanes):
                raise Problem("invalid", "Correct the named fields.", {"lane": f"0 to {len(lanes) - 1}"})
            lanes = lanes[proof_of : proof_of + 1]
        by_stream: dict[str, list[View]] = {}
        for lane in lanes:
            view = View(lane.packet_id, reader.tenant, reader.user, after_rank, lines_max or self._lines_max, proof)
            by_stream.setdefault(self.streams[lane.packet_index], []).append(view)
        asked = [self._ask(stream, commands) for stream, commands in by_stream.items()]
        found = {}
        for replies in await asyncio.gather(*asked):
            for reply in replies:
                seen = expect(reply, PacketView)
                found[seen.funding.packet_id] = seen
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

    def post(self, stream: str, commands: list[Any]) -> "asyncio.Future[list[Reply]]":
        """Put commands, some of which carry many grabs, on the batch for a packet stream."""
        size = sum([len(command.users) if type(command) is GrabMany else 1 for command in commands])
        return self._batching.post(stream, commands, size)

    async def complete(self, stream: str, commands: list[Any], replies: list[Reply]) -> list[Reply]:
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
            answers = await self.post(stream, [commands[index] for index in again])
            for index, answer in zip(again, answers, strict=True):
                replies[index] = answer
        return replies

    async def _ask(self, stream: str, commands: list[Any]) -> list[Reply]:
        """Ask a packet stream."""
        return await self.complete(stream, commands, await self.post(stream, commands))

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


def _is_unknown(reply: Reply) -> bool:
    """Tell whether the shard does not know the packet (then it knows it for no user)."""
    if type(reply) is Takings:
        reply = reply.replies[0]
    return type(reply) is Refused and reply.code == Refusal.PACKET_NOT_FOUND
