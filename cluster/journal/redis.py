"""Redis journal: streams in Redis or Valkey, fenced by their own ids.

A stream's ids only grow, also after a trim: `XADD key NOMKSTREAM <epoch>-<seq>` refuses a zombie (a later epoch's
fence is greater) and a repeated append alike. So the client library must never repeat one by itself.

| key | type | holds |
|---|---|---|
| `<prefix>:journal:<stream>` | stream | elements, each in the one field `e` |
| `<prefix>:catalogue` | hash | stream -> kind |
| `<prefix>:epochs` | hash | stream -> its latest epoch: tells a lost stream from a new one |
| `<prefix>:<book>` | hash | what `cluster.journal.side_store` keeps beside the streams |
| `<prefix>:clock` | string | offset of the sandbox clock in ms |
| `<prefix>:holds` | sorted set | holder -> when its hold ends; until then nothing is trimmed, no snapshot dropped |
| `<prefix>:system` | hash | `id`, `created`, `layout`: JSON, kind -> pool -> number of streams |
"""

import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from actors.kernel.errors import FencedOut, JournalFull, JournalUnavailable, NotHere, OperatingFailure
from actors.kernel.ports import Position, Sealed
from actors.kernel.rules import StreamCounts
from actors.kinds import streams_of
from cluster.journal.catalogue import check_growth, check_streams, decode_layout, encode_layout
from cluster.journal.codec import Codec, corrupt, position_of, stream_gone
from cluster.journal.owner import OwnedJournal
from cluster.journal.pipeline import Pipeline
from cluster.journal.side_store import Cut, StreamCut, beyond_snapshot
from cluster.journal.snapshot import READ_CHUNK
from cluster.journal.store import Store

CONNECTIONS_MAX = 4
"""For activations, reads and the shelf; appends and confirmations share the one line."""

SCAN_COUNT = 1_000
"""Fields of a book in one round trip."""

READ_BYTES_AIM = 4_194_304
"""A round trip fetches fewer elements when they are so large together."""

_FIELD = b"e"
_NOTHING = Position(0, 0)

# Atomic: no rival's element can come between the last id that is read here and the fence, which says it (the codec).
# KEYS journal, catalogue, epochs; ARGV stream, fence. Returns fence and the last id before it, "" for a new stream.
_FENCE = """
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then return {'not here', ''} end
local before = ''
if redis.call('EXISTS', KEYS[1]) == 1 then
  local found = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #found, 2 do
    if found[i] == 'last-generated-id' then before = found[i + 1] end
  end
elseif redis.call('HEXISTS', KEYS[3], ARGV[1]) == 1 then
  return {'gone', ''}
end
local last_epoch, last_seq = string.match(before, '^(%d+)-(%d+)$')
last_epoch, last_seq = tonumber(last_epoch or '0'), tonumber(last_seq or '0')
local epoch = string.format('%.0f', last_epoch + 1)
redis.call('XADD', KEYS[1], epoch .. '-0', 'e', ARGV[2] .. struct.pack('>I8I8', last_epoch, last_seq))
redis.call('HSET', KEYS[3], ARGV[1], epoch)
return {epoch .. '-0', before}
"""

# A script that may write is refused beforehand wherever a write would be: out of memory, a replica. It writes nothing.
_WOULD_WRITE = "#!lua\nreturn 1"

# XINFO answers with the first and the last element as well; here they stay in the store.
_LAST_ID = """
if redis.call('EXISTS', KEYS[1]) == 0 then return '' end
local found = redis.call('XINFO', 'STREAM', KEYS[1])
for i = 1, #found, 2 do
  if found[i] == 'last-generated-id' then return found[i + 1] end
end
"""

# KEYS system, catalogue; ARGV id, created, layout, then stream and kind by turns. Returns id and layout as they are.
_CREATE_SYSTEM = """
if redis.call('HEXISTS', KEYS[1], 'id') == 0 then
  redis.call('HSET', KEYS[1], 'id', ARGV[1], 'created', ARGV[2], 'layout', ARGV[3])
  for i = 4, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
end
return redis.call('HMGET', KEYS[1], 'id', 'layout')
"""

