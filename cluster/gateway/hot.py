"""Hot routes: the two that carry the peak, answered before FastAPI sees them.

FastAPI's share of a request is as much CPU as all of ours. These routes are raw ASGI: path, caller, body, shard,
bytes. `document` keeps them in the OpenAPI, with the same schemas.
"""

import logging
from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request

from actors.ids import is_user
from cluster.gateway import answers
from cluster.gateway.problems import Problem, internal, respond
from cluster.gateway.schemas import BatchBody, ShareBody

log = logging.getLogger(__name__)

_GRAB_HEAD, _GRAB_TAIL = "/v1/packets/", "/grabs"
_BATCH = "/v1/grabs/batch"
PASSPHRASE_CHARS_MAX = 128


class GrabBody(msgspec.Struct, forbid_unknown_fields=True):
    """Nothing for lucky and equal packets; a phrase is for packets that ask for one."""

    passphrase: str | None = None


class GrabItem(msgspec.Struct, forbid_unknown_fields=True):
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


_GRAB = msgspec.json.Decoder(GrabBody | None)
_ITEMS = msgspec.json.Decoder(GrabItems)
_RAW_ITEMS = msgspec.json.Decoder(RawItems)
_ITEM = msgspec.json.Decoder(GrabItem)
_ENCODE = msgspec.json.Encoder().encode


class HotRoutes:
    """An ASGI layer: answers the hot routes, hands everything else on."""

    def __init__(self, app: Any, gateway: Any) -> None:
        self._app = app
        self._gateway = gateway
        self._batch_size_max = gateway.settings.bounds.batch_size_max

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        packet_id = path[len(_GRAB_HEAD) : -len(_GRAB_TAIL)]
        is_grab = path.startswith(_GRAB_HEAD) and path.endswith(_GRAB_TAIL) and packet_id and "/" not in packet_id
        if not is_grab and path != _BATCH:
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        try:
            body = await _read(receive)
            answer = await (self._grab(request, packet_id, body) if is_grab else self._batch(request, body))
        except Problem as problem:
            await respond(request, problem)(scope, receive, send)
            return
        except Exception:
            log.exception("request %s failed", scope.get("hongbao.request_id"))
            await respond(request, internal())(scope, receive, send)
            return
        content = _ENCODE(answer)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _grab(self, request: Request, packet_id: str, body: bytes) -> dict[str, Any]:
        """Take a share. Idempotent by (packet, user): a repeat gets the same share."""
        user = self._gateway.auth.acting_user(request)
        if body:
            wanted = _decode(_GRAB, body)
            if wanted is not None and wanted.passphrase is not None and len(wanted.passphrase) > PASSPHRASE_CHARS_MAX:
                limit = f"at most {PASSPHRASE_CHARS_MAX} characters"
                raise Problem("invalid", "Correct the named fields.", {"passphrase": limit})
        won = await self._gateway.service.grab(packet_id, user)
        return answers.share(packet_id, user.user, won)

    async def _batch(self, request: Request, body: bytes) -> dict[str, Any]:
        """Grab for many users at once (chat gateways). One bad item never fails the others."""
        tenant = self._gateway.auth.gateway_tenant(request)
        items = _decode_items(body)
        if len(items) > self._batch_size_max:
            raise Problem("too_large", f"A batch may have at most {self._batch_size_max} grabs; send several.")
        good = [(index, item) for index, item in enumerate(items) if item is not None and is_user(item.user)]
        replies = await self._gateway.service.grabs([(item.packet_id, item.user) for _, item in good], tenant)
        results: list[Any] = [answers.INVALID_ITEM] * len(items)
        for (index, _), reply in zip(good, replies, strict=True):
            results[index] = answers.batch_result(reply)
        return {"results": results}


def _decode_items(body: bytes) -> list[GrabItem | None]:
    """Decode a batch; None stands for an item that is none."""
    try:
        return list(_ITEMS.decode(body).grabs)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return [_decode_item(item) for item in _decode(_RAW_ITEMS, body).grabs]


def _decode_item(item: msgspec.Raw) -> GrabItem | None:
    try:
        return _ITEM.decode(item)
    except msgspec.ValidationError:
        return None


async def _read(receive: Any) -> bytes:
    """Read a body. Raises Problem if its sender went away."""
    chunks: list[bytes] = []
    while True:
        try:
            message = await receive()
        except HTTPException as failure:  # the edge counts, and says it in FastAPI's words
            raise Problem("too_large", failure.detail) from failure
        if message["type"] == "http.disconnect":
            raise Problem("malformed", "The request ended before its body.")
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _decode(decoder: Any, body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as failure:
        raise Problem("invalid", "Correct the body.", {"body": str(failure)}) from failure
    except (msgspec.DecodeError, UnicodeDecodeError) as failure:
        raise Problem("malformed", f"The body is not valid JSON: {failure}.") from failure


def document(router: APIRouter) -> None:
    """Write the hot routes into the OpenAPI."""

    async def answered_before() -> None:
        raise AssertionError("hot routes are answered before FastAPI")

    (grab, items), components = msgspec.json.schema_components([GrabBody, GrabItem])
    schemas = {name: {**schema, "additionalProperties": False} for name, schema in components.items()}
    assert (grab["$ref"].rpartition("/")[2], items["$ref"].rpartition("/")[2]) == ("GrabBody", "GrabItem")
    batch = {
        "type": "object",
        "required": ["grabs"],
        "additionalProperties": False,
        "properties": {"grabs": {"type": "array", "items": schemas["GrabItem"]}},
    }
    router.add_api_route(
        "/v1/packets/{packet_id}/grabs",
        answered_before,
        methods=["POST"],
        response_model=ShareBody,
        name="grab",
        description=HotRoutes._grab.__doc__,
        openapi_extra=_body(schemas["GrabBody"], required=False)
        | {
            "parameters": [
                {"name": "packet_id", "in": "path", "required": True, "schema": {"type": "string"}},
            ]
        },
    )
    router.add_api_route(
        _BATCH,
        answered_before,
        methods=["POST"],
        response_model=BatchBody,
        name="grab_batch",
        description=HotRoutes._batch.__doc__,
        openapi_extra=_body(batch, required=True),
    )


def _body(schema: dict[str, Any], *, required: bool) -> dict[str, Any]:
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}
