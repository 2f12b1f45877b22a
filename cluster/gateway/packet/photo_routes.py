"""Routes of photos: upload, look, pay, and the pictures. The clear one is told to nobody who may not have it.

Pictures are sent whole, whatever range or condition is asked: a cache between us and the reader may keep none of them.
"""

from functools import partial
from typing import Any

from cluster.config import Settings
from cluster.gateway.auth import Callers
from cluster.gateway.middleware.overload_control import LAST, READ, SEND
from cluster.gateway.packet import examples
from cluster.gateway.packet.photo_contract import PaymentBody, PaymentState, PhotoBody, PhotoPrices, PhotoState
from cluster.gateway.packet.photos import Band, Photo, Photos, Sending
from cluster.gateway.packet.routes import SEND_REFUSALS, UNKNOWN_OUTCOME
from cluster.gateway.problems import Answer, Problem
from cluster.gateway.raw_http import Streamed
from cluster.gateway.replica import Replica
from cluster.gateway.request import Request
from cluster.gateway.responses import respond, respond_once
from cluster.gateway.route import BINARY, BodySize, Media, Route

PHOTOS_PATH = "/v1/photos"
_JPEG = "image/jpeg"
_HEADERS = [
    (b"content-type", _JPEG.encode()),
    (b"cache-control", b"private, no-store"),
    (b"vary", b"Authorization, X-Acting-User"),
    (b"x-content-type-options", b"nosniff"),
]


async def upload_photo(replica: Replica, request: Request) -> Answer:
    """Make a photo of the picture in the body (JPEG, PNG or WebP); each reader's price is drawn from the band."""
    prices: PhotoPrices = request.query
    band = Band(prices.price_fen_min, prices.price_fen_max)
    if band.fen_min > band.fen_max:
        raise Problem("invalid", "Correct the named fields.", {"price_fen_max": "not below price_fen_min"})
    photo, replayed = await _photos(replica).upload(request.user, request.key, band, request.read)
    return respond_once(_told(photo), replayed=replayed, location=f"{PHOTOS_PATH}/{photo.photo_id}")


async def read_photo(replica: Replica, request: Request) -> Answer:
    """Look at a photo: whether one has paid, and what it costs one (nothing for its owner)."""
    photos, reader = _photos(replica), request.user
    photo = await photos.find(reader, request.name)
    own = photo.owner == reader.user
    paid = not own and await photos.payment(photo, reader) is not None
    price_fen = None if own else photos.price_fen(photo, reader)
    return respond(PhotoBody(*_fields(photo), paid, price_fen))


async def read_blurred_photo(replica: Replica, request: Request) -> Streamed:
    """Get the blurred picture."""
    photos = _photos(replica)
    photo = await photos.find(request.user, request.name)
    return partial(_send_picture, await photos.blurred(photo))


async def read_clear_photo(replica: Replica, request: Request) -> Streamed:
    """Get the clear picture, as its owner or once one has paid."""
    photos, reader = _photos(replica), request.user
    photo = await photos.find(reader, request.name)
    return partial(_send_picture, await photos.clear(photo, reader))


async def pay_photo(replica: Replica, request: Request) -> Answer:
    """Pay the price that is shown to one; a photo is paid for once, whatever the key."""
    body: PaymentBody = request.body
    photos, payer = _photos(replica), request.user
    photo = await photos.find(payer, request.name)
    funding, replayed = await photos.pay(photo, payer, body.price_fen)
    paid = PaymentState(photo.photo_id, funding.packet_id, funding.total_fen, funding.at_ms)
    return respond_once(paid, replayed=replayed, location=f"/v1/packets/{funding.packet_id}")


async def _send_picture(sending: Sending, send: Any) -> None:
    # Its length is told: a client of HTTP/1.0 knows no chunks, and would take their frames for the picture's bytes.
    headers = [*_HEADERS, (b"content-length", b"%d" % sending.bytes_count)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    async for chunk in sending.chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _photos(replica: Replica) -> Photos:
    assert replica.photos is not None, "a system without photos has no routes of theirs"
    return replica.photos


def _fields(photo: Photo) -> tuple[str, str, int, int, int, int, int]:
    size = photo.width, photo.height
    return photo.photo_id, photo.owner, *size, photo.price_fen_min, photo.price_fen_max, photo.created_at_ms


def _told(photo: Photo) -> PhotoState:
    return PhotoState(*_fields(photo))


def _has_photos(settings: Settings) -> bool:
    return bool(settings.photos_url)


_TAG = "photos"
_REFUSALS = (*UNKNOWN_OUTCOME, "photo_not_found")
_PICTURE = Media((_JPEG,), BINARY)
_USERS = Callers.USERS

# fmt: off
ROUTES = (
    Route("POST", PHOTOS_PATH, upload_photo, _USERS, LAST, _TAG,
          body=Media((_JPEG, "image/png", "image/webp"), BINARY, untyped=True), size=BodySize.PHOTO,
          query=PhotoPrices, reply=PhotoState, status=201, keyed=True,
          refusals=(*UNKNOWN_OUTCOME, "idempotency_key_reused", "rate_limited"), served=_has_photos),
    Route("GET", PHOTOS_PATH + "/{photo_id}", read_photo, _USERS, READ, _TAG, reply=PhotoBody, refusals=_REFUSALS,
          served=_has_photos),
    Route("GET", PHOTOS_PATH + "/{photo_id}/blurred", read_blurred_photo, _USERS, READ, _TAG, reply=_PICTURE,
          refusals=_REFUSALS, served=_has_photos),
    Route("GET", PHOTOS_PATH + "/{photo_id}/clear", read_clear_photo, _USERS, READ, _TAG, reply=_PICTURE,
          refusals=(*_REFUSALS, "payment_required", "seed_unknown"), served=_has_photos),
    Route("POST", PHOTOS_PATH + "/{photo_id}/payments", pay_photo, _USERS, SEND, _TAG, body=PaymentBody,
          reply=PaymentState, status=201, keyed=True, refusals=(*_REFUSALS, *SEND_REFUSALS, "own_packet"),
          requests=examples.PAYMENTS, served=_has_photos),
)
# fmt: on
