"""Postings: those of every event of every kind sum to 0, on accounts of its chart; none can be forgotten."""

from typing import Any

import msgspec
import pytest

from actors.kernel.kind import EVENTS, DuplicateKind, IncompleteKind, Kind, registry
from actors.kernel.switches import SwitchSet
from actors.kinds import KINDS
from actors.ledger.accounts import RECEIVED, SENT, TRANSIT, AccountKind, Side
from actors.ledger.holds import HOLD_EVENTS, HoldTold, hold_postings
from actors.ledger.posting import Leg, Postings, move, sent
from actors.ledger.transfer import Settled
from cluster.journal.posting_rows import lines_of
from tests.golden.events.write import SAMPLES

SAMPLE_OF = {type(event): event for event in SAMPLES}
MOVING = [
    pytest.param(kind, SAMPLE_OF[event], id=f"{kind.name}-{event.__name__}")
    for kind in KINDS.values()
    for event, postings in kind.postings.items()
    if postings is not None
]


class Paid(msgspec.Struct, frozen=True, array_like=True, tag="toy_paid"):
    """An event of a toy kind."""

    amount_fen: int
    at_ms: int = 7


TILL = AccountKind(name="toy_till", side=Side.ASSET)


def paid(event: Paid) -> Postings:
    return move(Leg(TILL.of()), sent("wallet-000", 1), event.amount_fen, "ticket")


TOY = msgspec.structs.replace(
    KINDS["wallet"],
    name="toy",
    commands=(),
    handlers={},
    replies=(),
    events=(Paid,),
    postings={Paid: paid},
    accounts=(TILL,),
    statement={"toy_paid": "ticket_sold"},
    totals=(),
)


@pytest.mark.parametrize(("kind", "event"), MOVING)
def test_the_postings_of_every_event_sum_to_nothing(kind: Kind, event: Any) -> None:
    postings = kind.postings_of(event)
    assert postings
    assert sum(posting.amount_fen for posting in postings) == 0


@pytest.mark.parametrize(("kind", "event"), MOVING)
def test_every_posting_is_on_an_account_of_the_chart_and_only_transits_are_numbered(kind: Kind, event: Any) -> None:
    chart = kind.chart()
    for posting in kind.postings_of(event):
        name, *owner = posting.account
        assert len(owner) == len(chart[name].owner)
        assert (posting.number is not None) is (chart[name] in TRANSIT)


@pytest.mark.parametrize(("kind", "event"), MOVING)
def test_the_rows_of_an_event_are_its_postings(kind: Kind, event: Any) -> None:
    lines = lines_of(kind, [event], 7)
    assert [(line.account, line.amount_fen, line.reference or "", line.number) for line in lines] == [
        (posting.account[0], posting.amount_fen, posting.reference, posting.number)
        for posting in kind.postings_of(event)
    ]
    assert all(line.at_ms > 0 and line.version == 7 for line in lines)


def test_what_happens_in_any_stream_moves_no_money() -> None:
    for kind in KINDS.values():
        assert [kind.postings_of(SAMPLE_OF[event]) for event in EVENTS] == [[]] * len(EVENTS)


def test_every_kind_says_of_each_of_its_events_what_it_posts() -> None:
    for kind in KINDS.values():
        assert set(kind.postings) == set(kind.events)
    assert {*EVENTS, *(event for kind in KINDS.values() for event in kind.events)} == set(SAMPLE_OF)


def test_an_event_of_another_kind_has_no_postings() -> None:
    with pytest.raises(TypeError, match="Paid is not an event of kind 'packet'"):
        KINDS["packet"].postings_of(Paid(1))


def test_a_kind_that_forgets_what_an_event_posts_is_refused_by_name() -> None:
    with pytest.raises(IncompleteKind, match="event Paid of kind 'toy' has no postings"):
        registry(msgspec.structs.replace(TOY, postings={}))
    with pytest.raises(IncompleteKind, match="event Settled of kind 'toy' has postings and is not one of its events"):
        registry(msgspec.structs.replace(TOY, postings={Paid: paid, Settled: None}))


@pytest.mark.parametrize("account", [KINDS["wallet"].accounts[0], SENT, RECEIVED])
def test_an_account_is_one_kinds_or_the_ledgers(account: AccountKind) -> None:
    with pytest.raises(DuplicateKind, match=f"account '{account.name}' is declared twice"):
        registry(KINDS["wallet"], msgspec.structs.replace(TOY, accounts=(account,)))


def test_the_messages_of_the_ledger_may_be_several_kinds_and_no_others() -> None:
    postings = {Paid: paid, **hold_postings(TILL, TILL, TILL)}
    holding = msgspec.structs.replace(TOY, events=(Paid, *HOLD_EVENTS), replies=(HoldTold,), postings=postings)
    assert list(registry(KINDS["wallet"], holding)) == ["wallet", "toy"]
    theirs = next(event for event in KINDS["wallet"].events if event not in HOLD_EVENTS)
    stolen = msgspec.structs.replace(TOY, events=(theirs,), postings={theirs: None})
    with pytest.raises(DuplicateKind, match="is declared twice: by kind 'wallet' and by kind 'toy'"):
        registry(KINDS["wallet"], stolen)
    with pytest.raises(DuplicateKind, match="event 'toy_paid' is declared twice"):
        registry(msgspec.structs.replace(TOY, events=(Paid, Paid)))


def test_a_column_of_an_audit_is_one_kinds() -> None:
    with pytest.raises(DuplicateKind, match="audit column 'toy_till_fen' is declared twice"):
        registry(msgspec.structs.replace(TOY, totals=("toy_till_fen",)))


def test_a_posting_to_an_account_that_no_chart_has_is_refused() -> None:
    with pytest.raises(TypeError, match="kind 'toy' has no account 'toy_till', to which Paid posts"):
        lines_of(msgspec.structs.replace(TOY, accounts=()), [Paid(5)], 1)


def test_a_new_kind_has_rows_without_a_change_elsewhere() -> None:
    lines = lines_of(TOY, [SwitchSet("grabs", True, 1, "operator"), Paid(5), Paid(0)], 3)
    assert [tuple(line) for line in lines[:2]] == [
        (4, 7, "ticket_sold", "toy_till", None, None, -5, "ticket", None),
        (4, 7, "ticket_sold", "sent", None, "wallet-000", 5, "ticket", 1),
    ]
    assert [line.version for line in lines] == [4, 4, 5, 5]


def test_an_account_has_one_side() -> None:
    assert (TILL.forbids(1), TILL.forbids(0), TILL.forbids(-1)) == (True, False, False)
    assert (SENT.forbids(1), SENT.forbids(0), SENT.forbids(-1)) == (False, False, True)
