"""Photos: pictures with a price. What is clear leaves only for its owner and for who has paid, durably.

A photo is a folder `<tenant>/<photo id>/` on anything that pyarrow.fs reaches: `clear-<hex>.jpg`, `blurred-<hex>.jpg`,
named by the upload's SHA-256, so that two uploads never mix; and, written last and once, `photo.json`, without which
there is no photo. Its id follows from (tenant, owner, idempotency key).

A payment is a packet of kind `photo` from the reader to the owner, taken in the entry that opens it: whether somebody
has paid is asked of that packet, for ever. Files are touched in threads, pictures are made in processes, few at once.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from actors.kernel.errors import JournalUnavailable
from actors.kernel.names import User
from actors.kernel.ports import Clock, Journals, KeyRing
from actors.kernel.quota import Bound, Counts, Part
from actors.refusals import Refusal
from actors.transfers.funding import PacketFunded, Special
from actors.transfers.ids import Layout
from actors.wallet.commands import KeepPhoto, Send
from actors.wallet.photo import is_photo_id, payment_id_of, payment_key, photo_id_of, price_fen_of
from cluster.config import Settings
from cluster.gateway.problems import Problem, refused
from cluster.gateway.service import Service
from cluster.journal.archive import Archive
from cluster.pictures.process import NoPicture, Picture, PictureBounds, PictureLate, make_apart

CHUNK_BYTES = 65_536
"""Of a picture in memory while it is sent."""

_FULL: dict[Part, str] = {
    "user": "Several pictures of yours are on their way; nothing was done, send it once they have arrived.",
    "tenant": "Many pictures of your tenant are on their way; nothing was done, send it again later.",
    "whole": "Many pictures are on their way; nothing was done, send it again later.",
}
_NAME_HEX = 16
Read = Callable[[], Awaitable[bytes]]
"""Reads an upload; raises Problem."""
Make = Callable[[bytes, PictureBounds], Picture]
"""Makes both versions of an upload; raises NoPicture or PictureLate."""


class Band(NamedTuple):
    """Between which prices a photo's are drawn, both included."""

    fen_min: int
    fen_max: int


class Photo(msgspec.Struct, frozen=True):
    """What `photo.json` says: read for ever, so a field is only ever added, with a default."""

    photo_id: str
    tenant: str
    owner: str
    width: int
    height: int
    price_fen_min: int
    price_fen_max: int
    created_at_ms: int
    sha256: str
    """Of the upload, in hex."""

    def path(self, name: str) -> str:
        """Name one of its pictures, `clear` or `blurred`."""
        return f"{self.tenant}/{self.photo_id}/{name}-{self.sha256[:_NAME_HEX]}.jpg"


class Sending(NamedTuple):
    """A picture to send: of how many bytes, and they, in chunks."""

    bytes_count: int
    chunks: AsyncIterator[bytes]


_RECORD = msgspec.json.Decoder(Photo)
_ENCODE = msgspec.json.Encoder().encode


