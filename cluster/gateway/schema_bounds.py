"""Fields: the bounds of what may be asked, as JSON Schema says them, out of the configuration.

Where a body's own shape is wider than what is taken (the limits are configured, a shape is not), the document says what
is taken. A test sends what lies on each bound, and what lies beyond it.
"""

from typing import Any

from actors.kernel.names import USER_CHARS_MAX, USER_RULE
from actors.transfers.ids import LANES_MAX
from actors.transfers.phrase import PHRASE_CHARS_MAX
from actors.wallet.rules import WalletRules
from actors.wallet.sends import SendRules
from cluster.config import Settings

Keywords = dict[str, Any]

_USER: Keywords = {"minLength": 1, "maxLength": USER_CHARS_MAX, "pattern": r"^\S+$", "description": f"{USER_RULE}."}
_PHRASE: Keywords = {"minLength": 1, "maxLength": PHRASE_CHARS_MAX, "pattern": r"\S"}
_GRAB: dict[str, Keywords] = {"group": _USER, "passphrase": {"maxLength": PHRASE_CHARS_MAX}}


def bodies_of(settings: Settings) -> dict[str, dict[str, Keywords]]:
    """Return the keywords of request bodies' fields that hang on the configuration, by schema and field."""
    limits, bounds, sends = settings.limits, settings.bounds, settings.rules(WalletRules).sends
    crowd = {"total_fen": _fen(sends, limits.crowd_total_fen_max), "count": {"maximum": limits.crowd_count_max}}
    share = _fen(sends, sends.share_fen_max)
    gift = _fen(sends, min(sends.share_fen_max, limits.total_fen_max))
    band = {"share_fen_min": share, "share_fen_max": share}
    greeting = {"maxLength": limits.greeting_chars_max}
    sponsor = {"maxLength": limits.sponsor_chars_max}
    nonce = {"minLength": 1, "maxLength": limits.nonce_chars_max}
    people_fen = f"At most {limits.total_fen_max} fen, and for a star packet {limits.crowd_total_fen_max}."
    people = f"At most {limits.count_max} shares, and for a star packet {limits.crowd_count_max}."
    return {
        "SendBody": {
            "total_fen": _fen(sends, max(limits.total_fen_max, limits.crowd_total_fen_max), people_fen),
            "count": {"maximum": max(limits.count_max, limits.crowd_count_max), "description": people},
            "greeting": greeting,
            "sender_nonce": nonce,
            "addressee": _USER,
            "group": _USER,
            "passphrase": _PHRASE,
            "sponsor": sponsor,
            "day_count_max": {"minimum": LANES_MAX},
            **band,
        },
        "GrabBody": _GRAB,
        "GrabItem": {"user": _USER, **_GRAB},
        "GrabItems": {"grabs": {"maxItems": bounds.batch_size_max}},
        "StreamGrab": {"user": _USER, **_GRAB},
        "CommitBody": {
            "star_count": {"maximum": limits.crowd_count_max},
            "bursts": {"maximum": limits.bursts_max},
        },
        "BurstBody": crowd,
        "RainBody": {
            "bursts": {"maxItems": limits.bursts_max},
            "greeting": greeting,
            "sponsor": sponsor,
            "sender_nonce": nonce,
            **band,
        },
        "AskBody": {"asked": _USER, "greeting": greeting},
        "AcceptBody": {"amount_fen": gift, "greeting": greeting},
        "NoteBody": {"text": {"minLength": 1, "maxLength": limits.note_chars_max, "pattern": r"\S"}},
        "PaymentBody": {"price_fen": {"minimum": limits.photo_price_fen_min, "maximum": limits.photo_price_fen_max}},
        "UserBody": {
            "user": _USER,
            "tenant": {"pattern": "^[a-z0-9][a-z0-9-]*$"},
            "balance_fen": {"maximum": limits.sandbox_balance_fen_max},
        },
    }


def parameters_of(settings: Settings) -> dict[str, dict[str, Keywords]]:
    """Return the same of parameters, by operation and parameter."""
    limits = settings.limits
    price = {"minimum": limits.photo_price_fen_min, "maximum": limits.photo_price_fen_max}
    return {"upload_photo": {"price_fen_min": price, "price_fen_max": price}}


def bound(schema: dict[str, Any], keywords: Keywords) -> None:
    """Put keywords on a field's schema; of one that may be null on what else it may be."""
    described = {key: text for key, text in keywords.items() if key == "description"}
    choices = [choice for choice in schema.get("anyOf", [schema]) if choice.get("type") != "null"]
    for choice in choices:
        choice.update({key: told for key, told in keywords.items() if key not in described})
    schema.update(described)


def _fen(sends: SendRules, fen_max: int, description: str = "") -> Keywords:
    keywords: Keywords = {"minimum": sends.share_fen_min, "maximum": fen_max}
    return keywords | ({"description": description} if description else {})
