"""Samples: packets, rules and keys that unit tests of the machines start from. Amounts in fen, instants in Unix ms."""

from typing import Any

import msgspec

from actors.kernel.rules import Services
from actors.kinds import kind_of
from actors.ledger.holds import HoldRules
from actors.ledger.transfer import Outgoing
from actors.packet.events import Opened
from actors.packet.host import one_by_one
from actors.packet.machine import PacketMachine
from actors.packet.rules import PacketRules
from actors.transfers.funding import ALGORITHM_OF_KIND, PacketFunded
from actors.transfers.seeds import commitment_of, seed_of
from actors.wallet.asks import AskRules
from actors.wallet.commands import CreditSandbox, Send
from actors.wallet.commitments import CommitmentRules
from actors.wallet.lishi import LishiRules
from actors.wallet.machine import WalletMachine
from actors.wallet.notes import NoteRules
from actors.wallet.rules import WalletRules
from actors.wallet.sends import Place, SendRules, Terms
from cluster.config import Keys

NOW_MS = 1_451_577_900_000  # 2016-01-01 00:05 in China
DAY_MS = 86_400_000
TENANT = "wechat"
WALLET = "wallet-000"
PACKET = "packet-000"
KEYS = Keys(first="k1", current="k1", platform={"k1": "ab" * 32}, tokens={})
SEED_KEY = bytes.fromhex("ab" * 32)

HOST_RULES: dict[str, Any] = {
    "commit_events_max": 20_000,
    "expire_batch_max": 500,
    "settle_batch_max": 100,
    "tick_ms": 50,
}
SENDS = SendRules(
    share_fen_min=1,
    share_fen_max=20_000,
    packet_lifetime_ms=DAY_MS,
    opens_ms_max=30 * DAY_MS,
    crowd_count_min=1_000,
    lane_count_max=1_000,
)
PACKET_RULES = PacketRules(
    **HOST_RULES,
    unsettled_max=1_000,
    opened_ahead_max=2,
    passivate_after_ms=0,
    passivate_batch_max=10,
    split_apart_min=100,
    dealt_ahead_max=10_000,
    winners_max=1_000,
    phrase_missers_max=3,
    phrase_tries_max=2,
    phrase_tries_ms=60_000,
)
WALLET_RULES = WalletRules(
    **HOST_RULES,
    accounts_max=10,
    unsettled_max=1_000,
    idempotency_keys_max=1_000,
    idempotency_ms=DAY_MS,
    statement_lines_max=5,
    relay_after_ms=1_000,
    commitments=CommitmentRules(unused_max=2, stream_max=3, lifetime_ms=60_000),
    lishi=LishiRules(lifetime_ms=DAY_MS, cooldown_ms=DAY_MS, open_max=2, total_max=4, keep_ms=DAY_MS),
    asks=AskRules(asks_max=3, period_ms=DAY_MS, total_max=5),
    notes=NoteRules(changes_max=2, per_packet_max=2, total_max=3, keep_ms=7 * DAY_MS),
    holds=HoldRules(total_max=1_000, lifetime_ms_max=30 * DAY_MS, keep_ms=DAY_MS),
    photos_bytes_max=1_000_000,
    sends=SENDS,
)


def funding(packet_id: str = "p1", number: int = 1, **changes: Any) -> PacketFunded:
    """Return what a wallet stream paid: by default 1,000 fen in 5 lucky shares."""
    kind = changes.get("kind", "lucky")
    algorithm = ALGORITHM_OF_KIND.get(kind, "even/1")
    sample = PacketFunded(
        number=number,
        packet_stream=PACKET,
        packet_id=packet_id,
        tenant=TENANT,
        sender="sender",
        key="key",
        kind=kind,
        total_fen=1_000,
        count=5,
        share_fen_min=1,
        share_fen_max=20_000,
        greeting="",
        at_ms=NOW_MS,
        expires_at_ms=NOW_MS + DAY_MS,
        algorithm=algorithm,
        key_id="k1",
        commitment=commitment_of(algorithm, packet_id, seed_of(SEED_KEY, packet_id)),
    )
    return msgspec.structs.replace(sample, **changes)


def services(wallet_streams: int = 1, keys: Keys = KEYS) -> Services:
    """Return the services of a small system."""
    return Services(keys, {"packet": {"": 1, "hot": 0}, "wallet": {"": wallet_streams}})


SERVICES = services()


def packets(*fundings: PacketFunded, wallet_streams: int = 1, **rules: int) -> PacketMachine:
    """Return a packet stream that has opened these fundings."""
    machine = PacketMachine(PACKET, msgspec.structs.replace(PACKET_RULES, **rules), services(wallet_streams))
    for one in fundings:
        opened = machine.decide_opening(WALLET, one)
        assert isinstance(opened, Opened)
        machine.apply(opened)
    return machine


def contents(batch: Outgoing) -> list[Any]:
    """Return what a delivery brings, as the kind at its destination decodes it."""
    return [kind_of(batch.destination).content(transfer) for transfer in batch.receive.transfers]


def grab(machine: PacketMachine, user: str, packet_id: str = "p1", now_ms: int = NOW_MS, tenant: str = TENANT) -> Any:
    """Decide a grab and apply what follows from it; return the answer."""
    event, reply = machine.decide_grabs(packet_id, tenant, [user], now_ms)
    if event is not None:
        machine.apply(event)
    [answer] = one_by_one(reply, 1)
    return answer


def wallets(balance_fen: int = 10_000, user: str = "sender", **rules: int) -> WalletMachine:
    """Return a wallet stream with one user and his money."""
    machine = WalletMachine(WALLET, msgspec.structs.replace(WALLET_RULES, **rules), SERVICES)
    machine.apply(machine.decide_credit(CreditSandbox(TENANT, user, balance_fen), NOW_MS))
    return machine


def terms(packet_id: str = "p1") -> Terms:
    """Return what the shell adds to a send."""
    return Terms([Place(packet_id, PACKET, b"c" * 32)], packet_id, 1, 20_000, DAY_MS, 30 * DAY_MS, "even/1", "k1")


def order(**changes: Any) -> Send:
    """Return a user's wish: by default 1,000 fen in 5 lucky shares."""
    return msgspec.structs.replace(Send(TENANT, "sender", "key", "lucky", 1_000, 5, ""), **changes)


def send(machine: WalletMachine, packet_id: str = "p1", now_ms: int = NOW_MS, **changes: Any) -> Any:
    """Decide a send and apply what follows from it; return the decision."""
    decision = machine.decide_send(order(**changes), terms(packet_id), now_ms)
    if not isinstance(decision, list):
        return decision
    [funded] = decision
    machine.apply(funded)
    return funded
