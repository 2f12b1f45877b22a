"""Hot routes: those that carry the peak, answered before FastAPI sees them.

FastAPI's share of a request is as much CPU as all of ours, and more. These routes are raw ASGI: path, caller, body,
shard, bytes. `document` keeps them in the OpenAPI, with the same schemas.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable
from itertools import count, repeat
from typing import Any

import msgspec
from fastapi import APIRouter

from actors.packet.replies import Shares, Takings, Won
from cluster.gateway import responses
from cluster.gateway.dispatch.lane_fanout import Crowd
from cluster.gateway.headers import read_key
from cluster.gateway.idempotency import KEY_PARAMETER
from cluster.gateway.middleware.validation import check_json_type
from cluster.gateway.packet.grab_bodies import Asked, asked, is_sound, read_grab, read_items, said
from cluster.gateway.packet.send_bodies import read_send
from cluster.gateway.problems import Answer, Problem, answer, internal, refused
from cluster.gateway.raw_http import Headers, headers_of, json_answer, read_body, write
from cluster.gateway.schemas import BatchBody, SentPacket, ShareBody
from cluster.tokens import GATEWAY_SCOPE

log = logging.getLogger(__name__)

_GRAB_HEAD, _GRAB_TAIL = "/v1/packets/", "/grabs"
_HEAD_CHARS, _TAIL_CHARS = len(_GRAB_HEAD), len(_GRAB_TAIL)
_BATCH = "/v1/grabs/batch"
_SEND = "/v1/packets"
_REPLAYED = (b"idempotent-replayed", b"true")
_ENCODE = msgspec.json.Encoder().encode


class HotRoutes:
    """An ASGI layer: answers the hot routes, hands everything else on."""

    def __init__(self, app: Any, gateway: Any) -> None:
        self._app = app
        self._gateway = gateway
        self._platform_key: bytes = gateway.keys.key(gateway.keys.first)
        self._batch_size_max = gateway.settings.bounds.batch_size_max
        self._routes: dict[str, Callable[[Headers, bytes], Awaitable[Answer]]] = {
            _BATCH: self._batch,
            _SEND: self._send,
        }

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        route = self._routes.get(path)
        packet_id = ""
        if route is None:
            if path.startswith(_GRAB_HEAD) and path.endswith(_GRAB_TAIL):
                packet_id = path[_HEAD_CHARS:-_TAIL_CHARS]
            if not packet_id or "/" in packet_id:
                await self._app(scope, receive, send)
                return
        try:
            body = await read_body(receive)
            headers = headers_of(scope)
            if route is not None:
                told = await route(headers, body)
            else:
                told = await self._grab(headers, body, packet_id, scope["hongbao.request_id"])
        except Problem as problem:
            told = answer(problem, scope["hongbao.request_id"])
        except Exception:
            log.exception("request %s failed", scope["hongbao.request_id"])
            told = answer(internal(), scope["hongbao.request_id"])
        await write(send, told)

    async def _grab(self, headers: Headers, body: bytes, packet_id: str, request_id: str) -> Answer:
        """Take a share. Idempotent by (packet, user): a repeat gets the same share."""
        tenant, user = self._gateway.auth.acting(headers)
        what: Asked = packet_id
        if body:
            check_json_type(headers)
            told = read_grab(body)
            if told.group is not None and self._gateway.auth.claims(headers).scope != GATEWAY_SCOPE:
                raise Problem("forbidden", "Only a gateway's token may say whose member a user is.")
            what = said(packet_id, told.passphrase, told.group, self._platform_key)
        reply = await self._gateway.service.take(what, tenant, user)
        if type(reply) is Won:
            share = responses.Share(packet_id, user, reply.rank, reply.amount_fen, reply.at_ms, reply.replayed)
            return json_answer(_ENCODE(share))
        return answer(refused(reply.code, reply.part), request_id)

    async def _batch(self, headers: Headers, body: bytes) -> Answer:
        """Grab for many users at once (chat gateways). One bad item never fails the others."""
        tenant = self._gateway.auth.tenant(headers)
        check_json_type(headers)
        items = read_items(body, self._batch_size_max)
        wanted: dict[Asked, list[str]] = {}
        places: dict[Asked, list[int]] = {}
        for place, item in enumerate(items):
            if item is None or not is_sound(item):
                continue
            what = asked(item, self._platform_key)
            users = wanted.get(what)
            if users is None:
                wanted[what] = [item.user]
                places[what] = [place]
            else:
                users.append(item.user)
                places[what].append(place)
        replies = await self._gateway.service.crowds(wanted, tenant)
        results: list[Any] = [responses.INVALID_ITEM] * len(items)
        for what, reply in replies.items():
            _put(results, places[what], reply)
        return json_answer(_ENCODE(responses.BatchResults(results)))

    async def _send(self, headers: Headers, body: bytes) -> Answer:
        """Send a packet. 201 means open: a grab right after it succeeds."""
        sender = self._gateway.auth.acting(headers)
        key = read_key(headers.get(b"idempotency-key", b""))
        check_json_type(headers)
        wanted = read_send(body, self._gateway.settings, sender.user)
        funded = await self._gateway.service.send(wanted.send(sender, key, self._platform_key))
        sent = responses.sent_packet(funded.funding, funded.others)
        location = (b"location", b"/v1/packets/" + sent["packet_id"].encode())
        return json_answer(_ENCODE(sent), 201, location, *[_REPLAYED] * funded.replayed)


def _put(results: list[Any], places: list[int], reply: Crowd) -> None:
    """Put what became of one packet's grabs in their places."""
    taken: Iterable[responses.BatchShare | responses.BatchRefusal]
    if isinstance(reply, Shares):
        taken = map(responses.BatchShare, reply.amounts_fen, count(reply.first_rank), repeat(False))
    elif isinstance(reply, Takings):
        taken = map(responses.batch_result, reply.replies)
    else:
        taken = repeat(responses.batch_result(reply), len(places))
    for place, result in zip(places, taken, strict=True):
        results[place] = result


def document(router: APIRouter) -> None:
    """Write the hot routes into the OpenAPI."""

    async def answered_before() -> None:
        raise AssertionError("hot routes are answered before FastAPI")

    packet_id = {"name": "packet_id", "in": "path", "required": True, "schema": {"type": "string"}}
    router.add_api_route(
        _SEND,
        answered_before,
        methods=["POST"],
        status_code=201,
        response_model=SentPacket,
        name="send_packet",
        description=HotRoutes._send.__doc__,
        openapi_extra=_body("SendBody", required=True) | {"parameters": [KEY_PARAMETER]},
    )
    router.add_api_route(
        _GRAB_HEAD + "{packet_id}" + _GRAB_TAIL,
        answered_before,
        methods=["POST"],
        response_model=ShareBody,
        name="grab",
        description=HotRoutes._grab.__doc__,
        openapi_extra=_body("GrabBody", required=False) | {"parameters": [packet_id]},
    )
    router.add_api_route(
        _BATCH,
        answered_before,
        methods=["POST"],
        response_model=BatchBody,
        name="grab_batch",
        description=HotRoutes._batch.__doc__,
        openapi_extra=_body("GrabItems", required=True),
    )


def _body(name: str, *, required: bool) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{name}"}
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}
