"""Switches: the flow that pauses and resumes. Told as done only once every stream concerned has it durably.

Streams are asked past the batchers: what an operator does about a crowd does not queue behind the crowd. Each is asked
for its order first and told in that order, so that an attempt whose answer was lost cannot come after a later one.
Of two operators at once the later one wins in each stream, and `read` tells where a switch is missing.
"""

import asyncio
from collections.abc import Awaitable, Callable

from actors.kernel.messages import Done, Refused
from actors.kernel.switches import ReadSwitches, SetSwitch, Switch, Switches
from actors.packet.commands import Open
from actors.packet.switches import GRABS, packet_of, packet_switch
from actors.refusals import Refusal
from actors.transfers.ids import Layout, lanes_of, packet_stream, wallet_stream, whole_id
from actors.wallet.commands import FindFunding
from actors.wallet.replies import Funded
from actors.wallet.switches import SENDS
from cluster.config import Settings
from cluster.gateway.operator.contract import PausedBody
from cluster.gateway.problems import Problem, refused
from cluster.runtime.directory import Directory

PAUSE_S = 0.1
"""Pause before streams that did not answer are asked again."""

_FINAL = {Refusal.PACKET_NOT_FOUND, Refusal.DRAINED, Refusal.EXPIRED, Refusal.OVERLOADED}
"""What a stream says once and for all; anything else is asked again."""


class SwitchFlow:
    """The switches of one system, for one gateway replica."""

    def __init__(self, settings: Settings, directory: Directory) -> None:
        layout = Layout.of(settings.layout)
        self._directory = directory
        self._deadline_s = settings.timing.request_deadline_ms / 1000
        self._numbers = layout
        self._packet_streams = [packet_stream(index) for index in range(layout.packet + layout.hot)]
        self._wallet_streams = [wallet_stream(index) for index in range(layout.wallet)]

    async def set_sends(self, *, paused: bool, by: str) -> None:
        """Pause all sends or let them go on. Raises Problem."""
        await self._set(self._wallet_streams, SENDS, paused, by)

    async def set_grabs(self, *, paused: bool, by: str) -> None:
        """Pause all grabs or let them go on. Raises Problem."""
        await self._set(self._packet_streams, GRABS, paused, by)

    async def set_packet(self, packet_id: str, *, paused: bool, by: str) -> None:
        """Pause the grabs of one packet or let them go on. Raises Problem, also if it is unknown or has ended.

        Of several lanes those that have ended are passed over, unless all have.
        """
        places = lanes_of(packet_id, self._numbers)
        if not places:
            raise refused(Refusal.PACKET_NOT_FOUND)
        told = await asyncio.gather(*(self._set_one(*place, paused, by) for place in places), return_exceptions=True)
        failures = [failure for failure in told if isinstance(failure, BaseException)]
        open_ones = [failure for failure in failures if not _has_ended(failure)]
        if open_ones or len(failures) == len(places):
            raise (open_ones or failures)[0]

    async def _set_one(self, packet_id: str, packet_index: int, wallet_index: int, paused: bool, by: str) -> None:
        stream = self._packet_streams[packet_index]
        try:
            await self._set([stream], packet_switch(packet_id), paused, by)
        except Problem as problem:
            if problem.code != Refusal.PACKET_NOT_FOUND:
                raise
            # Before anybody hears 404, the book that the id names is asked whether it paid.
            if not await self._opened(packet_id, stream, self._wallet_streams[wallet_index]):
                raise
            await self._set([stream], packet_switch(packet_id), paused, by)

    async def read(self) -> list[PausedBody]:
        """Return what is paused, as it durably is in every stream. Raises Problem."""
        told: dict[str, Switches] = {}

        async def step(left: list[str]) -> list[str]:
            told.update(await self._orders(left))
            return [stream for stream in left if stream not in told]

        await self._repeat(step, self._wallet_streams + self._packet_streams, "No answer yet from {}; ask again.")
        held: dict[str, list[Switch]] = {}
        for switches in told.values():
            for name, switch in switches.switches.items():
                held.setdefault(whole_id(name), []).append(switch)  # of all lanes of a packet one
        return [
            self._paused(name, min(set_ones, key=lambda switch: switch.at_ms), told)
            for name, set_ones in sorted(held.items())
        ]

    def _paused(self, name: str, first: Switch, told: dict[str, Switches]) -> PausedBody:
        packet_id = packet_of(name)
        if packet_id is not None:
            return PausedBody("packet", packet_id, first.at_ms, first.by, [])
        if name == SENDS:
            return PausedBody("sends", None, first.at_ms, first.by, _missing(name, self._wallet_streams, told))
        return PausedBody("grabs", None, first.at_ms, first.by, _missing(name, self._packet_streams, told))

    async def _set(self, streams: list[str], switch: str, paused: bool, by: str) -> None:
        async def step(left: list[str]) -> list[str]:
            orders = await self._orders(left)
            commands = [
                (stream, [SetSwitch(switch, paused, by, order.epoch, order.asked)]) for stream, order in orders.items()
            ]
            replies = dict(zip(orders, await self._directory.ask(commands), strict=True))
            for [reply] in replies.values():
                if isinstance(reply, Refused) and reply.code in _FINAL:
                    raise refused(reply.code, reply.part)
            return [stream for stream in left if replies.get(stream) != [Done()]]

        await self._repeat(step, streams, "Not durable yet in {}; repeat the request, what is set is not set twice.")

    async def _orders(self, streams: list[str]) -> dict[str, Switches]:
        """Return what those streams that answer have on, and in which order they take the next switch."""
        answers = await self._directory.ask([(stream, [ReadSwitches()]) for stream in streams])
        return {stream: reply for stream, [reply] in zip(streams, answers, strict=True) if isinstance(reply, Switches)}

    async def _repeat(self, step: Callable[[list[str]], Awaitable[list[str]]], streams: list[str], words: str) -> None:
        """Take a step with the streams that it leaves until it leaves none. Raises Problem at the deadline."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._deadline_s
        left = await step(streams)
        while left:
            if loop.time() + PAUSE_S >= deadline_s:
                raise Problem("shard_unavailable", words.format(", ".join(left)))
            await asyncio.sleep(PAUSE_S)
            left = await step(left)

    async def _opened(self, packet_id: str, stream: str, wallet: str) -> bool:
        """Complete the send of a packet whose gateway died before it was opened; tell whether there was one."""
        [[found]] = await self._directory.ask([(wallet, [FindFunding(packet_id)])])
        if not isinstance(found, Funded):
            return False
        await self._directory.ask([(stream, [Open(found.source, found.funding)])])
        return True


def _has_ended(failure: BaseException) -> bool:
    return isinstance(failure, Problem) and failure.code in (Refusal.DRAINED, Refusal.EXPIRED)


def _missing(name: str, streams: list[str], told: dict[str, Switches]) -> list[str]:
    return [stream for stream in streams if name not in told[stream].switches]
