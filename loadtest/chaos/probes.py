"""Probes: how long until clients are served again by the part that was broken.

A probe is a request that needs that part, begun every `EVERY_S` even while earlier ones hang, because a client that
comes later must not wait for one that came too early. The first definite answer to one that began after the fault
counts, also that a packet has expired while nothing was served. Probes are clients like any other: each stands in the
history.
"""

import asyncio
from collections.abc import Awaitable, Callable

from loadtest.chaos.site import Site
from loadtest.history import Attempt
from loadtest.recorder import PlannedSend, Recorder

EVERY_S = 0.1
AT_ONCE_MAX = 12
POLL_S = 0.05
PROBER = "prober"
PROBER_FEN = 1_000_000_000
READY_S = 90.0


class NotServed(Exception):
    """Nobody was served in time."""


class Prober:
    """One more client, with a packet of its own for every fault."""

    def __init__(self, recorder: Recorder, site: Site) -> None:
        """Ask nothing yet."""
        self._recorder = recorder
        self._site = site
        self._number = 0
        self.packet_id = ""
        self.sender_of: dict[str, str] = {}

    def fresh_user(self) -> str:
        """Name somebody who never asked for anything."""
        self._number += 1
        return f"probe-{self._number}"

    def order(self, count: int = 1) -> PlannedSend:
        """Make a send that was never asked for."""
        self._number += 1
        return PlannedSend(PROBER, f"probe-{self._number}", "equal", 10 * count, count)

    async def prepare(self) -> None:
        """Send the next packet to probe: then the system serves money. Raises NotServed."""
        sent = await self._recorder.send(self.order(50), READY_S)
        if sent.outcome != "ok":
            raise NotServed("no packet can be sent before the fault")
        self.packet_id = sent.packet_id
        self.sender_of[sent.packet_id] = PROBER

    async def grab(self, seconds: float) -> int:
        """Return when (µs) a grab was first answered. Raises NotServed."""
        user, packet_id = self.fresh_user(), self.packet_id
        return await self._first(lambda: self._recorder.try_grab(packet_id, user), seconds)

    async def send(self, seconds: float) -> int:
        """Return when (µs) a send was first answered. Raises NotServed."""
        order = self.order()
        self._recorder.unknown_sends[order.user, order.key] = order
        return await self._first(lambda: self._recorder.try_send(order), seconds)

    async def arrival(self, seconds: float) -> int:
        """Return when (µs) the money of a grab was first seen in its taker's wallet. Raises NotServed."""
        user = self.fresh_user()
        grabbed = await self._recorder.grab(self.packet_id, user, seconds)
        if grabbed.code == "expired":
            await self.prepare()
            grabbed = await self._recorder.grab(self.packet_id, user, seconds)
        if grabbed.outcome != "ok":
            raise NotServed(f"no grab is answered: {grabbed.code}")

        async def is_there() -> bool:
            balance = await self._recorder.try_balance(user)
            return balance.outcome == "ok" and balance.available_fen >= grabbed.amount_fen

        await until(is_there, seconds)
        return self._recorder.history.now_us()

    async def born(self, title: str, before: set[int], count: int, seconds: float) -> int:
        """Return when (µs) that many processes of a title run, at least one of them new. Raises NotServed."""

        async def is_back() -> bool:
            pids = {process.pid for process in await asyncio.to_thread(self._site.find, title)}
            return len(pids) >= count and bool(pids - before)

        await until(is_back, seconds)
        return self._recorder.history.now_us()

    async def _first(self, attempt_once: Callable[[], Awaitable[Attempt]], seconds: float) -> int:
        loop = asyncio.get_running_loop()
        end_s = loop.time() + seconds
        under_way: set[asyncio.Future[Attempt]] = set()
        try:
            while loop.time() < end_s:
                if len(under_way) < AT_ONCE_MAX:
                    under_way.add(asyncio.ensure_future(attempt_once()))
                next_s = loop.time() + EVERY_S
                while under_way and (left_s := next_s - loop.time()) > 0:
                    over, under_way = await asyncio.wait(under_way, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
                    attempts = [task.result() for task in over]
                    if told := [each.answered_us for each in attempts if each.outcome in ("ok", "refused")]:
                        return min(told)
                await asyncio.sleep(max(0.0, next_s - loop.time()))
            raise NotServed(f"not served within {seconds:.0f} s")
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)


async def until(holds: Callable[[], Awaitable[bool]], seconds: float) -> None:
    """Ask until something holds. Raises NotServed."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + seconds
    while not await holds():
        if loop.time() >= end_s:
            raise NotServed(f"it does not come about within {seconds:.0f} s")
        await asyncio.sleep(POLL_S)
