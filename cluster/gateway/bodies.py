"""Bodies: what the hot routes are asked, decoded and checked by msgspec: strict types, unknown fields refused.

Each shape stands here once: it decodes, it says which field is bad, and it is in the OpenAPI. Amounts are integer fen.
"""

import json
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from actors.packet.split import can_split
from cluster.config import Limits
from cluster.gateway.problems import Problem

PASSPHRASE_CHARS_MAX = 128
IDEMPOTENCY_KEY_CHARS_MAX = 255
GREETING_CHARS_HARD_MAX = 10_000
"""The configured limit is lower; this one bounds what is looked at at all."""
BAD_FIELDS_MAX = 20
"""So many fields are named; a body may hold thousands of unknown ones."""


class GrabBody(msgspec.Struct, forbid_unknown_fields=True):
    """Nothing for lucky and equal packets; a phrase is for packets that ask for one."""

    passphrase: str | None = None


class GrabItem(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One grab of a batch."""

    packet_id: str
    user: str
    passphrase: str | None = None


class GrabItems(msgspec.Struct, forbid_unknown_fields=True):
    """A batch."""

    grabs: list[GrabItem]


class RawItems(msgspec.Struct, forbid_unknown_fields=True):
    """A batch with something bad in it: looked at item by item, so that a bad one fails alone."""

    grabs: list[msgspec.Raw]


class SendBody(msgspec.Struct, forbid_unknown_fields=True):
    """A packet to send."""

    kind: Literal["lucky", "equal"]
    total_fen: Annotated[int, Meta(ge=1, le=2**53 - 1)]
    count: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    greeting: Annotated[str, Meta(max_length=GREETING_CHARS_HARD_MAX)] = ""


_GRAB = msgspec.json.Decoder(GrabBody | None)
_ITEMS = msgspec.json.Decoder(GrabItems)
_RAW_ITEMS = msgspec.json.Decoder(RawItems)
_ITEM = msgspec.json.Decoder(GrabItem)
_SEND = msgspec.json.Decoder(SendBody)
_SEND_FIELDS = {field.name: field for field in msgspec.structs.fields(SendBody)}


def check_grab(body: bytes) -> None:
    """Check the body of a single grab. Raises Problem."""
    wanted = _decode(_GRAB, body)
    if wanted is not None and wanted.passphrase is not None and len(wanted.passphrase) > PASSPHRASE_CHARS_MAX:
        limit = f"at most {PASSPHRASE_CHARS_MAX} characters"
        raise Problem("invalid", "Correct the named fields.", {"passphrase": limit})


def read_items(body: bytes) -> list[GrabItem | None]:
    """Read a batch; None stands for an item that is none. Raises Problem."""
    try:
        return _ITEMS.decode(body).grabs  # type: ignore[return-value]  # a list of items is one of items or None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return [_item(item) for item in _decode(_RAW_ITEMS, body).grabs]


def read_send(body: bytes, limits: Limits) -> SendBody:
    """Read a packet to send and check it before any money moves. Raises Problem naming every bad field."""
    try:
        wanted = _SEND.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as failure:
        raise _bad_send(body) from failure
    fields: dict[str, str] = {}
    if wanted.total_fen > limits.total_fen_max:
        fields["total_fen"] = f"at most {limits.total_fen_max} fen"
    if wanted.count > limits.count_max:
        fields["count"] = f"at most {limits.count_max} shares"
    if len(wanted.greeting) > limits.greeting_chars_max:
        fields["greeting"] = f"at most {limits.greeting_chars_max} characters"
    if not fields and not can_split(wanted.total_fen, wanted.count, limits.share_fen_min, limits.share_fen_max):
        fields["total_fen"] = f"{limits.share_fen_min} to {limits.share_fen_max} fen for every share"
    if not fields and wanted.kind == "equal" and wanted.total_fen % wanted.count:
        fields["total_fen"] = "an equal packet's total divides by its count"
    if fields:
        raise Problem("invalid", "Correct the named fields.", fields)
    return wanted


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
