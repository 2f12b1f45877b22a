"""The oracle, held to histories made by hand: the honest one passes, and every lie in it is found.

The honest story: li is given 1,000 fen and sends 100 in 3 shares. mei takes 30 (rank 1), an takes 20 (rank 2), bo comes
after the end and hears "expired"; 50 fen go back. Each test changes one thing that somebody was told or that is there.
"""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from cluster.client import AuditAnswer, PacketAnswer, StatementRow, TakenShare, WalletAnswer
from loadtest.history import Attempt, BalanceAttempt, GrabAttempt, SendAttempt, ViewAttempt, wins_of
from loadtest.oracle import FinalState, check, check_payout

Story = tuple[list[Attempt], FinalState]

KEY = "new-year"
P = "packet"


def send(asked: int, **change: Any) -> SendAttempt:
    told: dict[str, Any] = {"outcome": "ok", "status": 200, "answered_us": asked + 5, "packet_id": P, "open": True}
    told |= {"key": KEY, "kind": "lucky", "total_fen": 100, "count": 3}
    return SendAttempt(user="li", asked_us=asked, **(told | change))


def grab(asked: int, user: str, rank: int = 0, amount_fen: int = 0, **change: Any) -> GrabAttempt:
    told: dict[str, Any] = {"outcome": "ok", "status": 200, "answered_us": asked + 5, "packet_id": P}
    return GrabAttempt(user=user, rank=rank, amount_fen=amount_fen, asked_us=asked, **(told | change))


def refusal(asked: int, user: str, code: str) -> GrabAttempt:
    return grab(asked, user, outcome="refused", status=409, code=code)


def view(asked: int, *shares: tuple[str, int, int], **change: Any) -> ViewAttempt:
    told: dict[str, Any] = {"outcome": "ok", "status": 200, "answered_us": asked + 5, "shares": list(shares)}
    told["grabbed_fen"] = sum(share[2] for share in shares)
    return ViewAttempt(user="li", packet_id=P, state="open", asked_us=asked, **(told | change))


def line(kind: str, amount_fen: int, balance_fen: int, reference: str = P) -> StatementRow:
    return StatementRow(at_ms=1, kind=kind, amount_fen=amount_fen, balance_fen=balance_fen, reference=reference)


def packet(*shares: tuple[str, int, int], **change: Any) -> PacketAnswer:
    grabs = [TakenShare(rank=rank, user=user, amount_fen=amount_fen, at_ms=1) for user, rank, amount_fen in shares]
    paid_fen = sum(share.amount_fen for share in grabs)
    told: dict[str, Any] = {"kind": "lucky", "state": "expired", "total_fen": 100, "count": 3, "sender": "li"}
    told |= {"grabbed_count": len(grabs), "grabbed_fen": paid_fen, "refunded_fen": 100 - paid_fen, "grabs": grabs}
    return PacketAnswer(packet_id=P, created_at_ms=1, expires_at_ms=2, commitment="", **(told | change))


MEI, AN = ("mei", 1, 30), ("an", 2, 20)


def story() -> Story:
    """Tell what happened, truly."""
    attempts: list[Attempt] = [
        send(0, outcome="unknown", status=0, code="no_answer", packet_id="", open=False),
        send(10),
        grab(20, "mei", 1, 30),
        grab(30, "an", outcome="unknown", status=503, code="journal_unavailable"),
        view(40, MEI),
        grab(50, "an", 2, 20),
        view(60, MEI, AN),
        BalanceAttempt(user="li", asked_us=70, answered_us=75, outcome="ok", status=200, available_fen=900),
        refusal(80, "bo", "expired"),
        grab(90, "mei", 1, 30),
        send(95),
    ]
    final = FinalState(
        packets={P: packet(MEI, AN)},
        wallets={
            "li": WalletAnswer(950, 0),
            "mei": WalletAnswer(30, 0),
            "an": WalletAnswer(20, 0),
            "bo": WalletAnswer(0, 0),
        },
        statements={
            "li": [line("packet_refund", 50, 950), line("packet_sent", -100, 900), line("sandbox", 1_000, 1_000, "")],
            "mei": [line("packet_share", 30, 30)],
            "an": [line("packet_share", 20, 20)],
            "bo": [],
        },
        credited_fen={"li": 1_000},
        audit=AuditAnswer(
            shards=[],
            funded_fen=100,
            paid_fen=50,
            refunded_fen=50,
            remaining_fen=0,
            in_flight_fen=0,
            settlement_lag_ms=0,
            difference_fen=0,
            clean=True,
        ),
        replayed_fen={"li": 950, "mei": 30, "an": 20},
    )
    return attempts, final


