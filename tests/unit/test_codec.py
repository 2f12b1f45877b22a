"""Codec: what the journal's bytes are, for ever, and what a damaged chain is called."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.kernel.errors import JournalCorrupt
from actors.kernel.kind import union_of
from actors.kernel.ports import Position
from actors.kinds import event_types
from cluster.journal.codec import (
    CHAIN_START,
    Chain,
    Codec,
    fold_chain,
    following,
    platform_codec,
    position_of,
)
from tests.golden.events.write import COMMAND, FOLDER, SAMPLES, golden, tag_of

STREAM = "packet-003"
FENCE = Position(7, 0)


class Counted(msgspec.Struct, frozen=True, array_like=True, tag="counted"):
    number: int


class Named(msgspec.Struct, frozen=True, array_like=True, tag="named"):
    name: str


CODEC = Codec(Counted | Named)
NEW_FENCE = following(CODEC.fence("host"), None)


def fenced() -> Chain:
    chain = Chain(CODEC, STREAM)
    chain.take(FENCE, NEW_FENCE)
    return chain


def test_every_event_type_has_a_golden_sample() -> None:
    assert {type(sample) for sample in SAMPLES} == set(event_types())


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: tag_of(type(sample)))
def test_an_event_has_the_bytes_it_always_had(sample: msgspec.Struct) -> None:
    file = FOLDER / f"{tag_of(type(sample))}.json"
    assert file.exists(), f"no golden file {file}; if the event type is new, write it: {COMMAND}"
    written = file.read_text(encoding="utf-8")
    assert golden(sample) == written
    payload = bytes.fromhex(json.loads(written)["hex"])
    assert msgspec.msgpack.decode(payload, type=union_of(event_types())) == sample


def test_the_platforms_events_survive_an_entry() -> None:
    codec = platform_codec()
    chain, reader = Chain(codec, STREAM), Chain(codec, STREAM)
    chain.take(FENCE, NEW_FENCE)
    reader.take(FENCE, NEW_FENCE)
    assert list(reader.take(*chain.seal(SAMPLES))) == list(SAMPLES)


def test_the_bytes_of_an_entry_are_those_that_the_module_promises() -> None:
    sealed = fenced().seal([Counted(5)])
    prev = fold_chain(CHAIN_START, FENCE, NEW_FENCE)
    assert sealed.position == Position(7, 1)
    assert msgspec.msgpack.decode(sealed.payload[4:]) == [1, prev, 1, [["counted", 5]]]


@given(st.lists(st.lists(st.integers(0, 2**63 - 1).map(Counted) | st.text().map(Named), min_size=1, max_size=5)))
def test_what_was_sealed_is_read_again(entries: list[list[Counted | Named]]) -> None:
    writer, reader = fenced(), fenced()
    for events in entries:
        assert list(reader.take(*writer.seal(events))) == events
    assert (reader.digest, reader.version) == (writer.digest, sum(map(len, entries)))


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_a_position_is_read_as_it_is_written(epoch: int, seq: int) -> None:
    assert position_of(str(Position(epoch, seq)).encode()) == Position(epoch, seq)


@given(st.data())
def test_a_flipped_bit_anywhere_is_found_in_its_own_element(draw: st.DataObject) -> None:
    payload = bytearray(fenced().seal([Counted(5), Named("韩梅梅")]).payload)
    bit = draw.draw(st.integers(0, len(payload) * 8 - 1))
    payload[bit // 8] ^= 1 << bit % 8
    with pytest.raises(JournalCorrupt, match=r"^journal packet-003: entry 7-1 is damaged: "):
        fenced().take(Position(7, 1), bytes(payload))


def test_an_entry_of_another_past_does_not_chain() -> None:
    other, chain = fenced(), fenced()
    other.seal([Counted(1)])
    chain.take(*fenced().seal([Counted(2)]))
    with pytest.raises(
        JournalCorrupt, match=r"^journal packet-003: entry 7-2 does not chain: it follows [0-9a-f]{16}…"
    ):
        chain.take(*other.seal([Counted(3)]))


def test_a_missing_entry_is_named_by_its_neighbours() -> None:
    writer = fenced()
    writer.seal([Counted(1)])
    with pytest.raises(JournalCorrupt, match="entry 7-2 does not chain: it follows 7-0, what stood between is missing"):
        fenced().take(*writer.seal([Counted(2)]))


def test_a_stream_that_begins_without_its_fence_does_not_chain() -> None:
    with pytest.raises(JournalCorrupt, match="entry 7-1 does not chain: it is the first of its stream"):
        Chain(CODEC, STREAM).take(*fenced().seal([Counted(1)]))


def test_a_fence_follows_only_a_smaller_epoch() -> None:
    with pytest.raises(JournalCorrupt, match="fence 7-0 does not chain: it follows 7-0"):
        fenced().take(FENCE, NEW_FENCE)


def test_an_entry_lost_before_two_fences_is_missed_though_nothing_follows_them() -> None:
    chain = fenced()
    lost = Chain(CODEC, STREAM)
    lost.take(FENCE, NEW_FENCE)
    entry = chain.seal([Counted(1)])
    fences = [
        (Position(8, 0), following(CODEC.fence("host"), entry.position)),
        (Position(9, 0), following(CODEC.fence("host"), Position(8, 0))),
    ]
    for fence in fences:
        chain.take(*fence)
    with pytest.raises(JournalCorrupt, match="fence 8-0 does not chain: it followed 7-1, the stream stands at 7-0"):
        lost.take(*fences[0])


def test_a_version_that_jumps_does_not_chain() -> None:
    chain = fenced()
    entry = CODEC.entry(chain.digest, 2, [Counted(1)])
    with pytest.raises(JournalCorrupt, match="entry 7-1 does not chain: it begins at version 2, not 1"):
        chain.take(Position(7, 1), entry)


def test_an_event_of_an_unknown_tag_is_named() -> None:
    entry = Codec(Named).entry(fenced().digest, 1, [Named("a")])
    with pytest.raises(JournalCorrupt, match=r"entry 7-1 does not decode: .*'named'"):
        Codec(Counted).decode_entry(STREAM, Position(7, 1), entry)


def test_an_event_that_could_not_be_read_again_is_never_sealed() -> None:
    with pytest.raises(AssertionError, match="unknown type"):
        Codec(Counted).entry(CHAIN_START, 1, [Named("a")])


@pytest.mark.parametrize("payload", [b"", b"\x00\x00\x00\x00", b"abc"])
def test_an_element_too_short_to_be_one_is_damaged(payload: bytes) -> None:
    with pytest.raises(JournalCorrupt, match="fence 7-0 is damaged"):
        CODEC.decode_fence(STREAM, FENCE, payload)
