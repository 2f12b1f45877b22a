"""Wallet machine: its promises, one decision at a time."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.kernel.messages import Refused
from actors.ledger.holds import Hold
from actors.ledger.transfer import Receive, Settled, transfer_of
from actors.refusals import Refusal
from actors.transfers.funding import PacketFunded
from actors.transfers.payout import PayoutRun
from actors.wallet.commands import CreditSandbox
from actors.wallet.events import RunsReceived, SandboxCredited
from actors.wallet.kind import WALLET as KIND
from actors.wallet.machine import WalletMachine
from actors.wallet.replies import Funded, WalletView
from actors.wallet.sends import Place
from tests.unit.samples import (
    DAY_MS,
    NOW_MS,
    PACKET,
    SERVICES,
    TENANT,
    WALLET,
    WALLET_RULES,
    contents,
    order,
    send,
    terms,
    wallets,
)

PAYOUT_SOURCE = "packet-001"


def refusal(answer: Any) -> str | None:
    return answer.code if isinstance(answer, Refused) else None


def payouts(first: int, *amounts: int, before_fen: int = 0, before: int | None = None, user: str = "taker") -> Receive:
    lines = [PayoutRun(first + i, "share", TENANT, "p9", [user], [amount], NOW_MS) for i, amount in enumerate(amounts)]
    return Receive(
        PAYOUT_SOURCE, first - 1 if before is None else before, before_fen, [transfer_of(line) for line in lines]
    )


def take(machine: WalletMachine, receive: Receive) -> Any:
    fresh: Any = KIND.fresh(machine.book.watermark(receive.source), receive)
    if isinstance(fresh, Refused) or not fresh:
        return fresh
    taken = RunsReceived(receive.source, fresh, NOW_MS)
    machine.apply(taken)
    return taken


def test_a_send_debits_the_sender_and_holds_the_whole_packet_in_one_event() -> None:
    machine = wallets(10_000)
    funded = send(machine, greeting="恭喜发财")
    assert isinstance(funded, PacketFunded)
    assert (funded.number, funded.total_fen, funded.count, funded.greeting) == (1, 1_000, 5, "恭喜发财")
    assert funded.expires_at_ms == NOW_MS + DAY_MS
    assert machine.view(TENANT, "sender") == WalletView(9_000, 0)


def test_the_same_send_again_is_answered_again_and_debits_once() -> None:
    machine = wallets(10_000)
    funded = send(machine)
    assert send(machine, now_ms=NOW_MS + 5) == Funded(WALLET, funded, replayed=True)
    assert machine.view(TENANT, "sender") == WalletView(9_000, 0)


@pytest.mark.parametrize(
    "change",
    [{"total_fen": 1_001}, {"count": 4}, {"kind": "equal"}, {"greeting": "!"}],
    ids=lambda change: next(iter(change)),
)
def test_a_key_with_another_request_is_refused_whatever_differs(change: dict[str, Any]) -> None:
    machine = wallets(10_000)
    send(machine)
    assert refusal(send(machine, **change)) == Refusal.IDEMPOTENCY_KEY_REUSED
    assert machine.view(TENANT, "sender") == WalletView(9_000, 0)


def test_a_balance_is_spent_to_the_last_fen_and_not_one_further() -> None:
    machine = wallets(1_000)
    assert refusal(send(machine, total_fen=1_001)) == Refusal.INSUFFICIENT_FUNDS
    assert isinstance(send(machine), PacketFunded)
    assert refusal(send(machine, "p2", total_fen=5)) == Refusal.INSUFFICIENT_FUNDS
    assert machine.view(TENANT, "sender") == WalletView(0, 0)


def test_a_user_nobody_knows_has_no_money() -> None:
    machine = wallets()
    assert refusal(send(machine, user="stranger")) == Refusal.INSUFFICIENT_FUNDS
    assert refusal(send(machine, tenant="qq")) == Refusal.INSUFFICIENT_FUNDS, "a namesake is another person"


def test_a_refusal_is_decided_afresh_once_there_is_money() -> None:
    machine = wallets(100)
    assert refusal(send(machine)) == Refusal.INSUFFICIENT_FUNDS
    take(machine, payouts(1, 900, user="sender"))
    assert isinstance(send(machine), PacketFunded)


def test_keys_are_remembered_a_day_by_stamps_and_then_forgotten() -> None:
    machine = wallets(10_000)
    send(machine)
    machine.apply(Settled(PACKET, 1))
    assert isinstance(send(machine, now_ms=NOW_MS + DAY_MS - 1), Funded)
    send(machine, "p2", now_ms=NOW_MS + DAY_MS - 1)
    assert isinstance(machine.find_funding("p1"), Funded)
    send(machine, "p3", now_ms=NOW_MS + DAY_MS)
    assert refusal(machine.find_funding("p1")) == Refusal.PACKET_NOT_FOUND
    assert isinstance(machine.find_funding("p2"), Funded)


def test_a_key_is_remembered_until_its_packet_has_arrived_whatever_the_clocks_say() -> None:
    machine = wallets(10_000)
    send(machine)
    for day in (1, 2, 3):
        send(machine, f"later {day}", now_ms=NOW_MS + day * DAY_MS)
        assert isinstance(machine.find_funding("p1"), Funded)
        assert send(machine, now_ms=NOW_MS + day * DAY_MS).replayed
    machine.apply(Settled(PACKET, 4))
    send(machine, "p2", now_ms=NOW_MS + 9 * DAY_MS)
    assert [refusal(machine.find_funding(name)) for name in ("p1", "later 3")] == [Refusal.PACKET_NOT_FOUND] * 2
    assert isinstance(machine.find_funding("p2"), Funded)


def test_one_packet_that_does_not_arrive_holds_up_no_other_key() -> None:
    machine = wallets(10_000, idempotency_keys_max=3)
    stuck = msgspec.structs.replace(terms(), places=[Place("p1", "packet-009", b"c" * 32)])
    [funded] = machine.decide_send(order(), stuck, NOW_MS)  # type: ignore[misc]
    machine.apply(funded)
    for day in range(5):
        send(machine, f"day {day}", now_ms=NOW_MS + day * DAY_MS)
        machine.apply(Settled(PACKET, day + 1))
    assert isinstance(machine.find_funding("p1"), Funded)
    assert refusal(machine.find_funding("day 3")) == Refusal.PACKET_NOT_FOUND


def test_more_keys_than_the_bound_are_refused_until_one_is_old() -> None:
    machine = wallets(10_000, idempotency_keys_max=1)
    send(machine)
    assert refusal(send(machine, "p2")) == Refusal.OVERLOADED
    assert isinstance(send(machine), Funded), "a repeat needs no room"
    assert isinstance(send(machine, "p2", now_ms=NOW_MS + DAY_MS), PacketFunded)


def test_a_full_book_refuses_sends_until_settlement_has_gone_on() -> None:
    machine = wallets(10_000, unsettled_max=1)
    send(machine)
    assert refusal(send(machine, "p2")) == Refusal.OVERLOADED
    machine.apply(Settled(PACKET, 1))
    assert send(machine, "p2").number == 2


def test_a_payout_to_an_unknown_user_makes_his_account() -> None:
    machine = wallets()
    take(machine, payouts(1, 30, 12))
    assert machine.view(TENANT, "taker") == WalletView(42, 0)


def test_payouts_delivered_twice_are_credited_once() -> None:
    machine = wallets()
    take(machine, payouts(1, 30, 12))
    assert take(machine, payouts(1, 30, 12)) == []
    overlapping = take(machine, payouts(1, 30, 12, 8))
    assert [run.number for run in overlapping.runs] == [3]
    assert machine.view(TENANT, "taker") == WalletView(50, 0)
    assert (machine.book.watermark(PAYOUT_SOURCE).number, machine.book.watermark(PAYOUT_SOURCE).total_fen) == (3, 50)


def test_a_gap_in_the_payouts_is_refused_and_nothing_is_credited() -> None:
    machine = wallets()
    assert refusal(take(machine, payouts(2, 12))) == Refusal.OUT_OF_ORDER
    hole = Receive(PAYOUT_SOURCE, 0, 0, [payouts(1, 5).transfers[0], payouts(3, 5).transfers[0]])
    assert refusal(take(machine, hole)) == Refusal.OUT_OF_ORDER
    assert machine.view(TENANT, "taker") == WalletView(0, 0)


def test_a_source_that_counts_otherwise_is_our_own_bug_and_found_at_once() -> None:
    machine = wallets()
    take(machine, payouts(1, 30))
    with pytest.raises(AssertionError, match="another sum"):
        take(machine, payouts(2, 1, before_fen=31))


def test_an_empty_delivery_asks_for_the_watermark_only() -> None:
    machine = wallets()
    take(machine, payouts(1, 30))
    assert take(machine, Receive(PAYOUT_SOURCE, 0, 0)) == []


def test_a_funding_is_relayed_only_once_its_gateway_had_time_to_deliver_it() -> None:
    machine = wallets(10_000)
    first = send(machine)
    [early] = machine.outgoing(NOW_MS + 999)
    assert (early.destination, early.receive) == (PACKET, Receive(WALLET, 0, 0))
    [due] = machine.outgoing(NOW_MS + 1_000)
    assert contents(due) == [first]


def test_an_acknowledgement_of_what_was_never_sent_is_refused() -> None:
    machine = wallets(10_000)
    send(machine)
    assert machine.decide_settled(PACKET, 1) == Settled(PACKET, 1)
    assert refusal(machine.decide_settled(PACKET, 2)) == Refusal.OUT_OF_ORDER
    assert refusal(machine.decide_settled("packet-009", 1)) == Refusal.OUT_OF_ORDER


def test_a_second_deposit_of_a_sandbox_user_changes_nothing() -> None:
    machine = wallets(10_000)
    assert machine.decide_credit(CreditSandbox(TENANT, "sender", 5), NOW_MS) == WalletView(10_000, 0)


def test_accounts_are_bounded_and_the_bound_refuses_only_new_sandbox_users() -> None:
    machine = wallets(accounts_max=1)
    assert refusal(machine.decide_credit(CreditSandbox(TENANT, "second", 5), NOW_MS)) == Refusal.OVERLOADED
    take(machine, payouts(1, 30))
    assert machine.view(TENANT, "taker") == WalletView(30, 0), "money in transit is never refused"


# Statement.


def test_a_statement_is_newest_first_and_pages_without_gap_or_repeat() -> None:
    machine = wallets(10_000)
    for i in range(4):
        take(machine, payouts(i + 1, i + 1, before_fen=i * (i + 1) // 2, user="sender"))
    first = machine.statement(TENANT, "sender", 2, None)
    second = machine.statement(TENANT, "sender", 2, first.below)
    third = machine.statement(TENANT, "sender", 2, second.below)
    lines = first.lines + second.lines + third.lines
    assert [line.amount_fen for line in lines] == [4, 3, 2, 1, 10_000]
    assert [line.balance_fen for line in lines] == [10_010, 10_006, 10_003, 10_001, 10_000]
    assert [line.kind for line in lines] == ["packet_share"] * 4 + ["sandbox"]
    assert third.below is None


def test_a_statement_keeps_only_its_newest_lines() -> None:
    machine = wallets(10_000)
    for i in range(8):
        take(machine, payouts(i + 1, 1, before_fen=i, user="sender"))
    page = machine.statement(TENANT, "sender", 100, None)
    assert [line.balance_fen for line in page.lines] == [10_008, 10_007, 10_006, 10_005, 10_004]
    assert page.below is None
    assert machine.statement(TENANT, "sender", 100, 2).lines == [], "a cursor older than the kept lines ends"


def test_a_stream_restored_from_its_snapshot_goes_on_as_if_nothing_had_happened() -> None:
    machine = wallets(10_000)
    send(machine)
    take(machine, payouts(1, 30))
    restored = WalletMachine(WALLET, WALLET_RULES, SERVICES)
    restored.restore(machine.snapshot())
    assert isinstance(send(restored), Funded)
    assert (restored.version, restored.stamp_ms) == (machine.version, machine.stamp_ms)
    assert send(restored, "p2", now_ms=NOW_MS + DAY_MS) == send(machine, "p2", now_ms=NOW_MS + DAY_MS)
    assert restored.snapshot() == machine.snapshot()


COMMANDS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from(["p1", "p2", "p3"]), st.integers(5, 700)),
        st.tuples(st.just("pay"), st.just(""), st.integers(1, 300)),
    ),
    max_size=25,
)


@given(COMMANDS)
def test_no_order_of_commands_makes_a_balance_negative_or_a_book_lose_money(commands: list[Any]) -> None:
    machine = wallets(1_000)
    received = paid_fen = 0
    for name, identity, amount_fen in commands:
        if name == "send":
            send(machine, identity, total_fen=amount_fen)
        else:
            take(machine, payouts(received + 1, amount_fen, before_fen=paid_fen, user="sender"))
            received, paid_fen = received + 1, paid_fen + amount_fen
        view = machine.view(TENANT, "sender")
        assert view.available_fen >= 0
        assert sum(machine.balances().values()) == 0


def test_deciding_changes_nothing() -> None:
    machine = wallets(10_000)
    before = machine.snapshot()
    machine.decide_send(order(), terms(), NOW_MS)
    machine.decide_hold(Hold("h1", TENANT, "sender", 5, 60_000), NOW_MS)
    assert isinstance(machine.decide_credit(CreditSandbox(TENANT, "second", 5), NOW_MS), SandboxCredited)
    assert machine.snapshot() == before
