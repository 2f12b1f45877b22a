"""Flat rows: a shard's throughput with a thousand and with a million live packets, or accounts, in one stream.

Two actors of each kind, filled through commands, then asked by turns for the same work on members drawn evenly from
all they have. What is used up is replaced between the rounds, unmeasured.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator

from actors.packet.commands import GrabMany, Open
from actors.packet.replies import OpenNow
from actors.wallet.commands import CreditSandbox, Send
from actors.wallet.replies import Funded, WalletView
from cluster.runtime.directory import REPLIES
from loadtest.bench.ground import Ground
from loadtest.bench.own_shard import CALLS_AT_ONCE, TENANT, OwnShard, amounts_of
from loadtest.bench.result import BenchRow, compare

FEW, MANY = 1_000, 1_000_000
SHARES = 10
PACKETS_A_ROUND = 1_000
PACKETS_A_CALL = 100
SENDS_A_ROUND = 8_000
SENDS_A_CALL = 500
ROUNDS = 15
BALANCE_FEN = 10_000_000
FLAT = 0.9

Work = Callable[[], Awaitable[float]]


class LivePackets:
    """A packet shard that holds so many open packets of ten shares."""

    def __init__(self, shard: OwnShard, count: int) -> None:
        self._shard = shard
        self._count = count
        self._live: list[str] = []
        self._random = random.Random(4)

    async def fill(self) -> None:
        """Open what is missing."""
        await self._shard.ask_all(self._openings(self._count - len(self._live)), OpenNow)

    def _openings(self, count: int) -> Iterator[Open]:
        for _ in range(count):
            opening = self._shard.opening(SHARES)
            self._live.append(opening.funding.packet_id)
            yield opening

    async def work(self) -> float:
        """Take every share of some packets; return grabs a second."""
        picked = self._random.sample(range(len(self._live)), PACKETS_A_ROUND)
        ids = [self._live[at] for at in picked]
        users = [f"user{number}" for number in range(SHARES)]
        grabs = [GrabMany(packet_id, TENANT, users) for packet_id in ids]
        calls = [self._shard.encode(grabs[at : at + PACKETS_A_CALL]) for at in range(0, len(grabs), PACKETS_A_CALL)]
        answers, seconds = await _carry(self._shard, calls)
        taken = [amount for answer in answers for reply in answer for amount in amounts_of(reply)]
        assert len(taken) == PACKETS_A_ROUND * SHARES, "everybody takes a share"
        gone = set(picked)
        self._live = [packet_id for at, packet_id in enumerate(self._live) if at not in gone]
        await self.fill()
        return len(taken) / seconds


class Accounts:
    """A wallet shard that holds so many accounts with money."""

    def __init__(self, shard: OwnShard, count: int) -> None:
        self._shard = shard
        self._count = count
        self._serial = 0
        self._random = random.Random(4)

    async def fill(self) -> None:
        """Open them all."""
        opening = (CreditSandbox(TENANT, f"account{number:08d}", BALANCE_FEN) for number in range(self._count))
        await self._shard.ask_all(opening, WalletView)

    async def work(self) -> float:
        """Let owners of accounts send packets; return sends a second."""
        sends = []
        for _ in range(SENDS_A_ROUND):
            self._serial += 1
            user = f"account{self._random.randrange(self._count):08d}"
            sends.append(Send(TENANT, user, f"key{self._serial}", "lucky", 100, 1, ""))
        calls = [self._shard.encode(sends[at : at + SENDS_A_CALL]) for at in range(0, len(sends), SENDS_A_CALL)]
        answers, seconds = await _carry(self._shard, calls)
        funded = [reply for answer in answers for reply in answer]
        assert all(isinstance(reply, Funded) and not reply.replayed for reply in funded), "who has money can send"
        assert len(funded) == SENDS_A_ROUND, "everybody is answered"
        return SENDS_A_ROUND / seconds


async def _carry(shard: OwnShard, calls: list[bytes]) -> tuple[list[list[object]], float]:
    """Carry calls, some at a time; return the replies of each and the seconds."""
    waiting = iter(calls)
    answers: list[bytes] = []

    async def one() -> None:
        for payload in waiting:
            answers.append(await shard.call(payload))

    loop = asyncio.get_running_loop()
    began_s = loop.time()
    await asyncio.gather(*(one() for _ in range(CALLS_AT_ONCE)))
    seconds = loop.time() - began_s
    return [list(REPLIES.decode(answer)[0]) for answer in answers], seconds


async def rows(ground: Ground) -> list[BenchRow]:
    """Compare a million with a thousand, of packets and of accounts."""

    async def shard(kind: str, count: int) -> OwnShard:
        made = OwnShard(f"{kind}-000", ground.settings, ground.keys, f"{ground.run}-{kind}-{count}")
        await made.start()
        return made

    made = []
    for kind, holder, unit in (("packet", LivePackets, "grabs/s"), ("wallet", Accounts, "sends/s")):
        few, many = await shard(kind, FEW), await shard(kind, MANY)
        what = "live packets" if kind == "packet" else "accounts"
        small, big = holder(few, FEW), holder(many, MANY)
        ground.say(f"flat: {MANY:,} {what}")
        await small.fill()
        await big.fill()
        left, right = await _by_turns(big.work, small.work)
        few.stop()
        many.stop()
        row = compare(f"{MANY:,} {what} in one stream / {FEW:,}", left, right, unit, at_least=FLAT)
        made.append(row._replace(note=f"{ROUNDS} rounds of each"))
        ground.say(f"  {made[-1].ours:,.0f} against {made[-1].peer:,.0f} {unit}")
    return made


async def _by_turns(ours: Work, peer: Work) -> tuple[list[float], list[float]]:
    left, right = [], []
    for _ in range(ROUNDS + 1):
        left.append(await ours())
        right.append(await peer())
    return left[1:], right[1:]  # the first round of each finds cold caches
