"""Ids: stable for ever, and never joined."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.ids import (
    PacketId,
    User,
    is_tenant,
    is_user,
    packet_id_of,
    packet_stream,
    parse_packet_id,
    wallet_index_of,
    wallet_stream,
)
from actors.money import yuan

KEY = bytes.fromhex("ab" * 32)


def test_golden_ids_never_change() -> None:
    """Money lies under these names: a change here would lose it."""
    assert [wallet_index_of("wechat", user, 8) for user in ("alice", "bob", "王小明")] == GOLDEN_INDEXES
    assert packet_id_of(KEY, "wechat", "alice", "key-1", 8, 8) == GOLDEN_ID
    assert parse_packet_id(GOLDEN_ID) == GOLDEN_PLACE
    assert (wallet_stream(3), packet_stream(12)) == ("wallet-003", "packet-012")


GOLDEN_INDEXES = [0, 0, 2]
GOLDEN_ID = "aadaaaa4z4oe5ymj2z47725kzeneelzt"
GOLDEN_PLACE = PacketId(6, 0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", "b-c", "k"), ("a-b", "c", "k")),
        (("a", "bc", "k"), ("ab", "c", "k")),
        (("a", "b", "ck"), ("a", "bc", "k")),
        (("a", "b", "k\x00"), ("a", "b\x00", "k")),
    ],
)
def test_identities_are_tuples_and_never_joined(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    assert packet_id_of(KEY, *one, 8, 8)[8:] != packet_id_of(KEY, *other, 8, 8)[8:]
    assert User(one[0], one[1]) != User(other[0], other[1]) or one[2] != other[2]


@given(st.text(max_size=20), st.integers(1, 4096), st.integers(1, 4096))
def test_a_packet_id_says_where_the_packet_and_its_money_are(key: str, packets: int, wallets: int) -> None:
    try:
        packet_id = packet_id_of(KEY, "wechat", "alice", key, packets, wallets)
    except UnicodeEncodeError:
        return
    place = parse_packet_id(packet_id)
    assert place is not None
    assert place.packet_index < packets
    assert place.wallet_index == wallet_index_of("wechat", "alice", wallets)
    assert packet_id == packet_id_of(KEY, "wechat", "alice", key, packets, wallets)


def test_a_packet_id_cannot_be_made_without_the_platforms_key() -> None:
    assert packet_id_of(KEY, "a", "b", "k", 8, 8) != packet_id_of(bytes(32), "a", "b", "k", 8, 8)


@pytest.mark.parametrize(
    "text", ["", "a" * 31, "a" * 33, "A" * 32, "1" * 32, "a" * 31 + "=", "a" * 31 + "\n", "é" * 32]
)
def test_what_is_no_packet_id_parses_to_nothing(text: str) -> None:
    assert parse_packet_id(text) is None


@pytest.mark.parametrize("text", ["", "a b", "a\n", "\x00", "\x7f", "\u3000", "x" * 65, "\ud800"])
def test_what_can_name_no_user(text: str) -> None:
    assert not is_user(text)


@pytest.mark.parametrize("text", ["a", "王小明", "x" * 64, "a-b_c@d", "😀"])
def test_what_can_name_a_user(text: str) -> None:
    assert is_user(text)


@given(st.text(max_size=70))
def test_most_users_are_told_by_a_shortcut_that_never_differs_from_the_rule(text: str) -> None:
    assert is_user(text) == (re.fullmatch(r"[^\s\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,64}", text) is not None)


def test_a_tenant_is_short_and_plain() -> None:
    assert [is_tenant(text) for text in ("wechat", "qq", "a-1", "", "-a", "A", "a" * 33, "a b", "a\n")] == [
        *[True] * 3,
        *[False] * 6,
    ]


@pytest.mark.parametrize(("fen", "text"), [(0, "0.00"), (5, "0.05"), (1234, "12.34"), (-1234, "-12.34"), (-5, "-0.05")])
def test_fen_are_written_as_yuan_for_people(fen: int, text: str) -> None:
    assert yuan(fen) == text
