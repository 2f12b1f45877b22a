"""Places: wallet and packet streams with one small bound each, and how somebody takes a place in it.

A maker returns a `Take`: (tenant, user, number of the attempt) -> the answer, which is a `Refused` where there was no
room. Parts are two places a user and ten a tenant, of twenty.
"""

from collections.abc import Callable
from typing import Any, cast

import msgspec

from actors.kernel.bounds import Percent
from actors.kernel.messages import Refused
from actors.kernel.ports import Journal
from actors.kernel.shell import Shell
from actors.ledger.holds import Hold, HoldRules
from actors.packet.grab_replies import OVERLOADED
from actors.packet.machine import PacketMachine
from actors.packet.rules import PacketFair
from actors.wallet.commands import AskLishi, CommitSeed, CountLishi, CreditSandbox, KeepPhoto, WriteNote
from actors.wallet.commitments import CommitmentRules
from actors.wallet.events import SandboxCredited
from actors.wallet.machine import WalletMachine
from actors.wallet.quotas import PHOTO_BYTES_MIN
from actors.wallet.rules import WalletFair
from actors.wallet.sends import Place
from tests.unit.samples import (
    DAY_MS,
    NOW_MS,
    PACKET,
    PACKET_RULES,
    SERVICES,
    WALLET,
    WALLET_RULES,
    funding,
    grab,
    order,
    terms,
)

WHOLE = 20
PERCENT = Percent(10, 50)
"""Two places a user, ten a tenant."""

Take = Callable[[str, str, int], Any]
"""(tenant, user, number of the attempt) -> the answer; a `Refused` is none."""


def wallet(field: str, **rules: Any) -> WalletMachine:
    """Return a wallet stream with parts of one bound."""
    fair = msgspec.structs.replace(WalletFair(), **{field: PERCENT})
    return WalletMachine(
        WALLET, msgspec.structs.replace(WALLET_RULES, fair=fair, accounts_max=1_000, **rules), SERVICES
    )


def applied(machine: Any, decided: Any) -> Any:
    """Apply what was decided, unless it is a refusal."""
    if not isinstance(decided, Refused):
        for event in decided if isinstance(decided, list) else [decided]:
            machine.apply(event)
    return decided


def fitted(machine: WalletMachine, decided: Any) -> Any:
    """Do as the shard does with what takes a place in a table."""
    assert not isinstance(decided, Refused), decided
    return machine.refusal(decided, NOW_MS) or applied(machine, decided)


def sends(machine: WalletMachine) -> Take:
    def take(tenant: str, user: str, number: int) -> Any:
        machine.apply(SandboxCredited(tenant, user, 1_000, NOW_MS))
        wanted = order(tenant=tenant, user=user, key=f"k{number}")
        return applied(machine, machine.decide_send(wanted, terms(f"p{number}"), NOW_MS))

    return take


def keys() -> Take:
    return sends(wallet("idempotency_keys_max", idempotency_keys_max=WHOLE))


def fundings() -> Take:
    return sends(wallet("unsettled_max", unsettled_max=WHOLE))


def holds() -> Take:
    machine = wallet("idempotency_keys_max", holds=HoldRules(WHOLE, DAY_MS, DAY_MS, PERCENT))

    def take(tenant: str, user: str, number: int) -> Any:
        machine.apply(SandboxCredited(tenant, user, 1_000, NOW_MS))
        event, reply = machine.decide_hold(Hold(f"h{number}", tenant, user, 1, 1_000), NOW_MS)
        applied(machine, [] if event is None else event)
        return reply

    return take


def accounts() -> Take:
    fair = WalletFair(accounts_max=PERCENT)
    machine = WalletMachine(WALLET, msgspec.structs.replace(WALLET_RULES, fair=fair, accounts_max=WHOLE), SERVICES)
    return lambda tenant, user, number: applied(
        machine, machine.decide_credit(CreditSandbox(tenant, f"{user}-{number}", 1), NOW_MS)
    )


