"""Offline: balances, statements and tails are read from sealed files and the store alone, whatever lies where."""

import itertools
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
import pytest_asyncio

from actors.kernel.errors import JournalCorrupt
from actors.kernel.ports import Event, Position
from actors.ledger.holds import Held, HoldExpired, HoldPosted, HoldVoided
from actors.packet.events import Opened
from actors.transfers.payout import PayoutRun
from actors.wallet.events import RunsReceived
from actors.wallet.machine import WalletMachine
from cluster.journal.archive import Archive, manifest_of
from cluster.journal.sealing import PartBounds, Sealer
from cluster.offline import stream_reader as reading
from cluster.offline.audit import OfflineAudit, audit_of, sum_stream, write_balances
from cluster.offline.statement import newest, statement
from cluster.offline.stream_reader import read_everything, read_lines
from cluster.offline.tails import check_tails
from tests.books import balances
from tests.contract.history import (
    BALANCE_FEN,
    PACKET,
    PACKET_FEN,
    SHARE_FEN,
    WALLET,
    adopt,
    of_the_packets,
    of_the_wallet,
    platform_store,
    sources,
    stands,
    write,
)
from tests.contract.stores import STREAMS, Store, Valkey, flipped
from tests.unit.samples import NOW_MS, SERVICES, TENANT, WALLET_RULES, funding

DAYS = 4
_systems = itertools.count()


@pytest_asyncio.fixture(params=["memory", "valkey"])
async def ledger(request: pytest.FixtureRequest, valkey: Valkey) -> AsyncIterator[Store]:
    async with platform_store(request.param, valkey, f"offline-{next(_systems)}") as store:
        yield store


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(str(tmp_path / "archive"))


async def seal(store: Store, archive: Archive, stream: str, at: int, elements_max: int = 3) -> None:
    """Seal through the stand `at` of a stream, with a newer snapshot above it."""
    records = await stands(store.journals, stream)
    await adopt(store, records[at], records[-1])
    sealer = Sealer(store.journals, store.journals.codec, archive, PartBounds(elements_max, 1_000_000))
    assert (await sealer.run(stream, records[at])).trimmed == at + 1


async def audited(store: Store, archive: Archive) -> OfflineAudit:
    cut = await store.journals.cut(0)
    found = [await sum_stream(sources(store, archive), stream, at) for stream, at in sorted(cut.streams.items())]
    return audit_of(found)[0]


async def test_every_balance_is_the_same_wherever_the_lines_lie(ledger: Store, archive: Archive) -> None:
    await write(ledger, WALLET, of_the_wallet(DAYS))
    await write(ledger, PACKET, of_the_packets(DAYS))
    before = await audited(ledger, archive)
    replayed = await balances(ledger.journals, ledger.journals.codec, WALLET)
    await seal(ledger, archive, WALLET, 6)
    await seal(ledger, archive, PACKET, 5)
    after = await audited(ledger, archive)
    assert after.clean
    assert after.balances_sha256 == before.balances_sha256
    assert after.totals_fen == before.totals_fen
    assert after.totals_fen["change"] == sum(fen for account, fen in replayed.items() if account[0] == "change")
    assert {book.stream: (book.sealed_parts > 0, book.sum_fen) for book in after.books} == {
        PACKET: (True, 0),
        "packet-001": (False, 0),
        WALLET: (True, 0),
    }
    assert after.in_flight_fen == 0


async def test_what_was_sent_and_not_received_is_in_flight(ledger: Store, archive: Archive) -> None:
    await write(ledger, WALLET, of_the_wallet(DAYS))
    await write(ledger, PACKET, of_the_packets(DAYS - 1))
    found = await audited(ledger, archive)
    # The last packet was paid for and not opened here, yet its payouts are credited there: they were never sent.
    by_pair = {(one.source, one.destination): one.in_flight_fen for one in found.transits}
    assert by_pair == {(WALLET, PACKET): PACKET_FEN, (PACKET, WALLET): -PACKET_FEN}
    assert found.difference_fen == PACKET_FEN
    assert not found.clean


