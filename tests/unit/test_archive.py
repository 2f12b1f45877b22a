"""Archive: what maintenance does to a system's streams, and the parts that need no store to be judged."""

import asyncio
import logging
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from actors.kernel.errors import JournalUnavailable
from actors.kernel.messages import Refused
from actors.kernel.ports import Position
from actors.kinds import KINDS
from actors.ledger.transfer import Settled
from actors.packet.events import OpeningReturned
from actors.refusals import Refusal
from actors.transfers.ids import packet_stream
from actors.wallet.commands import CreditSandbox, ReadWallet, Send
from actors.wallet.events import SandboxCredited
from cluster.config import load
from cluster.journal.archive import Archive, manifest_of, struct_of
from cluster.journal.posting_rows import lines_of
from cluster.journal.sealed_names import first_of
from cluster.journal.sealing import Sealing
from cluster.offline.stream_reader import Sources
from cluster.offline.verify import verify
from cluster.runtime.maintenance import PAUSE_S_MAX, HostMaintenance, maintain
from tests.simulation.grabbing import grab_each
from tests.simulation.loop import simulated
from tests.simulation.system import KEYS, TENANT, System
from tests.unit.samples import NOW_MS, WALLET, funding

STREAM = packet_stream(0)


def test_a_returned_opening_keeps_the_numbers_of_both_its_transfers() -> None:
    returned = OpeningReturned(WALLET, funding("p1", 4), 0, 9)
    assert {line.account: line.number for line in lines_of(KINDS["packet"], [returned], 1)} == {
        "received": 4,
        "sent": 9,
    }


def test_versions_count_the_events_of_an_entry() -> None:
    events = [SandboxCredited(TENANT, "u", 5, NOW_MS), Settled(STREAM, 3), SandboxCredited(TENANT, "v", 5, NOW_MS)]
    assert [line.version for line in lines_of(KINDS["wallet"], events, 4)] == [4, 4, 6, 6]
    assert len(struct_of([])) == 0


@pytest.mark.parametrize(
    ("path", "first"),
    [
        ("journal/day=2016-01-01/stream=packet-000/3-14_4-1.00ff.parquet", Position(3, 14)),
        ("journal/day=2016-01-01/stream=packet-000/.3-14_4-1.00ff.parquet.4711", Position(3, 14)),
        ("journal/day=2016-01-01/stream=packet-000/README", None),
    ],
)
def test_a_file_tells_its_first_position(path: str, first: Position | None) -> None:
    assert first_of(path) == first


def test_a_place_that_cannot_be_one_is_named() -> None:
    with pytest.raises(ValueError, match="nowhere://x cannot hold an archive"):
        Archive("nowhere://x")


def test_an_archive_by_url_is_the_same_as_a_folder(tmp_path: Path) -> None:
    folder, url = Archive(str(tmp_path)), Archive(tmp_path.as_uri())
    (tmp_path / "journal/day=2016-01-01/stream=packet-000").mkdir(parents=True)
    path = "journal/day=2016-01-01/stream=packet-000/1-0_1-1.00.parquet"
    url.write(path, b"whole")
    assert folder.read(path) == url.read(path) == b"whole"
    assert folder.names("packet-000", "2016-01-01") == url.names("packet-000", "2016-01-01") == [path]
    url.delete(path)
    url.delete(path)
    assert folder.read(path) is None
    assert folder.names("packet-000", "2016-01-02") == []


async def busy(system: System, key: str) -> str:
    """Let a packet be sent and taken; return its id."""
    await system.service.wallets.ask(CreditSandbox(TENANT, "alice", 10_000))
    funded = await system.service.wallets.send(Send(TENANT, "alice", key, "lucky", 1_000, 5, ""))
    packet_id: str = funded.funding.packet_id
    await grab_each(system.service, [(packet_id, f"u{i}") for i in range(5)], TENANT)
    await system.settle()
    return packet_id


async def one_stream_each() -> System:
    return await System.start(packet={"streams": 1}, wallet={"streams": 1})


