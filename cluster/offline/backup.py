"""Backup: one instant of a whole system in a folder (or at any pyarrow.fs URL), and a system made of it again.

Journals only grow, so noting where every stream stands in ONE step of the store is the image; what stands up to there
is then read at leisure, while a hold keeps trims and dropped snapshots off. What was answered later is not in it.

| file | holds |
|---|---|
| `backup.unfinished` | written first and deleted at the end: nobody else writes there meanwhile |
| `backup.json` | `Backup`: written last, so a folder without it is not a backup |
| `journal/…` | every element of every stream, in parts as an archive has them: copied, or sealed for this |
| `snapshots/<stream>.snapshot` | the snapshot that activations start from |
| `records/<stream>/<n>.parquet` | what left memory, as the store keeps it: `id` string, `record` binary, never null |
| `photos/…` | every file of every photo that is kept in a folder; those at a URL stay there |
| `photos-<n>.parquet` | what those files are: `path` string, `sha256` binary, never null |
| `keys.json` | the platform's keys (0600 in a folder): without them nothing that is open can go on. Guard the folder |

A restore goes into an empty store and is a system only when its last step is done. It checks every element's chain and
every file's SHA-256, adds up all lines again (the balances must be those of the backup), and starts every stream above
each epoch that is known here or in the archive it goes on with.
"""

import contextlib
import hashlib
import io
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Literal, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from actors.kernel.errors import JournalCorrupt, OperatingFailure
from actors.kernel.ports import Position
from actors.kinds import streams_of
from cluster.config import KEYS_FILE, keys_in
from cluster.journal.archive import Archive, SealedPart, end_of, manifest_of, read_exactly, verify_part
from cluster.journal.codec import Codec, following
from cluster.journal.sealing import PartBounds, Sealer
from cluster.journal.side_store import StreamCut, version_of
from cluster.journal.snapshot import READ_CHUNK
from cluster.journal.snapshot import decode_record as decode_snapshot
from cluster.journal.store import Store
from cluster.keys import check_keys, compare, fingerprints, keep_keys
from cluster.local.secret_files import read_private
from cluster.offline.audit import audit_of, sum_stream
from cluster.offline.stream_reader import Sources

INDEX, CLAIM = "backup.json", "backup.unfinished"
PHOTO = "photo.json"
PHOTO_DEPTH = 3
"""Of a photo's file: tenant, photo id, name."""
_STREAM = re.compile(r"[a-z]+-[0-9]{3,4}")
RECORD, PICTURE = ("id", "record"), ("path", "sha256")
RECORDS_MAX = 50_000
"""Records of what left memory, or files of photos, told by one file, and in memory."""

ELEMENTS_MAX = 256
"""Elements put back in one step of the store."""

RESTORER = "restore"
"""The host that the fence of a restore names."""

Report = Callable[[str], None]


class NotRestorable(OperatingFailure):
    """The backup cannot be restored there. The message says what to do."""


class File(msgspec.Struct, frozen=True):
    """One file of a backup."""

    path: str
    sha256: bytes


class StreamBackup(msgspec.Struct, frozen=True):
    """One stream: `parts` hold it from its first element to `last`; the first `sealed` of them were in the archive."""

    last: tuple[int, int] | None
    version: int
    sealed: int
    parts: list[SealedPart]
    snapshot: File | None
    snapshot_at: tuple[int, int] | None
    records: list[File]


class Backup(msgspec.Struct, frozen=True):
    """What a backup holds. `made_ms` is wall time, for people; nothing is decided by it."""

    format: Literal[1]
    system: str
    layout: dict[str, dict[str, int]]
    made_ms: int
    clock_offset_ms: int
    balances_sha256: str
    """Of every balance, as `hongbao audit --offline` tells it."""
    streams: dict[str, StreamBackup]
    photos: list[File] = []
    """What tells of the files of photos."""
    photo_files: int = 0
    keys: dict[str, str] = {}
    """Fingerprints of the platform's keys, see `cluster.keys`; of an older backup none."""


