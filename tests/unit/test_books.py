"""Books: both ends of every transfer."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.ledger.book import BOUNDARIES_MAX, Book, Received, Sent


class Moved(msgspec.Struct, frozen=True):
    number: int
    amount_fen: int
    transfers: int = 1
    at_ms: int = 0


def sent(*amounts: int) -> Sent[Moved]:
    end: Sent[Moved] = Sent()
    for number, amount in enumerate(amounts, 1):
        end.add(Moved(number, amount))
    return end


def test_a_source_numbers_without_gaps() -> None:
    end = sent(5)
    for wrong in (1, 3):
        with pytest.raises(AssertionError, match="without gaps"):
            end.add(Moved(wrong, 7))
    assert (end.last_number, end.total_fen) == (1, 5)


def test_a_source_forgets_only_what_is_acknowledged() -> None:
    end = sent(5, 7, 11)
    end.settle(2)
    assert list(end.unsettled) == [3]
    assert (end.settled_number, end.settled_fen, end.total_fen) == (2, 12, 23)


@pytest.mark.parametrize("number", [0, 2, 4])
def test_a_destination_cannot_acknowledge_what_was_never_sent_or_is_old(number: int) -> None:
    end = sent(5, 7, 11)
    end.settle(2)
    with pytest.raises(AssertionError, match="acknowledges what was sent"):
        end.settle(number)


def test_a_source_tells_its_total_at_every_number_it_remembers() -> None:
    end = sent(5, 7, 11)
    end.settle(2)
    assert [end.total_at(n) for n in range(5)] == [0, None, 12, 23, None]


def test_a_source_remembers_a_bounded_number_of_acknowledged_totals() -> None:
    end = sent(*([1] * (BOUNDARIES_MAX + 10)))
    for number in range(1, BOUNDARIES_MAX + 11):
        end.settle(number)
    assert len(end.boundaries) == BOUNDARIES_MAX
    assert end.total_at(10) is None
    assert end.total_at(11) == 11


def test_a_transfer_enters_a_book_once() -> None:
    end = Received()
    end.add(1, 5)
    end.add(3, 9)
    for number in (1, 3):
        assert end.has(number)
        with pytest.raises(AssertionError, match="once"):
            end.add(number, 5)


def test_what_came_ahead_counts_once_the_gap_closes() -> None:
    end = Received()
    end.add(2, 7)
    end.add(3, 11)
    assert (end.number, end.total_fen, end.ahead) == (0, 0, {2: 7, 3: 11})
    end.add(1, 5)
    assert (end.number, end.total_fen, end.ahead) == (3, 23, {})


@given(st.permutations(range(1, 9)))
def test_the_order_of_arrival_never_changes_what_arrived(order: list[int]) -> None:
    end = Received()
    for place, number in enumerate(order, 1):
        end.add(number, number * 10)
        assert end.total_fen + sum(end.ahead.values()) == sum(n * 10 for n in order[:place])
        assert all(n > end.number for n in end.ahead)
        assert end.total_fen == sum(n * 10 for n in range(1, end.number + 1))
    assert (end.number, end.ahead) == (8, {})


def test_two_books_agree_at_the_receivers_watermark_while_money_is_under_way() -> None:
    source: Book[Moved] = Book()
    target: Book[Moved] = Book()
    for number, amount in enumerate((5, 7, 11), 1):
        assert source.next_number("b") == number
        source.sent.setdefault("b", Sent()).add(Moved(number, amount))
    target.receive("a", 1, 5)
    target.receive("a", 3, 11)
    received = target.watermark("a")
    assert source.sent["b"].total_at(received.number) == received.total_fen
    assert (source.balances(), target.balances()) == ({"sent": 23, "received": 0}, {"sent": 0, "received": -16})
    source.settle("b", 1)
    assert list(source.sent["b"].unsettled) == [2, 3]
    assert source.balances()["sent"] == 23, "an acknowledgement moves no money"


def test_a_book_that_received_nothing_has_an_empty_watermark() -> None:
    book: Book[Moved] = Book()
    assert book.watermark("a") == Received()
    assert book.received == {}
