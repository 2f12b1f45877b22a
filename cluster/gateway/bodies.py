"""Bodies: what the hot routes are asked, decoded and checked by msgspec: strict types, unknown fields refused.

Each shape stands here once: it decodes, it says which field is bad, and it is in the OpenAPI. Amounts are integer fen.
"""

import json
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from actors.ids import is_user
from actors.ledger.transfer import Special
from actors.packet.split import can_split
from actors.phrase import PHRASE_CHARS_MAX, normal, spoken
from cluster.config import Limits
from cluster.gateway.problems import Problem

PASSPHRASE_CHARS_MAX = PHRASE_CHARS_MAX
_NAME = "1 to 64 characters, no blanks"
IDEMPOTENCY_KEY_CHARS_MAX = 255
GREETING_CHARS_HARD_MAX = 10_000
"""The configured limit is lower; this one bounds what is looked at at all."""
BAD_FIELDS_MAX = 20
"""So many fields are named; a body may hold thousands of unknown ones."""


class GrabBody(msgspec.Struct, forbid_unknown_fields=True):
    """Nothing for most packets; a phrase for one that asks for it, `group` (gateways only) for a group's."""

    passphrase: str | None = None
    group: str | None = None


class GrabItem(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One grab of a batch."""

    packet_id: str
    user: str
    passphrase: str | None = None
    group: str | None = None


class GrabItems(msgspec.Struct, forbid_unknown_fields=True):
    """A batch."""

    grabs: list[GrabItem]


class RawItems(msgspec.Struct, forbid_unknown_fields=True):
    """A batch with something bad in it: looked at item by item, so that a bad one fails alone."""

    grabs: list[msgspec.Raw]


SentKind = Literal["lucky", "equal", "direct", "group", "password"]
"""The kinds that are sent as such; others come about by routes of their own."""


class SendBody(msgspec.Struct, forbid_unknown_fields=True):
    """A packet to send.

    `direct`: for `addressee` alone; `group`: for members of `group`; `password`: for whoever says `passphrase`.
    `shares` tells how a group or password packet is split, by default `lucky`.
    """

    kind: SentKind
    total_fen: Annotated[int, Meta(ge=1, le=2**53 - 1)]
    count: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    greeting: Annotated[str, Meta(max_length=GREETING_CHARS_HARD_MAX)] = ""
    shares: Literal["lucky", "equal"] | None = None
    addressee: str | None = None
    group: str | None = None
    passphrase: str | None = None


class Said(NamedTuple):
    """A packet whose takers say something: see `actors.packet.messages.Grab`."""

    packet_id: str
    phrase: bytes
    group: str


Asked = str | Said
"""A packet's id, where its takers say nothing; else what they do."""

_OF_KIND = {"direct": ("addressee",), "group": ("group", "shares"), "password": ("passphrase", "shares")}
_SPECIAL = ("addressee", "group", "passphrase", "shares")

_GRAB = msgspec.json.Decoder(GrabBody | None)
_ITEMS = msgspec.json.Decoder(GrabItems)
_RAW_ITEMS = msgspec.json.Decoder(RawItems)
_ITEM = msgspec.json.Decoder(GrabItem)
_SEND = msgspec.json.Decoder(SendBody)
_SEND_FIELDS = {field.name: field for field in msgspec.structs.fields(SendBody)}


def read_grab(body: bytes) -> GrabBody:
    """Read the body of a single grab. Raises Problem."""
    wanted: GrabBody = _decode(_GRAB, body) or GrabBody()
    fields: dict[str, str] = {}
    if wanted.passphrase is not None and len(wanted.passphrase) > PASSPHRASE_CHARS_MAX:
        fields["passphrase"] = f"at most {PASSPHRASE_CHARS_MAX} characters"
    if wanted.group is not None and not is_user(wanted.group):
        fields["group"] = _NAME
    if fields:
        raise Problem("invalid", "Correct the named fields.", fields)
    return wanted


def is_sound(item: Any) -> bool:
    """Tell whether a batch's item or a stream's line may be asked."""
    if not is_user(item.user) or (item.group is not None and not is_user(item.group)):
        return False
    return item.passphrase is None or len(item.passphrase) <= PASSPHRASE_CHARS_MAX


def asked(item: Any, platform_key: bytes) -> Asked:
    """Return what a batch's item or a stream's line asks."""
    return said(item.packet_id, item.passphrase, item.group, platform_key)


def said(packet_id: str, passphrase: str | None, group: str | None, platform_key: bytes) -> Asked:
    """Return what takers ask who say that to a packet; the phrase goes no further."""
    if not passphrase and not group:
        return packet_id
    return Said(packet_id, spoken(platform_key, passphrase) if passphrase else b"", group or "")


def special_of(wanted: SendBody, platform_key: bytes) -> Special | None:
    """Return what the packet has beyond an ordinary one."""
    if wanted.kind not in _OF_KIND:
        return None
    phrase = spoken(platform_key, wanted.passphrase) if wanted.passphrase else b""
    return Special(wanted.addressee or "", wanted.group or "", phrase)


def read_items(body: bytes) -> list[GrabItem | None]:
    """Read a batch; None stands for an item that is none. Raises Problem."""
    try:
        return _ITEMS.decode(body).grabs  # type: ignore[return-value]  # a list of items is one of items or None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return [_item(item) for item in _decode(_RAW_ITEMS, body).grabs]


def read_send(body: bytes, limits: Limits, sender: str) -> SendBody:
    """Read a packet to send and check it before any money moves. Raises Problem naming every bad field."""
    try:
        wanted = _SEND.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as failure:
        raise _bad_send(body) from failure
    fields = _misfits(wanted, sender)
    if wanted.total_fen > limits.total_fen_max:
        fields["total_fen"] = f"at most {limits.total_fen_max} fen"
    if wanted.count > limits.count_max:
        fields["count"] = f"at most {limits.count_max} shares"
    if len(wanted.greeting) > limits.greeting_chars_max:
        fields["greeting"] = f"at most {limits.greeting_chars_max} characters"
    if not fields and not can_split(wanted.total_fen, wanted.count, limits.share_fen_min, limits.share_fen_max):
        fields["total_fen"] = f"{limits.share_fen_min} to {limits.share_fen_max} fen for every share"
    if not fields and "equal" in (wanted.kind, wanted.shares) and wanted.total_fen % wanted.count:
        fields["total_fen"] = "an equal packet's total divides by its count"
    if fields:
        raise Problem("invalid", "Correct the named fields.", fields)
    return wanted


def _misfits(wanted: SendBody, sender: str) -> dict[str, str]:
    """Say what is missing for the kind, or does not belong to it."""
    own = _OF_KIND.get(wanted.kind, ())
    given = {name for name in _SPECIAL if getattr(wanted, name) is not None}
    fields = dict.fromkeys(sorted(given.difference(own)), f"not for a {wanted.kind} packet")
    if own and own[0] not in given:
        fields[own[0]] = f"required for a {wanted.kind} packet"
    for name in ("addressee", "group"):
        if name not in fields and name in given and not is_user(getattr(wanted, name)):
            fields[name] = _NAME
    if wanted.kind == "direct" and wanted.addressee == sender:
        fields["addressee"] = "somebody else than the sender"
    if wanted.kind == "direct" and wanted.count != 1:
        fields["count"] = "1 for a direct packet"
    phrase = wanted.passphrase
    sayable = phrase is None or (len(phrase) <= PASSPHRASE_CHARS_MAX and normal(phrase))
    if "passphrase" not in fields and not sayable:
        fields["passphrase"] = f"at most {PASSPHRASE_CHARS_MAX} characters, not all of them blank"
    return fields


def check_key(key: bytes) -> str:
    """Return the idempotency key. Raises Problem."""
    if not key:
        raise Problem("idempotency_key_missing", "Send an Idempotency-Key header, a fresh one for every new send.")
    if len(key) > IDEMPOTENCY_KEY_CHARS_MAX:
        limit = f"at most {IDEMPOTENCY_KEY_CHARS_MAX} characters"
        raise Problem("invalid", "The idempotency key is too long.", {"Idempotency-Key": limit})
    return key.decode("latin-1")


def _item(item: msgspec.Raw) -> GrabItem | None:
    try:
        return _ITEM.decode(item)
    except msgspec.ValidationError:
        return None


def _decode(decoder: Any, body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as failure:
        raise Problem("invalid", "Correct the body.", {"body": str(failure)}) from failure
    except (msgspec.DecodeError, UnicodeDecodeError) as failure:
        raise Problem("malformed", f"The body is not valid JSON: {failure}.") from failure


def _bad_send(body: bytes) -> Problem:
    """Say what is wrong with a body that is no packet: msgspec names the first bad field, a client wants them all.

    Python's own reader also gets through what is nearly JSON (NaN, half a surrogate), to where the field is known.
    """
    if not body:
        return Problem("invalid", "Correct the named fields.", {"body": "a JSON object"})
    try:
        told = json.loads(body.decode())
    except (ValueError, RecursionError) as failure:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        return Problem("malformed", f"The body is not valid JSON: {type(failure).__name__}.")
    if not isinstance(told, dict):
        return Problem("invalid", "Correct the named fields.", {"body": "a JSON object"})
    fields = {name: "no such field" for name in told if name not in _SEND_FIELDS}
    for name, field in _SEND_FIELDS.items():
        if name in told:
            try:
                msgspec.json.encode(msgspec.convert(told[name], field.type))
            except msgspec.ValidationError as failure:
                fields[name] = str(failure)
            except UnicodeEncodeError:
                fields[name] = "no lone surrogates"
        elif field.required:
            fields[name] = "required"
    named = {_sound(name): fields[name] for name in list(fields)[:BAD_FIELDS_MAX]}
    return Problem("invalid", "Correct the named fields.", named or {"body": "a JSON object in UTF-8"})


def _sound(name: str) -> str:
    return name.encode(errors="replace").decode()


def schemas() -> dict[str, dict[str, Any]]:
    """Return the OpenAPI schemas of the bodies, by name."""
    named = (GrabBody, GrabItem, SendBody)
    refs, components = msgspec.json.schema_components(named)
    assert [ref["$ref"].rpartition("/")[2] for ref in refs] == [shape.__name__ for shape in named]
    return {name: {**schema, "additionalProperties": False} for name, schema in components.items()}