class _BackupRest:
    """A stream's journal up to the cut, as a sealer sees it: the manifest so far, to which only this backup adds."""

    def __init__(self, store: Store, parts: Sequence[SealedPart], last: Position) -> None:
        self.parts = list(parts)
        self._store = store
        self._last = last

    async def sealed_parts(self, stream: str) -> list[bytes]:
        """Return the manifest."""
        return [part.encode() for part in self.parts]

    async def add_sealed_parts(self, stream: str, known: int, parts: Sequence[bytes]) -> bool:
        """Take parts in."""
        assert known == len(self.parts), "nobody else adds to a backup"
        self.parts += [msgspec.msgpack.decode(part, type=SealedPart) for part in parts]
        return True

    async def last_position(self, stream: str) -> Position | None:
        """Return where the cut was."""
        return self._last

    async def trim(self, stream: str, through: Position) -> int:
        """Do nothing: a backup only reads."""
        return 0

    def read(
        self, stream: str, after: Position | None, through: Position | None, chunk: int = READ_CHUNK
    ) -> AsyncIterator[tuple[Position, bytes]]:
        """Read the live stream."""
        return self._store.read(stream, after, through, chunk)

    async def load_snapshot(self, stream: str, position: Position | None = None) -> None:
        """Have none: a sealer needs none."""
        return None


class Places(NamedTuple):
    """Where a system's elements are, and where the backup goes or is."""

    store: Store
    codec: Codec
    archive: Archive
    backup: Archive
    photos: Archive | None = None
    """Where photos are kept; None: they are not part of a backup."""


async def make(places: Places, keys: bytes, bounds: PartBounds, hold_ms: int, report: Report) -> Backup:
    """Write a backup of the system as it stands now; it may run on.

    `keys`: the system's keys file. Raises WrongKeys, ValueError: it is not, and nothing was written;
    JournalUnavailable, JournalCorrupt: the folder is not a backup, delete it and try again.
    """
    store = places.store
    own_keys = keys_in(keys, KEYS_FILE)
    await check_keys(store, own_keys)
    if places.backup.read(INDEX) is not None:
        raise NotRestorable("there is a backup already; give another folder")
    if not places.backup.create(CLAIM, uuid.uuid4().hex.encode()):
        raise NotRestorable("another backup is being written there, or was and did not end; give another folder")
    cut = await store.cut(hold_ms)
    try:
        streams = {}
        for stream, stood in cut.streams.items():
            report(f"reading {stream}")
            streams[stream] = await _save(places, stream, stood, bounds)
        report("adding up every line")
        digest = await _digest(places, cut.streams)
    finally:
        await store.release(cut)
    report("reading photos")  # after the cut: what was paid for by then is there, and stays as it is
    photos, photo_files = _save_photos(places.photos, places.backup) if places.photos else ([], 0)
    made = Backup(
        format=1,
        system=await store.system_id(),
        layout={kind: dict(pools) for kind, pools in (await store.layout()).items()},
        made_ms=time.time_ns() // 1_000_000,
        clock_offset_ms=cut.clock_offset_ms,
        balances_sha256=digest,
        streams=streams,
        photos=photos,
        photo_files=photo_files,
        keys=fingerprints(own_keys),
    )
    places.backup.write(KEYS_FILE, keys)
    places.backup.write(INDEX, msgspec.json.format(msgspec.json.encode(made)))
    places.backup.delete(CLAIM)
    return made


async def _digest(places: Places, cuts: Mapping[str, StreamCut]) -> str:
    """Add up every line of the system up to a cut."""
    sources = Sources(places.store, places.codec, places.archive)
    summed = [await sum_stream(sources, stream, cut) for stream, cut in sorted(cuts.items())]
    return audit_of(summed)[0].balances_sha256


async def _save(places: Places, stream: str, stood: StreamCut, bounds: PartBounds) -> StreamBackup:
    """Write one stream up to the cut."""
    parts = (await manifest_of(places.store, stream))[: stood.sealed]
    for part in parts:
        places.backup.write(part.path, read_exactly(places.archive, stream, part))
    if stood.last is None:
        return StreamBackup(None, 0, 0, [], None, None, [])
    rest = _BackupRest(places.store, parts, stood.last)
    if end_of(parts).position != stood.last:
        await Sealer(rest, places.codec, places.backup, bounds).seal(stream, list(parts), stood.last)
    snapshot = None
    if stood.snapshot is not None:
        record = await places.store.load_snapshot(stream, stood.snapshot)
        assert record is not None, "a named snapshot is found or reported missing"
        snapshot = _write(places.backup, f"snapshots/{stream}.snapshot", record.encode())
    version = end_of(rest.parts).version
    records = [file async for file in _save_records(places, stream, version)]
    return StreamBackup(stood.last, version, len(parts), rest.parts, snapshot, stood.snapshot, records)


