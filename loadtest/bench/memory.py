"""Memory: how many bytes a live packet and an account take in a shard, measured on the real machines.

Run as a process of its own (`python -m loadtest.bench.memory packets|accounts N`): resident memory before and after,
divided by N. A packet has 10 shares of which 5 are taken and settled; an account has one statement line.
"""

import gc
import sys
from collections.abc import Callable
from typing import TypeVar

import msgspec
import psutil

from actors.ledger.transfer import Settled
from actors.packet.events import GrabbedMany, Opened
from actors.packet.machine import PacketMachine
from actors.packet.rules import PacketRules
from actors.transfers.funding import PacketFunded
from actors.transfers.ids import Layout, packet_id_of
from actors.transfers.seeds import SeedCommitments
from actors.wallet.commands import CreditSandbox
from actors.wallet.events import SandboxCredited
from actors.wallet.machine import WalletMachine
from actors.wallet.rules import WalletRules
from cluster.config import Keys, load
from cluster.runtime.shards import services_of

E = TypeVar("E")

TAKEN = 5
KEYS = Keys(first="k1", current="k1", platform={"k1": "5e" * 32}, tokens={})


def as_read(event: E) -> E:
    """Return the event as a shard has it, read from bytes: nothing of it is shared with another."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(event), type=type(event))


def fill_packets(count: int) -> PacketMachine:
    """Open `count` packets of 10 shares and let 5 users grab from each."""
    settings = load()
    machine = PacketMachine("packet-000", settings.rules(PacketRules), services_of(settings, KEYS))
    fairness = SeedCommitments(KEYS)
    for number in range(1, count + 1):
        packet_id = packet_id_of(
            KEYS.key("k1"), "wechat", f"sender{number}", "key", 1, Layout.of(settings.layout).wallet
        )
        key_id, commitment = fairness.commit("even/1", packet_id)
        funding = PacketFunded(
            number=number,
            packet_stream="packet-000",
            packet_id=packet_id,
            tenant="wechat",
            sender=f"sender{number}",
            key=f"key-of-send-{number:012d}",
            kind="lucky",
            total_fen=1_000,
            count=10,
            share_fen_min=1,
            share_fen_max=20_000,
            greeting="恭喜发财，大吉大利",
            at_ms=1_451_577_900_000 + number,
            expires_at_ms=1_451_664_300_000 + number,
            algorithm="even/1",
            key_id=key_id,
            commitment=commitment,
        )
        machine.apply(as_read(Opened("wallet-000", funding)))
        for taker in range(TAKEN):
            grabbed, _ = machine.decide_grabs(packet_id, "wechat", [f"taker{number + taker}"], 1_451_577_960_000)
            assert isinstance(grabbed, GrabbedMany), "an open packet has a share"
            machine.apply(as_read(grabbed))
        if number % 1_000 == 0:
            for stream, sent in machine.book.sent.items():
                if sent.unsettled:
                    machine.apply(Settled(stream, sent.last_number))
    return machine


def fill_accounts(count: int) -> WalletMachine:
    """Open `count` accounts with money."""
    settings = load()
    machine = WalletMachine("wallet-000", settings.rules(WalletRules), services_of(settings, KEYS))
    for number in range(count):
        credited = machine.decide_credit(CreditSandbox("wechat", f"user{number:08d}", 1_000_000), 1_451_577_900_000)
        assert isinstance(credited, SandboxCredited), "a new user gets an account"
        machine.apply(as_read(credited))
    return machine


def main() -> None:
    """Print the bytes for each."""
    fills: dict[str, Callable[[int], PacketMachine | WalletMachine]]
    fills = {"packets": fill_packets, "accounts": fill_accounts}
    fill = fills[sys.argv[1]]
    count = int(sys.argv[2])
    process = psutil.Process()
    fill(10)  # imports and caches are not the packet's
    gc.collect()
    before = process.memory_info().rss
    filled = fill(count)
    gc.collect()
    print((process.memory_info().rss - before) // count)
    assert filled.version >= count, "the machine is still there"


if __name__ == "__main__":
    main()