def kinds_of(attempts: list[Attempt], final: FinalState) -> set[str]:
    return {violation.kind for violation in check(attempts, final)}


def test_the_honest_story_has_no_violation() -> None:
    assert check(*story()) == []


TOLD: list[tuple[str, str, Attempt]] = [
    ("a share told again differently", "double_grab", grab(100, "mei", 3, 31)),
    ("a rank told to two", "over_issued", grab(100, "bo", 2, 20)),
    ("a winner told that the packet was drained", "contradicted", refusal(100, "mei", "drained")),
    ("a winner told that the packet had expired", "contradicted", refusal(25, "an", "expired")),
    ("a packet told drained that has shares left", "contradicted", refusal(100, "cy", "drained")),
    ("a share given after the end was told", "contradicted", grab(100, "cy", 3, 50)),
    ("a share that the list does not have", "lost", grab(45, "cy", 3, 50)),
    ("an open packet that is not found", "lost", refusal(100, "cy", "packet_not_found")),
    ("a lawful grab refused for another reason", "contradicted", refusal(100, "cy", "forbidden")),
    ("a key that funds twice", "contradicted", send(100, packet_id="other")),
    ("an acknowledged packet that is not there", "lost", send(100, key="second", packet_id="gone")),
    ("a packet that belongs to two keys", "contradicted", send(100, key="second")),
    ("a packet sent on other terms than it has", "contradicted", send(1, total_fen=200)),
    ("a send refused after it was acknowledged", "lost", send(100, outcome="refused", code="insufficient_funds")),
    (
        "a rich sender told that they are short",
        "contradicted",
        send(100, key="second", outcome="refused", code="insufficient_funds"),
    ),
    (
        "a lawful send refused as another request's",
        "contradicted",
        send(5, outcome="refused", code="idempotency_key_reused"),
    ),
    ("a list that misses a user who was told before", "contradicted", view(100, MEI)),
    ("a list with another share than was told", "contradicted", view(100, MEI, ("an", 2, 21))),
    ("a list that does not add up", "wrong_total", view(100, MEI, AN, grabbed_fen=51)),
    ("a list that names a user twice", "double_grab", view(100, MEI, AN, ("mei", 3, 1))),
    (
        "a list with more than the packet has",
        "over_issued",
        view(100, shares=None, total_fen=100, count=3, grabbed_count=4),
    ),
    ("a packet shown with another size", "contradicted", view(100, shares=None, total_fen=100, count=4)),
    ("an open packet that its sender does not find", "lost", view(100, outcome="refused", code="packet_not_found")),
    (
        "a balance below zero",
        "negative",
        BalanceAttempt(user="li", asked_us=100, answered_us=105, outcome="ok", available_fen=-1),
    ),
]


@pytest.mark.parametrize(("kind", "lie"), [(kind, lie) for _, kind, lie in TOLD], ids=[name for name, _, _ in TOLD])
def test_a_lie_that_somebody_is_told_is_found(kind: str, lie: Attempt) -> None:
    attempts, final = story()
    assert kind in kinds_of([*attempts, lie], final)


def test_a_share_that_was_told_earlier_has_the_smaller_rank() -> None:
    attempts, final = story()
    attempts = [attempt for attempt in attempts if not isinstance(attempt, GrabAttempt | ViewAttempt)]
    attempts += [grab(20, "an", 2, 20), grab(50, "mei", 1, 30)]
    assert kinds_of(attempts, final) == {"contradicted"}
    attempts += [grab(5, "mei", outcome="unknown")]  # she had asked before already, so hers may have come first
    assert kinds_of(attempts, final) == set()


def test_what_was_asked_before_an_answer_may_not_know_of_it_yet() -> None:
    attempts, final = story()
    overlapping = [view(22), refusal(12, "cy", "packet_not_found"), view(52, MEI)]
    assert kinds_of([*attempts, *overlapping], final) == set()