async def _save_records(places: Places, stream: str, version: int) -> AsyncIterator[File]:
    """Write what had left memory by the cut: a later end is not part of this past."""
    held: dict[str, bytes] = {}
    count = 0
    async for name, record in places.store.kept_records(stream):
        if version_of(record) <= version:
            held[name] = record
        if len(held) == RECORDS_MAX:
            yield _write_pairs(places.backup, f"records/{stream}/{count:06d}.parquet", *RECORD, held)
            held, count = {}, count + 1
    if held:
        yield _write_pairs(places.backup, f"records/{stream}/{count:06d}.parquet", *RECORD, held)


def _save_photos(photos: Archive, backup: Archive) -> tuple[list[File], int]:
    """Write the files of photos, and what tells of them; return the latter, and how many files there are."""
    told: list[File] = []
    count = 0
    paths = _files_of(photos)
    while held := list(islice(paths, RECORDS_MAX)):
        pairs = {path: _write(backup, f"photos/{path}", _photo(photos, path)).sha256 for path in held}
        told.append(_write_pairs(backup, f"photos-{len(told):06d}.parquet", *PICTURE, pairs))
        count += len(held)
    return told, count


def _photo(photos: Archive, path: str) -> bytes:
    content = photos.read(path)
    assert content is not None, "a photo's files stay"
    return content


def _files_of(photos: Archive) -> Iterator[str]:
    """Name the files of every whole photo, its pictures before what makes it one."""
    for tenant in photos.listed():
        for photo_id in photos.listed(tenant):
            names = photos.listed(f"{tenant}/{photo_id}")
            if PHOTO in names:  # written last, so what is listed from now on is all there is of it
                names = [name for name in photos.listed(f"{tenant}/{photo_id}") if not name.startswith(".")]
                yield from (f"{tenant}/{photo_id}/{name}" for name in sorted(names, key=PHOTO.__eq__))


def _write_pairs(backup: Archive, path: str, name: str, value: str, pairs: dict[str, bytes]) -> File:
    table = pa.table({name: pa.array(pairs, pa.string()), value: pa.array(pairs.values(), pa.binary())})
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="ZSTD")
    return _write(backup, path, sink.getvalue())


def _write(backup: Archive, path: str, content: bytes) -> File:
    backup.write(path, content)
    return File(path, hashlib.sha256(content).digest())


def read_index(backup: Archive) -> Backup:
    """Return what a backup holds. Raises NotRestorable: it is not a backup."""
    content = backup.read(INDEX)
    if content is None:
        raise NotRestorable(f"there is no {INDEX}; give the folder or URL that `hongbao backup` wrote")
    try:
        saved = msgspec.json.decode(content, type=Backup)
    except msgspec.MsgspecError as error:
        raise NotRestorable(f"{INDEX} is damaged: {error}") from error
    _check_names(saved)
    return saved


def _check_names(saved: Backup) -> None:
    """Raise NotRestorable if an index names what `make` never does: anybody may have written it."""
    named = [(name, _STREAM.fullmatch(name) is not None) for name in saved.streams]
    if saved.streams.keys() != streams_of(saved.layout).keys():
        named.append(("another layout than its streams'", False))
    for stream, one in saved.streams.items():
        named += [(part.path, part.path == part.path_in(stream) != "") for part in one.parts]
        named += [(file.path, file.path == f"records/{stream}/{n:06d}.parquet") for n, file in enumerate(one.records)]
        if one.snapshot is not None:
            named.append((one.snapshot.path, one.snapshot.path == f"snapshots/{stream}.snapshot"))
    named += [(file.path, file.path == f"photos-{n:06d}.parquet") for n, file in enumerate(saved.photos)]
    for name, is_ours in named:
        if not is_ours:
            raise NotRestorable(f"{INDEX} is not of a backup: it names {name!r}, which `hongbao backup` never does")


