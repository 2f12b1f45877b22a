"""Packet machine: its promises, one decision at a time."""

from array import array
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.kernel.messages import Refused
from actors.kernel.names import user_hash
from actors.ledger.transfer import Settled
from actors.packet.commands import View
from actors.packet.events import Expired, GrabbedMany, Opened, OpeningReturned
from actors.packet.host import one_by_one
from actors.packet.machine import PacketMachine
from actors.packet.replies import OpenNow, PacketEnd, Shares, Takings, Won
from actors.refusals import Refusal
from actors.transfers.seeds import seed_of
from tests.unit.samples import (
    DAY_MS,
    NOW_MS,
    PACKET,
    PACKET_RULES,
    SEED_KEY,
    SERVICES,
    TENANT,
    WALLET,
    contents,
    funding,
    grab,
    packets,
)

END_MS = NOW_MS + DAY_MS


def refusal(answer: Any) -> str | None:
    return answer.code if isinstance(answer, Refused) else None


def seen(machine: Any) -> Any:
    """Look at a packet, apart from its chain: that tells which grabs were decided together."""
    return msgspec.structs.replace(machine.view(View("p1", TENANT, lines_max=1_000)), chain=b"")


def test_a_packet_pays_exactly_its_total_in_ranks_from_one() -> None:
    machine = packets(funding())
    won = [grab(machine, f"u{i}") for i in range(5)]
    assert all(isinstance(one, Won) and not one.replayed for one in won)
    assert [one.rank for one in won] == [1, 2, 3, 4, 5]
    assert sum(one.amount_fen for one in won) == 1_000
    assert refusal(grab(machine, "u5")) == Refusal.DRAINED
    view = machine.view(View("p1", TENANT))
    assert (view.state, view.grabbed_fen, view.refunded_fen) == ("drained", 1_000, 0)
    assert [line.user for line in view.grabs] == [f"u{i}" for i in range(5)]


@pytest.mark.parametrize("end", ["open", "drained", "expired"])
def test_a_winner_asking_again_gets_his_share_again_before_and_after_the_end(end: str) -> None:
    machine = packets(funding())
    first = grab(machine, "u0")
    for i in range(1, 5 if end == "drained" else 1):
        grab(machine, f"u{i}")
    later_ms = END_MS if end == "expired" else NOW_MS + 1
    if end == "expired":
        machine.apply(machine.decide_expiry("p1", END_MS))
    version = machine.version
    assert grab(machine, "u0", now_ms=later_ms) == Won(1, first.amount_fen, NOW_MS, True)
    assert machine.version == version


def test_a_winner_is_not_even_told_otherwise_when_his_repeat_is_what_meets_the_end() -> None:
    machine = packets(funding())
    first = grab(machine, "u0")
    assert grab(machine, "u0", now_ms=END_MS) == Won(1, first.amount_fen, NOW_MS, True)


def test_the_last_millisecond_still_pays_and_the_next_one_expires() -> None:
    machine = packets(funding())
    assert isinstance(grab(machine, "u0", now_ms=END_MS - 1), Won)
    assert refusal(grab(machine, "u1", now_ms=END_MS)) == Refusal.EXPIRED
    assert machine.view(View("p1", TENANT)).state == "expired"
    assert refusal(grab(machine, "u2", now_ms=END_MS)) == Refusal.EXPIRED


def test_a_packet_that_expired_stays_expired_although_a_clock_runs_behind() -> None:
    machine = packets(funding())
    machine.apply(machine.decide_expiry("p1", END_MS))
    assert refusal(grab(machine, "u0", now_ms=NOW_MS)) == Refusal.EXPIRED
    assert machine.stamp_ms == END_MS


def test_the_end_is_an_event_and_never_the_clock_alone() -> None:
    machine = packets(funding())
    event, reply = machine.decide_grabs("p1", TENANT, ["u0"], END_MS)
    assert isinstance(event, Expired)
    assert refusal(reply) == Refusal.EXPIRED
    assert machine.view(View("p1", TENANT)).state == "open"


def test_a_refund_is_what_the_shares_left_and_goes_to_the_sender_once() -> None:
    machine = packets(funding())
    share = grab(machine, "u0").amount_fen
    expired = machine.decide_expiry("p1", END_MS)
    assert expired is not None
    assert expired.amount_fen == 1_000 - share
    machine.apply(expired)
    assert machine.decide_expiry("p1", END_MS + 1) is None
    [batch] = machine.outgoing(END_MS)
    assert [(run.number, run.kind, run.users, run.amounts_fen) for run in contents(batch)] == [
        (1, "share", ["u0"], [share]),
        (2, "refund", ["sender"], [1_000 - share]),
    ]
    totals, balances = machine.totals(), machine.balances()
    assert totals["paid_fen"] + balances["escrow"] + totals["refunded_fen"] == totals["funded_fen"] == 1_000
    assert sum(balances.values()) == 0


