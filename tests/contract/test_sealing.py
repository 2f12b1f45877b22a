"""Sealing: the past moves from the store to the archive, and wherever it is interrupted nothing is lost."""

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import pytest_asyncio

from actors.kernel.errors import JournalCorrupt, JournalUnavailable
from actors.kernel.ports import Position
from cluster.journal.archive import SCHEMA, Archive, manifest_of
from cluster.journal.sealing import PartBounds, Sealer, Sealing
from cluster.journal.snapshot import Record
from cluster.offline.stream_reader import read_everything
from tests.contract.history import PACKET, WALLET, adopt, of_the_packets, of_the_wallet, platform_store, sources, stands
from tests.contract.history import write as write_history
from tests.contract.stores import Store, Valkey, flipped

BIG = PartBounds(elements_max=1_000, bytes_max=1_000_000)
SMALL = PartBounds(elements_max=2, bytes_max=1_000_000)
_systems = itertools.count()


@pytest_asyncio.fixture(params=["memory", "valkey"])
async def ledger(request: pytest.FixtureRequest, valkey: Valkey) -> AsyncIterator[Store]:
    async with platform_store(request.param, valkey, f"sealing-{next(_systems)}") as store:
        yield store


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(str(tmp_path / "archive"))


async def with_snapshots(
    store: Store, stream: str = PACKET, days: int = 2
) -> tuple[Record, list[tuple[Position, bytes]]]:
    """Write a history with two snapshots; return the older one and every element."""
    await write_history(store, stream, of_the_packets(days) if stream == PACKET else of_the_wallet(days))
    records = await stands(store.journals, stream)
    older, newest = records[-3], records[-2]
    await adopt(store, older, newest)
    return older, [element async for element in store.journals.read(stream, None, None)]


def sealer(store: Store, archive: Archive, bounds: PartBounds = BIG) -> Sealer:
    return Sealer(store.journals, store.journals.codec, archive, bounds)


def files(archive_root: Path) -> set[str]:
    return {str(path.relative_to(archive_root)) for path in archive_root.rglob("*") if path.is_file()}


async def named(store: Store, stream: str = PACKET) -> set[str]:
    return {part.path for part in await manifest_of(store.journals, stream)}


async def read_back(store: Store, archive: Archive, stream: str = PACKET) -> list[Position]:
    """Read a stream from its first element, across the archive and the store, all of it verified."""
    return [element.position async for element in read_everything(sources(store, archive), stream)]


async def test_what_is_sealed_leaves_the_store_and_the_stream_still_reads_from_its_first_element(
    ledger: Store, archive: Archive
) -> None:
    older, elements = await with_snapshots(ledger)
    done = await sealer(ledger, archive).run(PACKET, older)
    assert done == Sealing(parts=2, trimmed=len(elements) - 2)  # a part a day
    assert [element async for element in ledger.journals.read(PACKET, None, None)] == elements[-2:]
    assert await read_back(ledger, archive) == [position for position, _ in elements]
    activated = await ledger.journals.open(PACKET).activate("next")
    assert len(activated.events) == 1


async def test_a_sealed_row_is_the_element_itself_with_the_postings_of_its_events(
    ledger: Store, archive: Archive, tmp_path: Path
) -> None:
    older, elements = await with_snapshots(ledger, WALLET)
    await sealer(ledger, archive).run(WALLET, older)
    rows: list[dict[str, Any]] = []
    for part in await manifest_of(ledger.journals, WALLET):
        assert part.path.startswith(f"journal/day={part.day}/stream={WALLET}/")
        table = pq.read_table(tmp_path / "archive" / part.path, partitioning=None)
        assert table.schema.equals(SCHEMA)
        rows += table.to_pylist()
    assert [(Position(row["epoch"], row["seq"]), row["payload"]) for row in rows] == elements[: len(rows)]
    assert [row["first_version"] for row in rows[:4]] == [None, 1, 2, 3]
    received = next(line for row in rows for line in row["lines"] if line["kind"] == "packet_refund" and line["tenant"])
    assert received == {
        "version": 4,
        "at_ms": 1_451_577_900_002,
        "kind": "packet_refund",
        "account": "change",
        "tenant": "wechat",
        "name": "sender",
        "amount_fen": 700,
        "reference": "p0",
        "number": None,
    }
    assert sum(line["amount_fen"] for row in rows for line in row["lines"]) == 0


async def test_a_part_ends_with_its_day_and_at_its_bounds(ledger: Store, archive: Archive) -> None:
    older, _ = await with_snapshots(ledger, days=3)
    await sealer(ledger, archive, SMALL).run(PACKET, older)
    parts = await manifest_of(ledger.journals, PACKET)
    assert {part.day for part in parts} == {"2015-12-31", "2016-01-01", "2016-01-02"}
    assert max(part.elements for part in parts) == 2
    assert [part.version for part in parts] == sorted(part.version for part in parts)


async def test_bytes_bound_a_part_too(ledger: Store, archive: Archive) -> None:
    older, elements = await with_snapshots(ledger, days=1)
    await sealer(ledger, archive, PartBounds(1_000, 1)).run(PACKET, older)
    parts = await manifest_of(ledger.journals, PACKET)
    assert [part.elements for part in parts] == [2, *[1] * (len(elements) - 4)]  # a fence has no day of its own