async def restore(places: Places, saved: Backup, keys: bytes, report: Report) -> None:
    """Make the system of a backup, with its keys file, in an empty store.

    Dying anywhere leaves a store that is not a system yet: empty it and restore again.
    Raises NotRestorable, WrongKeys, JournalUnavailable, JournalCorrupt naming the damaged element or file.
    """
    store = places.store
    own_keys = keys_in(keys, f"{KEYS_FILE} of the backup")
    compare(saved.keys, own_keys)
    if not await store.is_empty():
        raise NotRestorable("the store is not empty; restore into a new data folder or an empty store")
    for stream, one in saved.streams.items():
        report(f"writing {stream}")
        await _put_back(places, stream, one)
    report("adding up every line")
    cuts = {name: StreamCut(Position(*s.last) if s.last else None, None, s.sealed) for name, s in saved.streams.items()}
    found = await _digest(places, cuts)
    if found != saved.balances_sha256:
        raise NotRestorable(f"the balances are not those of the backup ({found}); nothing was made of it")
    if saved.photos:
        report("writing photos")
        _put_photos_back(places, saved.photos)
    if saved.clock_offset_ms:
        await store.advance_clock(saved.clock_offset_ms, offset_ms_max=saved.clock_offset_ms)
    await keep_keys(store, own_keys)
    await store.create_system(saved.layout, saved.system)


async def _put_back(places: Places, stream: str, saved: StreamBackup) -> None:
    store = places.store
    if saved.last is None:
        return
    chain = end_of([]).chain(places.codec, stream)
    for number, part in enumerate(saved.parts):
        content = read_exactly(places.backup, stream, part)
        verify_part(places.codec, stream, part, content, chain)
        if number < saved.sealed:
            _put(places.archive, part.path, content)
            await store.add_sealed_parts(stream, number, [part.encode()])
            continue
        table = pq.ParquetFile(pa.BufferReader(content)).read(columns=["epoch", "seq", "payload"])
        elements = [(Position(row["epoch"], row["seq"]), row["payload"]) for row in table.to_pylist()]
        for at in range(0, len(elements), ELEMENTS_MAX):
            await store.put_elements(stream, elements[at : at + ELEMENTS_MAX])
    last = Position(*saved.last)
    if chain.position != last:
        raise JournalCorrupt(f"journal {stream}: the backup ends at {chain.position}, not at {last}")
    # Above everything that the lost store may have sealed after the backup was made.
    epoch = max(last.epoch, places.archive.epoch_max(stream)) + 1
    fence = following(places.codec.fence(RESTORER), last)
    await store.put_elements(stream, [(Position(epoch, 0), fence)])
    if saved.snapshot is not None and saved.snapshot_at is not None:
        position = Position(*saved.snapshot_at)
        await store.write_snapshot(decode_snapshot(stream, position, _read(places.backup, saved.snapshot)))
        await store.adopt_snapshot(stream, position)
    for file in saved.records:
        pairs = _read_pairs(places.backup, file, *RECORD)
        for at in range(0, len(pairs), ELEMENTS_MAX):
            await store.put_records(stream, dict(pairs[at : at + ELEMENTS_MAX]))


def _put_photos_back(places: Places, told: Sequence[File]) -> None:
    assert places.photos is not None, "a restore has a place for photos"
    for file in told:
        for path, sha256 in _read_pairs(places.backup, file, *PICTURE):
            if len(path.split("/")) != PHOTO_DEPTH or "/." in f"/{path}":
                raise NotRestorable(f"{file.path} names {path!r}, which does not belong to a photo")
            _put(places.photos, path, _read(places.backup, File(f"photos/{path}", sha256)))


def _put(place: Archive, path: str, content: bytes) -> None:
    """Write a file where there is none of that name, or the same: what another system keeps there stays."""
    if not place.create(path, content) and place.read(path) != content:
        raise NotRestorable(f"another file {path} is where the restored one is to be; give a place of its own")


def _read_pairs(backup: Archive, file: File, name: str, value: str) -> list[tuple[str, bytes]]:
    table = pq.ParquetFile(pa.BufferReader(_read(backup, file))).read()
    return list(zip(table[name].to_pylist(), table[value].to_pylist(), strict=True))


def _read(backup: Archive, file: File) -> bytes:
    content = backup.read(file.path)
    if content is None:
        raise NotRestorable(f"the file {file.path} is missing from the backup")
    if hashlib.sha256(content).digest() != file.sha256:
        raise NotRestorable(f"the file {file.path} of the backup is damaged: its SHA-256 differs")
    return content


def keys_of(backup: Archive) -> bytes:
    """Return the keys file of a backup. Raises NotRestorable, PermissionError: others may use it."""
    with contextlib.suppress(FileNotFoundError):
        content = backup.read(KEYS_FILE) if backup.local is None else read_private(backup.local / KEYS_FILE)
        if content is not None:
            return content
    raise NotRestorable(
        f"there is no {KEYS_FILE} in the backup; without the platform's keys nothing that is open can go on"
    )
