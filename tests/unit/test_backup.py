"""Backup: one instant of a system, and a system made of it again that nobody can tell from the first."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.kernel.errors import JournalCorrupt
from actors.kernel.messages import AdoptSnapshot, Done
from actors.kernel.ports import Position
from actors.packet.commands import Grab, View
from actors.transfers.ids import packet_stream, parse_packet_id
from actors.wallet.commands import CreditSandbox, ReadStatement, ReadWallet, Send
from cluster.journal.archive import Archive, manifest_of
from cluster.journal.codec import platform_codec
from cluster.journal.fold import fold
from cluster.journal.sealing import PartBounds, Sealer
from cluster.offline import backup
from cluster.offline.backup import NotRestorable, Places
from cluster.runtime.shards import machine_of
from tests.simulation.grabbing import grab_each
from tests.simulation.loop import simulated
from tests.simulation.memory_journal import MemoryJournals
from tests.simulation.system import KEYS, TENANT, System, ruled

BOUNDS = PartBounds(elements_max=50, bytes_max=1_000_000)
HOLD_MS = 60_000
KEYS_JSON = KEYS.model_dump_json().encode()
USERS = [f"u{n}" for n in range(5)]


class Bench:
    """A system with a past: open, drained, expired and passivated packets, sealed parts, a snapshot, a moved clock."""

    def __init__(self, system: System, folder: Path) -> None:
        self.system = system
        self.archive = Archive(str(folder / "archive"))
        self.backup = Archive(str(folder / "backup"))
        self.photos = Archive(str(folder / "photos"))
        self.packets: list[str] = []

    @classmethod
    async def start(cls, folder: Path, at_ms: int | None = None) -> "Bench":
        system = await System.start(**ruled("packet", passivate_after_ms=0))
        system.clock.ms = at_ms or system.clock.ms
        bench = cls(system, folder)
        await system.service.wallets.ask(CreditSandbox(TENANT, "alice", 100_000))
        for turn in range(3):
            for n in range(4):
                await bench.send(f"{turn}-{n}", 2 + n)
            await bench.grab()
            await system.settle()
            await system.tick()
            if turn < 2:
                for stream in system.settings.streams:
                    await bench.maintain(stream)
        await system.journals.advance_clock(7, offset_ms_max=7)
        return bench

    async def send(self, key: str, count: int) -> None:
        funded = await self.system.service.wallets.send(Send(TENANT, "alice", key, "lucky", 100 * count, count, ""))
        self.packets.append(funded.funding.packet_id)

    async def grab(self) -> None:
        wanted = [(packet, user) for packet in self.packets[-4:] for user in USERS[:3]]
        await grab_each(self.system.service, wanted, TENANT)

    async def maintain(self, stream: str) -> None:
        """Take a snapshot, seal behind the one before it."""
        system, journals = self.system, self.system.journals
        older = await journals.load_snapshot(stream)
        machine = machine_of(stream, system.settings, KEYS)
        record = await fold(journals, journals.codec, stream, machine)
        assert record is not None
        await journals.write_snapshot(record)
        [[reply]] = await system.directory.ask(
            [(stream, [AdoptSnapshot(*record.position, record.version, machine.work)])]
        )
        assert reply == Done()
        await journals.adopt_snapshot(stream, record.position)
        if older is not None:
            await Sealer(journals, journals.codec, self.archive, BOUNDS).run(stream, older)

    def places(self, store: MemoryJournals, archive: Archive) -> Places:
        return Places(store, store.codec, archive, self.backup, self.photos)

    async def make(self) -> backup.Backup:
        return await backup.make(self.places(self.system.journals, self.archive), KEYS_JSON, BOUNDS, HOLD_MS, print)

    async def restored(self, folder: Path) -> System:
        journals = MemoryJournals(platform_codec())
        places = self.places(journals, Archive(str(folder / "new archive")))
        await backup.restore(places, backup.read_index(self.backup), KEYS_JSON, print)
        again = System(self.system.settings, journals)
        again.clock.ms = self.system.clock.ms
        for host in self.system.members:
            again.replace(host)
        return again

    async def answers(self, system: System) -> list[Any]:
        """Ask everything that can be asked."""
        told: list[Any] = []
        for packet in self.packets:
            grabs = [Grab(packet, TENANT, user) for user in USERS[:3]]
            for command in (View(packet, TENANT), *grabs):
                told += await system.service.packets._ask(_stream_of(packet), [command])
        for user in ("alice", *USERS):
            told.append(await system.service.wallets.ask(ReadWallet(TENANT, user)))
            told.append(await system.service.wallets.ask(ReadStatement(TENANT, user, 50, None)))
        return told


@simulated
async def test_a_restored_system_answers_everything_as_the_first_did(tmp_path: Path) -> None:
    bench = await Bench.start(tmp_path)
    saved = await bench.make()
    assert any(stream.sealed for stream in saved.streams.values())
    assert any(stream.records for stream in saved.streams.values())
    before = await bench.answers(bench.system)
    again = await bench.restored(tmp_path)
    assert await bench.answers(again) == before
    report = await again.audit()
    assert report.clean
    assert report.fen("funded_fen") == (await bench.system.audit()).fen("funded_fen")
    assert await again.journals.system_id() == await bench.system.journals.system_id()
    assert await again.journals.clock_offset_ms() == 7


@simulated
async def test_a_system_whose_clock_is_past_the_year_9999_is_backed_up_and_restored_as_any(tmp_path: Path) -> None:
    bench = await Bench.start(tmp_path, 300_000_000_000_000)
    await bench.make()
    before = await bench.answers(bench.system)
    assert await bench.answers(await bench.restored(tmp_path)) == before
    assert (tmp_path / "backup" / "journal" / "day=11476-08-15").is_dir()


@simulated
async def test_what_happens_during_a_backup_is_not_in_it_and_breaks_nothing(tmp_path: Path) -> None:
    bench = await Bench.start(tmp_path)
    before = await bench.answers(bench.system)
    gate = bench.system.journals.hold("shelf", stream="", applied=True)
    making = asyncio.ensure_future(bench.make())
    await gate.reached()  # the cut was made, nothing has been read yet
    earlier = list(bench.packets)
    for n in range(4):
        await bench.send(f"later-{n}", 2)
    await bench.grab()
    await bench.system.settle()
    await bench.system.tick()  # they end and leave memory: their records are of a time after the cut
    for stream in bench.system.settings.streams:
        await bench.maintain(stream)
    gate.release()
    await making
    bench.packets = earlier
    again = await bench.restored(tmp_path)
    assert await bench.answers(again) == before
    assert (await again.audit()).clean
    for n in range(4):  # their keys and ids were never used in this past
        await again.service.wallets.send(Send(TENANT, "alice", f"later-{n}", "lucky", 200, 2, ""))


@simulated
async def test_a_restored_stream_starts_above_every_epoch_that_the_archive_has_seen(tmp_path: Path) -> None:
    bench = await Bench.start(tmp_path)
    saved = await bench.make()
    stream, last = next((name, s.last) for name, s in saved.streams.items() if s.last)
    assert last is not None
    lost = f"journal/day=2026-01-01/stream={stream}/{last[0] + 5}-0_{last[0] + 9}-3.00000000.parquet"
    Archive(str(tmp_path / "new archive")).write(lost, b"sealed by the store that was lost")
    again = await bench.restored(tmp_path)
    shell = await next(m for m in again.members.values() if stream in m._streams).shell(stream)
    assert shell.epoch == last[0] + 9 + 2


@simulated
async def test_a_backup_goes_into_an_empty_store_only(tmp_path: Path) -> None:
    bench = await Bench.start(tmp_path)
    saved = await bench.make()
    with pytest.raises(NotRestorable, match="the store is not empty"):
        await backup.restore(bench.places(bench.system.journals, bench.archive), saved, KEYS_JSON, print)
    with pytest.raises(NotRestorable, match="give another folder"):
        await bench.make()


@simulated
async def test_a_folder_without_its_last_file_is_no_backup(tmp_path: Path) -> None:
    bench = await Bench.start(tmp_path)
    await bench.make()
    bench.backup.delete(backup.INDEX)
    with pytest.raises(NotRestorable, match=r"there is no backup\.json"):
        backup.read_index(bench.backup)


@simulated
async def test_whatever_is_damaged_in_a_backup_is_named_and_makes_no_system(tmp_path: Path) -> None:
    bench = await Bench.start(tmp_path)
    saved = await bench.make()
    one = next(stream for stream in saved.streams.values() if stream.records and stream.snapshot)
    assert one.snapshot is not None
    for path in (one.parts[0].path, one.parts[-1].path, one.snapshot.path, one.records[0].path):
        whole = bench.backup.read(path)
        assert whole is not None
        bench.backup.write(path, whole[:99] + bytes([whole[99] ^ 1]) + whole[100:])
        journals = MemoryJournals(platform_codec())
        with pytest.raises((JournalCorrupt, NotRestorable), match="damaged"):
            await backup.restore(bench.places(journals, Archive(str(tmp_path / path[-9:]))), saved, KEYS_JSON, print)
        assert await journals.system_id() == ""
        bench.backup.write(path, whole)


@simulated
async def test_a_restore_whose_balances_are_others_is_no_system(tmp_path: Path) -> None:
    bench = await Bench.start(tmp_path)
    saved = msgspec.structs.replace(await bench.make(), balances_sha256="0" * 64)
    journals = MemoryJournals(platform_codec())
    with pytest.raises(NotRestorable, match="the balances are not those of the backup"):
        await backup.restore(bench.places(journals, Archive(str(tmp_path / "new"))), saved, KEYS_JSON, print)
    assert await journals.system_id() == ""


@simulated
async def test_a_backup_holds_trims_off_while_it_reads_and_not_longer(tmp_path: Path) -> None:
    bench = await Bench.start(tmp_path)
    gate = bench.system.journals.hold("read", applied=True)
    making = asyncio.ensure_future(bench.make())
    await gate.reached()
    assert bench.system.journals.held
    gate.release()
    await making
    assert not bench.system.journals.held


@simulated
async def test_the_manifest_goes_with_the_backup_so_sealing_goes_on_behind_it(tmp_path: Path) -> None:
    bench = await Bench.start(tmp_path)
    saved = await bench.make()
    again = await bench.restored(tmp_path)
    for stream, one in saved.streams.items():
        assert await manifest_of(again.journals, stream) == one.parts[: one.sealed]
        if one.last is not None:
            found = await again.journals.last_position(stream)
            assert found == Position(one.last[0] + 1, 0)


def _stream_of(packet_id: str) -> str:
    place = parse_packet_id(packet_id)
    assert place is not None
    return packet_stream(place.packet_index)


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@simulated
async def test_whole_photos_go_with_a_backup_also_those_of_the_moment_before_its_cut(tmp_path: Path) -> None:
    bench = await Bench.start(tmp_path)
    whole = {f"{TENANT}/one/{name}": name.encode() for name in ("blurred-1.jpg", "clear-1.jpg", "photo.json")}
    late = {path.replace("one", "two"): content for path, content in whole.items()}
    for path, content in whole.items():
        bench.photos.write(path, content)
    for path in (f"{TENANT}/torn/clear-1.jpg", f"{TENANT}/one/.photo.json.77", ".stray"):
        bench.photos.write(path, b"of an upload that died")
    gate = bench.system.journals.hold("shelf", stream="")
    making = asyncio.ensure_future(bench.make())
    await gate.reached()
    for path, content in late.items():
        bench.photos.write(path, content)
    gate.release()
    saved = await making
    assert (len(saved.photos), saved.photo_files) == (1, len(whole | late))

    bench.photos = Archive(str(tmp_path / "new photos"))
    await bench.restored(tmp_path)
    assert files_in(tmp_path / "new photos") == whole | late
    bench.backup.write(f"photos/{TENANT}/two/clear-1.jpg", b"another")
    with pytest.raises(NotRestorable, match=r"photos/wechat/two/clear-1\.jpg of the backup is damaged"):
        await bench.restored(tmp_path / "again")


@simulated
async def test_a_backup_that_knows_of_no_photos_is_restored_too(tmp_path: Path) -> None:
    bench = await Bench.start(tmp_path)
    saved = msgspec.to_builtins(await bench.make())
    assert (saved.pop("photos"), saved.pop("photo_files")) == ([], 0)
    bench.backup.write(backup.INDEX, msgspec.json.encode(saved))
    assert (await (await bench.restored(tmp_path)).audit()).clean
