"""Routes of photos: upload, look, pay, and the pictures. The clear one is told to nobody who may not have it.

Pictures are sent whole, whatever range or condition is asked: a cache between us and the reader may keep none of them.
"""

from typing import Annotated, Any

from fastapi import Path, Query, Request
from starlette.responses import Response, StreamingResponse

from cluster.gateway import responses
from cluster.gateway.idempotency import KEY_PARAMETER, key_of, told_once
from cluster.gateway.middleware.validation import StrictRouter, Whole
from cluster.gateway.packet.photos import Band, Photo, Sending
from cluster.gateway.problems import Problem
from cluster.gateway.schemas import PaymentBody, PaymentState, PhotoBody, PhotoState

PHOTOS_PATH = "/v1/photos"
router = StrictRouter(tags=["photos"], prefix=PHOTOS_PATH)

JPEG = "image/jpeg"
_HEADERS = {
    "cache-control": "private, no-store",
    "vary": "Authorization, X-Acting-User",
    "x-content-type-options": "nosniff",
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_UPLOAD = {
    "parameters": [KEY_PARAMETER],
    "requestBody": {"required": True, "content": {JPEG: _BINARY, "image/png": _BINARY, "image/webp": _BINARY}},
}
_PICTURE: dict[int | str, dict[str, Any]] = {200: {"content": {JPEG: _BINARY}}}

Fen = Annotated[Whole, Query(ge=1, le=2**31 - 1)]
PhotoId = Annotated[str, Path()]


@router.post("", status_code=201, response_model=PhotoState, openapi_extra=_UPLOAD)
async def upload_photo(request: Request, price_fen_min: Fen, price_fen_max: Fen) -> Response:
    """Make a photo of the picture in the body (JPEG, PNG or WebP); each reader's price is drawn from the band."""
    gateway = request.app.state.gateway
    owner = gateway.auth.acting_user(request)
    key = key_of(request)
    band, limits = Band(price_fen_min, price_fen_max), gateway.settings.limits
    fields = {}
    if band.fen_min < limits.photo_price_fen_min:
        fields["price_fen_min"] = f"at least {limits.photo_price_fen_min} fen"
    if band.fen_max > limits.photo_price_fen_max:
        fields["price_fen_max"] = f"at most {limits.photo_price_fen_max} fen"
    if band.fen_min > band.fen_max:
        fields["price_fen_max"] = "not below price_fen_min"
    if fields:
        raise Problem("invalid", "Correct the named fields.", fields)
    photo, replayed = await gateway.photos.upload(owner, key, band, request.receive)
    return told_once(_told(photo), replayed=replayed, location=f"{PHOTOS_PATH}/{photo.photo_id}")


@router.get("/{photo_id}", response_model=PhotoBody)
async def read_photo(request: Request, photo_id: PhotoId) -> Response:
    """Look at a photo: whether one has paid, and what it costs one (nothing for its owner)."""
    gateway = request.app.state.gateway
    reader = gateway.auth.acting_user(request)
    photo = await gateway.photos.find(reader, photo_id)
    own = photo.owner == reader.user
    paid = not own and await gateway.photos.payment(photo, reader) is not None
    price_fen = None if own else gateway.photos.price_fen(photo, reader)
    return responses.json_response(_told(photo) | {"paid": paid, "price_fen": price_fen})


@router.get("/{photo_id}/blurred", response_class=Response, responses=_PICTURE)
async def read_blurred_photo(request: Request, photo_id: PhotoId) -> Response:
    """Get the blurred picture."""
    gateway = request.app.state.gateway
    photo = await gateway.photos.find(gateway.auth.acting_user(request), photo_id)
    return _picture(await gateway.photos.blurred(photo))


@router.get("/{photo_id}/clear", response_class=Response, responses=_PICTURE)
async def read_clear_photo(request: Request, photo_id: PhotoId) -> Response:
    """Get the clear picture, as its owner or once one has paid."""
    gateway = request.app.state.gateway
    reader = gateway.auth.acting_user(request)
    photo = await gateway.photos.find(reader, photo_id)
    return _picture(await gateway.photos.clear(photo, reader))


@router.post(
    "/{photo_id}/payments", status_code=201, response_model=PaymentState, openapi_extra={"parameters": [KEY_PARAMETER]}
)
async def pay_photo(request: Request, photo_id: PhotoId, body: PaymentBody) -> Response:
    """Pay the price that is shown to one; a photo is paid for once, whatever the key."""
    gateway = request.app.state.gateway
    payer = gateway.auth.acting_user(request)
    key_of(request)
    photo = await gateway.photos.find(payer, photo_id)
    funding, replayed = await gateway.photos.pay(photo, payer, body.price_fen)
    told = {
        "photo_id": photo.photo_id,
        "packet_id": funding.packet_id,
        "price_fen": funding.total_fen,
        "paid_at_ms": funding.at_ms,
    }
    return told_once(told, replayed=replayed, location=f"/v1/packets/{funding.packet_id}")


def _picture(sending: Sending) -> Response:
    # Its length is told: a client of HTTP/1.0 knows no chunks, and would take their frames for the picture's bytes.
    headers = _HEADERS | {"content-length": str(sending.bytes_count)}
    return StreamingResponse(sending.chunks, media_type=JPEG, headers=headers)


def _told(photo: Photo) -> dict[str, Any]:
    return {
        "photo_id": photo.photo_id,
        "owner": photo.owner,
        "width": photo.width,
        "height": photo.height,
        "price_fen_min": photo.price_fen_min,
        "price_fen_max": photo.price_fen_max,
        "created_at_ms": photo.created_at_ms,
    }
