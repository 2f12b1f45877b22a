"""Archive: sealed parts of journals as Parquet files, on anything that pyarrow.fs reaches: a folder, S3.

A part holds consecutive elements of one stream and one day: `journal/day=YYYY-MM-DD/stream=packet-003/<first>_<last>.
<8 hex digits of its SHA-256>.parquet`. Its name says its content, so two writers of one name write the same bytes. The
day is that of the greatest stamp so far, UTC; what comes before the first stamp belongs to the first stamp's day.
What is sealed is said by the manifest in the store alone: an unnamed file is nobody's.

One row for each element, fences too:

| column | type | unit, meaning | null |
|---|---|---|---|
| epoch | int64 | of the element's id | never |
| seq | int64 | of the element's id; 0: a fence | never |
| first_version | int64 | version of its first event, counted from 1 | a fence |
| payload | binary, not compressed | the element's exact bytes: a flipped one harms one element | never |
| lines | list of struct | the postings of its events, in order; empty: none | never |
| lines.version | int64 | version of the event | never |
| lines.at_ms | int64 | Unix ms | never |
| lines.kind | string | `cluster.journal.posting_rows` | never |
| lines.account | string | first word of the account (`actors.ledger.accounts`) | never |
| lines.tenant | string | whose, if it is a user's | no user's account |
| lines.name | string | whose, the last word of it: a user, a stream, … | an account that is nobody's |
| lines.amount_fen | int64 | fen, signed; the lines of an event sum to 0 | never |
| lines.reference | string | what it is about, e.g. a hold's id | the event names nothing |
| lines.number | int64 | of the transfer between two books | no transit account |
"""

import contextlib
import hashlib
import io
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import msgspec
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from actors.kernel.errors import JournalCorrupt, JournalUnavailable, OperatingFailure
from actors.kernel.ports import Event, Position
from actors.kinds import kind_of
from cluster.instants import day_of
from cluster.journal.codec import CHAIN_START, Chain, Codec, corrupt
from cluster.journal.posting_rows import PostingRow, lines_of
from cluster.journal.sealed_names import folder_of, last_in, path_of
from cluster.journal.snapshot import Elements, Verified