def test_a_drained_packet_never_expires() -> None:
    machine = packets(funding(count=1))
    grab(machine, "u0")
    assert machine.decide_expiry("p1", END_MS) is None
    assert refusal(grab(machine, "u1", now_ms=END_MS)) == Refusal.DRAINED


def test_the_seed_is_published_by_the_end_and_not_one_share_earlier() -> None:
    machine = packets(funding())
    event, _ = machine.decide_grabs("p1", TENANT, ["u0", "u1", "u2", "u3"], NOW_MS)
    machine.apply(event)
    assert machine.view(View("p1", TENANT)).seed == b""
    last, _ = machine.decide_grabs("p1", TENANT, ["u4", "u5"], NOW_MS)
    assert isinstance(event, GrabbedMany)
    assert isinstance(last, GrabbedMany)
    assert (event.seed, last.seed) == (b"", seed_of(SEED_KEY, "p1"))
    machine.apply(last)
    assert machine.view(View("p1", TENANT)).seed == seed_of(SEED_KEY, "p1")


def test_an_expired_packet_publishes_its_seed() -> None:
    machine = packets(funding())
    machine.apply(machine.decide_expiry("p1", END_MS))
    assert machine.view(View("p1", TENANT)).seed == seed_of(SEED_KEY, "p1")


def test_the_sender_may_take_from_his_own_packet() -> None:
    assert isinstance(grab(packets(funding()), "sender"), Won)


def test_a_packet_of_another_tenant_does_not_exist() -> None:
    machine = packets(funding())
    assert refusal(grab(machine, "u0", tenant="qq")) == Refusal.PACKET_NOT_FOUND
    assert refusal(machine.view(View("p1", "qq"))) == Refusal.PACKET_NOT_FOUND
    assert refusal(grab(machine, "u0", packet_id="p2")) == Refusal.PACKET_NOT_FOUND


# Openings.


def test_an_opening_delivered_twice_opens_once() -> None:
    machine = packets(funding())
    assert machine.decide_opening(WALLET, funding()) == OpenNow("open")


def test_a_late_repeat_of_an_opening_tells_the_state_and_opens_nothing() -> None:
    machine = packets(funding())
    machine.apply(machine.decide_expiry("p1", END_MS))
    assert machine.decide_opening(WALLET, funding()) == OpenNow("expired")


def test_a_second_funding_of_one_packet_goes_back_in_the_same_entry() -> None:
    machine = packets(funding())
    second = funding(number=2, total_fen=700)
    returned = machine.decide_opening(WALLET, second)
    assert isinstance(returned, OpeningReturned)
    machine.apply(returned)
    [batch] = machine.outgoing(NOW_MS)
    assert [(run.kind, run.users, run.amounts_fen) for run in contents(batch)] == [("returned", ["sender"], [700])]
    assert machine.view(View("p1", TENANT)).funding == funding()
    assert refusal(machine.decide_opening(WALLET, second)) is Refusal.IDEMPOTENCY_KEY_REUSED
    assert sum(machine.balances().values()) == 0


def test_openings_may_overtake_each_other_up_to_the_bound_and_then_wait_for_settlement() -> None:
    machine = packets(funding("p3", 3), funding("p5", 5))
    assert machine.book.watermark(WALLET).number == 0
    assert refusal(machine.decide_opening(WALLET, funding("p7", 7))) == Refusal.OVERLOADED
    first = machine.decide_opening(WALLET, funding("p1", 1))
    assert isinstance(first, Opened), "the next one is always taken"
    machine.apply(first)
    machine.apply(machine.decide_opening(WALLET, funding("p2", 2)))
    assert machine.book.watermark(WALLET).number == 3
    assert machine.book.watermark(WALLET).ahead == {5: 1_000}
    assert machine.decide_opening(WALLET, funding("p5", 5)) == OpenNow("open")


def test_fundings_of_different_wallet_streams_are_numbered_apart() -> None:
    machine = packets(funding())
    assert isinstance(machine.decide_opening("wallet-001", funding("p2", 1)), Opened)


def test_an_acknowledgement_that_is_no_news_changes_nothing() -> None:
    machine = packets(funding())
    grab(machine, "u0")
    settled = machine.decide_settled(WALLET, 1)
    assert settled == Settled(WALLET, 1)
    machine.apply(settled)
    assert machine.decide_settled(WALLET, 1) is None
    assert machine.decide_settled(WALLET, 0) is None
    assert machine.outgoing(NOW_MS) == []


