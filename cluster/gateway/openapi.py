"""OpenAPI: the document of what this replica serves, as it is really served.

FastAPI writes routes, parameters and the bodies that pydantic reads. Added here: who may call (`contract`), every
refusal as the problem that is sent, headers both ways, the configured bounds (`fields`), examples, and the bodies that
msgspec reads or writes.
"""

from inspect import cleandoc
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from cluster.config import Settings
from cluster.gateway.contract import refusals_of, scopes_of
from cluster.gateway.examples import ANSWERS, REQUESTS
from cluster.gateway.headers import ACTING_USER
from cluster.gateway.idempotency import KEY_PARAMETER
from cluster.gateway.packet.grab_bodies import GrabBody, GrabItems
from cluster.gateway.packet.ndjson import StreamCode, StreamEnd, StreamGrab, StreamShare
from cluster.gateway.packet.send_bodies import SendBody
from cluster.gateway.problems import MEDIA_TYPE, example_of, schema
from cluster.gateway.schema_bounds import bodies_of, bound, parameters_of
from cluster.observability.metrics_snapshot import Figures
from cluster.runtime.live_audit import AuditReport
from cluster.tokens import USER_SCOPE

Json = dict[str, Any]

_DESCRIPTION = """Money is integer fen (`_fen`), instants are Unix milliseconds (`_ms`), bodies are JSON in UTF-8, and a
request with a field that a route does not know is refused.

Every refusal is a problem (RFC 9457): decide by `code`, which is never renamed; codes may be added. `retryable` means
that the same request with the same `Idempotency-Key` may succeed later; `Retry-After` says when. Without an answer the
outcome is unknown: repeat the request with the same key.

A request may name itself by `X-Request-Id` (1 to 128 visible ASCII characters); its answer carries that name, or a new
one."""

_TOKEN = "token"
_SECURITY = {
    _TOKEN: {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": (
            "A JWT (HS256 or EdDSA) with `sub`, `tenant`, `scope` and `exp`. An operation names the scopes that open "
            "it: `user`, `gateway` (a chat gateway, which acts for users of its tenant) or `operator`."
        ),
    }
}
_ACTING_USER = {
    "name": ACTING_USER,
    "in": "header",
    "required": False,
    "description": "For whom a gateway acts, of its own tenant: a user id, in UTF-8 or percent-encoded. "
    "Only with a token of the scope `gateway`; without it the token's own user acts.",
    "schema": {"type": "string", "minLength": 1},
    "example": "mei",
}
_PARAMETERS = {"IdempotencyKey": KEY_PARAMETER, "ActingUser": _ACTING_USER}