ROW_GROUP_ELEMENTS = 4_096
_LINE = pa.struct(
    [
        pa.field("version", pa.int64(), nullable=False),
        pa.field("at_ms", pa.int64(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("account", pa.string(), nullable=False),
        pa.field("tenant", pa.string()),
        pa.field("name", pa.string()),
        pa.field("amount_fen", pa.int64(), nullable=False),
        pa.field("reference", pa.string()),
        pa.field("number", pa.int64()),
    ]
)
SCHEMA = pa.schema(
    [
        pa.field("epoch", pa.int64(), nullable=False),
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("first_version", pa.int64()),
        pa.field("payload", pa.binary(), nullable=False),
        pa.field("lines", pa.list_(pa.field("element", _LINE, nullable=False)), nullable=False),
    ]
)
_WORDS = ("kind", "account", "tenant", "name", "reference")


class Stand(NamedTuple):
    """Where a stream's chain stands: after which element (None: before the first), at which version."""

    position: Position | None
    version: int
    digest: bytes

    @classmethod
    def of(cls, chain: Chain) -> "Stand":
        """Note where a chain stands now."""
        return cls(chain.position, chain.version, chain.digest)

    def chain(self, codec: Codec, stream: str) -> Chain:
        """Return a chain that stands here."""
        return Chain(codec, stream, *self)


START = Stand(None, 0, CHAIN_START)


class SealedPart(msgspec.Struct, frozen=True, array_like=True):
    """One line of the manifest. `before_version` and `chain_before` are those before the first element."""

    format: Literal[1]
    path: str
    day: str
    first: tuple[int, int]
    last: tuple[int, int]
    before_version: int
    version: int
    chain_before: bytes
    chain: bytes
    stamp_ms: int
    """The greatest stamp in the stream up to the last element."""
    elements: int
    size: int
    """Bytes of the file."""
    sha256: bytes

    @property
    def end(self) -> Stand:
        """Where the chain stands after the part's last element."""
        return Stand(Position(*self.last), self.version, self.chain)

    def path_in(self, stream: str) -> str:
        """Return the one path that it has as a part of this stream."""
        return path_of(stream, self.day, Position(*self.first), Position(*self.last), self.sha256)

    def encode(self) -> bytes:
        """Return the bytes that the manifest holds."""
        return msgspec.msgpack.encode(self)


_PARTS = msgspec.msgpack.Decoder(SealedPart)


class SealedElements(Elements, Protocol):
    """A store that also keeps manifests; both journal adapters are one."""

    async def sealed_parts(self, stream: str) -> list[bytes]:
        """Return the manifest of a stream, oldest part first. Raises JournalUnavailable."""
        ...

    async def last_position(self, stream: str) -> Position | None:
        """Return the greatest id the stream ever had. Raises JournalUnavailable."""
        ...


def end_of(parts: Sequence[SealedPart]) -> Stand:
    """Return where the chain stands after everything sealed."""
    return parts[-1].end if parts else START


async def manifest_of(journals: SealedElements, stream: str) -> list[SealedPart]:
    """Return the sealed parts of a stream, oldest first.

    Raises JournalUnavailable, JournalCorrupt: a part does not follow its predecessor.
    """
    parts: list[SealedPart] = []
    for number, packed in enumerate(await journals.sealed_parts(stream)):
        try:
            part = _PARTS.decode(packed)
        except msgspec.MsgspecError as error:
            raise JournalCorrupt(
                f"journal {stream}: sealed part {number} of the manifest is damaged: {error}"
            ) from error
        if not part.path or part.path != part.path_in(stream):
            raise corrupt(stream, Position(*part.first), f"is said to be in {part.path!r}, where no part of it is put")
        before = end_of(parts)
        if (part.before_version, part.chain_before) != (before.version, before.digest):
            raise corrupt(stream, Position(*part.first), f"does not follow sealed part {number - 1} of the manifest")
        parts.append(part)
    return parts


class NameRefused(OperatingFailure):
    """A name that leads out of its place. Nothing was read or written; look at who gave the name."""


class Archive:
    """The place of sealed files: whatever a name says, nothing outside of it is read or written.

    Every method raises JournalUnavailable if it does not answer, NameRefused.
    """

    def __init__(self, url: str) -> None:
        """`url`: a folder, which is made when something is written, or any URL that pyarrow.fs knows.

        Raises ValueError for a URL that it does not.
        """
        self._url = url
        self.local: Path | None = None
        """Its folder, if it is one on this machine."""
        if "://" not in url:
            self._fs: Any = pafs.LocalFileSystem()
            self._root = str(Path(url).absolute())
        else:
            try:
                self._fs, self._root = pafs.FileSystem.from_uri(url)
            except (pa.ArrowInvalid, OSError) as error:
                raise ValueError(f"{url} cannot hold an archive: {error}") from error
        if isinstance(self._fs, pafs.LocalFileSystem):  # also by a file URL
            self.local = Path(self._root)

    def write(self, path: str, content: bytes) -> None:
        """Write a file whole: under its name there is everything, or nothing. Durable on return."""
        with self._answering(path):
            place = self._place(path)
            if self.local is not None:
                _write_durably(self.local, path, content)
                return
            with self._fs.open_output_stream(place) as stream:
                stream.write(content)

    def create(self, path: str, content: bytes) -> bool:
        """Write a file that is not there yet; False: one is, and stays as it is.

        Of two writers at once one is first in a folder. S3 lets both write, and the later one stays.
        """
        with self._answering(path):
            self._place(path)
            if self.local is not None:
                try:
                    _write_durably(self.local, path, content, place=os.link)
                except FileExistsError:
                    return False
                return True
        if self.read(path) is not None:
            return False
        self.write(path, content)
        return True

    def opened(self, path: str) -> Any:
        """Return a file to `read` and to close, None if there is none of that name."""
        with self._answering(path):
            try:
                return self._fs.open_input_file(self._place(path))
            except FileNotFoundError:
                return None

    def read(self, path: str) -> bytes | None:
        """Return a file's content, None if there is none of that name."""
        file = self.opened(path)
        if file is None:
            return None
        with self._answering(path), file:
            return bytes(file.read())

    def names(self, stream: str, day: str) -> list[str]:
        """Return the paths of a stream's files of one day, unfinished ones too."""
        folder = folder_of(stream, day)
        return [f"{folder}/{name}" for name in self.listed(folder)]

    def listed(self, folder: str = "") -> list[str]:
        """Return the names in a folder, in order; none if it is not there, or none."""
        with self._answering(folder), contextlib.suppress(NotADirectoryError):
            selector = pafs.FileSelector(self._place(folder) if folder else self._root, allow_not_found=True)
            return sorted(found.base_name for found in self._fs.get_file_info(selector))
        return []

    def epoch_max(self, stream: str) -> int:
        """Return the greatest epoch that any file of a stream tells by its name, in a manifest or not; 0: none."""
        last = self.last_named().get(stream)
        return 0 if last is None else last.epoch

    def last_named(self) -> dict[str, Position]:
        """Return the greatest position of each stream that any file tells by its name, in a manifest or not."""
        with self._answering("journal"):
            selector = pafs.FileSelector(f"{self._root}/journal", allow_not_found=True, recursive=True)
            return last_in([found.path for found in self._fs.get_file_info(selector)])

    def delete(self, path: str) -> None:
        """Delete a file; nothing if somebody else was faster."""
        with self._answering(path), contextlib.suppress(FileNotFoundError):
            self._fs.delete_file(self._place(path))

    def _place(self, path: str) -> str:
        """Return where a name leads. Raises NameRefused: out of here, as it stands or by a link."""
        if "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
            raise NameRefused(f"{path!r} names no file in {self._url}: it leads out of it")
        if self.local is not None and not (self.local / path).resolve().is_relative_to(self.local.resolve()):
            raise NameRefused(f"{path!r} leads out of {self._url} by a link; nothing outside of it is touched")
        return f"{self._root}/{path}"

    @contextlib.contextmanager
    def _answering(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise JournalUnavailable(f"the archive {self._url} did not answer for {path}: {error}") from error


def _write_durably(root: Path, path: str, content: bytes, place: Callable[[Path, Path], None] = os.replace) -> None:
    """Write beside, flush, rename (or link), flush the folders: a crash leaves the whole file or an unfinished one."""
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{threading.get_native_id()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)  # it tells who paid whom
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    try:
        place(draft, target)
    finally:
        draft.unlink(missing_ok=True)
    for folder in (target.parent, *target.parent.parents):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if folder == root.parent:
            return


class PartRow(NamedTuple):
    """One element as a part holds it."""

    position: Position
    first_version: int | None
    payload: bytes
    lines: list[PostingRow]


def parquet_of(rows: list[PartRow]) -> bytes:
    """Return the file that holds these elements. The same rows give the same bytes."""
    leaves = [f"lines.list.element.{field.name}" for field in _LINE]
    sink = io.BytesIO()
    pq.write_table(
        table_of(rows),
        sink,
        row_group_size=ROW_GROUP_ELEMENTS,
        compression=dict.fromkeys(["epoch", "seq", "first_version", *leaves], "ZSTD") | {"payload": "NONE"},
        write_statistics=["epoch", "seq", "first_version", *leaves],
        use_dictionary=[f"lines.list.element.{name}" for name in _WORDS],
    )
    return sink.getvalue()


def table_of(rows: list[PartRow]) -> pa.Table:
    """Return the rows as a table of SCHEMA."""
    columns = [
        pa.array([row.position.epoch for row in rows], pa.int64()),
        pa.array([row.position.seq for row in rows], pa.int64()),
        pa.array([row.first_version for row in rows], pa.int64()),
        pa.array([row.payload for row in rows], pa.binary()),
        _list_of_lines(rows),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _list_of_lines(rows: list[PartRow]) -> pa.Array:
    offsets = [0]
    for row in rows:
        offsets.append(offsets[-1] + len(row.lines))
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), struct_of([line for row in rows for line in row.lines]), type=SCHEMA[4].type
    )


def struct_of(lines: list[PostingRow]) -> pa.StructArray:
    """Return lines as Arrow, one field a column."""
    columns = list(zip(*lines, strict=True)) or [()] * len(PostingRow._fields)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _LINE, strict=True)]
    return pa.StructArray.from_arrays(arrays, fields=list(_LINE))