# KEYS system, catalogue; ARGV layout, then stream and kind by turns. What is listed stays as it is.
_GROW = """
for i = 2, #ARGV, 2 do redis.call('HSETNX', KEYS[2], ARGV[i], ARGV[i + 1]) end
redis.call('HSET', KEYS[1], 'layout', ARGV[1])
"""

# KEYS clock; ARGV ms, the most that the offset may be. Returns -1 if it would be beyond.
_ADVANCE = """
if tonumber(redis.call('GET', KEYS[1]) or '0') + tonumber(ARGV[1]) > tonumber(ARGV[2]) then return -1 end
return redis.call('INCRBY', KEYS[1], ARGV[1])
"""

# KEYS book; ARGV field, whether an old value is expected, that value, new value.
_SWAP = """
local present = redis.call('HGET', KEYS[1], ARGV[1])
if ARGV[2] == '0' then
  if present then return 0 end
elseif present ~= ARGV[3] then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[4])
return 1
"""

_HELD = """
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local function held(holds) return redis.call('ZCOUNT', holds, string.format('(%.0f', now_ms), '+inf') > 0 end
"""

# KEYS book, holds; ARGV fields.
_DELETE = f"""{_HELD}
if held(KEYS[2]) then return 0 end
if #ARGV > 0 then redis.call('HDEL', KEYS[1], unpack(ARGV)) end
return 1
"""

# KEYS snapshots; ARGV epoch, seq, index, chunks. Returns the index that is there, "" for none.
_INDEX = """
local name = ARGV[1] .. '-' .. ARGV[2]
local present = redis.call('HGET', KEYS[1], name)
if present then return present end
local newest = redis.call('HGET', KEYS[1], 'newest') or '0-0'
local last_epoch, last_seq = string.match(newest, '^(%d+)-(%d+)$')
last_epoch, last_seq = tonumber(last_epoch), tonumber(last_seq)
local epoch, seq = tonumber(ARGV[1]), tonumber(ARGV[2])
if epoch < last_epoch or (epoch == last_epoch and seq <= last_seq) then return '' end
for at = 4, #ARGV do
  if redis.call('HEXISTS', KEYS[1], ARGV[at]) == 0 then return '' end
end
redis.call('HSET', KEYS[1], name, ARGV[3])
return ARGV[3]
"""

# KEYS journal, snapshots, holds; ARGV epoch, seq. Returns -1 if that is beyond the newest snapshot.
_TRIM = f"""{_HELD}
local newest = redis.call('HGET', KEYS[2], 'newest') or '0-0'
local epoch, seq = string.match(newest, '^(%d+)-(%d+)$')
epoch, seq = tonumber(epoch), tonumber(seq)
local last_epoch, last_seq = tonumber(ARGV[1]), tonumber(ARGV[2])
if last_epoch > epoch or (last_epoch == epoch and last_seq > seq) then return -1 end
if held(KEYS[3]) then return 0 end
return redis.call('XTRIM', KEYS[1], 'MINID', '=', ARGV[1] .. '-' .. string.format('%.0f', last_seq + 1))
"""

# KEYS holds, clock, then journal, snapshots and sealed of each stream; ARGV hold in ms, holder.
_CUT = (
    _HELD
    + """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now_ms))
if tonumber(ARGV[1]) > 0 then redis.call('ZADD', KEYS[1], string.format('%.0f', now_ms + ARGV[1]), ARGV[2]) end
local cut = {redis.call('GET', KEYS[2]) or '0'}
for at = 3, #KEYS, 3 do
  local last = ''
  if redis.call('EXISTS', KEYS[at]) == 1 then
    local found = redis.call('XINFO', 'STREAM', KEYS[at])
    for i = 1, #found, 2 do
      if found[i] == 'last-generated-id' then last = found[i + 1] end
    end
  end
  cut[#cut + 1] = last
  cut[#cut + 1] = redis.call('HGET', KEYS[at + 1], 'newest') or ''
  cut[#cut + 1] = redis.call('HLEN', KEYS[at + 2])
end
return cut
"""
)


