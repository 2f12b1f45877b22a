"""Offline: the shares of ended packets are those that were committed to, or the audit names the packet."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.kernel.proof import UNPROVEN_SHOWN, Proved
from actors.packet.events import Expired, GrabbedMany, Opened, Passivated
from actors.packet.machine import PacketMachine
from actors.packet.proof import BLOCKS_MAX, ShareProver
from actors.packet.state import Packet, decode_record
from actors.transfers.seeds import commitment_of, seed_of
from cluster.offline.audit import audit_of, sum_stream
from cluster.offline.proof import prove_stream
from cluster.offline.stream_reader import Sources
from tests.simulation.loop import simulated
from tests.unit.samples import DAY_MS, KEYS, NOW_MS, PACKET, PACKET_RULES, TENANT, WALLET, funding, services
from tests.unit.test_backup import Bench

Change = Callable[[Any], Any]


def as_it_is(event: Any) -> Any:
    return event


def life(terms: Any, users: int, change: Change = as_it_is, keys: Any = KEYS) -> tuple[list[Any], PacketMachine]:
    """Return the events of a packet of which so many users take a share, up to its end, each changed."""
    machine, events = (
        PacketMachine(PACKET, msgspec.structs.replace(PACKET_RULES, unsettled_max=10**9), services(keys=keys)),
        [],
    )

    def stage(event: Any) -> None:
        machine.apply(event)
        events.append(change(event))

    stage(Opened(WALLET, terms))
    for first in range(0, users, 1_000):
        event, _ = machine.decide_grabs(
            terms.packet_id, TENANT, [f"u{n}" for n in range(first, min(first + 1_000, users))], NOW_MS
        )
        stage(event)
    if users < terms.count:
        stage(machine.decide_expiry(terms.packet_id, NOW_MS + DAY_MS))
    return events, machine


def counts(ended: int, taken: int, checked: int) -> dict[str, int]:
    return {"packets_ended": ended, "shares_taken": taken, "shares_checked": checked}


def proved(events: list[Any]) -> Proved:
    prover = ShareProver(PACKET)
    for event in events:
        assert prover.take(event) == ()
    return prover.result()


@pytest.mark.parametrize("kind", ["lucky", "equal"])
@pytest.mark.parametrize("users", [0, 1, 3, 5])
def test_every_share_of_an_honest_packet_is_recomputed_however_it_ended(kind: str, users: int) -> None:
    events, _ = life(funding(kind=kind, sender_nonce="a nonce"), users)
    assert proved(events) == (counts(1, users, users), [], 0)


def test_of_a_long_packet_some_blocks_are_recomputed_which_its_seed_chooses_and_that_is_told() -> None:
    count = (BLOCKS_MAX + 2) * 10_000
    terms = funding(count=count, total_fen=3 * count)
    events, _ = life(terms, count)
    assert proved(events) == (counts(1, count, BLOCKS_MAX * 10_000), [], 0)
    events, _ = life(terms, 14_321)
    assert proved(events) == (counts(1, 14_321, 14_321), [], 0)

    def raised(event: Any) -> Any:
        if isinstance(event, GrabbedMany) and event.first_rank == 12_001:
            event.amounts_fen[7] += 1
        return event

    events, _ = life(terms, 14_321, raised)
    [wrong] = proved(events).unproven
    assert wrong.found.startswith("share 12008 is ")


def _other_seed(event: Any) -> Any:
    if isinstance(event, GrabbedMany | Expired) and event.seed:
        return msgspec.structs.replace(event, seed=bytes(32))
    return event


def _no_seed(event: Any) -> Any:
    return msgspec.structs.replace(event, seed=b"") if isinstance(event, GrabbedMany | Expired) else event


def _other_total(event: Any) -> Any:
    if isinstance(event, Opened):
        return Opened(event.source, msgspec.structs.replace(event.funding, total_fen=4))
    return event


def _moved_fen(event: Any) -> Any:
    if isinstance(event, GrabbedMany) and len(event.amounts_fen) > 1:
        first, second, *rest = event.amounts_fen
        return msgspec.structs.replace(event, amounts_fen=[first + 1, second - 1, *rest])
    return event


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_other_seed, "is not the one that was committed to"),
        (_no_seed, "is not the one that was committed to"),
        (_other_total, "cannot be its"),
        (_moved_fen, "share 1 is"),
    ],
)
@pytest.mark.parametrize("users", [3, 5])
def test_whatever_was_changed_the_packet_is_named(change: Change, says: str, users: int) -> None:
    events, _ = life(funding(), users, change)
    found = proved(events)
    [wrong] = found.unproven
    assert (wrong.stream, wrong.record, found.unproven_count) == (PACKET, "p1", 1)
    assert says in wrong.found


def test_shares_dealt_with_another_key_than_was_committed_with_are_not_clean() -> None:
    """What a system did that was started with new keys on old packets."""
    other = KEYS.model_copy(update={"platform": {"k1": "cd" * 32}})
    dealt = funding(commitment=commitment_of("even/1", "p1", seed_of(b"\xcd" * 32, "p1")))
    [opened, *rest], _ = life(dealt, 5, keys=other)
    found = proved([msgspec.structs.replace(opened, funding=funding()), *rest])
    assert found.unproven[0].found == "the seed that was published is not the one that was committed to"


def test_what_is_shown_is_bounded_and_counted() -> None:
    events = [event for n in range(UNPROVEN_SHOWN + 5) for event in life(funding(f"p{n}"), 2, _no_seed)[0]]
    found = proved(events)
    assert (len(found.unproven), found.unproven_count) == (UNPROVEN_SHOWN, UNPROVEN_SHOWN + 5)


def _with(**changes: Any) -> Callable[[Packet], None]:
    def change(packet: Packet) -> None:
        for name, value in changes.items():
            setattr(packet, name, value)

    return change


def _another_user(packet: Packet) -> None:
    packet.rank_of["mallory"] = packet.rank_of.pop("u4")
    packet.chain = bytes(32) + packet.chain[32:]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (None, "its record is missing"),
        (_with(seed=bytes(32)), "another seed or other claims"),
        (_with(grabbed_fen=1), "another seed or other claims"),
        (_another_user, "the claim chain in its record"),
        (_with(), ""),
    ],
)
def test_the_record_that_answers_for_a_packet_is_held_against_its_journal(change: Any, says: str) -> None:
    events, machine = life(funding(), 5)
    record = msgspec.msgpack.encode(machine._state.packets["p1"])
    if change is None:
        shown = None
    else:
        packet = decode_record(record)
        change(packet)
        shown = msgspec.msgpack.encode(packet)
    prover = ShareProver(PACKET)
    gone = [name for event in (*events, Passivated(["p1"])) for name in prover.take(event)]
    assert gone == ["p1"]
    prover.show("p1", shown)
    assert [says in wrong.found for wrong in prover.result().unproven] == ([True] if says else [])


@simulated
async def test_a_system_that_lived_is_proven_across_sealed_files_journals_and_records(tmp_path: Path) -> None:
    bench = await Bench.start(tmp_path)
    bench.system.clock.ms += 2 * DAY_MS
    await bench.system.tick()
    journals = bench.system.journals
    sources, cut = Sources(journals, journals.codec, bench.archive), await journals.cut(0)
    assert any(stood.sealed for stood in cut.streams.values())
    found = [await prove_stream(sources, name, stood) for name, stood in cut.streams.items()]
    summed = [await sum_stream(sources, name, stood) for name, stood in sorted(cut.streams.items())]
    report, _ = audit_of(summed, found)
    assert report.clean
    assert report.proved["packets_ended"] == len(bench.packets)
    assert report.proved["shares_checked"] == report.proved["shares_taken"] > 0
    wrong = proved(life(funding(), 5, _other_seed)[0])
    report, _ = audit_of(summed, [*found, wrong])
    assert (report.clean, report.unproven, report.unproven_count) == (False, wrong.unproven, 1)