_HEADERS: Json = {
    "RequestId": {
        "description": "The name of this request, in the logs as well.",
        "required": True,
        "schema": {"type": "string"},
    },
    "ServedBy": {
        "description": "The gateway replica that answered; another one after each of its starts.",
        "schema": {"type": "string"},
    },
    "Replayed": {
        "description": "The request had taken effect before; this is what it was answered then.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Location": {"description": "The path of what was made.", "required": True, "schema": {"type": "string"}},
    "RetryAfter": {
        "description": "Seconds after which to ask again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
    "Authenticate": {"description": "The scheme to come with.", "required": True, "schema": {"type": "string"}},
}
_ALWAYS = {"X-Request-Id": "RequestId", "X-Served-By": "ServedBy"}

_READ = (SendBody, GrabBody, GrabItems, StreamGrab)
_WRITTEN: tuple[Any, ...] = (StreamShare, StreamCode, StreamEnd, AuditReport, Figures)
_ANSWERED: dict[str, Any] = {"read_audit": AuditReport, "read_figures": Figures}
"""What is written by msgspec alone."""

_NOWHERE = {"commit"}
"""What is made there has no path: it is used once, by its id."""
_REPEATED = {"decline_lishi"}
"""Told as a repeat although there is no key: it takes effect once by nature."""

_VALIDATION = ("HTTPValidationError", "ValidationError")
"""FastAPI's own refusals, which are never sent."""


def document(api: FastAPI, settings: Settings) -> Json:
    """Write the document. The bounds in it are those of this configuration."""
    written: Json = get_openapi(title=api.title, version=api.version, description=_DESCRIPTION, routes=api.routes)
    schemas: Json = written.setdefault("components", {}).setdefault("schemas", {})
    for name in _VALIDATION:
        schemas.pop(name, None)
    for shape in schemas.values():
        _drop_null(shape)
    schemas |= _shapes() | {"Problem": schema()}
    _simplify(written)
    _bound_bodies(schemas, settings)
    codes: set[str] = set()
    for path, operations in written["paths"].items():
        for method, operation in operations.items():
            codes |= _complete(operation, scopes_of(method.upper(), path), settings)
    written["components"] |= {
        "securitySchemes": _SECURITY,
        "parameters": _PARAMETERS,
        "headers": _HEADERS,
        "examples": {code: {"summary": code, "value": example_of(code)} for code in sorted(codes)},
    }
    return written


def _shapes() -> Json:
    """Return the schemas of what msgspec reads and writes, by name."""
    _, shapes = msgspec.json.schema_components([*_READ, *_WRITTEN], ref_template="#/components/schemas/{name}")
    for shape in shapes.values():
        shape["description"] = cleandoc(shape["description"])
    return shapes


def _bound_bodies(schemas: Json, settings: Settings) -> None:
    for name, fields in bodies_of(settings).items():
        if name in schemas:  # not every system serves every route
            for field, keywords in fields.items():
                bound(schemas[name]["properties"][field], keywords)


def _drop_null(shape: Json) -> None:
    """Of an answer's field that need not be there: it is left out then, and never null.

    A request's may be null as well: such a shape takes no unknown field, and is left as it is.
    """
    if shape.get("additionalProperties") is False:
        return
    for name, field in shape.get("properties", {}).items():
        choices = [choice for choice in field.get("anyOf", ()) if choice != {"type": "null"}]
        if len(choices) == 1 and len(field["anyOf"]) == 2 and name not in shape.get("required", ()):
            del field["anyOf"]
            field.update(choices[0])


def _simplify(part: Any) -> None:
    """Write what generators of clients stumble over as they expect it, with the same meaning.

    FastAPI makes floats of integers' bounds; msgspec bounds a tuple twice.
    """
    if isinstance(part, list):
        for one in part:
            _simplify(one)
    if isinstance(part, dict):
        if part.get("items") is False and "maxItems" in part:
            del part["items"]
        for name, one in part.items():
            if name in ("minimum", "maximum") and isinstance(one, float):
                part[name] = int(one)
            _simplify(one)


def _complete(operation: Json, scopes: tuple[str, ...], settings: Settings) -> set[str]:
    """Write what FastAPI does not know of an operation; return the codes of its refusals."""
    name = operation["operationId"]
    parameters = operation.get("parameters", [])
    keyed = any(parameter["name"] == KEY_PARAMETER["name"] for parameter in parameters)
    own = [parameter for parameter in parameters if parameter["name"] != KEY_PARAMETER["name"]]
    for parameter in own:
        bound(parameter["schema"], parameters_of(settings).get(name, {}).get(parameter["name"], {}))
    named = (["IdempotencyKey"] if keyed else []) + (["ActingUser"] if USER_SCOPE in scopes else [])
    operation["parameters"] = own + [{"$ref": f"#/components/parameters/{one}"} for one in named]
    operation["security"] = [{_TOKEN: [scope]} for scope in scopes]
    if name in _ANSWERED:
        _content(operation["responses"]["200"])["schema"] = _reference(_ANSWERED[name].__name__)
    body = operation.get("requestBody")
    if body is not None and name in REQUESTS:
        _content(body)["examples"] = {what: {"value": value} for what, value in REQUESTS[name].items()}
    asked = any(parameter["in"] == "query" for parameter in own)
    refusals = refusals_of(name, scopes, keyed=keyed, body=body is not None, asked=asked)
    _answer(operation, keyed=keyed)
    operation["responses"] |= {str(status): _refusal(status, codes) for status, codes in refusals.items()}
    return {code for codes in refusals.values() for code in codes}


def _answer(operation: Json, *, keyed: bool) -> None:
    """Complete the answers of success; what FastAPI says of failures goes."""
    name, responses = operation["operationId"], operation["responses"]
    operation["responses"] = {status: told for status, told in responses.items() if status.startswith("2")}
    for status, told in operation["responses"].items():
        made = {"Location": "Location"} if status == "201" and name not in _NOWHERE else {}
        again = {"Idempotent-Replayed": "Replayed"} if keyed or name in _REPEATED else {}
        told["headers"] = _headers(_ALWAYS | made | again)
        if name in ANSWERS:
            _content(told)["example"] = ANSWERS[name]


def _refusal(status: int, codes: list[str]) -> Json:
    later = {"Retry-After": "RetryAfter"}
    more = {401: {"WWW-Authenticate": "Authenticate"}, 429: later, 503: later}
    return {
        "description": ", ".join(f"`{code}`" for code in codes),
        "headers": _headers(_ALWAYS | more.get(status, {})),
        "content": {
            MEDIA_TYPE: {
                "schema": _reference("Problem"),
                "examples": {code: {"$ref": f"#/components/examples/{code}"} for code in codes},
            }
        },
    }


def _headers(named: dict[str, str]) -> Json:
    return {name: {"$ref": f"#/components/headers/{header}"} for name, header in named.items()}


def _content(told: Json) -> Json:
    """Return the only content of a request or an answer."""
    [content] = told["content"].values()
    found: Json = content
    return found


def _reference(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}
