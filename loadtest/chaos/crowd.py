"""Crowd: decides who sends which packet and who comes for it, all the time, at a moderate pace.

A chat sends a packet, its people tap, some tap twice or at once, some through the chat gateway; the sender looks at the
list. Packets live a minute here, so that many expire with shares left while something else is broken. Some senders are
poor: their sends race for the last fen of a wallet. The seed names who wants what; what happens depends on the faults.
"""

import asyncio
import random
from collections import deque

from loadtest.recorder import PlannedSend, Recorder

CHATS = 14
SENDERS = 24
POOR = 6
TAKERS = 160
RICH_FEN = 1_000_000_000
POOR_FEN = 3_000
TAPS_SPREAD_S = 1.2
PAUSE_S = (0.1, 0.4)
LIVE_KEPT = 64
SHARES = (1, 2, 5, 10, 20, 20, 50)
PEOPLE_MAX = 40
MEAN_SHARES_FEN = (1, 10, 66, 88, 188, 520)


class ChaosLoad:
    """The clients' load. `live` holds the newest packets, for questions about them elsewhere."""

    def __init__(self, recorder: Recorder, seed: int) -> None:
        """Prepare the people; nothing is asked yet."""
        self._recorder = recorder
        self._seed = seed
        self.credited_fen = {f"rich-{i:02d}": RICH_FEN for i in range(SENDERS)}
        self.credited_fen |= {f"poor-{i:02d}": POOR_FEN for i in range(POOR)}
        self.takers = [f"taker-{i:03d}" for i in range(TAKERS)] + [f"poor-{i:02d}" for i in range(POOR)]
        self.live: deque[str] = deque(maxlen=LIVE_KEPT)
        self.sender_of: dict[str, str] = {}
        """Of every packet that was acknowledged."""
        self._number = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Keep every chat busy until told to stop or the history is full."""
        async with asyncio.TaskGroup() as chats:
            for chat in range(CHATS):
                chats.create_task(self._chat(random.Random(f"{self._seed}-{chat}"), stop))

    def order(self, rng: random.Random, user: str) -> PlannedSend:
        """Draw the next packet of a user."""
        self._number += 1
        count = rng.choice(SHARES)
        total_fen = count * rng.choice(MEAN_SHARES_FEN)
        kind = "equal" if rng.random() < 0.25 else "lucky"
        if kind == "lucky":
            total_fen += rng.randrange(count)
        return PlannedSend(user, f"chaos-{self._number}", kind, total_fen, count)

    async def _chat(self, rng: random.Random, stop: asyncio.Event) -> None:
        senders = sorted(self.credited_fen)
        while not stop.is_set() and not self._recorder.history.full:
            sender = rng.choice(senders)
            if rng.random() < 0.15:
                await asyncio.gather(*(self._send(self.order(rng, sender), rng) for _ in range(3)))
            order = self.order(rng, sender)
            packet_id = await self._send(order, rng)
            if packet_id:
                await self._taps(packet_id, sender, order.shares, rng)
            await asyncio.sleep(rng.uniform(*PAUSE_S))

    async def _send(self, order: PlannedSend, rng: random.Random) -> str:
        """Send, now and then twice at once; return the packet's id, empty if there is none (yet)."""
        times = 2 if rng.random() < 0.1 else 1
        sent, *_ = await asyncio.gather(*(self._recorder.send(order) for _ in range(times)))
        if sent.outcome != "ok":
            return ""
        self.sender_of[sent.packet_id] = order.user
        self.live.append(sent.packet_id)
        return sent.packet_id

    async def _taps(self, packet_id: str, sender: str, shares: int, rng: random.Random) -> None:
        people = rng.sample(self.takers, rng.randint(1, min(PEOPLE_MAX, 2 * shares)))
        if rng.random() < 0.2:
            self._recorder.note(await self._recorder.try_batch([(packet_id, user) for user in people]))
            people = people[:5]  # the impatient tap themselves as well
        await asyncio.gather(*(self._tap(packet_id, user, rng) for user in people))
        if rng.random() < 0.5:
            await self._recorder.try_view(packet_id, sender)
        if rng.random() < 0.3:
            await self._recorder.try_balance(rng.choice([sender, *people]))

    async def _tap(self, packet_id: str, user: str, rng: random.Random) -> None:
        times = rng.choices((1, 2), (9, 1))[0]
        again = rng.random() < 0.1
        await asyncio.sleep(rng.uniform(0, TAPS_SPREAD_S))
        await asyncio.gather(*(self._recorder.grab(packet_id, user) for _ in range(times)))
        if again:
            await self._recorder.grab(packet_id, user)