async def test_money_that_is_on_its_way_is_no_difference(ledger: Store, archive: Archive) -> None:
    await write(ledger, WALLET, of_the_wallet(1)[:2])
    found = await audited(ledger, archive)
    assert (found.in_flight_fen, found.difference_fen, found.clean) == (PACKET_FEN, 0, True)


async def test_a_wrong_amount_does_not_hide_among_what_is_in_flight(ledger: Store, archive: Archive) -> None:
    """The wallet took the first transfer short by a fen; the second is still on its way, so the sums alone agree."""
    await write(ledger, WALLET, of_the_wallet(1)[:-1])
    await write(ledger, PACKET, of_the_packets(1))
    short = PayoutRun(1, "share", TENANT, "p0", ["taker"], [SHARE_FEN - 1], NOW_MS)
    await write(ledger, WALLET, [[RunsReceived(PACKET, [short], NOW_MS + 2)]])
    found = await audited(ledger, archive)
    [transit] = [one for one in found.transits if one.source == PACKET]
    assert (transit.watermark, transit.in_flight_fen, transit.mismatch_fen) == (1, PACKET_FEN - SHARE_FEN + 1, 1)
    assert (found.difference_fen, found.clean) == (1, False)


async def test_a_packet_that_was_opened_ahead_of_its_predecessor_is_no_difference(
    ledger: Store, archive: Archive
) -> None:
    await write(ledger, WALLET, of_the_wallet(3)[:-1])
    opened = of_the_packets(3)
    await write(ledger, PACKET, [opened[3], opened[6]])
    [transit] = [one for one in (await audited(ledger, archive)).transits if one.source == WALLET]
    assert (transit.watermark, transit.in_flight_fen, transit.mismatch_fen) == (0, PACKET_FEN, 0)
    await write(ledger, PACKET, [opened[0]])
    [transit] = [one for one in (await audited(ledger, archive)).transits if one.source == WALLET]
    assert (transit.watermark, transit.in_flight_fen, transit.mismatch_fen) == (3, 0, 0)


async def test_a_negative_balance_is_not_clean(ledger: Store, archive: Archive) -> None:
    await write(ledger, WALLET, [[funding("p0", 1, total_fen=1, at_ms=NOW_MS, sender="poor")]])
    found = await audited(ledger, archive)
    assert [(one.stream, one.account, one.name, one.amount_fen) for one in found.wrong_sides] == [
        (WALLET, "change", "poor", -1)
    ]
    assert not found.clean


async def test_an_audit_reads_to_its_cut_and_not_beyond_it(ledger: Store, archive: Archive) -> None:
    """What is written, sealed and trimmed after the cut changes nothing that is read up to it."""
    await write(ledger, WALLET, of_the_wallet(2))
    cut = await ledger.journals.cut(0)
    before = await sum_stream(sources(ledger, archive), WALLET, cut.streams[WALLET])
    late = PayoutRun(5, "share", TENANT, "p9", ["late"], [9], NOW_MS)
    later = [RunsReceived(PACKET, [late], NOW_MS + 86_400_002)]
    await write(ledger, WALLET, [later, later, later])
    await seal(ledger, archive, WALLET, 9, elements_max=100)
    manifest = await manifest_of(ledger.journals, WALLET)
    cut_at = cut.streams[WALLET].last
    assert cut_at is not None
    assert any(part.first <= cut_at < part.last for part in manifest), "a part goes across the cut"
    after = await sum_stream(sources(ledger, archive), WALLET, cut.streams[WALLET])
    assert after.balances.equals(before.balances)
    read = [element.position async for element in read_everything(sources(ledger, archive), WALLET, cut_at)]
    assert read[-1] == cut_at


async def test_an_audit_does_not_add_up_a_file_that_was_touched(
    ledger: Store, archive: Archive, tmp_path: Path
) -> None:
    await write(ledger, WALLET, of_the_wallet(DAYS))
    await seal(ledger, archive, WALLET, 6)
    [first, *_] = await manifest_of(ledger.journals, WALLET)
    path = tmp_path / "archive" / first.path
    path.write_bytes(flipped(path.read_bytes()))
    with pytest.raises(JournalCorrupt, match="SHA-256"):
        await audited(ledger, archive)
    path.unlink()
    with pytest.raises(JournalCorrupt, match="is missing"):
        await audited(ledger, archive)