class RedisJournals(Store):
    """Implements `actors.kernel.ports.Journals` on one Redis or Valkey. Belongs to one event loop."""

    def __init__(self, url: str, codec: Codec, *, timeout_ms: int, system: str = "hongbao") -> None:
        """Connect to nothing yet. `url`: redis://, rediss:// or unix://; `system` is the prefix of every key."""
        self.codec = codec
        self.address = _address(url)
        self._system = system
        # RESP2, so that no unasked message ever comes between the answers.
        options: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "protocol": 2, "decode_responses": False}
        timeout_s = timeout_ms / 1_000
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS_MAX,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            **options,
        )
        self._client = Redis.from_pool(pool)
        lines = ConnectionPool.from_url(url, socket_timeout=None, socket_connect_timeout=None, **options)
        self.line = Pipeline(lines.make_connection, timeout_ms)

    def open(self, stream: str) -> "RedisJournal":
        """Return a fresh journal object for one activation of the stream."""
        return RedisJournal(self, stream)

    async def close(self) -> None:
        """Disconnect."""
        await self.line.close()
        await self._client.aclose()

    async def ping(self) -> None:
        """Return if the store would take a write now. Raises JournalUnavailable, also if its memory is full."""
        await self._ask(self._client.eval(_WOULD_WRITE, 0))

    async def clock_offset_ms(self) -> int:
        """Return the durable offset of the sandbox clock. Raises JournalUnavailable."""
        return int(await self._ask(self._client.get(self._key("clock"))) or 0)

    async def advance_clock(self, ms: int, *, offset_ms_max: int) -> int | None:
        """Move the sandbox clock forward and return its offset; None: not moved, it would be beyond the bound.

        Raises JournalUnavailable.
        """
        assert ms >= 0, "the clock never goes back"
        offset_ms = int(await self._ask(self._client.eval(_ADVANCE, 1, self._key("clock"), ms, offset_ms_max)))
        return offset_ms if offset_ms >= 0 else None

    async def create_system(self, layout: StreamCounts, system_id: str | None = None) -> str:
        """List every stream and its kind unless already done; return the system's id (None: a new system's is drawn).

        Raises JournalUnavailable, UnknownKind, or ValueError if the system was created with another layout.
        """
        listed = [part for stream in streams_of(layout).items() for part in stream]
        keys = self._key("system"), self._key("catalogue")
        created_ms = time.time_ns() // 1_000_000
        arguments = system_id or uuid.uuid4().hex, created_ms, encode_layout(layout)
        own_id, found = await self._ask(self._client.eval(_CREATE_SYSTEM, len(keys), *keys, *arguments, *listed))
        before = decode_layout(found)
        check_growth(self.address, before, layout)
        if before != layout:
            await self._ask(self._client.eval(_GROW, len(keys), *keys, encode_layout(layout), *listed))
        check_streams(self.address, await self.streams(), layout)
        return cast(str, own_id.decode())

    async def system_id(self) -> str:
        """Return the id given by `create_system`, empty before that. Raises JournalUnavailable."""
        found = await self._ask(self._client.hget(self._key("system"), "id"))
        return "" if found is None else str(found.decode())

    async def layout(self) -> StreamCounts:
        """Return the system's layout, empty before it is created. Raises JournalUnavailable, UnknownKind."""
        return decode_layout(await self._ask(self._client.hget(self._key("system"), "layout")))

    async def is_empty(self) -> bool:
        """Tell whether the store holds nothing of any system of this name. Raises JournalUnavailable."""
        async for _ in self._client.scan_iter(match=self._key("*"), count=SCAN_COUNT):
            return False
        return True

    async def streams(self) -> dict[str, str]:
        """Return the catalogue: every stream and its kind. Raises JournalUnavailable."""
        found = await self._ask(self._client.hgetall(self._key("catalogue")))
        return {stream.decode(): kind.decode() for stream, kind in found.items()}

    async def read(
        self, stream: str, after: Position | None, through: Position | None, chunk: int = READ_CHUNK
    ) -> AsyncIterator[tuple[Position, bytes]]:
        """Yield the elements after one position (exclusive; None: from the start) through another (None: to the end).

        Raises JournalUnavailable, JournalCorrupt: an element is not one of a journal.
        """
        count = chunk
        while True:
            begin, end = f"({after or _NOTHING}", str(through) if through else "+"
            found = await self._ask(self._client.xrange(self._key("journal", stream), begin, end, count))
            size = 0
            for element_id, fields in found:
                after = position_of(element_id)
                if fields.keys() != {_FIELD}:
                    raise corrupt(stream, after, f"is not an element of a journal: its fields are {sorted(fields)}")
                size += len(fields[_FIELD])
                yield after, fields[_FIELD]
            if len(found) < count:
                return
            count = max(1, count // 2) if size > READ_BYTES_AIM else min(chunk, count * 2)

    async def last_position(self, stream: str) -> Position | None:
        """Return the greatest id the stream ever had, None if it does not exist. Raises JournalUnavailable."""
        found = await self._ask(self._client.eval(_LAST_ID, 1, self._key("journal", stream)))
        return _position_or_none(found)

    async def read_fields(self, book: str, fields: Sequence[str]) -> list[bytes | None]:
        """Return the fields' bytes, None for one that is not there. By the line: every opening asks for a record."""
        return list(await self._ask(self.line.call("HMGET", self._key(book), *fields))) if fields else []

    async def write_fields(self, book: str, values: Mapping[str, bytes]) -> None:
        """Write fields, all or none."""
        if values:
            await self._ask(self._client.hset(self._key(book), mapping=dict(values)))

    async def swap_field(self, book: str, field: str, old: bytes | None, new: bytes) -> bool:
        """Write a field if it still holds `old` (None: is not there); tell whether it did."""
        expected = (0, b"") if old is None else (1, old)
        return bool(await self._ask(self._client.eval(_SWAP, 1, self._key(book), field, *expected, new)))

    async def delete_fields(self, book: str, fields: Sequence[str]) -> bool:
        """Delete fields, all or none; False, and nothing is deleted, while a hold is on."""
        return bool(await self._ask(self._client.eval(_DELETE, 2, self._key(book), self._key("holds"), *fields)))

    async def index_snapshot(self, stream: str, position: Position, index: bytes, chunks: Sequence[str]) -> bytes:
        """Write the index of a snapshot, unless there is one, a chunk is missing, or one as new is adopted."""
        snapshots = self._key("snapshots", stream)
        return bytes(await self._ask(self._client.eval(_INDEX, 1, snapshots, *position, index, *chunks)))

    async def field_names(self, book: str) -> list[str]:
        """Name the fields of a book."""
        return [name.decode() for name in await self._ask(self._client.hkeys(self._key(book)))]

    async def scan_fields(self, book: str) -> AsyncIterator[tuple[str, bytes]]:
        """Yield every field, perhaps twice; one written meanwhile may come or not."""
        cursor = -1
        while cursor != 0:
            cursor, found = await self._ask(self._client.hscan(self._key(book), max(cursor, 0), count=SCAN_COUNT))
            for name, content in found.items():
                yield name.decode(), content

    async def put_elements(self, stream: str, elements: Sequence[tuple[Position, bytes]]) -> None:
        """Write elements exactly as they once stood, in order. For a restore, before the system exists."""
        batch = self._client.pipeline(transaction=True)
        for position, payload in elements:
            batch.xadd(self._key("journal", stream), {_FIELD: payload}, id=str(position))
            batch.hset(self._key("epochs"), stream, position.epoch)
        await self._ask(batch.execute())

    async def trim(self, stream: str, through: Position) -> int:
        """Remove the stream's elements through a position; return how many, 0 while a hold is on."""
        keys = self._key("journal", stream), self._key("snapshots", stream), self._key("holds")
        trimmed = int(await self._ask(self._client.eval(_TRIM, len(keys), *keys, *through)))
        if trimmed < 0:
            raise beyond_snapshot(stream, through)
        return trimmed

    async def cut(self, hold_ms: int) -> Cut:
        """Note where everything stands, in one step, and hold trims and dropped snapshots off until `release`."""
        streams = sorted(await self.streams())
        keys = [self._key(family, stream) for stream in streams for family in ("journal", "snapshots", "sealed")]
        keys = [self._key("holds"), self._key("clock"), *keys]
        holder = uuid.uuid4().hex
        clock, *found = await self._ask(self._client.eval(_CUT, len(keys), *keys, hold_ms, holder))
        stood = {
            stream: StreamCut(_position_or_none(last), _position_or_none(snapshot), int(sealed))
            for stream, last, snapshot, sealed in zip(streams, found[::3], found[1::3], found[2::3], strict=True)
        }
        return Cut(stood, int(clock), holder)

    async def release(self, cut: Cut) -> None:
        """End the hold of a cut; another's stays."""
        await self._ask(self._client.zrem(self._key("holds"), cut.holder))

    async def fence(self, stream: str, host: str) -> tuple[Position | None, Position]:
        """Append the next epoch's fence; return the stream's last id before it (None: new stream) and its own.

        Raises NotHere, JournalUnavailable, JournalCorrupt: the stream was written before and is gone.
        """
        keys = self._key("journal", stream), self._key("catalogue"), self._key("epochs")
        payload = self.codec.fence(host)
        fence, before = await self._ask(self._client.eval(_FENCE, len(keys), *keys, stream, payload))
        if fence == b"not here":
            raise NotHere(f"journal {stream}: the catalogue in {self.address} does not list this stream")
        if fence == b"gone":
            raise stream_gone(stream)
        return _position_or_none(before), position_of(fence)

    async def append(self, stream: str, sealed: Sealed) -> None:
        """Append one sealed entry."""
        position, payload = sealed
        try:
            written = await self.line.call(
                "XADD", self._key("journal", stream), "NOMKSTREAM", str(position), _FIELD, payload
            )
        except RedisError as error:
            raise self._append_failure(stream, position, error) from error
        if written is None:
            # The next activation learns why: not listed any more, or lost.
            raise FencedOut(f"journal {stream}: the stream is gone, {position} was not appended")

    async def last_id(self, stream: str) -> Position | None:
        """Return the greatest id the stream ever had, asked behind every append already sent."""
        try:
            found = await self.line.call("EVAL", _LAST_ID, 1, self._key("journal", stream))
        except RedisError as error:
            raise self._unavailable(error) from error
        return _position_or_none(found)

    def _append_failure(self, stream: str, position: Position, error: RedisError) -> OperatingFailure:
        if isinstance(error, OutOfMemoryError):
            return JournalFull(
                f"journal {stream}: {position} was refused, the store in {self.address} is out of memory"
            )
        if isinstance(error, ResponseError) and "equal or smaller" in str(error):
            return FencedOut(f"journal {stream}: {position} was refused, the stream is already at it or beyond")
        return self._unavailable(error)

    async def _ask(self, answer: Awaitable[Any] | Any) -> Any:
        try:
            return await answer
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> JournalUnavailable:
        return JournalUnavailable(f"the store in {self.address} did not answer: {type(error).__name__}: {error}")

    def _key(self, *parts: str) -> str:
        return ":".join((self._system, *parts))


class RedisJournal(OwnedJournal):
    """Implements `actors.kernel.ports.Journal`."""

    def __init__(self, journals: RedisJournals, stream: str) -> None:
        """Belong to nobody until activated."""
        super().__init__(stream, journals, journals.codec)
        self._journals = journals

    async def _fence(self, host: str) -> tuple[Position | None, Position]:
        return await self._journals.fence(self.stream, host)

    async def _append(self, sealed: Sealed) -> None:
        await self._journals.append(self.stream, sealed)

    async def _last_id(self) -> Position | None:
        return await self._journals.last_id(self.stream)


def _position_or_none(text: bytes | None) -> Position | None:
    return position_of(text) if text else None


def _address(url: str) -> str:
    """Return the URL for messages: without user and password."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"
