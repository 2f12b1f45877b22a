"""Grabs: shares taken for one user or for a crowd, in one gateway replica.

Those who are known to have lost are told so without asking a shard (`dispatch.ended_packet_cache`). Of a packet in
lanes a user asks their own lane, and as long as one is empty, durably and for ever, the next.
"""

import msgspec

from actors.kernel.messages import Refused
from actors.kernel.metrics import Tally
from actors.kernel.names import user_hash
from actors.kernel.quota import Bound
from actors.packet.commands import Grab, GrabMany
from actors.packet.host import one_by_one
from actors.packet.replies import Takings, Won
from actors.transfers.ids import LanePlace, home_lane, lanes_of
from cluster.config import Settings
from cluster.gateway.dispatch.batcher import Batching
from cluster.gateway.dispatch.ended_packet_cache import EndedPacket, EndedPacketCache
from cluster.gateway.dispatch.lane_fanout import DRAINED, CrowdReply, LaneFanout, LaneGrabs
from cluster.gateway.middleware.overload_control import OverloadControl
from cluster.gateway.middleware.queue_delay import QueueDelay
from cluster.gateway.packet.grab_items import Asked
from cluster.gateway.packet.packets import NOT_FOUND, Packets


class Grabs:
    """The grabs of one gateway replica."""

    def __init__(
        self,
        settings: Settings,
        batching: Batching,
        packets: Packets,
        *,
        tally: Tally,
        overload: OverloadControl,
        queue_delay: QueueDelay,
    ) -> None:
        cache, fair = settings.gateway_cache, settings.fair
        self._batching = batching
        self._packets = packets
        self._tally = tally
        self._overload = overload
        self._queue_delay = queue_delay
        self._ended = EndedPacketCache(
            batching.post,
            packets=Bound.of(cache.ended_packets_max, fair.ended_packets_max),
            sizes=Bound.of(cache.ended_bytes_max, fair.ended_bytes_max),
        )

    async def take(self, asked: Asked, tenant: str, user: str) -> Won | Refused:
        """Take a share, or tell why not.

        Of a packet in lanes, a user who has a share meets it again before any other lane.
        """
        packet_id, phrase, group = (asked, b"", "") if isinstance(asked, str) else asked
        lanes = lanes_of(packet_id, self._packets.numbers)
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
            self._tally.add("local_grabs", ended.refused.code)
            return ended.refused
        stream = self._packets.streams[lane.packet_index]
        commands = [grab]
        [reply] = await self._batching.post(stream, commands)
        if type(reply) is Won:
            return reply
        [reply] = await self._packets.complete(stream, commands, [reply])
        self._ended.notice(reply, stream, packet_id, tenant)
        assert isinstance(reply, Won | Refused), f"{type(reply).__name__} is not an answer to a grab"
        return reply

    def lets_in(self, tenant: str, users: list[str]) -> list[bool] | None:
        """Tell whose lines of a stream are let in now (requests are judged by `Admission`); None: everybody's."""
        if not self._queue_delay.measuring:
            self._queue_delay.start()
        if self._overload.calm:
            self._overload.seen += len(users)
            return None
        return [self._overload.admit_line(user_hash(tenant, user), tenant) for user in users]

    async def crowds(self, wanted: dict[Asked, list[str]], tenant: str) -> dict[Asked, CrowdReply]:
        """Grab for many users of one tenant, given by packet; what became of each packet's users, in their order."""
        crowds: dict[Asked, CrowdReply] = {}
        parts: list[LaneGrabs] = []
        whole: list[Asked] = []
        divided: list[LaneFanout] = []
        for what, users in wanted.items():
            packet_id, phrase, group = (what, b"", "") if isinstance(what, str) else what
            lanes = lanes_of(packet_id, self._packets.numbers)
            if len(lanes) > 1:
                divided.append(LaneFanout(what, users, lanes, tenant))
            elif lanes:
                whole.append(what)
                parts.append(LaneGrabs(lanes[0], GrabMany(packet_id, tenant, users, phrase, group)))
            else:
                crowds[what] = NOT_FOUND
        told = await self._ask_parts(parts + [part for fanout in divided for part in fanout.parts()])
        crowds.update(zip(whole, told, strict=False))  # behind them come the parts of what is in lanes
        rest = told[len(whole) :]
        while divided:
            answers = iter(rest)
            for fanout in divided:
                fanout.take_in(answers)
                if fanout.settled:
                    crowds[fanout.what] = Takings(fanout.replies)
            divided = [fanout for fanout in divided if not fanout.settled]
            rest = await self._ask_parts([part for fanout in divided for part in fanout.parts()])
        return crowds

    async def _ask_parts(self, parts: list[LaneGrabs]) -> list[CrowdReply]:
        """Ask streams for the shares of several packets' users; those who are known to have lost are not asked for."""
        told: list[CrowdReply] = [NOT_FOUND] * len(parts)
        asked: dict[str, list[tuple[int, GrabMany]]] = {}
        known: dict[int, EndedPacket] = {}
        for index, (lane, command) in enumerate(parts):
            ended = self._ended.find(lane.packet_id, command.tenant)
            if ended is not None:
                known[index] = ended
                users = [user for user in command.users if ended.may_have_won(user)]
                self._tally.add("local_grabs", ended.refused.code, by=len(command.users) - len(users))
                told[index] = ended.refused
                command = msgspec.structs.replace(command, users=users)
            if command.users:
                asked.setdefault(self._packets.streams[lane.packet_index], []).append((index, command))
        # All are posted before any is awaited.
        posted = [
            (stream, batch, self._packets.post(stream, [command for _, command in batch]))
            for stream, batch in asked.items()
        ]
        for stream, batch, future in posted:
            replies = await self._packets.complete(stream, [command for _, command in batch], await future)
            for (index, command), reply in zip(batch, replies, strict=True):
                assert isinstance(reply, CrowdReply), f"{type(reply).__name__} is not an answer to grabs"
                last = reply.replies[-1] if type(reply) is Takings else reply
                self._ended.notice(last, stream, command.packet_id, command.tenant)
                told[index] = reply if index not in known else _among_losers(known[index], parts[index], reply)
        return told


def _from_home(lanes: list[LanePlace], tenant: str, user: str) -> list[LanePlace]:
    """Return a packet's lanes from the user's own on."""
    home = home_lane(tenant, user, len(lanes)) if lanes else 0
    return lanes[home:] + lanes[:home]


def _among_losers(ended: EndedPacket, part: LaneGrabs, reply: CrowdReply) -> Takings:
    """Put what the shard said of those who may have won between those who have not."""
    asked = [ended.may_have_won(user) for user in part.command.users]
    told = iter(one_by_one(reply, sum(asked)))
    return Takings([next(told) if was_asked else ended.refused for was_asked in asked])
