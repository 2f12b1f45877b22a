"""OpenAPI: the document of what this replica serves, written from the route table.

Who may call, every refusal as the problem that is sent, headers both ways, the structs of the contract modules, their
configured bounds, examples.
"""

from inspect import cleandoc, getdoc
from typing import Any

import msgspec

from cluster.config import Settings
from cluster.gateway.auth import Callers
from cluster.gateway.contract import FieldBound, Query, RequestBody, bounds_of
from cluster.gateway.headers import ACTING_USER, IDEMPOTENCY_KEY_BYTES_MAX
from cluster.gateway.problems import MEDIA_TYPE, example_of, schema
from cluster.gateway.route import Media, Route, refusals_of
from cluster.gateway.routing import RouteTable

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
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": IDEMPOTENCY_KEY_BYTES_MAX},
}
_PARAMETERS = {"IdempotencyKey": _KEY, "ActingUser": _ACTING_USER}

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

_SCHEMAS = "#/components/schemas/"


def document(table: RouteTable, settings: Settings) -> Json:
    """Write the document. The bounds in it are those of this configuration."""
    routes = [route for route in table.routes if route.tag]
    paths: Json = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, settings)
    codes = {code for route in routes for codes in refusals_of(route).values() for code in codes}
    return {
        "openapi": "3.1.0",
        "info": {"title": "hongbao", "version": "1", "description": _DESCRIPTION},
        "paths": paths,
        "components": {
            "schemas": _schemas(routes, settings) | {"Problem": schema()},
            "securitySchemes": _SECURITY,
            "parameters": _PARAMETERS,
            "headers": _HEADERS,
            "examples": {code: {"summary": code, "value": example_of(code)} for code in sorted(codes)},
        },
    }


def _schemas(routes: list[Route], settings: Settings) -> Json:
    """Return the schemas of what is read and written, by name."""
    shapes = [shape for route in routes for part in (route.body, route.reply) for shape in _shapes(part)]
    _, schemas = msgspec.json.schema_components(shapes, ref_template=_SCHEMAS + "{name}")
    for written in schemas.values():
        written["description"] = cleandoc(written["description"])
        _simplify(written)
    for body in _all(RequestBody):
        if body.__name__ in schemas:  # not every system serves every route
            for field, bound in bounds_of(body, settings).items():
                _bound(schemas[body.__name__]["properties"][field], bound)
    return schemas


def _shapes(part: type | Media | None) -> tuple[type, ...]:
    """Return the structs that a body or a reply may be."""
    if isinstance(part, Media):
        return part.schema if isinstance(part.schema, tuple) else ()
    return () if part is None else (part, *getattr(part, "PARTS", ()))


def _all(shape: type[RequestBody]) -> list[type[RequestBody]]:
    return [one for of in shape.__subclasses__() for one in (of, *_all(of))]


def _bound(written: Json, bound: FieldBound) -> None:
    """Put a bound on a field's schema; of one that may be null on what else it may be."""
    keywords = dict(bound.keywords)
    description = keywords.pop("description", None)
    for choice in written.get("anyOf", [written]):
        if choice.get("type") != "null":
            choice.update(keywords)
    if description is not None:
        written["description"] = description


def _simplify(part: Any) -> None:
    """Write what generators of clients expect: msgspec bounds a tuple twice, and gives an enum no type."""
    if isinstance(part, list):
        for one in part:
            _simplify(one)
    if isinstance(part, dict):
        if part.get("items") is False and "maxItems" in part:
            del part["items"]
        if all(isinstance(choice, str) for choice in part.get("enum", [None])):
            part["type"] = "string"
        for one in part.values():
            _simplify(one)


def _operation(route: Route, settings: Settings) -> Json:
    named = ["IdempotencyKey"] if route.keyed else []
    named += ["ActingUser"] if route.callers is Callers.USERS else []
    operation: Json = {
        "tags": [route.tag],
        "summary": route.name.replace("_", " ").title(),
        "description": getdoc(route.handler),
        "operationId": route.name,
        "parameters": [
            *_path_parameters(route.path),
            *([] if route.query is None else _query_parameters(route.query, settings)),
            *({"$ref": f"#/components/parameters/{one}"} for one in named),
        ],
        "responses": {str(route.status): _answer(route)},
        "security": [{_TOKEN: [scope]} for scope in route.callers.value],
    }
    if route.body is not None:
        operation["requestBody"] = {"required": route.body_required, "content": _content(route.body)}
        if not route.body_required:
            [content] = operation["requestBody"]["content"].values()
            content["schema"] = {"anyOf": [content["schema"], {"type": "null"}]}
        if route.requests:
            [content] = operation["requestBody"]["content"].values()
            content["examples"] = {what: {"value": value} for what, value in route.requests.items()}
    for status, codes in refusals_of(route).items():
        operation["responses"][str(status)] = _refusal(status, codes)
    return operation


def _path_parameters(path: str) -> list[Json]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _query_parameters(query: type[Query], settings: Settings) -> list[Json]:
    [written] = msgspec.json.schema_components([query])[1].values()
    _simplify(written)
    for name, bound in bounds_of(query, settings).items():
        _bound(written["properties"][name], bound)
    required = written.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": field}
        for name, field in written["properties"].items()
    ]


def _content(part: type | Media) -> Json:
    """Return the content of a body or a reply, by media type."""
    if not isinstance(part, Media):
        return {"application/json": {"schema": _reference(part.__name__)}}
    told: Any = part.schema
    if isinstance(told, tuple):
        shapes = [_reference(shape.__name__) for shape in told]
        told = {"oneOf": shapes} if len(shapes) > 1 else shapes[0]
    return {kind: {"schema": told} for kind in part.types}


def _answer(route: Route) -> Json:
    made = {"Location": "Location"} if route.status == 201 and route.located else {}
    again = {"Idempotent-Replayed": "Replayed"} if route.keyed or route.repeatable else {}
    assert route.reply is not None, f"{route.name} answers with something"
    content = _content(route.reply)
    if route.answer is not None:
        content["application/json"]["example"] = route.answer
    return {"description": "Successful Response", "headers": _headers(_ALWAYS | made | again), "content": content}


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


def _reference(name: str) -> Json:
    return {"$ref": _SCHEMAS + name}