def commitments() -> Take:
    machine = wallet("commitments", commitments=CommitmentRules(unused_max=99, stream_max=WHOLE, lifetime_ms=60_000))

    def take(tenant: str, user: str, number: int) -> Any:
        place = Place(f"p{number}", PACKET, b"c" * 32)
        return applied(machine, machine.decide_commit(CommitSeed(tenant, user, "", "even/1"), [place], "k1", NOW_MS))

    return take


def lishi() -> Take:
    rules = msgspec.structs.replace(WALLET_RULES.lishi, open_max=99, total_max=WHOLE)
    machine = wallet("lishi", lishi=rules)

    def take(tenant: str, user: str, number: int) -> Any:
        ask = AskLishi(tenant, user, f"asked-{number}", f"k{number}", "")
        return fitted(machine, machine.lishi.decide_ask(ask, f"l{number}", machine.lishi_rules, NOW_MS))

    return take


def asks() -> Take:
    rules = msgspec.structs.replace(WALLET_RULES.asks, asks_max=99, total_max=WHOLE)
    machine = wallet("asks", asks=rules)

    def take(tenant: str, user: str, number: int) -> Any:
        return fitted(machine, machine.asks.decide(CountLishi(tenant, user, "x", f"k{number}"), rules, NOW_MS))

    return take


def notes() -> Take:
    rules = msgspec.structs.replace(WALLET_RULES.notes, total_max=WHOLE)
    machine = wallet("notes", notes=rules)

    def take(tenant: str, user: str, number: int) -> Any:
        return fitted(machine, machine.notes.decide(WriteNote(f"p{number}", user, "hi", tenant), rules, NOW_MS))

    return take


def photos() -> Take:
    machine = wallet("photos_bytes_max", photos_bytes_max=WHOLE * PHOTO_BYTES_MIN)

    def take(tenant: str, user: str, number: int) -> Any:
        return applied(machine, machine.decide_photo(KeepPhoto(tenant, user, f"f{number}", 1), NOW_MS))

    return take


def payouts() -> Take:
    """Whose packet it is, is who takes here: its takers are many people."""
    rules = msgspec.structs.replace(PACKET_RULES, unsettled_max=WHOLE, fair=PacketFair(unsettled_max=PERCENT))
    machine = PacketMachine(PACKET, rules, SERVICES)
    opened: list[tuple[str, str]] = []

    def take(tenant: str, user: str, number: int) -> Any:
        packet_id = f"{tenant}-{user}"
        if (tenant, user) not in opened:
            opened.append((tenant, user))
            paid = funding(packet_id, len(opened), tenant=tenant, sender=user, count=100, total_fen=1_000)
            applied(machine, machine.decide_opening(WALLET, paid))
        if not machine.has_room(packet_id, tenant):
            return OVERLOADED
        return grab(machine, f"taker-{number}", packet_id, tenant=tenant)

    return take


def ahead() -> Take:
    rules = msgspec.structs.replace(PACKET_RULES, opened_ahead_max=WHOLE, fair=PacketFair(opened_ahead_max=PERCENT))
    machine = PacketMachine(PACKET, rules, SERVICES)

    def take(tenant: str, user: str, number: int) -> Any:
        paid = funding(f"p{number}", number + 2, tenant=tenant, sender=user)
        return applied(machine, machine.decide_opening(WALLET, paid))

    return take


def staged() -> Take:
    async def commit() -> None:
        raise AssertionError("nothing is committed here")

    rules = WHOLE, PERCENT
    shell = Shell("wallet-000", wallet("idempotency_keys_max"), cast(Journal, commit), lambda: NOW_MS, *rules)

    def take(tenant: str, user: str, number: int) -> Any:
        if shell.refuses(tenant, user) or shell.refusing:
            return OVERLOADED
        shell.stage(SandboxCredited(tenant, f"{user}-{number}", 1, NOW_MS))
        shell.hold(tenant, user, 1)
        return None

    return take
