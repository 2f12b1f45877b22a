"""Own shard: one shard actor of the bench's, on a stream of its own in the platform's store, called as a gateway would.

Nobody supervises or settles it; what it answers is checked here.
"""

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from types import UnionType
from typing import Any

import msgspec
import ray

from actors.packet.commands import Grab, GrabMany, Open
from actors.packet.replies import OpenNow, Shares, Takings, Won
from actors.transfers.funding import PacketFunded
from actors.transfers.ids import packet_id_of
from actors.transfers.seeds import SeedCommitments
from cluster.config import Keys, Settings
from cluster.runtime.directory import REPLIES
from cluster.runtime.shards import create_shard, open_journals

TENANT = "wechat"
SHARE_FEN = 100
UNBOUNDED = 10_000_000
"""Nobody settles for the bench's own shards."""
CALLS_AT_ONCE = 8
COMMANDS_A_CALL = 1_000
POLL_S, POLLS_MAX = 0.05, 1_000


class OwnShard:
    """One shard actor with one stream, "packet-000" or "wallet-000"."""

    def __init__(self, stream: str, settings: Settings, keys: Keys, run: str) -> None:
        own = settings.with_rules("packet", unsettled_max=UNBOUNDED)
        own = own.with_rules("wallet", unsettled_max=UNBOUNDED, accounts_max=UNBOUNDED, idempotency_keys_max=UNBOUNDED)
        self.stream = stream
        self._settings = own.model_copy(update={"store_prefix": f"bench-{run}"})
        self._keys = keys
        self._run = run
        self._number = 0
        self._actor: Any = None

    async def start(self) -> None:
        """Create its streams and its actor."""
        journals = open_journals(self._settings)
        await journals.create_system(self._settings.layout)
        await journals.close()
        name = f"{self.stream.partition('-')[0]}-bench-{self._run}"
        self._actor = create_shard(name, [self.stream], self._settings, self._keys)

    def stop(self) -> None:
        """End the actor."""
        ray.kill(self._actor, no_restart=True)

    async def call(self, payload: bytes) -> bytes:
        """Carry one call."""
        answer: bytes = await self._actor.handle.remote(payload)
        return answer

    async def ask(self, commands: Sequence[Any]) -> list[Any]:
        """Ask its stream; return the replies."""
        return list(REPLIES.decode(await self.call(self.encode(commands)))[0])

    async def ask_all(self, commands: Iterator[Any], wanted: type | UnionType) -> None:
        """Ask everything, some calls at a time. Raises AssertionError at a reply that is not of the wanted type."""

        async def one() -> None:
            while chunk := list(itertools.islice(commands, COMMANDS_A_CALL)):
                for reply in await self.ask(chunk):
                    assert isinstance(reply, wanted), f"{self.stream} answered {reply}"

        await asyncio.gather(*(one() for _ in range(CALLS_AT_ONCE)))

    def encode(self, commands: Sequence[Any]) -> bytes:
        """Make the bytes of one call."""
        return msgspec.msgpack.encode([(self.stream, commands)])

    def opening(self, shares: int) -> Open:
        """Make the command that opens the next packet."""
        self._number += 1
        packet_id = packet_id_of(b"bench", TENANT, "sender", f"{self._run}-{self._number}", 1, 1)
        key_id, commitment = SeedCommitments(self._keys).commit("even/1", packet_id)
        funding = PacketFunded(
            number=self._number,
            packet_stream=self.stream,
            packet_id=packet_id,
            tenant=TENANT,
            sender="sender",
            key=f"{self._run}-{self._number}",
            kind="lucky",
            total_fen=shares * SHARE_FEN,
            count=shares,
            share_fen_min=1,
            share_fen_max=20_000,
            greeting="",
            at_ms=2_000_000_000_000,
            expires_at_ms=4_000_000_000_000,
            algorithm="even/1",
            key_id=key_id,
            commitment=commitment,
        )
        return Open("wallet-000", funding)

    async def drain(self, shares: int, size: int) -> float:
        """Open a packet and take every share but the first, `size` a call; return grabs a second. Checks the sum.

        Shares are dealt from the opening on; the clock starts once all of them are.
        """
        opening = self.opening(shares)
        packet_id = opening.funding.packet_id
        [opened, won] = await self.ask([opening, Grab(packet_id, TENANT, "first")])
        assert isinstance(opened, OpenNow), f"a new packet opens: {opened}"
        assert isinstance(won, Won), f"a new packet can be grabbed: {won}"
        for _ in range(POLLS_MAX):
            if await self._actor.__ray_call__.remote(_dealt, self.stream, packet_id) == shares:
                break
            await asyncio.sleep(POLL_S)
        users = [f"user{number}" for number in range(shares - 1)]
        groups = [GrabMany(packet_id, TENANT, users[at : at + size]) for at in range(0, len(users), size)]
        payloads = iter([self.encode([group]) for group in groups])
        answers: list[bytes] = []

        async def one() -> None:
            for payload in payloads:
                answers.append(await self.call(payload))

        loop = asyncio.get_running_loop()
        started_s = loop.time()
        await asyncio.gather(*(one() for _ in range(CALLS_AT_ONCE)))
        seconds = loop.time() - started_s
        amounts_fen = [won.amount_fen, *(fen for answer in answers for fen in amounts_of(REPLIES.decode(answer)[0][0]))]
        assert len(amounts_fen) == shares, "everybody takes a share"
        assert sum(amounts_fen) == shares * SHARE_FEN, f"a packet pays exactly its total, not {sum(amounts_fen)}"
        return (shares - 1) / seconds


def _dealt(actor: Any, stream: str, packet_id: str) -> int:
    """Return how many shares of a packet are dealt, in the shard's own process."""
    return int(actor._host._shells[stream].machine._state.packets[packet_id].made)


def amounts_of(reply: Any) -> list[int]:
    """Return what a `GrabMany` brought its users, who must all have taken a fresh share."""
    if isinstance(reply, Shares):
        return list(reply.amounts_fen)
    assert isinstance(reply, Takings), f"the group was refused: {reply}"
    amounts_fen = [taken.amount_fen for taken in reply.replies if isinstance(taken, Won) and not taken.replayed]
    assert len(amounts_fen) == len(reply.replies), "everybody takes a fresh share"
    return amounts_fen