class Photos:
    """The photos of one platform, for one gateway replica."""

    def __init__(
        self,
        settings: Settings,
        keys: KeyRing,
        service: Service,
        journals: Journals,
        clock: Clock,
        place: Archive,
        make: Make = make_apart,
    ) -> None:
        self._bounds = settings.bounds
        self._make_picture = make
        self._picture_bounds = PictureBounds(
            pixels_max=settings.bounds.photo_pixels_max,
            cpu_s=-(-settings.timing.photo_cpu_ms // 1000),
            memory_bytes=settings.bounds.photo_memory_bytes_max,
            deadline_s=settings.timing.photo_upload_ms / 1000,
        )
        self._layout = Layout.of(settings.layout)
        self._upload_s = settings.timing.photo_upload_ms / 1000
        self._platform_key = keys.key(keys.first)
        self._service = service
        self._journals = journals
        self._clock = clock
        self._place = place
        uploading = Bound.of(settings.bounds.photos_uploading_max, settings.fair.photos_uploading_max)
        self._uploading = Counts(uploading)
        self._making = [asyncio.Lock() for _ in range(settings.bounds.photos_making_max)]
        """One for a part of all ids each: so many pictures are made at once, and of one id never two."""

    async def upload(self, owner: User, key: str, band: Band, read: Read) -> tuple[Photo, bool]:
        """Make a photo of a request's body, which `read` reads; True: it was there already. Raises Problem."""
        full = self._uploading.full(*owner)
        if full is not None:
            raise Problem("overloaded", _FULL[full])
        self._uploading.add(*owner)
        try:
            return await self._keep(owner, key, band, await self._body(read))
        finally:
            self._uploading.remove(*owner)

    async def find(self, reader: User, photo_id: str) -> Photo:
        """Return a photo of the reader's tenant. Raises Problem."""
        photo = await self._find(reader.tenant, photo_id) if is_photo_id(photo_id) else None
        if photo is None:
            raise Problem("photo_not_found")
        return photo

    def price_fen(self, photo: Photo, reader: User) -> int:
        """Return what it costs this reader."""
        band = photo.price_fen_min, photo.price_fen_max
        return price_fen_of(self._platform_key, photo.photo_id, reader.tenant, reader.user, *band)

    async def payment(self, photo: Photo, reader: User) -> PacketFunded | None:
        """Return what this reader durably paid for it; None: nothing. Raises Problem."""
        places = self._layout.packet, self._layout.wallet
        packet_id = payment_id_of(self._platform_key, reader.tenant, reader.user, photo.photo_id, *places)
        try:
            [view] = await self._service.packets.view(packet_id, reader, lines_max=1)
        except Problem as problem:
            if problem.code == Refusal.PACKET_NOT_FOUND:
                return None
            raise
        assert view.state == "drained", "a price opens and is taken in one entry"
        return view.funding

    async def pay(self, photo: Photo, payer: User, price_fen: int) -> tuple[PacketFunded, bool]:
        """Pay for it as a user, once for ever; True: they had paid already. Raises Problem."""
        if payer.user == photo.owner:
            raise refused(Refusal.OWN_PACKET)
        due_fen = self.price_fen(photo, payer)
        if price_fen != due_fen:
            raise Problem("invalid", "Pay the price that is shown to you.", {"price_fen": f"{due_fen} fen"})
        paid = await self.payment(photo, payer)  # a wallet forgets its sends after a day, packets are never forgotten
        if paid is not None:
            return paid, True
        special = Special(addressee=photo.owner, reference=photo.photo_id)
        key = payment_key(photo.photo_id)
        funded = await self._service.wallets.send(Send(*payer, key, "photo", due_fen, 1, "", "equal/1", special))
        return funded.funding, funded.replayed

    async def blurred(self, photo: Photo) -> Sending:
        """Return the blurred picture. Raises Problem."""
        return await self._sending(photo.path("blurred"))

    async def clear(self, photo: Photo, reader: User) -> Sending:
        """Return the clear picture, if the reader may have it. Raises Problem."""
        if reader.user != photo.owner and await self.payment(photo, reader) is None:
            raise Problem("payment_required", f"Pay first: POST /v1/photos/{photo.photo_id}/payments.")
        return await self._sending(photo.path("clear"))

    async def _body(self, read: Read) -> bytes:
        try:
            async with asyncio.timeout(self._upload_s):
                return await read()
        except TimeoutError as failure:
            raise Problem("overloaded", "The picture was too long on its way; send it again later.") from failure

    async def _keep(self, owner: User, key: str, band: Band, upload: bytes) -> tuple[Photo, bool]:
        photo_id = photo_id_of(self._platform_key, *owner, key, self._layout.wallet)
        sha256 = (await asyncio.to_thread(hashlib.sha256, upload)).hexdigest()
        with _answering():
            async with self._making[crc32(photo_id.encode()) % len(self._making)]:
                photo, fresh = await self._find(owner.tenant, photo_id), False
                if photo is None:
                    await self._reserve(owner, photo_id, len(upload))  # before the work, by what is known then
                    made = await self._make(upload)
                    size = len(made.clear) + len(made.blurred)
                    if size > len(upload):
                        await self._reserve(owner, photo_id, size)
                    now_ms = self._clock.now_ms() + await self._journals.clock_offset_ms()
                    photo = Photo(photo_id, *owner, made.width, made.height, *band, now_ms, sha256)
                    fresh = await asyncio.to_thread(self._write, photo, made)
                    if not fresh:  # another replica was faster
                        photo = await self._find(owner.tenant, photo_id)
        assert photo is not None, "a photo stays"
        if (photo.sha256, photo.price_fen_min, photo.price_fen_max) != (sha256, *band):
            raise refused(Refusal.IDEMPOTENCY_KEY_REUSED)
        return photo, not fresh

    async def _reserve(self, owner: User, photo_id: str, size_bytes: int) -> None:
        """Let the owner's wallet stream count what a photo takes on the disk, once. Raises Problem."""
        await self._service.wallets.ask(KeepPhoto(*owner, photo_id, size_bytes))

    async def _make(self, upload: bytes) -> Picture:
        try:
            return await asyncio.to_thread(self._make_picture, upload, self._picture_bounds)
        except NoPicture as failure:
            raise Problem("invalid", "Send the bytes of a picture as the body.", {"body": str(failure)}) from failure
        except PictureLate as failure:
            raise Problem(
                "overloaded", "Pictures take too long now; nothing was done, send it again later."
            ) from failure

    def _write(self, photo: Photo, made: Picture) -> bool:
        """Keep a photo, durably; False: one of that id is there."""
        self._place.write(photo.path("clear"), made.clear)
        self._place.write(photo.path("blurred"), made.blurred)
        return self._place.create(_record(photo.tenant, photo.photo_id), _ENCODE(photo))

    async def _find(self, tenant: str, photo_id: str) -> Photo | None:
        with _answering():
            record = await asyncio.to_thread(self._place.read, _record(tenant, photo_id))
        return None if record is None else _RECORD.decode(record)

    async def _sending(self, path: str) -> Sending:
        with _answering():
            file = await asyncio.to_thread(self._place.opened, path)
            assert file is not None, "a photo's pictures are there before it is"
            return Sending(await asyncio.to_thread(file.size), _read(file))


async def _read(file: Any) -> AsyncIterator[bytes]:
    with file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk


def _record(tenant: str, photo_id: str) -> str:
    return f"{tenant}/{photo_id}/photo.json"


@contextlib.contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except JournalUnavailable as failure:
        raise refused(Refusal.JOURNAL_UNAVAILABLE) from failure


def photos_of(
    settings: Settings, keys: KeyRing, service: Service, journals: Journals, clock: Clock, make: Make = make_apart
) -> Photos | None:
    """Return the configured platform's photos; None: it has none. Raises ValueError for a URL that names no place."""
    if not settings.photos_url:
        return None
    return Photos(settings, keys, service, journals, clock, Archive(settings.photos_url), make)