@simulated
async def test_a_tended_stream_keeps_two_snapshots_and_the_store_only_what_lies_behind_the_older(
    tmp_path: Path,
) -> None:
    system, archive = await one_stream_each(), Archive(str(tmp_path))
    done = []
    for n in range(3):
        packet_id = await busy(system, f"k{n}")
        done.append(await maintain(system.journals, system.directory, system.settings, KEYS, STREAM, archive))
    assert done[0] == Sealing(0, 0)
    assert done[1] is not None
    assert done[1].trimmed > 0
    older, newest = await system.journals.stored_snapshots(STREAM)
    live = [position async for position, _ in system.journals.read(STREAM, None, None)]
    assert live[0] > older
    assert newest in live
    assert (await manifest_of(system.journals, STREAM))[-1].last == older
    sources = Sources(system.journals, system.journals.codec, archive)
    assert (await verify(sources, [STREAM])).whole
    system.replace("packet-shard-0")
    [again] = await grab_each(system.service, [(packet_id, "u1")], TENANT)
    assert again.replayed
    assert (await system.audit()).clean


@simulated
async def test_without_an_archive_snapshots_are_taken_and_nothing_is_trimmed() -> None:
    system = await one_stream_each()
    for n in range(3):
        await busy(system, f"k{n}")
        assert await maintain(system.journals, system.directory, system.settings, KEYS, STREAM, None) == Sealing(0, 0)
    live = [position async for position, _ in system.journals.read(STREAM, None, None)]
    assert live[0] == (1, 0)
    assert len(await system.journals.stored_snapshots(STREAM)) == 2


@simulated
async def test_nothing_is_sealed_unless_the_stream_adopts_the_snapshot(tmp_path: Path) -> None:
    system, archive = await one_stream_each(), Archive(str(tmp_path))
    await busy(system, "k")
    await maintain(system.journals, system.directory, system.settings, KEYS, STREAM, archive)
    await busy(system, "k2")

    class Deaf:
        async def ask(self, groups: Any) -> Any:
            return [[Refused(Refusal.SHARD_UNAVAILABLE)]]

    assert await maintain(system.journals, Deaf(), system.settings, KEYS, STREAM, archive) is None
    assert await manifest_of(system.journals, STREAM) == []
    assert (await system.service.wallets.ask(ReadWallet(TENANT, "alice"))).available_fen == 8_000


@simulated
async def test_one_task_at_a_time_takes_everything_that_is_due_and_failures_make_it_pause(
    caplog: pytest.LogCaptureFixture,
) -> None:
    started: list[tuple[float, list[str]]] = []
    endings: list[asyncio.Future[list[str]]] = []

    async def start(due: list[str]) -> list[str]:
        started.append((asyncio.get_running_loop().time(), due))
        endings.append(asyncio.get_running_loop().create_future())
        return await endings[-1]

    maintenance = HostMaintenance(start)
    maintenance.offer([])
    maintenance.offer(["a", "b"])
    await asyncio.sleep(0)
    maintenance.offer(["a", "b", "c"])
    await asyncio.sleep(0)
    assert [due for _, due in started] == [["a", "b"]]
    with caplog.at_level(logging.ERROR):
        for _ in range(8):
            endings[-1].set_result(["a: the archive did not answer"])
            count = len(started)
            while len(started) == count:
                maintenance.offer(["a"])
                await asyncio.sleep(0.5)
    pauses = [round(later - earlier) for (earlier, _), (later, _) in pairwise(started)]
    assert pauses == sorted(pauses)
    assert pauses[1] <= 3
    assert PAUSE_S_MAX <= pauses[-1] <= PAUSE_S_MAX + 2
    assert "not maintained: a: the archive did not answer" in caplog.text
    endings[-1].set_result([])
    await asyncio.sleep(0)
    maintenance.offer(["a"])
    await asyncio.sleep(0)
    assert started[-1][0] - started[-2][0] < 2, "after a good end nothing pauses"


def test_an_unavailable_archive_is_an_operating_failure(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    archive = Archive(str(tmp_path / "f"))
    with pytest.raises(JournalUnavailable):
        archive.write("journal/x", b"")


def test_an_archive_is_named_so_that_every_process_finds_the_same() -> None:
    with pytest.raises(ValueError, match="an absolute folder or a URL"):
        load(archive_url="archive")
    assert load(archive_url="/a").archive_url == "/a"
    assert load(archive_url="s3://bucket/hongbao").archive_url == "s3://bucket/hongbao"
