"""Every bound of configs/ has an owner; a shared one can be filled by no user, and by no tenant, for others.

A scene is a place with one small bound. In each, one user takes until they are refused, then another user of the same
tenant must get a place; then many users of that tenant take until they are refused, and another tenant's must get one.
"""

from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest
from pydantic import BaseModel

from actors.fair import Percent
from actors.ledger.transfer import Refused
from actors.packet.machine import PacketMachine
from actors.packet.parts import PacketFair
from actors.packet.replies import OVERLOADED
from actors.ports import Journal
from actors.shell import Shell
from actors.wallet.commitments import CommitmentRules
from actors.wallet.machine import WalletMachine
from actors.wallet.messages import (
    AskLishi,
    Commit,
    CountLishi,
    CreditSandbox,
    Hold,
    SandboxCredited,
    WriteNote,
)
from actors.wallet.parts import WalletFair
from actors.wallet.sending import Place
from cluster.config import Settings, load
from cluster.owners import OWNERS, Fair, Owner
from tests.unit.samples import (
    DAY_MS,
    KEYS,
    NOW_MS,
    PACKET,
    PACKET_RULES,
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
    return WalletMachine(WALLET, msgspec.structs.replace(WALLET_RULES, fair=fair, accounts_max=1_000, **rules))


def applied(machine: WalletMachine, decided: Any) -> Any:
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
    return sends(wallet("keys", idempotency_keys_max=WHOLE))


def fundings() -> Take:
    return sends(wallet("unsettled", unsettled_max=WHOLE))


def holds() -> Take:
    machine = wallet("keys", idempotency_keys_max=WHOLE)

    def take(tenant: str, user: str, number: int) -> Any:
        machine.apply(SandboxCredited(tenant, user, 1_000, NOW_MS))
        return applied(machine, machine.decide_hold(Hold(f"h{number}", tenant, user, 1), NOW_MS))

    return take


def accounts() -> Take:
    fair = WalletFair(accounts=PERCENT)
    machine = WalletMachine(WALLET, msgspec.structs.replace(WALLET_RULES, fair=fair, accounts_max=WHOLE))
    return lambda tenant, user, number: applied(
        machine, machine.decide_credit(CreditSandbox(tenant, f"{user}-{number}", 1), NOW_MS)
    )


def commitments() -> Take:
    machine = wallet("commitments", commitments=CommitmentRules(unused_max=99, stream_max=WHOLE, lifetime_ms=60_000))

    def take(tenant: str, user: str, number: int) -> Any:
        place = Place(f"p{number}", PACKET, b"c" * 32)
        return applied(machine, machine.decide_commit(Commit(tenant, user, "", "even/1"), [place], "k1", NOW_MS))

    return take


def lishi() -> Take:
    rules = msgspec.structs.replace(WALLET_RULES.lishi, open_max=99, total_max=WHOLE)
    machine = wallet("lishi", lishi=rules)

    def take(tenant: str, user: str, number: int) -> Any:
        ask = AskLishi(tenant, user, f"asked-{number}", f"k{number}", "")
        return fitted(machine, machine.lishi.decide_ask(ask, f"l{number}", rules, NOW_MS))

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


def payouts() -> Take:
    """Whose packet it is, is who takes here: its takers are many people."""
    rules = msgspec.structs.replace(PACKET_RULES, unsettled_max=WHOLE, fair=PacketFair(unsettled=PERCENT))
    machine = PacketMachine(PACKET, rules, KEYS)
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
    rules = msgspec.structs.replace(PACKET_RULES, opened_ahead_max=WHOLE, fair=PacketFair(ahead=PERCENT))
    machine = PacketMachine(PACKET, rules, KEYS)

    def take(tenant: str, user: str, number: int) -> Any:
        paid = funding(f"p{number}", number + 2, tenant=tenant, sender=user)
        return applied(machine, machine.decide_opening(WALLET, paid))

    return take


def staged() -> Take:
    async def commit() -> None:
        raise AssertionError("nothing is committed here")

    rules = WHOLE, PERCENT
    shell = Shell("wallet-000", wallet("keys"), cast(Journal, commit), lambda: NOW_MS, *rules)

    def take(tenant: str, user: str, number: int) -> Any:
        if shell.refuses(tenant, user) or shell.refusing:
            return OVERLOADED
        shell.stage(SandboxCredited(tenant, f"{user}-{number}", 1, NOW_MS))
        shell.hold(tenant, user, 1)
        return None

    return take


SCENES: dict[str, dict[str, Callable[[], Take]]] = {
    "accounts_max": {"accounts": accounts},
    "commit_events_max": {"staged": staged},
    "commitments_max": {"commitments": commitments},
    "idempotency_keys_max": {"keys": keys, "holds": holds},
    "lishi_counted_max": {"asks": asks},
    "lishi_max": {"lishi": lishi},
    "notes_max": {"notes": notes},
    "opened_ahead_max": {"ahead": ahead},
    "unsettled_max": {"fundings": fundings, "payouts": payouts},
}
"""Shared bound -> the places where it holds. `accounts` has no users: an account is one."""

PLACES = [pytest.param(make, id=f"{bound}-{name}") for bound, made in SCENES.items() for name, make in made.items()]
OF_USERS = [one for one in PLACES if one.values[0] is not accounts]
REMEMBERED = [one for one in OF_USERS if one.values[0] is not staged]


def fill(take: Take, tenant: str, users: list[str], numbers: Any) -> int:
    """Take places for these users until each is refused; return how many they got."""
    got = 0
    for user in users:
        for _ in range(WHOLE + 1):
            answer = take(tenant, user, next(numbers))
            if isinstance(answer, Refused):
                break
            got += 1
        else:
            raise AssertionError(f"{user} of {tenant} is never refused")
    return got


@pytest.mark.parametrize("make", OF_USERS)
def test_one_user_who_takes_all_they_get_leaves_others_their_places(make: Callable[[], Take]) -> None:
    take, numbers = make(), iter(range(10_000))
    assert 1 <= fill(take, "t1", ["greedy"], numbers) < WHOLE // 2
    assert not isinstance(take("t1", "other", next(numbers)), Refused)


@pytest.mark.parametrize("make", PLACES)
def test_one_tenant_whose_users_take_all_they_get_leaves_other_tenants_their_places(make: Callable[[], Take]) -> None:
    take, numbers = make(), iter(range(10_000))
    got = fill(take, "t1", [f"u{number}" for number in range(WHOLE)], numbers)
    assert 1 <= got <= WHOLE // 2
    assert not isinstance(take("t2", "u0", next(numbers)), Refused)


def test_every_bound_has_an_owner_and_every_shared_one_its_parts() -> None:
    settings = load()
    bounding = {"limits", "bounds", "stream", "gateway_cache", "overload"}
    assert set(OWNERS) == bounding
    for section, owners in OWNERS.items():
        fields = type(getattr(settings, section)).model_fields
        assert set(owners) == set(fields), f"[{section}]: every field has an owner, and nothing else"
    others = {name for name, field in Settings.model_fields.items() if _is_section(field.annotation)} - bounding
    assert others == {"layout", "placement", "timing", "sight", "fair"}, "a new section bounds something, or does not"
    shared = {name for owners in OWNERS.values() for name, owner in owners.items() if owner is Owner.SHARED}
    assert shared == set(Fair.model_fields)


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def test_the_shipped_parts_are_well_below_the_whole() -> None:
    fair = load().fair
    for name in Fair.model_fields:
        parts = getattr(fair, name)
        assert parts.tenant <= 50, f"{name}: two tenants have room beside each other"
        if parts.user < 100:
            assert parts.user * 2 <= parts.tenant, f"{name}: a tenant is more than two users"


def test_a_full_part_is_free_again_once_what_fills_it_is_over() -> None:
    take_days = wallet("keys", idempotency_keys_max=WHOLE)
    take_days.apply(SandboxCredited("t1", "a", 100_000, NOW_MS))

    def send(number: int, at_ms: int) -> Any:
        wanted = order(tenant="t1", user="a", key=f"k{number}")
        return applied(take_days, take_days.decide_send(wanted, terms(f"p{number}"), at_ms))

    assert [isinstance(send(number, NOW_MS), Refused) for number in range(3)] == [False, False, True]
    assert isinstance(send(3, NOW_MS + DAY_MS - 1), Refused)
    assert not isinstance(send(4, NOW_MS + DAY_MS), Refused)


@pytest.mark.parametrize("make", REMEMBERED)
def test_a_snapshot_holds_what_the_parts_are_counted_from(make: Callable[[], Take]) -> None:
    """A machine restored from its own snapshot refuses whom it refused before, and nobody else."""
    take, numbers = make(), iter(range(10_000))
    fill(take, "t1", ["greedy"], numbers)
    machine = next(cell.cell_contents for cell in take.__closure__ or () if hasattr(cell.cell_contents, "restore"))
    machine.restore(machine.snapshot())
    assert isinstance(take("t1", "greedy", next(numbers)), Refused)
    assert not isinstance(take("t1", "other", next(numbers)), Refused)
