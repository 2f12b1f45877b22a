"""Contract: what the contract modules of all kinds share: strict bodies, and bounds that are checked and documented.

A struct of a contract module is all that the gateway knows of a body: it decodes or encodes it, and its JSON Schema is
in the OpenAPI document. A bound that a type cannot say, because it is configured, is a `FieldBound`: one declaration is
checked and documented. Amounts are integer fen, instants integer Unix milliseconds.
"""

import re
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from actors.kernel.names import USER_CHARS_MAX, USER_RULE, is_user
from cluster.config import Settings
from cluster.gateway.problems import Problem
from cluster.gateway.validation import (
    FIELDS_NAMED_MAX,
    NOT_JSON,
    is_whole,
    read_json,
    read_query,
    sound_name,
    texts_in,
)

TEXT_CHARS_HARD_MAX = 10_000
"""The configured limits are lower; this one bounds what is looked at at all."""

_PLACE = re.compile(r" - at `\$(.*)`$")
_ENCODE = msgspec.json.Encoder().encode
_OBJECT = {"body": "a JSON object"}

Fen = Annotated[int, Meta(ge=1, le=2**53 - 1)]
Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Instant = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Text = Annotated[str, Meta(max_length=TEXT_CHARS_HARD_MAX)]


class FieldBound(NamedTuple):
    """What a field may be: in JSON Schema's keywords, as a check, and in words for whom it refuses."""

    keywords: Mapping[str, Any]
    admits: Callable[[Any], bool]
    words: str


Bounds = Mapping[str, FieldBound]
"""By field."""
BoundsOf = Mapping[type[msgspec.Struct], Bounds]
"""By struct. A contract module whose structs have configured bounds returns them from its `bounds(settings)`."""


