"""Contract of photos over HTTP: pictures with a price. Amounts are integer fen, instants integer Unix milliseconds."""

from typing import Annotated

import msgspec
from msgspec import Meta

from cluster.config import Settings
from cluster.gateway.contract import BoundsOf, Fen, Query, RequestBody, between, told_only


class PhotoPrices(Query):
    """Between which prices a photo's are drawn, both included."""

    price_fen_min: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    price_fen_max: Annotated[int, Meta(ge=1, le=2**31 - 1)]


class PaymentBody(RequestBody):
    """The price of a photo, as it was shown."""

    price_fen: Fen


class PaymentState(msgspec.Struct):
    """A photo that was paid for, by a packet."""

    photo_id: str
    packet_id: str
    price_fen: int
    paid_at_ms: int


class PhotoState(msgspec.Struct):
    """A photo as it was made. Sizes in pixels."""

    photo_id: str
    owner: str
    width: int
    height: int
    price_fen_min: int
    price_fen_max: int
    created_at_ms: int


class PhotoBody(PhotoState):
    """A photo as its reader sees it; for its owner there is no price."""

    paid: bool
    price_fen: int | None


def bounds(settings: Settings) -> BoundsOf:
    """Return the configured bounds of fields; which price it is, is checked where it is paid."""
    price = between(settings.limits.photo_price_fen_min, settings.limits.photo_price_fen_max)
    return {
        PhotoPrices: {"price_fen_min": price, "price_fen_max": price},
        PaymentBody: {"price_fen": told_only(price.keywords)},
    }