def part_of(stream: str, rows: list[PartRow], before: Stand, after: Stand, stamp_ms: int, content: bytes) -> SealedPart:
    """Describe the file of these rows: where the chain stands before and after them, the greatest stamp so far."""
    digest = hashlib.sha256(content).digest()
    first, last, day = rows[0].position, rows[-1].position, day_of(stamp_ms)
    assert after.position == last, "a part ends with its last row"
    return SealedPart(
        format=1,
        path=path_of(stream, day, first, last, digest),
        day=day,
        first=first,
        last=last,
        before_version=before.version,
        version=after.version,
        chain_before=before.digest,
        chain=after.digest,
        stamp_ms=stamp_ms,
        elements=len(rows),
        size=len(content),
        sha256=digest,
    )


def read_exactly(archive: Archive, stream: str, part: SealedPart) -> bytes:
    """Return the content of a part's file. Raises JournalUnavailable, JournalCorrupt: it is not what was sealed."""
    content = archive.read(part.path)
    if content is None:
        raise corrupt(stream, Position(*part.first), f"is missing: the file {part.path} is not in the archive")
    if hashlib.sha256(content).digest() != part.sha256:
        raise corrupt(stream, Position(*part.first), f"or a later one in {part.path} is damaged: its SHA-256 differs")
    return content