def test_an_acknowledgement_of_what_was_never_sent_is_refused() -> None:
    machine = packets(funding())
    grab(machine, "u0")
    assert refusal(machine.decide_settled(WALLET, 2)) == Refusal.OUT_OF_ORDER
    assert refusal(machine.decide_settled("wallet-009", 1)) == Refusal.OUT_OF_ORDER


def test_the_timer_gives_out_at_most_its_limit_and_nothing_twice() -> None:
    machine = packets(*(funding(f"p{i}", i) for i in range(1, 4)))
    assert list(machine.due(END_MS - 1, 10)) == []
    taken: list[list[Any]] = [list(machine.due(END_MS, 2)), list(machine.due(END_MS, 2)), list(machine.due(END_MS, 2))]
    assert list(map(len, taken)) == [2, 1, 0]
    assert sorted(expired.packet_id for events in taken for expired in events) == ["p1", "p2", "p3"]


def test_a_stream_restored_from_its_snapshot_goes_on_as_if_nothing_had_happened() -> None:
    machine = packets(funding(), funding("p2", 2))
    grab(machine, "u0")
    restored = PacketMachine(PACKET, PACKET_RULES, SERVICES)
    restored.restore(machine.snapshot())
    assert restored.version == machine.version
    for user in ("u0", "u1", "u2"):
        assert grab(restored, user) == grab(machine, user)
    assert list(restored.due(END_MS, 10)) == list(machine.due(END_MS, 10)) != []
    assert restored.snapshot() == machine.snapshot()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("grab"), st.integers(0, 6)),
        st.tuples(st.just("later"), st.integers(0, DAY_MS)),
        st.tuples(st.just("expire"), st.just(0)),
        st.tuples(st.just("settle"), st.integers(1, 8)),
    ),
    max_size=25,
)


@given(STEPS, st.integers(5, 500), st.integers(1, 5))
def test_paid_and_remaining_and_refunded_are_always_what_was_funded(steps: list[Any], total: int, count: int) -> None:
    machine = packets(funding(total_fen=total, count=count))
    now_ms, shares = NOW_MS, dict[int, tuple[int, int]]()
    for name, figure in steps:
        if name == "later":
            now_ms += figure
        elif name == "expire":
            expired = machine.decide_expiry("p1", now_ms)
            assert (expired is not None) == (now_ms >= END_MS and machine.view(View("p1", TENANT)).state == "open")
            if expired is not None:
                machine.apply(expired)
        elif name == "settle":
            sent = machine.book.sent.get(WALLET)
            if sent is not None and sent.settled_number < figure <= sent.last_number:
                machine.apply(Settled(WALLET, figure))
        else:
            answer = grab(machine, f"u{figure}", now_ms=now_ms)
            if isinstance(answer, Won):
                assert shares.setdefault(figure, (answer.rank, answer.amount_fen)) == (answer.rank, answer.amount_fen)
        totals, balances = machine.totals(), machine.balances()
        assert totals["paid_fen"] == sum(amount for _, amount in shares.values())
        assert totals["paid_fen"] + balances["escrow"] + totals["refunded_fen"] == total
        assert sum(balances.values()) == 0
        assert sorted(rank for rank, _ in shares.values()) == list(range(1, len(shares) + 1))


# Many at once.


def test_many_grabs_are_answered_as_one_after_another_would_be() -> None:
    at_once, one_by_one_ = packets(funding()), packets(funding())
    users = ["u0", "u1", "u0", "u2", "u3", "u4", "u5", "u4"]
    event, reply = at_once.decide_grabs("p1", TENANT, users, NOW_MS)
    at_once.apply(event)
    assert isinstance(reply, Takings)
    assert reply.replies == [grab(one_by_one_, user) for user in users]
    assert seen(at_once) == seen(one_by_one_)
    assert (at_once.totals(), at_once.balances()) == (one_by_one_.totals(), one_by_one_.balances())


def test_where_everybody_takes_a_fresh_share_the_reply_is_in_columns() -> None:
    machine = packets(funding())
    event, reply = machine.decide_grabs("p1", TENANT, ["u0", "u1"], NOW_MS)
    assert isinstance(event, GrabbedMany)
    assert reply == Shares(1, event.amounts_fen, NOW_MS)
    machine.apply(event)
    assert machine.version == 2, "many grabs are one event"
    assert machine.work == 1 + 1 + 1 + 2, "and as much work as they are: two events, a funding, two payouts"