def _there(change: Callable[[FinalState], None]) -> FinalState:
    _, final = story()
    change(final)
    return final


def _put(**change: Any) -> Callable[[FinalState], None]:
    return lambda final: final.packets.update({P: msgspec.structs.replace(packet(MEI, AN), **change)})


def _list(*shares: tuple[str, int, int], **change: Any) -> Callable[[FinalState], None]:
    return lambda final: final.packets.update({P: packet(*shares, **change)})


def _wallet(user: str, available_fen: int) -> Callable[[FinalState], None]:
    return lambda final: final.wallets.update({user: WalletAnswer(available_fen, 0)})


def _audit(**change: Any) -> Callable[[FinalState], None]:
    return lambda final: setattr(final, "audit", msgspec.structs.replace(final.audit, **change))


def _statement(*lines: StatementRow) -> Callable[[FinalState], None]:
    return lambda final: final.statements.update({"mei": list(lines)})


THERE: list[tuple[str, str, Callable[[FinalState], None]]] = [
    ("the packet is gone", "lost", lambda final: final.packets.update({P: None})),
    ("its list is gone", "lost", _put(grabs=None)),
    ("a share is gone", "lost", _list(MEI)),
    ("a share is another", "contradicted", _list(MEI, ("an", 2, 21))),
    ("somebody is listed who never asked", "contradicted", _list(MEI, AN, ("eve", 3, 1))),
    ("a share is given after the expiry", "contradicted", _put(expires_at_ms=1)),
    ("it counts other grabs than it lists", "wrong_total", _put(grabbed_count=1)),
    ("somebody is listed twice", "double_grab", _list(MEI, AN, ("mei", 3, 1))),
    ("more shares than the packet has", "over_issued", _list(MEI, AN, ("x", 3, 1), ("y", 4, 1))),
    ("more money than the packet has", "over_issued", _list(MEI, AN, ("x", 3, 51))),
    ("a rank is left out", "over_issued", _list(MEI, ("an", 3, 20))),
    ("a share of nothing", "wrong_total", _list(MEI, AN, ("x", 3, 0))),
    ("it is drained with shares left", "contradicted", _put(state="drained")),
    ("it is open for ever", "contradicted", _put(state="open")),
    ("the refund is too small", "wrong_total", _put(refunded_fen=49)),
    ("the sum is not that of its list", "wrong_total", _put(grabbed_fen=51)),
    ("it is equal and its shares are not", "wrong_total", _put(kind="equal")),
    ("a wallet is short", "wallet", _wallet("mei", 29)),
    ("a wallet has too much", "wallet", _wallet("bo", 1)),
    ("a wallet is below zero", "negative", _wallet("bo", -1)),
    ("a wallet cannot be read", "lost", lambda final: final.wallets.__delitem__("mei")),
    ("the journals say another balance", "wallet", lambda final: final.replayed_fen.update({"an": 21})),
    ("a statement ends elsewhere", "wallet", _statement(line("packet_share", 31, 31))),
    ("a share is credited twice", "wallet", _statement(line("packet_share", 30, 30), line("packet_share", 0, 0))),
    ("a line is missing", "wallet", _statement(line("packet_share", 30, 30), line("sandbox", 1, 1))),
    ("a line is below zero", "negative", _statement(line("packet_share", 30, 30), line("packet_sent", -1, -1))),
    ("the books differ", "wrong_total", _audit(difference_fen=1)),
    ("the audit is not clean", "wrong_total", _audit(clean=False)),
    ("money hangs between two books", "wrong_total", _audit(in_flight_fen=1)),
    ("money is left in a packet", "wrong_total", _audit(remaining_fen=1)),
    ("more was funded than anybody knows of", "wrong_total", _audit(funded_fen=200)),
    ("more was paid than the lists say", "wrong_total", _audit(paid_fen=51)),
    ("more was refunded than the packets say", "wrong_total", _audit(refunded_fen=51)),
    ("something is never answered", "unanswered", lambda final: final.unanswered.append("the send")),
]


