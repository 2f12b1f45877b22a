"""Records: an id that has left memory is always found; one that has not costs a lookup now and then."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.kernel import records
from actors.kernel.records import LAYER_BYTES_MIN, LAYERS_MAX, Departed

NAMES = st.lists(st.text(max_size=40), max_size=60)


def filled(count: int) -> Departed:
    departed = Departed()
    for number in range(count):
        departed.add(f"id-{number}")
    return departed


@given(NAMES, NAMES)
def test_what_has_left_is_always_found_also_after_a_snapshot(first: list[str], then: list[str]) -> None:
    departed = Departed()
    for name in first:
        departed.add(name)
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(departed), type=Departed)
    for each in (departed, again):
        for name in then:
            each.add(name)
        assert all(each.may_have(name) for name in first + then)
    assert msgspec.msgpack.encode(again) == msgspec.msgpack.encode(departed), "a replay makes the same"


def test_what_has_not_left_is_seldom_found_and_a_byte_or_two_is_all_that_an_id_takes() -> None:
    departed = filled(20_000)
    mistakes = sum(departed.may_have(f"other-{number}") for number in range(10_000))
    assert mistakes <= 400
    assert sum(map(len, departed.layers)) <= 3 * 20_000


def test_nothing_is_found_before_anything_has_left() -> None:
    assert not Departed().may_have("")


def test_the_filter_is_bounded_whatever_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sum(LAYER_BYTES_MIN << layer for layer in range(LAYERS_MAX)) < 9_000_000
    monkeypatch.setattr(records, "LAYERS_MAX", 2)
    departed = filled(10_000)
    assert list(map(len, departed.layers)) == [LAYER_BYTES_MIN, 2 * LAYER_BYTES_MIN]
    assert all(departed.may_have(f"id-{number}") for number in range(10_000))