@pytest.mark.parametrize("again", [["u0", "u0"], ["sender", "u0"], ["u1", "u2", "u3", "u4", "u5"]])
def test_a_share_too_many_is_never_given(again: list[str]) -> None:
    machine = packets(funding())
    grab(machine, "u0")
    event, reply = machine.decide_grabs("p1", TENANT, again, NOW_MS)
    if event is not None:
        machine.apply(event)
    assert isinstance(reply, Takings)
    view = machine.view(View("p1", TENANT))
    assert len({line.user for line in view.grabs}) == len(view.grabs) <= 5
    assert sum(machine.balances().values()) == 0


def test_a_bar_keeps_fresh_grabs_out_and_no_winner_and_no_end() -> None:
    machine = packets(funding(), funding("p2", 2, count=1))
    grab(machine, "u0")
    grab(machine, "u0", packet_id="p2")
    bar = Refused(Refusal.OVERLOADED)
    event, reply = machine.decide_grabs("p1", TENANT, ["u0", "u1"], NOW_MS, bar)
    assert event is None
    assert isinstance(reply, Takings)
    assert reply.replies[1] == bar
    assert isinstance(reply.replies[0], Won)
    assert machine.decide_grabs("p2", TENANT, ["u1"], NOW_MS, bar) == (None, Refused(Refusal.DRAINED))
    event, reply = machine.decide_grabs("p1", TENANT, ["u1"], END_MS, bar)
    assert isinstance(event, Expired)
    assert reply == Refused(Refusal.EXPIRED)


def test_payouts_to_one_wallet_stream_are_numbered_in_order_of_rank_and_settle_a_run_at_a_time() -> None:
    machine = packets(funding(count=50, total_fen=5_000), wallet_streams=3)
    users = [f"user{i}" for i in range(40)]
    for part in (users[:1], users[1:30], users[30:]):
        event, _ = machine.decide_grabs("p1", TENANT, part, NOW_MS)
        machine.apply(event)
    batches = machine.outgoing(NOW_MS)
    runs = [run for batch in batches for run in contents(batch)]
    paid = [pair for run in runs for pair in zip(run.users, run.amounts_fen, strict=True)]
    assert sorted(paid) == sorted((line.user, line.amount_fen) for line in machine.view(View("p1", TENANT)).grabs)
    for batch in batches:
        numbers = [run.number + i for run in contents(batch) for i in range(run.transfers)]
        assert numbers == list(range(1, len(numbers) + 1))
        sent = machine.book.sent[batch.destination]
        assert sent.total_at(len(numbers)) == sent.total_fen
        machine.apply(Settled(batch.destination, len(numbers)))
    assert machine.outgoing(NOW_MS) == []
    assert machine.book.unsettled_count == 0


def test_an_end_tells_who_may_have_won_and_an_open_packet_tells_nothing() -> None:
    machine = packets(funding())
    grab(machine, "u0")
    assert refusal(machine.end("p1", TENANT)) == Refusal.PACKET_NOT_FOUND
    machine.apply(machine.decide_expiry("p1", END_MS))
    assert refusal(machine.end("p1", "qq")) == Refusal.PACKET_NOT_FOUND
    end = machine.end("p1", TENANT)
    assert isinstance(end, PacketEnd)
    assert (end.state, list(array("I", end.winners))) == ("expired", [user_hash(TENANT, "u0")])


USERS = st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=8), min_size=1, max_size=6)


@given(USERS, st.integers(1, 9))
def test_whatever_is_asked_at_once_or_apart_the_shares_are_the_same(groups: list[list[int]], count: int) -> None:
    at_once, apart = (packets(funding(total_fen=900, count=count), wallet_streams=2) for _ in range(2))
    for group in groups:
        users = [f"u{i}" for i in group]
        event, reply = at_once.decide_grabs("p1", TENANT, users, NOW_MS)
        if event is not None:
            at_once.apply(event)
        assert one_by_one(reply, len(users)) == [grab(apart, user) for user in users]
    assert seen(at_once) == seen(apart)
    assert [sent.total_fen for sent in at_once.book.sent.values()] == [s.total_fen for s in apart.book.sent.values()]


def test_a_crowd_is_written_down_as_one_by_one_would_be() -> None:
    at_once, apart = (packets(funding(total_fen=30_000, count=300)) for _ in range(2))
    users = [f"user{i}" for i in range(300)]
    for part in (users[:7], users[7:207], users[207:]):
        event, reply = at_once.decide_grabs("p1", TENANT, part, NOW_MS)
        at_once.apply(event)
        assert one_by_one(reply, len(part)) == [grab(apart, user) for user in part]
    assert seen(at_once) == seen(apart)
    assert at_once.view(View("p1", TENANT)).state == "drained"
