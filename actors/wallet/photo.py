"""Photo: ids and prices of pictures that cost something. Pure.

The price of a photo lies in the band that its owner named, in fen. It is drawn for each reader, once and for ever, from
HMAC-SHA256(platform key, "photo price" 0x00 photo id 0x00 tenant 0x00 reader): nobody chooses it, nobody can ask again.
A payment is a packet whose id follows from (tenant, payer, photo): nobody pays twice, and who has paid can be found.
"""

import hmac

from actors.kernel.names import is_id, tag_of
from actors.transfers.ids import PHOTO_PAYMENT, packet_id_of, wallet_id, wallet_index_of
from actors.transfers.seeds import Draw


def photo_id_of(platform_key: bytes, tenant: str, owner: str, key: str, wallet_streams: int) -> str:
    """Derive the id of a photo: the same (tenant, owner, idempotency key) always gives the same one.

    32 characters of lower-case base32 over 20 bytes: the owner's wallet stream (u16), 18 bytes of HMAC.
    """
    tag = tag_of(platform_key, b"photo-id", tenant, owner, key)
    return wallet_id(wallet_index_of(tenant, owner, wallet_streams), tag)


def is_photo_id(text: str) -> bool:
    """Tell whether `text` can name a photo. What can is safe as the name of a folder."""
    return is_id(text)


def price_fen_of(platform_key: bytes, photo_id: str, tenant: str, reader: str, fen_min: int, fen_max: int) -> int:
    """Draw the price of a photo for one reader, uniform over fen_min..fen_max."""
    words = (b"photo price", photo_id.encode(), tenant.encode(), reader.encode())
    return fen_min + Draw(hmac.digest(platform_key, b"\x00".join(words), "sha256")).below(fen_max - fen_min + 1)


def payment_key(photo_id: str) -> str:
    """Return the key under which everybody sends the price of a photo."""
    return f"photo:{photo_id}"


def payment_id_of(
    platform_key: bytes, tenant: str, payer: str, photo_id: str, packet_streams: int, wallet_streams: int
) -> str:
    """Return the id of the packet that pays for the photo, whether it has been sent or not."""
    key = payment_key(photo_id)
    return packet_id_of(platform_key, tenant, payer, key, packet_streams, wallet_streams, PHOTO_PAYMENT)