def verify_part(codec: Codec, stream: str, part: SealedPart, content: bytes | None, chain: Chain) -> list[Verified]:
    """Check every element of a part against the chain, its columns against its payload, and the file as a whole.

    `chain` stands before the part and is moved behind it. Raises JournalCorrupt naming the first wrong element.
    """
    table = _table_in(stream, part, content)
    verified: list[Verified] = []
    rows: list[PartRow] = []
    for epoch, seq, payload in zip(*(table[name].to_pylist() for name in ("epoch", "seq", "payload")), strict=True):
        position, version = Position(epoch, seq), chain.version
        if not part.first <= position <= part.last:
            due = Position(rows[-1].position.epoch, rows[-1].position.seq + 1) if rows else Position(*part.first)
            raise corrupt(stream, due, f"is not in its place: {part.path} has {position} there")
        events = chain.take(position, payload)
        verified.append(Verified(position, events, chain.version, chain.digest))
        rows.append(row_of(stream, position, payload, events, version + 1))
    expected = table_of(rows)
    for name in SCHEMA.names:
        if table[name].equals(expected[name]):
            continue
        wrong = next(n for n in range(len(rows)) if table[name][n] != expected[name][n])
        raise corrupt(stream, rows[wrong].position, f"is not what its column {name} says: {part.path}")
    if chain.position != part.last or len(rows) != part.elements:
        raise corrupt(stream, Position(*part.last), f"is missing: {part.path} ends at {chain.position}")
    if (chain.version, chain.digest) != (part.version, part.chain):
        raise corrupt(stream, Position(*part.last), f"does not give the chain that the manifest has for {part.path}")
    if content is None or hashlib.sha256(content).digest() != part.sha256:
        found = (
            f"to {part.last[0]}-{part.last[1]} are whole, but the SHA-256 of {part.path} differs: its frame is damaged"
        )
        raise corrupt(stream, Position(*part.first), found)
    return verified


def row_of(stream: str, position: Position, payload: bytes, events: Sequence[Event], first_version: int) -> PartRow:
    """Return an element as a part holds it."""
    if position.seq == 0:
        return PartRow(position, None, payload, [])
    return PartRow(position, first_version, payload, lines_of(kind_of(stream), events, first_version))


def _table_in(stream: str, part: SealedPart, content: bytes | None) -> pa.Table:
    """Decode a part's file. Raises JournalCorrupt."""
    first = Position(*part.first)
    if content is None:
        raise corrupt(stream, first, f"is missing: the file {part.path} is not in the archive")
    try:
        table = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        why = " ".join(str(error).split())
        raise corrupt(stream, first, f"cannot be read: {part.path} is not a Parquet file any more: {why}") from error
    if not table.schema.equals(SCHEMA):
        raise corrupt(stream, first, f"cannot be read: {part.path} has another schema")
    return table