class RequestBody(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A request's body: strict types, no field that is not known."""


class Query(msgspec.Struct):
    """The parameters of a request's query; those that are not known are ignored."""


USER = FieldBound(
    {"minLength": 1, "maxLength": USER_CHARS_MAX, "pattern": r"^\S+$", "description": f"{USER_RULE}."},
    is_user,
    USER_RULE,
)


def chars(most: int, least: int = 0) -> FieldBound:
    """FieldBound the length of a text."""
    keywords = {"minLength": least, "maxLength": most} if least else {"maxLength": most}
    words = f"{least} to {most} characters" if least else f"at most {most} characters"
    return FieldBound(keywords, lambda text: least <= len(text) <= most, words)


def said(most: int) -> FieldBound:
    """FieldBound a text that says something: not all of it is blank."""
    keywords = {"minLength": 1, "maxLength": most, "pattern": r"\S"}
    words = f"1 to {most} characters, not all blank"
    return FieldBound(keywords, lambda text: bool(text.strip()) and len(text) <= most, words)


def between(least: int, most: int, unit: str = "fen") -> FieldBound:
    """FieldBound a number on both sides."""
    keywords = {"minimum": least, "maximum": most}
    return FieldBound(keywords, lambda number: least <= number <= most, f"{least} to {most} {unit}")


def at_least(least: int) -> FieldBound:
    """FieldBound a number from below."""
    return FieldBound({"minimum": least}, lambda number: number >= least, f"at least {least}")


def at_most(most: int, unit: str = "") -> FieldBound:
    """FieldBound a number from above."""
    return FieldBound({"maximum": most}, lambda number: number <= most, f"at most {most} {unit}".strip())


def items(most: int) -> FieldBound:
    """FieldBound the length of a list."""
    return FieldBound({"maxItems": most}, lambda listed: len(listed) <= most, f"at most {most}")


def told_only(keywords: Mapping[str, Any]) -> FieldBound:
    """Document a bound that is checked elsewhere, because it hangs on other fields as well."""
    return FieldBound(keywords, lambda value: True, "")


def bounds_of(shape: type[msgspec.Struct], settings: Settings) -> Bounds:
    """Return the configured bounds of a struct of a contract module."""
    of_module: Callable[[Settings], BoundsOf] | None = getattr(sys.modules[shape.__module__], "bounds", None)
    return {} if of_module is None else of_module(settings).get(shape, {})


def misfits(body: Any, bounds: Bounds) -> dict[str, str]:
    """Return what is beyond its bound, by field, and what it must be."""
    fields = {}
    for name, bound in bounds.items():
        value = getattr(body, name)
        if value is not None and not bound.admits(value):
            fields[name] = bound.words
    return fields


def refuse_misfits(fields: Mapping[str, str]) -> None:
    """Raise Problem if any field is bad, naming them all."""
    if fields:
        raise Problem("invalid", "Correct the named fields.", dict(fields))


# Bodies and queries.


class BodyDecoder:
    """Reads the bodies of one route into their struct."""

    def __init__(self, shape: type[RequestBody], *, required: bool = True) -> None:
        """`required`: an empty body, or null, is not one; otherwise it is the struct's defaults."""
        self._shape = shape
        self._required = required
        self._decoder = msgspec.json.Decoder(shape if required else shape | None)

    def __call__(self, body: bytes) -> RequestBody:
        """Return what a body asks. Raises Problem naming every bad field."""
        if not body:
            if self._required:
                refuse_misfits(_OBJECT)
            return self._shape()
        try:
            wanted: RequestBody | None = self._decoder.decode(body)
        except NOT_JSON as failure:
            raise _bad_form(self._shape, body) from failure
        if wanted is None:
            return self._shape()
        # msgspec takes the last of two equal keys. A struct's defaults are left out where it is encoded: if as many
        # texts were read as are written, each key was there once. Otherwise a slower reader looks.
        read = texts_in(body)
        if read < 0 or read != texts_in(_ENCODE(wanted)):
            read_json(body)
        return wanted


def _bad_form(shape: type[msgspec.Struct], body: bytes) -> Problem:
    """Say what is wrong with a body: msgspec names the first bad field, a client wants them all.

    Python's own reader also gets through what is nearly JSON (NaN, half a surrogate), to where the field is known.
    """
    told = read_json(body)
    if not isinstance(told, dict):
        return Problem("invalid", "Correct the named fields.", _OBJECT)
    known = {field.name: field for field in msgspec.structs.fields(shape)}
    fields = {name: "no such field" for name in told if name not in known}
    for name, field in known.items():
        if name in told:
            fields |= _bad_value(name, told[name], field.type)
        elif field.required:
            fields[name] = "required"
    named = {sound_name(name): fields[name] for name in list(fields)[:FIELDS_NAMED_MAX]}
    return Problem("invalid", "Correct the named fields.", named or {"body": "a JSON object in UTF-8"})


def _bad_value(name: str, value: Any, kind: Any) -> dict[str, str]:
    """Say what is wrong with a field's value, under its dotted name; empty: nothing."""
    try:
        _ENCODE(msgspec.convert(value, kind))
    except msgspec.ValidationError as failure:
        words, place = str(failure), ""
        if at := _PLACE.search(words):
            words, place = words[: at.start()], at[1]
        return {name + place.replace("[", ".").replace("]", ""): words}
    except UnicodeEncodeError:
        return {name: "no lone surrogates"}
    return {}


class QueryDecoder:
    """Reads the queries of one route into its struct."""

    def __init__(self, shape: type[Query] | None, settings: Settings) -> None:
        """`shape` None: the route has no parameters, and its queries are checked for their form alone."""
        self._shape = shape
        self._bounds = bounds_of(shape, settings) if shape is not None else {}
        self._known = {field.name: field for field in msgspec.structs.fields(shape)} if shape is not None else {}
        self._whole = {name for name, field in self._known.items() if getattr(field.type, "__origin__", None) is int}

    def __call__(self, query: bytes) -> Any:
        """Return the struct. Raises Problem naming every bad parameter."""
        told = read_query(query) if query else {}
        fields: dict[str, str] = {}
        values: dict[str, Any] = {}
        for name, field in self._known.items():
            if name not in told:
                if field.required:
                    fields[name] = "required"
                continue
            values[name] = told[name]
            if name in self._whole:
                if not is_whole(told[name]):
                    fields[name] = "a whole number, in digits alone"
                    continue
                values[name] = int(told[name])
            fields |= _bad_value(name, values[name], field.type)
        refuse_misfits(fields)
        if self._shape is None:
            return None
        wanted = self._shape(**values)
        refuse_misfits(misfits(wanted, self._bounds))
        return wanted