async def test_sealing_goes_on_where_it_ended(ledger: Store, archive: Archive) -> None:
    older, elements = await with_snapshots(ledger)
    assert (await sealer(ledger, archive).run(PACKET, older)).parts == 2
    assert await sealer(ledger, archive).run(PACKET, older) == Sealing(0, 0)
    newest = await ledger.journals.load_snapshot(PACKET)
    assert newest is not None
    assert await sealer(ledger, archive).run(PACKET, newest) == Sealing(1, 1)
    assert await read_back(ledger, archive) == [position for position, _ in elements]


async def test_while_a_hold_is_on_everything_is_sealed_and_nothing_is_trimmed(ledger: Store, archive: Archive) -> None:
    older, elements = await with_snapshots(ledger)
    cut = await ledger.journals.cut(60_000)
    assert await sealer(ledger, archive).run(PACKET, older) == Sealing(2, 0)
    await ledger.journals.cut(0)  # a reader's cut does not end another's hold
    assert (await sealer(ledger, archive).run(PACKET, older)).trimmed == 0
    await ledger.journals.release(cut)
    assert (await sealer(ledger, archive).run(PACKET, older)).trimmed == len(elements) - 2


class Treacherous(Archive):
    """An archive that gives back something else than was written."""

    def __init__(self, url: str, reads: int) -> None:
        super().__init__(url)
        self._good_reads = reads

    def read(self, path: str) -> bytes | None:
        self._good_reads -= 1
        content = super().read(path)
        return content if content is None or self._good_reads >= 0 else flipped(content)


@pytest.mark.parametrize("good_reads", [0, 1, 2, 3])
async def test_nothing_is_trimmed_unless_the_files_can_be_read_back(
    good_reads: int, ledger: Store, tmp_path: Path
) -> None:
    older, elements = await with_snapshots(ledger)  # two parts: read back when written, and again before the trim
    with pytest.raises(JournalCorrupt):
        await sealer(ledger, Treacherous(str(tmp_path), good_reads)).run(PACKET, older)
    assert len(await manifest_of(ledger.journals, PACKET)) == min(good_reads, 2), "what cannot be read is never named"
    assert [element async for element in ledger.journals.read(PACKET, None, None)] == elements


async def test_a_named_file_that_is_gone_keeps_its_elements_in_the_store(
    ledger: Store, archive: Archive, tmp_path: Path
) -> None:
    older, elements = await with_snapshots(ledger)
    cut = await ledger.journals.cut(60_000)
    await sealer(ledger, archive).run(PACKET, older)
    await ledger.journals.release(cut)
    gone = min(await named(ledger))
    (tmp_path / "archive" / gone).unlink()
    with pytest.raises(JournalCorrupt, match=f"1-0 is missing: the file {gone}"):
        await sealer(ledger, archive).run(PACKET, older)
    assert [element async for element in ledger.journals.read(PACKET, None, None)] == elements


async def test_a_snapshot_of_another_history_seals_nothing_behind_it(ledger: Store, archive: Archive) -> None:
    older, elements = await with_snapshots(ledger)
    with pytest.raises(JournalCorrupt, match="does not give the chain"):
        await sealer(ledger, archive).run(PACKET, older._replace(chain=bytes(32)))
    assert [element async for element in ledger.journals.read(PACKET, None, None)] == elements
    await sealer(ledger, archive).run(PACKET, older)
    with pytest.raises(JournalCorrupt, match="does not give the chain"):
        await sealer(ledger, archive).run(PACKET, older._replace(chain=bytes(32)))


async def test_a_damaged_element_is_not_sealed(ledger: Store, archive: Archive) -> None:
    older, elements = await with_snapshots(ledger)
    damaged = [(position, flipped(payload) if n == 2 else payload) for n, (position, payload) in enumerate(elements)]
    await ledger.rewrite(PACKET, lambda _: damaged)
    with pytest.raises(JournalCorrupt, match="entry 1-2"):
        await sealer(ledger, archive).run(PACKET, older)
    assert await named(ledger) == set()
    assert [element async for element in ledger.journals.read(PACKET, None, None)] == damaged


class Died(BaseException):
    """The run ends here, as by kill -9."""


class Mortal:
    """Counts the steps of a run over journals and archive, and dies before or after the step that was chosen."""

    STEPS = frozenset({"write", "read", "names", "delete", "sealed_parts", "add_sealed_parts", "trim"})

    def __init__(self, store: Store, archive: Archive, dies_at: int, *, applied: bool) -> None:
        self._left = dies_at
        self._applied = applied
        self.journals, self.archive = _Watched(store.journals, self), _Watched(archive, self)

    def step(self, *, applied: bool) -> None:
        if applied == self._applied:
            self._left -= 1
            if self._left < 0:
                raise Died


