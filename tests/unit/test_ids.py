"""Ids: stable for ever, and never joined."""

import re
import unicodedata
from functools import lru_cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.kernel.names import User, is_tenant, is_user, may_have_lines
from actors.ledger.money import yuan
from actors.transfers.ids import PacketId, packet_id_of, packet_stream, parse_packet_id, wallet_index_of, wallet_stream

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


INVISIBLE = {
    "zero width space": "\u200b",
    "zero width joiner": "\u200d",
    "left-to-right mark": "\u200e",
    "bidi override": "\u202e",
    "bidi isolate": "\u2066",
    "soft hyphen": "\u00ad",
    "byte order mark": "\ufeff",
    "language tag": "\U000e0041",
    "Hangul filler": "\u3164",
    "half-width Hangul filler": "\uffa0",
    "variation selector": "\ufe0f",
    "empty Braille pattern": "\u2800",
    "grapheme joiner": "\u034f",
    "no-break space": "\u00a0",
    "ideographic space": "\u3000",
    "line separator": "\u2028",
    "next line": "\x85",
    "C1 control": "\x9b",
    "NUL": "\x00",
    "DEL": "\x7f",
    "half a surrogate pair": "\ud800",
}


@pytest.mark.parametrize("letter", INVISIBLE.values(), ids=INVISIBLE)
@pytest.mark.parametrize("place", ["{}", "{}bob", "b{}ob", "bob{}", "小{}明"])
def test_no_user_differs_from_another_by_what_nobody_sees(letter: str, place: str) -> None:
    assert not is_user(place.format(letter))


@pytest.mark.parametrize("text", ["", "a b", "a\n", "x" * 65, "恭" * 65, "zoe\u0301", "\u212b", "\uf900", "か\u3099"])
def test_what_can_name_no_user(text: str) -> None:
    assert not is_user(text)


@pytest.mark.parametrize(
    "text", ["a", "王小明", "x" * 64, "a-b_c@d", "😀", "zoé", "Åsa", "ガ", "नमस्ते", "\U0002ebf0", "%41"]
)
def test_what_can_name_a_user(text: str) -> None:
    assert is_user(text)


@given(st.text(max_size=70) | st.text(st.characters(max_codepoint=0x2FF), max_size=8))
def test_a_user_is_whom_the_rule_names(text: str) -> None:
    """By another road: Unicode's categories and normal form, without the shortcuts."""
    refused = {"Cc", "Cf", "Cs", "Zl", "Zp", "Zs"}
    ruled = 0 < len(text) <= 64 and unicodedata.normalize("NFC", text) == text
    ruled = ruled and not any(unicodedata.category(letter) in refused for letter in text)
    assert is_user(text) == (ruled and not any(letter in text for letter in fillers()))


@lru_cache(maxsize=1)
def fillers() -> frozenset[str]:
    """Return what Unicode says to ignore though its category does not tell (DerivedCoreProperties.txt), and U+2800."""
    ranges = "34f 115f-1160 17b4-17b5 180b-180f 2065 2800 3164 fe00-fe0f ffa0 fff0-fff8 e0000-e0fff"
    ends = [[int(end, 16) for end in one.split("-")] for one in ranges.split()]
    return frozenset(chr(point) for first, *last in ends for point in range(first, (last or [first])[0] + 1))


@given(st.text(max_size=70))
def test_money_of_every_user_who_could_once_be_named_can_still_be_looked_at(text: str) -> None:
    assert may_have_lines(text) == (re.fullmatch(r"[^\s\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,64}", text) is not None)
    assert may_have_lines(text) or not is_user(text)


def test_a_tenant_is_short_and_plain() -> None:
    assert [is_tenant(text) for text in ("wechat", "qq", "a-1", "", "-a", "A", "a" * 33, "a b", "a\n")] == [
        *[True] * 3,
        *[False] * 6,
    ]


@pytest.mark.parametrize(("fen", "text"), [(0, "0.00"), (5, "0.05"), (1234, "12.34"), (-1234, "-12.34"), (-5, "-0.05")])
def test_fen_are_written_as_yuan_for_people(fen: int, text: str) -> None:
    assert yuan(fen) == text
