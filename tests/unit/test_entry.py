"""Entry: who may take a packet, decided by the machine and the shard alone."""

from typing import Any

import msgspec
import pytest

from actors.kernel.messages import Refused
from actors.packet.commands import Grab
from actors.packet.events import GrabbedMany, PhraseMissed
from actors.packet.host import _is_same_packet
from actors.packet.machine import PacketMachine
from actors.packet.replies import Takings
from actors.packet.state import decode_record
from actors.refusals import Refusal
from actors.transfers.funding import Special
from actors.transfers.phrase import kept, spoken
from tests.unit.samples import NOW_MS, PACKET_RULES, SEED_KEY, TENANT, funding, packets

RIGHT, WRONG = spoken(SEED_KEY, "open sesame"), spoken(SEED_KEY, "open barley")
LATE_MS = NOW_MS + PACKET_RULES.phrase_tries_ms


def sesame(**changes: Any) -> PacketMachine:
    """Return a stream with one password packet of 5 shares."""
    special = Special(phrase=kept(SEED_KEY, "p1", RIGHT))
    return packets(funding(kind="password", special=special, **changes))


def say(machine: PacketMachine, phrase: bytes, *users: str, now_ms: int = NOW_MS) -> list[str]:
    """Let users say a phrase in one call; return the code, or "won", of each."""
    event, reply = machine.decide_grabs("p1", TENANT, list(users), now_ms, phrase=phrase)
    if event is not None:
        machine.apply(event)
    replies = reply.replies if isinstance(reply, Takings) else [reply] * len(users)
    return [str(each.code) if isinstance(each, Refused) else "won" for each in replies]


def test_a_packet_counts_the_wrong_phrases_of_so_many_users_and_refuses_the_others_uncounted() -> None:
    machine = sesame()
    told = say(machine, WRONG, "a", "b", "c", "d", "a")
    assert told == [*["wrong_passphrase"] * 3, "rate_limited", "wrong_passphrase"]
    assert say(machine, WRONG, "e") == ["rate_limited"]
    assert say(machine, RIGHT, "d", "e", "a", "b") == ["won", "won", "rate_limited", "won"]


def test_tries_that_were_forgiven_are_counted_anew() -> None:
    machine = sesame()
    for now_ms in (NOW_MS, LATE_MS):
        assert say(machine, WRONG, "a", "a", now_ms=now_ms) == ["wrong_passphrase"] * 2
        assert say(machine, WRONG, "a", now_ms=now_ms + 1) == ["rate_limited"]
    assert say(machine, RIGHT, "a", now_ms=2 * LATE_MS - NOW_MS) == ["won"]


def test_no_more_tries_are_counted_than_there_are() -> None:
    event, _ = sesame().decide_grabs("p1", TENANT, ["a"] * 5, NOW_MS, phrase=WRONG)
    assert event == PhraseMissed("p1", ["a", "a"], NOW_MS)


def test_wrong_phrases_are_one_event_and_right_ones_another() -> None:
    machine = sesame()
    missed, _ = machine.decide_grabs("p1", TENANT, ["a", "b", "a"], NOW_MS, phrase=WRONG)
    assert missed == PhraseMissed("p1", ["a", "b", "a"], NOW_MS)
    won, _ = machine.decide_grabs("p1", TENANT, ["a", "b"], NOW_MS, phrase=RIGHT)
    assert isinstance(won, GrabbedMany)
    assert won.users == ["a", "b"]


def test_the_bar_comes_before_the_phrase_so_that_nobody_loses_a_try_by_it() -> None:
    machine = sesame()
    barred = Refused(Refusal.OVERLOADED)
    assert machine.decide_grabs("p1", TENANT, ["a"], NOW_MS, barred, phrase=WRONG) == (None, barred)


def test_whoever_has_won_hears_it_whatever_he_says_later_and_no_try_is_counted() -> None:
    machine = sesame()
    assert say(machine, RIGHT, "a") == ["won"]
    event, _ = machine.decide_grabs("p1", TENANT, ["a"], NOW_MS, phrase=WRONG)
    assert event is None
    assert say(machine, WRONG, "a", "b") == ["won", "wrong_passphrase"]


def test_a_snapshot_and_a_record_hold_who_may_take_and_the_wrong_tries() -> None:
    machine = sesame()
    say(machine, WRONG, "a", "a")
    again = packets()
    again.restore(machine.snapshot())
    assert say(again, RIGHT, "a", "b") == ["rate_limited", "won"]
    packet = machine._find("p1")
    assert decode_record(msgspec.msgpack.encode(packet)).special == Special(phrase=kept(SEED_KEY, "p1", RIGHT))


@pytest.mark.parametrize("change", [{"phrase": WRONG}, {"group": "g"}, {"tenant": "qq"}, {"packet_id": "p2"}])
def test_only_grabs_that_say_the_same_to_the_same_packet_are_decided_together(change: dict[str, str]) -> None:
    one = Grab("p1", TENANT, "a", RIGHT)
    assert _is_same_packet(one, Grab("p1", TENANT, "b", RIGHT))
    assert not _is_same_packet(one, msgspec.structs.replace(one, **change))
