"""Lanes: a crowd before one packet holds up nobody before another, and nobody overtakes in his own lane."""

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from cluster.gateway.dispatch.fair_queue import FairQueue


class Item(NamedTuple):
    """Something that waits."""

    lane: str
    number: int
    size: int = 1


def lanes(*, size_max: int = 1_000_000, lane_size_max: int = 1_000_000, turn_size: int = 15) -> FairQueue[Item]:
    return FairQueue(size_max=size_max, lane_size_max=lane_size_max, turn_size=turn_size)


def test_behind_20000_waiting_grabs_of_one_packet_another_packets_grab_leaves_with_the_next_call() -> None:
    queue = lanes()
    for number in range(20_000):
        queue.put(Item("hot", number))
    queue.take(1_000)
    queue.put(Item("other", 0))
    taken, _ = queue.take(1_000)
    assert Item("other", 0) in taken
    assert len(taken) == 1_000, "and the call is as full as before"


def test_a_turn_is_counted_in_items_so_that_big_parcels_win_little() -> None:
    queue = lanes(turn_size=10)
    for number in range(500):
        queue.put(Item("small", number, 1))
        queue.put(Item("big", number, 20))
    taken, _ = queue.take(300)
    by_lane = {lane: sum(item.size for item in taken if item.lane == lane) for lane in ("small", "big")}
    assert by_lane == {"small": 100, "big": 200}


def test_what_does_not_fit_begins_the_next_call_and_lets_others_pass_meanwhile() -> None:
    queue = lanes()
    for item in (Item("a", 0, 8), Item("b", 0, 5), Item("c", 0, 1)):
        queue.put(item)
    assert queue.take(10)[0] == [Item("a", 0, 8), Item("c", 0, 1)]
    queue.put(Item("d", 0, 9))
    assert queue.take(10)[0] == [Item("b", 0, 5)]
    assert queue.take(10)[0] == [Item("d", 0, 9)]


def test_a_lane_has_a_bound_of_its_own_and_a_first_parcel_always_has_room() -> None:
    queue = lanes(size_max=10, lane_size_max=4)
    assert queue.lane_has_room("a", 6), "else it never could leave"
    queue.put(Item("a", 0, 3))
    assert queue.lane_has_room("a", 1)
    assert not queue.lane_has_room("a", 2)
    assert queue.lane_has_room("b", 2)
    assert queue.has_room(7)
    assert not queue.has_room(8)
    queue.take(100)
    assert queue.has_room(10)
    assert queue.lane_has_room("a", 2)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from("abcdefghijklmnopqrst"), st.integers(1, 12)),
            st.integers(1, 20),
        ),
        max_size=120,
    ),
    st.integers(1, 5),
)
def test_whatever_comes_nothing_is_lost_or_overtaken_in_its_lane_and_no_call_is_too_large(
    story: list[tuple[str, int] | int], turn_size: int
) -> None:
    queue = lanes(turn_size=turn_size)
    put: list[Item] = []
    left: list[Item] = []

    def take(size_max: int) -> None:
        before = queue.size
        taken, firsts = queue.take(size_max)
        size = sum(item.size for item in taken)
        assert size <= size_max or len(taken) == 1
        assert bool(taken) == bool(before), "at least one leaves"
        assert queue.size == before - size
        seen: dict[str, Item] = {}
        for item in taken:
            seen.setdefault(item.lane, item)
        assert firsts == list(seen.values())
        left.extend(taken)

    for step in story:
        if isinstance(step, int):
            take(step)
        else:
            lane, size = step
            put.append(Item(lane, len(put), size))
            queue.put(put[-1])
    while queue.size:
        take(7)
    assert sorted(left, key=lambda item: item.number) == put
    for lane in {item.lane for item in put}:
        numbers = [item.number for item in left if item.lane == lane]
        assert numbers == sorted(numbers)


@given(st.integers(1, 15), st.lists(st.integers(1, 200), min_size=15, max_size=15))
def test_a_lone_grab_leaves_with_one_call_behind_as_many_crowds_as_there_are_turns_in_it(
    hot: int, crowds: list[int]
) -> None:
    queue = lanes(turn_size=60)
    for lane in range(hot):
        for number in range(crowds[lane]):
            queue.put(Item(f"hot-{lane}", number))
    queue.put(Item("lone", 0))
    assert Item("lone", 0) in queue.take(1_000)[0]