class _Watched:
    def __init__(self, behind: Any, mortal: Mortal) -> None:
        self._behind, self._mortal = behind, mortal

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._behind, name)
        if name not in Mortal.STEPS or (name == "read" and not isinstance(self._behind, Archive)):
            return method

        def call(*arguments: Any) -> Any:
            self._mortal.step(applied=False)
            answer = method(*arguments)
            self._mortal.step(applied=True)
            return answer

        async def ask(*arguments: Any) -> Any:
            self._mortal.step(applied=False)
            answer = await method(*arguments)
            self._mortal.step(applied=True)
            return answer

        return ask if asyncio.iscoroutinefunction(method) else call


@pytest.mark.parametrize("applied", [False, True])
async def test_wherever_a_run_dies_nothing_is_lost_and_the_next_one_goes_on(
    applied: bool, ledger: Store, archive: Archive, tmp_path: Path
) -> None:
    older, elements = await with_snapshots(ledger, days=1)
    everything = [position for position, _ in elements]
    for dies_at in itertools.count():
        mortal = Mortal(ledger, archive, dies_at, applied=applied)
        try:
            await Sealer(mortal.journals, ledger.journals.codec, mortal.archive, SMALL).run(PACKET, older)  # type: ignore[arg-type]
        except Died:
            assert await read_back(ledger, archive) == everything, f"after the death at step {dies_at}"
        else:
            break
    assert dies_at >= 3, "each run went on where the one before it had died"
    assert await read_back(ledger, archive) == everything
    assert files(tmp_path / "archive") == await named(ledger)
    assert [position async for position, _ in ledger.journals.read(PACKET, None, None)] == everything[-2:]


async def test_of_two_runs_at_once_one_loses_and_takes_its_files_away(
    ledger: Store, archive: Archive, tmp_path: Path
) -> None:
    older, elements = await with_snapshots(ledger, days=3)
    runs = [sealer(ledger, archive, bounds).run(PACKET, older) for bounds in (SMALL, BIG, PartBounds(3, 1_000))]
    done = await asyncio.gather(*runs)
    assert sum(one.parts for one in done) == len(await manifest_of(ledger.journals, PACKET))
    await sealer(ledger, archive).run(PACKET, older)  # whoever was last goes on to the end
    assert await read_back(ledger, archive) == [position for position, _ in elements]
    assert files(tmp_path / "archive") >= await named(ledger)


async def test_a_zombie_that_wakes_up_with_a_written_file_adds_nothing_and_its_file_goes(
    ledger: Store, archive: Archive, tmp_path: Path
) -> None:
    older, elements = await with_snapshots(ledger)
    journals = ledger.journals
    frozen, overtaken = asyncio.Event(), asyncio.Event()

    class Late:
        """The store as the zombie sees it: it was frozen just before it could add its file to the manifest."""

        def __getattr__(self, name: str) -> Any:
            return getattr(journals, name)

        async def add_sealed_parts(self, stream: str, known: int, parts: Sequence[bytes]) -> bool:
            frozen.set()
            await overtaken.wait()
            return await journals.add_sealed_parts(stream, known, parts)

    zombie = asyncio.create_task(Sealer(Late(), journals.codec, archive, SMALL).run(PACKET, older))
    await frozen.wait()
    await sealer(ledger, archive, BIG).run(PACKET, older)
    overtaken.set()
    assert await zombie == Sealing(0, 0)
    assert files(tmp_path / "archive") == await named(ledger)
    assert await read_back(ledger, archive) == [position for position, _ in elements]


async def test_a_file_that_a_rival_may_still_add_is_never_swept(
    ledger: Store, archive: Archive, tmp_path: Path
) -> None:
    older, elements = await with_snapshots(ledger, days=1)
    beyond = f"journal/day=2015-12-31/stream={PACKET}/{elements[-1][0]}_9-9.00000000.parquet"
    passed = f"journal/day=2015-12-31/stream={PACKET}/1-1_1-2.00000000.parquet"
    draft = f"journal/day=2015-12-31/stream={PACKET}/.1-0_1-2.00000000.parquet.4711"
    for path in (beyond, passed, draft):
        archive.write(path, b"of a run that died, or lives")
    await sealer(ledger, archive).run(PACKET, older)
    assert files(tmp_path / "archive") == await named(ledger) | {beyond}


async def test_the_same_elements_give_the_same_file(ledger: Store, archive: Archive, tmp_path: Path) -> None:
    older, _ = await with_snapshots(ledger)
    await sealer(ledger, archive).run(PACKET, older)
    for part in await manifest_of(ledger.journals, PACKET):
        content = (tmp_path / "archive" / part.path).read_bytes()
        assert hashlib.sha256(content).digest() == part.sha256
        assert part.sha256.hex()[:8] in part.path


async def test_an_archive_that_cannot_be_written_trims_nothing(ledger: Store, tmp_path: Path) -> None:
    older, elements = await with_snapshots(ledger)
    (tmp_path / "archive").write_text("a file where the folder should be")
    with pytest.raises(JournalUnavailable, match="archive"):
        await sealer(ledger, Archive(str(tmp_path / "archive"))).run(PACKET, older)
    assert [element async for element in ledger.journals.read(PACKET, None, None)] == elements
