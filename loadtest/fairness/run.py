"""Run: rounds of one crowd packet each, at which all clients fire, half of them for nothing.

They fire at one instant, or one after another at even distances. The order of the start is shuffled, and whose answer
is lost is drawn, anew for every round from the recorded seed. Those repeat once all others have their answers:
by then the packet is drained, so that whatever the repeat is given, the first request had won. Before and after the
repeats the packet's own list is read.
"""

import asyncio
import random
import secrets
from collections.abc import Callable
from typing import NamedTuple

from cluster.client import ApiProblem, Client, PacketAnswer, PacketOrder, TakenShare
from loadtest.fairness.client import CUT, UNREAD, DefiniteAnswer, EqualClient, Fired
from loadtest.gather import gather
from loadtest.target import TENANT

WARM_UP_ROUNDS = 3
"""Unmeasured: every replica meets every user's token, and nobody pays for that in a measured round."""

SHARE_FEN = 100
CONNECTIONS_SETUP = 32
LOSE_SHARE = 0.1
REPORT_EVERY_ROUNDS = 10


class FairnessFailed(Exception):
    """Fairness could not be measured; the sentence says what to look at."""


class FairnessOptions(NamedTuple):
    """What a run is asked to be. `packets`: rounds, with one packet each, of `users` / 2 shares.

    `spread_ms`: over so long the requests of a round are sent, at even distances; 0: at one instant.
    """

    users: int
    packets: int
    seed: int
    spread_ms: int = 0


class Round(NamedTuple):
    """One packet: what everybody fired and was told, what repeats were told, and the packet's list around them."""

    shares: int
    total_fen: int
    fired: list[Fired]
    repeated: dict[str, DefiniteAnswer]
    before: list[TakenShare]
    after: list[TakenShare]


class Rounds:
    """The rounds of one run against a system."""

    def __init__(self, url: str, operator_token: str, options: FairnessOptions, report: Callable[[str], None]) -> None:
        """Prepare a run; `report` is told how far it is."""
        self._url = url
        self._operator_token = operator_token
        self._options = options
        self._report = report
        self._random = random.Random(options.seed)
        self._run = secrets.token_hex(4)
        self._clients: list[EqualClient] = []

    async def run(self) -> list[Round]:
        """Carry the run out. Raises FairnessFailed."""
        options = self._options
        async with Client(self._url, self._operator_token, connections_max=CONNECTIONS_SETUP) as operator:
            rounds = WARM_UP_ROUNDS + options.packets
            sender = await self._person(operator, "sender", rounds * options.users * SHARE_FEN)
            names = [f"equal-{self._run}-{number}" for number in range(options.users)]
            tokens = await gather(lambda name: self._token(operator, name), names, CONNECTIONS_SETUP)
            self._clients = [EqualClient(self._url, name, token) for name, token in zip(names, tokens, strict=True)]
            done = []
            try:
                for number in range(rounds):
                    done.append(await self._round(sender, number))
                    if number % REPORT_EVERY_ROUNDS == 0:
                        self._report(f"round {number + 1} of {rounds}")
            except OSError as failure:
                raise FairnessFailed(f"a client could not go on: {failure}") from failure
            finally:
                for client in self._clients:
                    client.close()
        measured = done[WARM_UP_ROUNDS:]
        replicas = {shot.told.served_by for found in measured for shot in found.fired if shot.told is not None}
        if len(replicas) < 2 or "" in replicas:
            raise FairnessFailed(
                f"X-Served-By names no two replicas, only {sorted(replicas)}: "
                "start the system with placement.gateway_replicas of 2 or more"
            )
        return measured

    async def _person(self, operator: Client, name: str, balance_fen: int) -> Client:
        return operator.acting(await self._token(operator, f"{name}-{self._run}", balance_fen))

    async def _token(self, operator: Client, user: str, balance_fen: int = 0) -> str:
        created = await operator.create_user(user, TENANT, balance_fen)
        if isinstance(created, ApiProblem):
            raise FairnessFailed(f"user {user} could not be created: the platform {created.told}; is it a sandbox?")
        return created.token

    async def _round(self, sender: Client, number: int) -> Round:
        count = self._options.users // 2
        packet = await sender.send(PacketOrder("lucky", count * SHARE_FEN, count), key=f"{self._run}-{number}")
        if isinstance(packet, ApiProblem):
            raise FairnessFailed(
                f"a packet of {count} shares was refused ({packet.status} {packet.code}): "
                "--users may be at most twice the system's limits.count_max"
            )
        order = self._random.sample(self._clients, len(self._clients))
        losers = self._random.sample(order, round(LOSE_SHARE * len(order)))
        loss_of = {client.user: (CUT, UNREAD)[place % 2] for place, client in enumerate(losers)}
        for client in self._clients:
            await client.connect()
        start = asyncio.Event()
        step_s = self._options.spread_ms / 1_000 / len(order)
        shots = [
            asyncio.create_task(client.fire(packet.packet_id, start, loss_of.get(client.user, ""), place * step_s))
            for place, client in enumerate(order)
        ]
        await asyncio.sleep(0)  # all of them reach the start
        start.set()
        fired = await asyncio.gather(*shots)
        before = await self._list(sender, packet.packet_id)
        again = await asyncio.gather(*(client.repeat(packet.packet_id) for client in losers))
        repeated = {client.user: told for client, told in zip(losers, again, strict=True)}
        return Round(count, packet.total_fen, fired, repeated, before, await self._list(sender, packet.packet_id))

    async def _list(self, sender: Client, packet_id: str) -> list[TakenShare]:
        packet = await sender.packet(packet_id)
        if not isinstance(packet, PacketAnswer):
            raise FairnessFailed(f"packet {packet_id} could not be read: the platform {packet.told}")
        return packet.grabs or []


def measure(url: str, operator_token: str, options: FairnessOptions, report: Callable[[str], None]) -> list[Round]:
    """Run all rounds. Raises FairnessFailed."""
    return asyncio.run(Rounds(url, operator_token, options, report).run())