async def test_balances_can_be_written_as_a_table(ledger: Store, archive: Archive, tmp_path: Path) -> None:
    await write(ledger, WALLET, of_the_wallet(1))
    cut = await ledger.journals.cut(0)
    _, table = audit_of([await sum_stream(sources(ledger, archive), WALLET, cut.streams[WALLET])])
    write_balances(table, tmp_path / "balances.parquet")
    rows = pq.read_table(tmp_path / "balances.parquet").to_pylist()
    assert {(row["account"], row["name"]): row["amount_fen"] for row in rows} == {
        ("change", "sender"): BALANCE_FEN - SHARE_FEN,
        ("change", "taker"): SHARE_FEN,
        ("faucet", None): -BALANCE_FEN,
        ("received", PACKET): -PACKET_FEN,
        ("sent", PACKET): PACKET_FEN,
    }


@pytest.mark.parametrize("sealed_at", [None, 1, 6, 11])
async def test_a_statement_has_every_line_the_shard_ever_wrote(
    sealed_at: int | None, ledger: Store, archive: Archive
) -> None:
    holds: list[list[Event]] = [
        [Held("h1", TENANT, "sender", 5, NOW_MS + 9, NOW_MS + 90)],
        [
            Held("h2", TENANT, "sender", 7, NOW_MS + 10, NOW_MS + 90),
            Held("h3", TENANT, "sender", 3, NOW_MS + 10, NOW_MS + 50),
        ],
        [HoldVoided("h1", TENANT, "sender", 5, NOW_MS + 11), HoldPosted("h2", TENANT, "sender", 7, NOW_MS + 11)],
        [
            HoldExpired("h3", TENANT, "sender", 3, NOW_MS + 51),
            Held("h4", TENANT, "sender", 2, NOW_MS + 52, NOW_MS + 90),
        ],
    ]
    entries = [*of_the_wallet(DAYS), *holds]
    await write(ledger, WALLET, entries)
    if sealed_at is not None:
        await seal(ledger, archive, WALLET, sealed_at)
    machine = WalletMachine(WALLET, msgspec.structs.replace(WALLET_RULES, statement_lines_max=1_000), SERVICES)
    for events in entries:
        for event in events:
            machine.apply(event)
    for user in ("sender", "taker", "nobody"):
        found = await statement(sources(ledger, archive), TENANT, user, STREAMS)
        kept = machine.statement(TENANT, user, 1_000, None).lines
        assert [msgspec.structs.astuple(one) for one in found.entries] == [msgspec.structs.astuple(one) for one in kept]
        view = machine.view(TENANT, user)
        assert (found.available_fen, found.held_fen) == (view.available_fen, view.held_fen)
        assert newest(found, 2).entries == found.entries[:2]
    assert (await statement(sources(ledger, archive), "qq", "sender", STREAMS)).entries == [], (
        "another tenant's namesake"
    )


async def test_lines_are_read_once_each_while_their_elements_move_to_the_archive(
    ledger: Store, archive: Archive
) -> None:
    await write(ledger, PACKET, of_the_packets(DAYS))
    whole = Counter[int]()
    async for table in read_lines(sources(ledger, archive), PACKET, ["version"]):
        whole.update(table["version"].to_pylist())
    records = await stands(ledger.journals, PACKET)
    await adopt(ledger, records[3], records[-1])
    sealer = Sealer(ledger.journals, ledger.journals.codec, archive, PartBounds(3, 1_000_000))
    await sealer.run(PACKET, records[3])
    lines = read_lines(sources(ledger, archive), PACKET, ["version"])
    found = Counter[int]((await anext(lines))["version"].to_pylist())
    assert (await sealer.run(PACKET, records[8])).trimmed == 5
    async for table in lines:
        found.update(table["version"].to_pylist())
    assert found == whole


