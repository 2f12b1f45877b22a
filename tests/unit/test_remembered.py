"""Remembered: a table is bounded, forgets by stamps, and its index is that of its entries, whatever happens."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from actors.kernel.remembered import Remembered

Table = Remembered[str, tuple[str, int], int]
KEEP_MS = 10
STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "remove"]), st.sampled_from("abc"), st.integers(0, 3), st.integers(0, 6))
)


def owner_of(key: tuple[str, int], stamp_ms: int) -> str:
    return key[0]


@given(STEPS, st.integers(1, 4))
def test_a_table_is_bounded_forgets_by_stamps_and_knows_whose_each_entry_is(
    steps: list[tuple[str, str, int, int]], total_max: int
) -> None:
    table, now_ms = Table(), 0
    plain: list[tuple[tuple[str, int], int]] = []
    for step, owner, number, later_ms in steps:
        now_ms += later_ms
        key = owner, number

        def is_past(stamp_ms: int, now_ms: int = now_ms) -> bool:
            return now_ms >= stamp_ms + KEEP_MS

        room = sum(not is_past(stamp_ms) for _, stamp_ms in plain) < total_max
        assert table.has_room(total_max, is_past) is room
        forgotten = table.forget(is_past, owner_of)
        assert forgotten == [stamp_ms for _, stamp_ms in plain if is_past(stamp_ms)]
        plain = [(at, stamp_ms) for at, stamp_ms in plain if not is_past(stamp_ms)]
        known = key in table.all
        if step == "add" and room and not known:
            table.add(owner, key, now_ms)
            plain.append((key, now_ms))
        elif step == "remove" and known:
            table.remove(owner, key)
            plain = [entry for entry in plain if entry[0] != key]
        assert list(table.all.items()) == plain
        for one in "abc":
            assert table.of(one) == [stamp_ms for at, stamp_ms in plain if at[0] == one]
        assert all(table.keys.values())
        table = msgspec.msgpack.decode(msgspec.msgpack.encode(table), type=Table)
