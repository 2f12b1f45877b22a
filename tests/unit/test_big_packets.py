"""Big packets: their shares are made in a thread, once, and nobody else waits for that."""

import asyncio
import threading
from typing import Any

import msgspec

from actors.packet.commands import Grab, GrabMany, Open
from actors.packet.host import PacketShard
from actors.packet.kind import PACKET as KIND
from actors.packet.replies import OpenNow, Shares, Won
from cluster.config import load
from cluster.journal.codec import platform_codec
from cluster.runtime.shards import WallClock, services_of
from tests.simulation.memory_journal import MemoryJournals
from tests.unit.samples import KEYS, PACKET, PACKET_RULES, TENANT, WALLET, funding

FAR_MS = 4_000_000_000_000


class Splits:
    """Stands in for `Dealer.deal`, and holds it up in its thread until it is let go."""

    def __init__(self, machine: Any) -> None:
        self.made = 0
        self.go_on = threading.Event()
        self._loop_thread = threading.get_ident()
        self._deal = machine.dealer.deal
        machine.dealer.deal = self

    def __call__(self, terms: Any, total_fen: int, block: int) -> bytes:
        if terms.packet_id == "p1":
            assert threading.get_ident() != self._loop_thread, "a big split is no business of the loop"
            self.made += 1
            assert self.go_on.wait(30)
        return bytes(self._deal(terms, total_fen, block))


async def test_the_shares_of_a_big_packet_are_made_once_in_a_thread_while_others_are_served() -> None:
    settings = load()
    journals = MemoryJournals(platform_codec())
    await journals.create_system(settings.layout)
    services = services_of(settings, KEYS)
    shard = PacketShard("packet-shard-0", KIND, [PACKET], journals, WallClock(), services, PACKET_RULES)
    big = funding(count=150, total_fen=15_000, expires_at_ms=FAR_MS)
    small = funding("p2", 2, expires_at_ms=FAR_MS)
    splits = Splits((await shard.shell(PACKET)).machine)
    opened = await shard.serve(PACKET, [Open(WALLET, big), Open(WALLET, small)])
    assert all(isinstance(reply, OpenNow) for reply in opened)
    users = [f"u{i}" for i in range(150)]
    parts = GrabMany("p1", TENANT, users[:90]), GrabMany("p1", TENANT, users[90:])
    asked = [asyncio.ensure_future(shard.serve(PACKET, [part])) for part in parts]
    [other] = await shard.serve(PACKET, [Grab("p2", TENANT, "u0")])
    assert isinstance(other, Won)
    assert not any(one.done() for one in asked), "they wait for the thread, and the other one did not"
    splits.go_on.set()
    [[first], [second]] = await asyncio.gather(*asked)
    assert isinstance(first, Shares)
    assert isinstance(second, Shares)
    assert sum(first.amounts_fen + second.amounts_fen) == 15_000
    assert splits.made == 1
    await shard.stop()


async def test_a_crowds_shares_are_dealt_block_by_block_ahead_of_the_takers_and_never_on_the_loop() -> None:
    settings = load()
    journals = MemoryJournals(platform_codec())
    await journals.create_system(settings.layout)
    rules = msgspec.structs.replace(PACKET_RULES, unsettled_max=100_000, split_apart_min=2_000)
    shard = PacketShard("packet-shard-0", KIND, [PACKET], journals, WallClock(), services_of(settings, KEYS), rules)
    machine = (await shard.shell(PACKET)).machine
    splits = Splits(machine)
    splits.go_on.set()
    await shard.serve(PACKET, [Open(WALLET, funding(count=25_000, total_fen=2_500_000, expires_at_ms=FAR_MS))])
    amounts: list[int] = []
    for start in range(0, 25_000, 1_000):
        [reply] = await shard.serve(PACKET, [GrabMany("p1", TENANT, [f"u{start + i}" for i in range(1_000)])])
        assert isinstance(reply, Shares)
        amounts += reply.amounts_fen
        assert splits.made <= start // 10_000 + 2, "as far ahead as it may, not all of them"
    assert (len(amounts), sum(amounts), splits.made) == (25_000, 2_500_000, 3)
    await shard.stop()