@pytest.mark.parametrize("elements", [True, False])
async def test_what_was_read_live_and_then_sealed_and_trimmed_is_not_read_twice(
    elements: bool, ledger: Store, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LIVE_ELEMENTS_MAX", 2)
    await write(ledger, PACKET, of_the_packets(DAYS))
    records = await stands(ledger.journals, PACKET)
    await adopt(ledger, records[8], records[-1])
    journals: Any = ledger.journals

    class OneByOne:
        """Hands out one element a round trip, so that a trim comes between two of them."""

        def __getattr__(self, name: str) -> Any:
            return getattr(journals, name)

        def read(self, stream: str, after: Position | None, through: Position | None) -> Any:
            return journals.read(stream, after, through, 1)

    distant = sources(ledger, archive)._replace(journals=OneByOne())  # type: ignore[arg-type]
    sealer = Sealer(journals, journals.codec, archive, PartBounds(100, 1_000_000))
    if elements:
        read = read_everything(distant, PACKET)
        positions = [(await anext(read)).position]
        await sealer.run(PACKET, records[8])
        positions += [element.position async for element in read]
        assert positions == [record.position for record in records]
        return
    lines = read_lines(distant, PACKET, ["version"])
    versions = (await anext(lines))["version"].to_pylist()
    await sealer.run(PACKET, records[8])
    async for table in lines:
        versions += table["version"].to_pylist()
    moving = [n for n in range(1, 4 * DAYS + 1) if n % 4]  # of each day's four events all but the last move money
    assert versions == [version for version in moving for _ in range(2)], "two lines each, each once"


async def test_a_start_stops_at_a_damaged_tail_and_leaves_the_store_as_it_was(ledger: Store) -> None:
    await write(ledger, PACKET, of_the_packets(2))
    await write(ledger, WALLET, of_the_wallet(2))
    await check_tails(ledger.journals)
    elements = [element async for element in ledger.journals.read(PACKET, None, None)]
    damaged = [(position, flipped(payload) if position == (1, 5) else payload) for position, payload in elements]
    await ledger.rewrite(PACKET, lambda _: damaged)
    with pytest.raises(JournalCorrupt, match="journal packet-000: entry 1-5 is damaged"):
        await check_tails(ledger.journals)
    assert [element async for element in ledger.journals.read(PACKET, None, None)] == damaged


async def test_a_start_needs_the_end_of_every_stream_and_only_what_lies_behind_its_snapshot(ledger: Store) -> None:
    await write(ledger, PACKET, of_the_packets(2))
    records = await stands(ledger.journals, PACKET)
    await adopt(ledger, records[3])
    elements = [element async for element in ledger.journals.read(PACKET, None, None)]
    await ledger.rewrite(PACKET, lambda _: elements[4:])
    await check_tails(ledger.journals)
    await ledger.rewrite(PACKET, lambda _: elements[4:-1])
    with pytest.raises(JournalCorrupt, match="1-6 is missing: the stream was read up to 1-5"):
        await check_tails(ledger.journals)
    await ledger.rewrite(PACKET, lambda _: elements[4:])
    await ledger.damage_snapshot(PACKET, records[3].position)
    with pytest.raises(JournalCorrupt, match="the snapshot at 1-3 is damaged"):
        await check_tails(ledger.journals)
    await ledger.drop(PACKET)
    with pytest.raises(JournalCorrupt):
        await check_tails(ledger.journals)


async def test_a_second_opening_of_a_packet_shows_in_the_lines_with_both_numbers(
    ledger: Store, archive: Archive
) -> None:
    await write(ledger, PACKET, [[Opened(WALLET, funding("p0", 7, at_ms=NOW_MS))]])
    [table] = [t async for t in read_lines(sources(ledger, archive), PACKET, ["account", "number", "amount_fen"])]
    assert table.to_pylist() == [
        {"account": "received", "number": 7, "amount_fen": -1_000},
        {"account": "escrow", "number": None, "amount_fen": 1_000},
    ]