@pytest.mark.parametrize(("kind", "change"), [(k, c) for _, k, c in THERE], ids=[name for name, _, _ in THERE])
def test_what_is_wrong_at_the_end_is_found(kind: str, change: Callable[[FinalState], None]) -> None:
    attempts, _ = story()
    assert kind in kinds_of(attempts, _there(change))


def test_a_poor_sender_may_be_told_that_they_are_short() -> None:
    attempts, final = story()
    refused = send(100, key="second", total_fen=5_000, outcome="refused", code="insufficient_funds", packet_id="")
    assert kinds_of([*attempts, refused], final) == set()


def test_a_listed_user_was_answered_so_or_may_have_missed_the_answer() -> None:
    attempts, final = story()
    final.packets[P] = packet(MEI, AN, ("cy", 3, 50), state="drained")
    shed = grab(70, "cy", outcome="later", status=429, code="overloaded")
    said = [violation.sentence for violation in check([*attempts, shed], final)]
    assert any("lists cy, who was refused every time" in sentence for sentence in said)
    lost = grab(71, "cy", outcome="unknown", status=0)
    said = [violation.sentence for violation in check([*attempts, shed, lost], final)]
    assert not any("cy" in sentence and "lists" in sentence for sentence in said)


def test_a_share_of_unknown_outcome_may_be_in_the_list_or_not() -> None:
    attempts, final = story()
    unknown = [grab(70, user, outcome="unknown", status=0) for user in ("cy", "dan")]
    final.packets[P] = packet(MEI, AN, ("cy", 3, 50), state="drained")
    final.wallets |= {"li": WalletAnswer(900, 0), "cy": WalletAnswer(50, 0), "dan": WalletAnswer(0, 0)}
    final.statements["li"] = []
    final.audit = msgspec.structs.replace(final.audit, paid_fen=100, refunded_fen=0)
    final.replayed_fen = None
    attempts = [attempt for attempt in attempts if attempt.code != "expired"]
    assert kinds_of([*attempts, *unknown], final) == set()


def test_a_packet_may_be_open_where_no_time_has_passed_and_its_rest_is_still_in_it() -> None:
    attempts, final = story()
    final.packets[P] = packet(MEI, AN, state="open", refunded_fen=0)
    final.wallets["li"], final.statements["li"], final.replayed_fen = WalletAnswer(900, 0), [], None
    final.audit = msgspec.structs.replace(final.audit, refunded_fen=0, remaining_fen=50)
    attempts = [attempt for attempt in attempts if attempt.code != "expired"]
    final.ended = False
    assert kinds_of(attempts, final) == set()
    final.wallets["li"] = WalletAnswer(950, 0)
    assert kinds_of(attempts, final) == {"wallet"}
    final.ended = True
    assert "contradicted" in kinds_of(attempts, final)


def test_the_totals_of_a_system_that_others_use_are_not_the_runs_own() -> None:
    attempts, final = story()
    final.audit = msgspec.structs.replace(final.audit, funded_fen=300, paid_fen=150, refunded_fen=150)
    assert kinds_of(attempts, final) == {"wrong_total"}
    final.alone = False
    assert kinds_of(attempts, final) == set()
    final.audit = msgspec.structs.replace(final.audit, funded_fen=301)
    assert kinds_of(attempts, final) == {"wrong_total"}


def test_a_packet_that_was_asked_for_shares_was_sent_by_somebody() -> None:
    attempts, final = story()
    assert kinds_of([*attempts, grab(100, "cy", outcome="unknown", packet_id="stray")], final) >= {"lost"}


def test_the_same_share_told_again_is_one_win() -> None:
    attempts, _ = story()
    assert {key: win.rank for key, win in wins_of(attempts).items()} == {(P, "mei"): 1, (P, "an"): 2}


def test_a_payout_is_exact_or_it_is_a_violation() -> None:
    exact = [("mei", 1, 40), ("an", 2, 60)]
    lies = [exact[:1], [*exact, ("bo", 3, 1)], [("mei", 1, 40), ("an", 1, 60)], [("mei", 1, 40), ("an", 2, 59)]]
    for shares in (exact, *lies, [("mei", 1, 40), ("mei", 2, 60)]):
        told = [TakenShare(rank, user, amount_fen, 0) for user, rank, amount_fen in shares]
        assert (check_payout(P, 100, 2, told) == []) == (shares is exact)
