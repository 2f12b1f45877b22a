"""Holds: reserved money is taken, given back, or gives itself back in time; every command can be repeated."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.kernel.bounds import Percent
from actors.kernel.messages import Refused
from actors.ledger.holds import Hold, HoldExpired, HoldRules, HoldTold, PostHold, VoidHold
from actors.refusals import Refusal
from actors.wallet.commands import CreditSandbox
from actors.wallet.machine import WalletMachine
from actors.wallet.replies import WalletView
from tests.simulation.loop import simulated
from tests.simulation.system import System
from tests.unit.samples import NOW_MS, SERVICES, TENANT, WALLET, send, wallets

LIFETIME_MS, KEEP_MS = 60_000, 10_000
RULES = HoldRules(total_max=100, lifetime_ms_max=LIFETIME_MS, keep_ms=KEEP_MS)
END = {"posted": PostHold, "voided": VoidHold}


def purse(balance_fen: int = 1_000, **rules: Any) -> WalletMachine:
    return wallets(balance_fen, holds=msgspec.structs.replace(RULES, **rules))  # type: ignore[arg-type]


def ask(machine: WalletMachine, command: Any, now_ms: int = NOW_MS) -> Any:
    """Decide and apply as the host does; return the reply."""
    if isinstance(command, Hold):
        event, reply = machine.decide_hold(command, now_ms)
    else:
        event, reply = machine.holds.decide_end(command, now_ms)
    if event is not None:
        machine.apply(event)
    return reply


def hold(hold_id: str = "h1", amount_fen: int = 600, lifetime_ms: int = LIFETIME_MS, user: str = "sender") -> Hold:
    return Hold(hold_id, TENANT, user, amount_fen, lifetime_ms)


def code(reply: Any) -> str:
    assert isinstance(reply, Refused), reply
    return str(reply.code)


def look(machine: WalletMachine) -> WalletView:
    assert sum(machine.balances().values()) == 0
    return machine.view(TENANT, "sender")


def pass_time(machine: WalletMachine, now_ms: int, limit: int = 100) -> list[HoldExpired]:
    """Let the clock alone act."""
    expired = machine.holds.due(now_ms, limit)
    for event in expired:
        machine.apply(event)
    return expired


def test_what_is_held_cannot_be_spent() -> None:
    machine = purse()
    assert ask(machine, hold()) == HoldTold("h1", 600, "open", NOW_MS + LIFETIME_MS, replayed=False)
    assert look(machine) == WalletView(400, 600)
    assert code(send(machine, total_fen=401)) == "insufficient_funds"
    assert code(ask(machine, hold("h2", 401))) == "insufficient_funds"
    assert code(ask(machine, hold("h2", 1, user="stranger"))) == "insufficient_funds"


@pytest.mark.parametrize(("state", "other", "left_fen"), [("posted", "voided", 400), ("voided", "posted", 1_000)])
def test_a_hold_is_taken_or_released_once_and_never_both(state: str, other: str, left_fen: int) -> None:
    machine = purse()
    ask(machine, hold())
    told = ask(machine, END[state]("h1"))
    assert (told.state, told.replayed) == (state, False)
    again = ask(machine, END[state]("h1"))
    assert again == msgspec.structs.replace(told, replayed=True), "the same again is answered again"
    assert code(ask(machine, END[other]("h1"))) == "idempotency_key_reused"
    assert ask(machine, hold()) == again, "who repeats the hold hears what became of it"
    assert look(machine) == WalletView(left_fen, 0)


def test_an_id_stands_for_one_hold() -> None:
    machine = purse()
    ask(machine, hold())
    assert code(ask(machine, hold(amount_fen=599))) == "idempotency_key_reused"
    assert code(ask(machine, hold(user="taker"))) == "idempotency_key_reused"
    assert ask(machine, hold(lifetime_ms=5)).replayed
    assert code(ask(machine, PostHold("h9"))) == code(ask(machine, VoidHold("h9"))) == "hold_not_found"


def test_an_expired_hold_gives_its_money_back_by_itself() -> None:
    machine = purse()
    ask(machine, hold())
    assert pass_time(machine, NOW_MS + LIFETIME_MS - 1) == []
    [expired] = pass_time(machine, NOW_MS + LIFETIME_MS + 1_000)
    assert (expired.hold_id, expired.amount_fen) == ("h1", 600)
    assert look(machine) == WalletView(1_000, 0)
    assert machine.statement(TENANT, "sender", 1, None).lines[0].kind == "hold_expiry"
    assert pass_time(machine, NOW_MS + 2 * LIFETIME_MS) == []


@pytest.mark.parametrize("end", [PostHold, VoidHold])
def test_nobody_takes_a_hold_whose_time_is_over_and_the_refusal_follows_from_an_event(end: Any) -> None:
    machine = purse()
    ask(machine, hold())
    before = machine.version
    assert code(ask(machine, end("h1"), NOW_MS + LIFETIME_MS)) == "expired"
    assert (look(machine), machine.version) == (WalletView(1_000, 0), before + 1)
    assert code(ask(machine, end("h1"), NOW_MS + LIFETIME_MS)) == "expired"
    assert machine.version == before + 1


def test_a_hold_that_was_taken_in_time_stays_taken() -> None:
    machine = purse()
    ask(machine, hold())
    ask(machine, PostHold("h1"), NOW_MS + LIFETIME_MS - 1)
    assert pass_time(machine, NOW_MS + 2 * LIFETIME_MS) == []
    assert ask(machine, PostHold("h1"), NOW_MS + 2 * LIFETIME_MS).replayed
    assert look(machine) == WalletView(400, 0)


def test_nobody_holds_longer_than_the_rules_say() -> None:
    machine = purse()
    assert ask(machine, hold(lifetime_ms=10 * LIFETIME_MS)).expires_at_ms == NOW_MS + LIFETIME_MS
    assert ask(machine, hold("h2", 1, lifetime_ms=5)).expires_at_ms == NOW_MS + 5


def test_at_most_a_batch_expires_at_one_look_and_the_rest_at_the_next() -> None:
    machine = purse()
    for number in range(5):
        ask(machine, hold(f"h{number}", 1))
    late_ms = NOW_MS + 2 * LIFETIME_MS
    assert [len(pass_time(machine, late_ms, limit=2)) for _ in range(4)] == [2, 2, 1, 0]


def test_an_ended_hold_is_forgotten_by_stamps_and_nobody_finds_it_then() -> None:
    machine = purse()
    ask(machine, hold())
    ask(machine, PostHold("h1"))
    ask(machine, hold("h2", 1), NOW_MS + KEEP_MS - 1)
    assert ask(machine, PostHold("h1"), NOW_MS + KEEP_MS - 1).replayed
    ask(machine, hold("h3", 1), NOW_MS + KEEP_MS)
    assert code(ask(machine, PostHold("h1"), NOW_MS + KEEP_MS)) == "hold_not_found"
    assert code(ask(machine, VoidHold("h1"), NOW_MS + KEEP_MS)) == "hold_not_found"
    assert ask(machine, hold(amount_fen=7), NOW_MS + KEEP_MS).state == "open", "its id reserves anew"


def test_an_open_hold_is_never_forgotten() -> None:
    machine = purse(keep_ms=1)
    ask(machine, hold())
    for number in range(3):
        ask(machine, hold(f"other-{number}", 1), NOW_MS + 10 * number)
    assert ask(machine, PostHold("h1"), NOW_MS + LIFETIME_MS - 1).state == "posted"


def test_places_are_free_again_once_what_took_them_is_forgotten() -> None:
    machine = purse(total_max=10, fair=Percent(20, 100))
    for number in range(2):
        ask(machine, hold(f"h{number}", 1))
    full = ask(machine, hold("h2", 1))
    assert full == Refused(Refusal.RATE_LIMITED, "user")
    for number in range(2):
        ask(machine, VoidHold(f"h{number}"))
    assert ask(machine, hold("h2", 1), NOW_MS + KEEP_MS - 1) == full, "what is remembered takes its place"
    assert ask(machine, hold("h2", 1), NOW_MS + KEEP_MS).state == "open"


def test_holds_that_ended_early_leave_no_timers_behind() -> None:
    machine = purse(keep_ms=1)
    for number in range(3_000):
        ask(machine, hold(f"h{number}", 1), NOW_MS + number)
        ask(machine, VoidHold(f"h{number}"), NOW_MS + number)
    assert machine.holds._timer.entries < 2_000


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["hold", "post", "void", "time"]),
        st.sampled_from(["h1", "h2", "h3"]),
        st.integers(1, 700),
        st.integers(0, 40_000),
    ),
    max_size=30,
)


@given(STEPS)
def test_whatever_is_asked_the_money_is_in_one_place_and_a_restored_stream_answers_the_same(steps: Any) -> None:
    machine = purse()
    restored = WalletMachine(WALLET, machine._rules, SERVICES)
    now_ms = NOW_MS
    for name, hold_id, amount_fen, later_ms in steps:
        now_ms += later_ms
        restored.restore(machine.snapshot())
        command = {"hold": hold(hold_id, amount_fen), "post": PostHold(hold_id), "void": VoidHold(hold_id)}.get(name)
        if command is None:
            assert pass_time(restored, now_ms) == pass_time(machine, now_ms)
        else:
            assert ask(restored, command, now_ms) == ask(machine, command, now_ms)
        assert restored.snapshot() == machine.snapshot()
        view, book = look(machine), machine._state.holds
        assert view.available_fen >= 0
        assert view.held_fen == sum(record.amount_fen for record in book.open.values())
        assert view.available_fen + view.held_fen + machine.balances()["bank"] == 1_000
    pass_time(machine, now_ms + LIFETIME_MS + 1_000)
    assert look(machine).held_fen == 0, "every hold ends by itself"


@simulated
async def test_a_hold_ends_by_the_hosts_clock_and_is_told_again_after_a_restart() -> None:
    system = await System.start()
    stream = "wallet-000"

    async def ask_host(*commands: Any) -> list[Any]:
        return list((await system.directory.ask([(stream, commands)]))[0])

    _, held, replayed = await ask_host(CreditSandbox(TENANT, "u", 1_000), *[Hold("h1", TENANT, "u", 600, 5_000)] * 2)
    assert (held.state, held.replayed, replayed.replayed) == ("open", False, True)
    system.replace("wallet-shard-0")
    assert await ask_host(Hold("h1", TENANT, "u", 600, 5_000)) == [replayed]
    system.clock.ms += 6_000
    await system.tick()
    [told] = await ask_host(Hold("h1", TENANT, "u", 600, 5_000))
    assert told.state == "expired"
    [late] = await ask_host(PostHold("h1"))
    assert code(late) == "expired"
    report = await system.audit()
    assert (report.fen("change_fen"), report.fen("held_fen"), report.clean) == (1_000, 0, True)
