"""Validation: what every route asks of a request's form: its media type, its JSON, its query.

What could be read in two ways is refused, not read in one of them: JSON is UTF-8 without a byte order mark and says
each key of an object once; a query says each parameter once, and a whole number in one way only.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from cluster.gateway.problems import Problem
from cluster.gateway.raw_http import Headers

JSON = "application/json"
UNTYPED = "application/octet-stream"
"""What a body is that tells no type (RFC 9110, 8.3); only pictures may be, they say themselves what they are."""

NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not JSON, or are nested deeper than anything that is asked here."""

FIELDS_NAMED_MAX = 20
"""So many fields are named; a body may hold thousands of unknown ones."""

_JSON_TYPE = re.compile(
    rb'application/json\s*(?:;\s*charset\s*=\s*"?utf-8"?\s*|;(?!\s*charset\s*=)[^;]*)*', re.IGNORECASE
)
_WHOLE = re.compile("0|[1-9][0-9]*")
WHOLE_DIGITS_MAX = 18
KEY_CHARS_MAX = 64


# Media types.


def check_json_type(headers: Headers) -> None:
    """Refuse a body that is not JSON in UTF-8 by its own word. Raises Problem."""
    told = headers.get(b"content-type", b"")
    if (told != b"application/json" and not _JSON_TYPE.fullmatch(told)) or b"content-encoding" in headers:
        raise _unsupported(JSON)


def check_type(headers: Headers, accepted: Sequence[str]) -> None:
    """Refuse a body of a type that a route does not take. Raises Problem."""
    told = headers.get(b"content-type", UNTYPED.encode()).partition(b";")[0].strip().lower()
    if told.decode("latin-1") not in accepted or b"content-encoding" in headers:
        raise _unsupported(*accepted)


def _unsupported(*accepted: str) -> Problem:
    return Problem("unsupported_media_type", f"Send the body as it is, with Content-Type: {' or '.join(accepted)}.")


# JSON.


class RepeatedKeys:
    """Stands for an object that says these keys more than once."""

    def __init__(self, keys: list[str]) -> None:
        self.keys = keys


def _marked(pairs: list[tuple[str, Any]]) -> dict[str, Any] | RepeatedKeys:
    told = dict(pairs)
    if len(told) == len(pairs):
        return told
    return RepeatedKeys([key for key, count in Counter(key for key, _ in pairs).items() if count > 1])


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    told = _marked(pairs)
    if isinstance(told, RepeatedKeys):
        raise Problem(
            "malformed", f"An object says its key {sound_name(told.keys[0][:KEY_CHARS_MAX])} twice; say each once."
        )
    return told


_ONCE, _MARKED = json.JSONDecoder(object_pairs_hook=_once), json.JSONDecoder(object_pairs_hook=_marked)


def read_json(body: bytes) -> Any:
    """Return what a body says. Raises Problem, also for a key that is there twice in one object."""
    return _decoded(_ONCE, body)


def read_marked(body: bytes) -> Any:
    """Return what a body says, with `RepeatedKeys` in the place of an object that says a key twice. Raises Problem."""
    return _decoded(_MARKED, body)


def texts_in(body: bytes) -> int:
    """Return how many texts well-formed JSON has, keys included; -1 if that is not plain to see.

    Counting costs a fraction of decoding: if the keys and texts that were decoded are all there are, then no object
    says a key twice.
    """
    return -1 if b'\\"' in body else body.count(b'"') // 2


def _decoded(decoder: json.JSONDecoder, body: bytes) -> Any:
    try:
        return decoder.decode(body.decode())
    except (ValueError, RecursionError) as failure:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise Problem("malformed", "The body is not valid JSON in UTF-8 (without a byte order mark).") from failure


def sound_name(name: str) -> str:
    """Return what can be written of a field's name: JSON may hold half a surrogate."""
    return name.encode(errors="replace").decode()


# Queries.


def is_whole(text: str) -> bool:
    """Tell whether a text is a whole number from 0, written in one way: no sign, no leading zeros, no blanks."""
    return _WHOLE.fullmatch(text) is not None and len(text) <= WHOLE_DIGITS_MAX


def read_query(query: bytes) -> Mapping[str, str]:
    """Return the parameters of a query. Raises Problem for one that is there twice."""
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    told = dict(pairs)
    if len(told) < len(pairs):
        names = Counter(name for name, _ in pairs)
        twice = [sound_name(name[:KEY_CHARS_MAX]) for name, count in names.items() if count > 1][:FIELDS_NAMED_MAX]
        raise Problem("invalid", "Say each parameter of the query once.", dict.fromkeys(twice, "once"))
    return told
